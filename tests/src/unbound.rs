//! The name server unbound as a process of the test: started with what differs, asked to change by its control socket.

use std::{fs, io, net::SocketAddr, path::Path, process::Command, time::Duration};

use tempfile::TempDir;

use crate::{
    process::{Program, on_a_free_port, run},
    wait::{LIMIT, until},
};

/// How long unbound-control may take.
const CONTROL: Duration = Duration::from_secs(10);

/// A running unbound.
#[derive(Debug)]
pub(crate) struct Unbound {
    _program: Program,
    port: u16,
    dir: TempDir,
}

/// What its configuration says beyond what all have.
pub(crate) struct Says {
    /// More of the `server:` clause, a line each, indented.
    pub(crate) server: String,
    /// More clauses.
    pub(crate) clauses: String,
}

impl Unbound {
    /// Starts it, with the command that leads into another namespace before it. `says` is told its folder, and may put
    /// files there.
    pub(crate) fn start(inside: &[String], says: impl Fn(&Path) -> io::Result<Says>) -> Self {
        on_a_free_port(|port| Self::start_at(inside, port, &says))
    }

    fn start_at(inside: &[String], port: u16, says: impl Fn(&Path) -> io::Result<Says>) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let at = dir.path().display();
        let Says { server, clauses } = says(dir.path())?;
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
{server}remote-control:
    control-enable: yes
    control-interface: {at}/control
    control-use-cert: no
{clauses}"#
        );
        fs::write(dir.path().join("conf"), conf)?;
        let mut line = inside.to_vec();
        line.push("unbound".to_owned());
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).arg("-c").arg(dir.path().join("conf"));
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
    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The `[dns]` table that leads an agent here.
    pub(crate) fn table(&self) -> String {
        format!("[dns]\nservers = [\"{}\"]\n", self.address())
    }

    /// Its folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `unbound-control WORDS`.
    pub(crate) fn control(&self, words: &[&str]) {
        let mut command = Command::new("unbound-control");
        command.arg("-c").arg(self.dir.path().join("conf"));
        let _ = run(command.args(words), CONTROL).expect_success();
    }
}
