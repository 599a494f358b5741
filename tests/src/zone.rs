//! A real name server, unbound, with a whole zone of its own. A test publishes the zone anew, and every change is taken at
//! once and whole, as a transfer from a primary would be: no query ever sees half of it.

use std::{fs, io, net::SocketAddr, process::Command, time::Duration};

use tempfile::TempDir;

use crate::{
    process::{Program, on_a_free_port, run},
    wait::{LIMIT, until},
};

/// How long unbound-control may take.
const CONTROL: Duration = Duration::from_secs(10);

/// How long *no such name* holds, in seconds: the SOA's last number (RFC 2308, section 4).
const NEGATIVE_TTL: u32 = 1;

/// A running name server for one zone.
#[derive(Debug)]
pub struct Zone {
    _program: Program,
    name: String,
    port: u16,
    dir: TempDir,
}

impl Zone {
    /// Starts it with a zone that has no name in it yet.
    #[must_use]
    pub fn start(name: &str) -> Self {
        on_a_free_port(|port| Self::start_at(name, port))
    }

    fn start_at(name: &str, port: u16) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let at = dir.path().display();
        let conf = format!(
            r#"server:
    interface: 127.0.0.1@{port}
    port: {port}
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{at}"
    pidfile: ""
    use-syslog: no
    logfile: ""
    module-config: "iterator"
remote-control:
    control-enable: yes
    control-interface: {at}/control
    control-use-cert: no
auth-zone:
    name: "{name}"
    zonefile: "{at}/zone"
    for-downstream: yes
    for-upstream: no
    fallback-enabled: no
"#
        );
        fs::write(dir.path().join("conf"), conf)?;
        fs::write(dir.path().join("zone"), text(name, &[]))?;
        let mut command = Command::new("unbound");
        command.arg("-c").arg(dir.path().join("conf"));
        let mut program = Program::start("unbound", &mut command, &dir.path().join("log"));
        let up = until("unbound to listen or to end", LIMIT, || {
            let ended = program.has_ended().map(|_| false);
            ended.or(dir.path().join("control").exists().then_some(true))
        });
        if !up {
            return Err(io::Error::other(program.log()));
        }
        Ok(Self { _program: program, name: name.to_owned(), port, dir })
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The `[dns]` table that leads an agent here.
    #[must_use]
    pub fn table(&self) -> String {
        format!("[dns]\nservers = [\"{}\"]\n", self.address())
    }

    /// The zone is now these records and no others, each as a zone file has it (RFC 1035, section 5.1): names that do not
    /// end in a dot are of this zone.
    pub fn publish<R: AsRef<str>>(&self, records: &[R]) {
        let records: Vec<&str> = records.iter().map(AsRef::as_ref).collect();
        fs::write(self.dir.path().join("zone"), text(&self.name, &records)).expect("the zone's folder can be written");
        let mut command = Command::new("unbound-control");
        command.arg("-c").arg(self.dir.path().join("conf")).args(["auth_zone_reload", &self.name]);
        let _ = run(&mut command, CONTROL).expect_success();
    }
}

fn text(name: &str, records: &[&str]) -> String {
    let soa =
        format!("@ 60 IN SOA ns hostmaster 1 3600 600 86400 {NEGATIVE_TTL}\n@ 60 IN NS ns\nns 60 IN A 127.0.0.1\n");
    format!("$ORIGIN {name}.\n{soa}{}\n", records.join("\n"))
}
