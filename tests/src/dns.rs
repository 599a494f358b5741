//! A real name server, unbound, whose answers a test changes while it runs: an address, none such, a failure, silence.

use std::{fs, io, net::SocketAddr, process::Command, time::Duration};

use tempfile::TempDir;

use crate::{
    process::{Program, on_a_free_port, run},
    wait::{LIMIT, until},
};

/// The zone that the server answers for.
pub const ZONE: &str = "mesh.example";

/// How long unbound-control may take.
const CONTROL: Duration = Duration::from_secs(10);

/// A running name server.
#[derive(Debug)]
pub struct Dns {
    _program: Program,
    port: u16,
    dir: TempDir,
}

impl Dns {
    /// Starts it; every name of [`ZONE`] is unknown at first.
    #[must_use]
    pub fn start() -> Self {
        on_a_free_port(Self::start_at)
    }

    fn start_at(port: u16) -> io::Result<Self> {
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
    do-not-query-localhost: no
    module-config: "iterator"
    cache-max-ttl: 0
    cache-max-negative-ttl: 0
    local-zone: "{ZONE}." static
remote-control:
    control-enable: yes
    control-interface: {at}/control
    control-use-cert: no
# Behind it is a zone whose file is not there: a failure.
auth-zone:
    name: "{ZONE}"
    primary: 127.0.0.1@1
    fallback-enabled: no
"#
        );
        fs::write(dir.path().join("conf"), conf)?;
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
        Ok(Self { _program: program, port, dir })
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

    /// Answers `name` with these addresses, A or AAAA, for `ttl` seconds.
    pub fn answer(&self, name: &str, ttl: u32, addresses: &[&str]) {
        self.speak_of(name);
        self.control(&["local_data_remove", name]);
        for address in addresses {
            let kind = if address.contains(':') { "AAAA" } else { "A" };
            self.control(&["local_data", &format!("{name}. {ttl} IN {kind} {address}")]);
        }
    }

    /// Says that there is no such name.
    pub fn deny(&self, name: &str) {
        self.answer(name, 0, &[]);
    }

    /// Fails on every name: SERVFAIL.
    pub fn fail(&self) {
        self.control(&["local_zone_remove", ZONE]);
    }

    /// Says nothing when asked about `name`.
    pub fn keep_silent_about(&self, name: &str) {
        self.control(&["local_zone", name, "always_deny"]);
    }

    fn speak_of(&self, name: &str) {
        self.control(&["local_zone_remove", name]);
        self.control(&["local_zone", ZONE, "static"]);
    }

    fn control(&self, words: &[&str]) {
        let mut command = Command::new("unbound-control");
        command.arg("-c").arg(self.dir.path().join("conf"));
        let _ = run(command.args(words), CONTROL).expect_success();
    }
}
