//! A real PostgreSQL server in a temporary folder, on TCP and a unix socket at once. Superusers may not run it, so as
//! root it runs as Debian's `postgres`.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    address::{Address, Wire},
    end::End,
    process::{Program, on_a_free_port, run},
    skip::is_root,
    wait::{LIMIT, until},
};

/// How long initdb may take on a slow disk.
const INIT: Duration = Duration::from_secs(60);

/// A running server; its superuser is `adit`, and nobody needs a password.
#[derive(Debug)]
pub struct Postgres {
    _program: Program,
    host: String,
    port: u16,
    dir: TempDir,
}

impl Postgres {
    /// Starts it on loopback.
    #[must_use]
    pub fn start() -> Self {
        on_a_free_port(|port| Self::start_at(&[], "127.0.0.1", port))
    }

    /// Starts it at `host:port`, or at several hosts with commas between, inside another namespace if so told.
    ///
    /// # Errors
    /// It ended at once: most likely somebody else has the port.
    pub fn start_at(inside: &[String], host: &str, port: u16) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let user = User::unprivileged();
        user.own(dir.path())?;
        let data = dir.path().join("data");
        let mut init = user.command(&[], "initdb");
        init.arg("-D").arg(&data).args(["-U", "adit", "--auth=trust", "--no-sync", "--locale=C", "-E", "UTF8"]);
        let _ = run(&mut init, INIT).expect_success();
        // initdb lets loopback in alone.
        let mut rules = File::options().append(true).open(data.join("pg_hba.conf"))?;
        rules.write_all(b"host all all all trust\n")?;

        let mut command = user.command(inside, "postgres");
        command.arg("-D").arg(&data).arg("-k").arg(dir.path());
        command.args(["-h", host, "-p", &port.to_string(), "-c", "fsync=off"]);
        let log = dir.path().join("log");
        // SIGINT is a "fast" shutdown; SIGTERM would wait for every client to leave.
        let mut program = Program::start("postgres", &mut command, &log).ended_by(Signal::INT);
        let socket = socket_in(dir.path(), port);
        let up = until("postgres to listen or to end", LIMIT, || {
            let ended = program.has_ended().map(|_| false);
            let ready = program.log().contains("database system is ready to accept connections");
            ended.or((ready && End::try_connect(&socket).is_ok()).then_some(true))
        });
        if !up {
            return Err(io::Error::other(program.log()));
        }
        Ok(Self { _program: program, host: host.to_owned(), port, dir })
    }

    /// Where it listens on this wire.
    #[must_use]
    pub fn address(&self, wire: Wire) -> Address {
        match wire {
            Wire::Tcp => Address::parse(&format!("{}:{}", self.host, self.port)),
            Wire::Unix => socket_in(self.dir.path(), self.port),
        }
    }
}

/// The unix socket's path that a client derives from a folder and a port.
#[must_use]
pub fn socket_in(dir: &Path, port: u16) -> Address {
    Address::Unix(dir.join(format!(".s.PGSQL.{port}")))
}

/// A client program (`psql`, `pgbench`, `pg_dump`) with the options that lead it to this address.
#[must_use]
pub fn client(program: &str, address: &Address) -> Command {
    let mut command = Command::new(bin(program));
    command.args(["-U", "adit"]).env("PGCONNECT_TIMEOUT", "20");
    match address {
        Address::Tcp(address) => command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]),
        Address::Unix(path) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let port = name.rsplit('.').next().expect("a server's socket is named by its port");
            command.arg("-h").arg(path.parent().expect("a socket is in a folder")).args(["-p", port])
        }
    };
    command
}

/// True if the server's programs are installed.
#[must_use]
pub fn is_installed() -> bool {
    newest().is_some()
}

/// Debian keeps a server's programs out of PATH, a folder for each version.
fn newest() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut bins: Vec<PathBuf> = versions.flatten().map(|version| version.path().join("bin")).collect();
    bins.retain(|bin| bin.join("postgres").is_file());
    bins.sort();
    bins.pop()
}

fn bin(program: &str) -> PathBuf {
    newest().expect("PostgreSQL is installed").join(program)
}

/// Who runs the server.
struct User {
    ids: Option<(u32, u32)>,
}

impl User {
    /// Debian's `postgres` if we are root, else ourselves.
    fn unprivileged() -> Self {
        if !is_root() {
            return Self { ids: None };
        }
        let users = fs::read_to_string("/etc/passwd").expect("a machine has users");
        let line = users.lines().find(|line| line.starts_with("postgres:"));
        let fields: Vec<&str> = line.expect("Debian's package made a user postgres").split(':').collect();
        let id = |field: &str| field.parse().expect("a user's id is a number");
        Self { ids: Some((id(fields[2]), id(fields[3]))) }
    }

    fn own(&self, path: &Path) -> io::Result<()> {
        self.ids.map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid)))
    }

    /// A server program as this user. Only root enters a namespace, so there the user changes after entering.
    fn command(&self, inside: &[String], program: &str) -> Command {
        let program = bin(program);
        let mut command = match (inside.split_first(), self.ids) {
            (None, None) => Command::new(program),
            (None, Some((uid, gid))) => {
                let mut command = Command::new(program);
                command.uid(uid).gid(gid);
                command
            }
            (Some((enter, arguments)), ids) => {
                let (uid, gid) = ids.expect("only root enters a namespace");
                let mut command = Command::new(enter);
                command.args(arguments).arg("setpriv").arg("--clear-groups");
                command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg(program);
                command
            }
        };
        command.current_dir("/");
        command
    }
}
