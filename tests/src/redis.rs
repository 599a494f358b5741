//! A real redis-server, on TCP and a unix socket at once, that keeps nothing on disk.

use std::{io, process::Command};

use tempfile::TempDir;

use crate::{
    address::{Address, Wire},
    end::End,
    process::{Program, on_a_free_port},
    resp::Resp,
    wait::{LIMIT, until},
};

/// A running redis-server.
#[derive(Debug)]
pub struct Redis {
    _program: Program,
    port: u16,
    host: String,
    dir: TempDir,
}

impl Redis {
    /// Starts it on loopback.
    #[must_use]
    pub fn start() -> Self {
        on_a_free_port(|port| Self::start_at(&[], "127.0.0.1", port))
    }

    /// Starts it at `host:port`, or at several hosts with spaces between, inside another namespace if so told.
    ///
    /// # Errors
    /// It ended at once: most likely somebody else has the port.
    pub fn start_at(inside: &[String], host: &str, port: u16) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("redis.sock");
        let mut line = inside.to_vec();
        line.push("redis-server".to_owned());
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).arg("--bind").args(host.split(' ')).args(["--port", &port.to_string(), "--save", ""]);
        command.args(["--protected-mode", "no"]);
        command.arg("--unixsocket").arg(&socket).arg("--dir").arg(dir.path());
        let mut program = Program::start("redis-server", &mut command, &dir.path().join("log"));
        let up = until("redis-server to listen or to end", LIMIT, || {
            let ended = program.has_ended().map(|_| false);
            ended.or(End::try_connect(&Address::Unix(socket.clone())).ok().map(|_| true))
        });
        if !up {
            return Err(io::Error::other(program.log()));
        }
        Ok(Self { _program: program, port, host: host.to_owned(), dir })
    }

    /// Where it listens on this wire.
    #[must_use]
    pub fn address(&self, wire: Wire) -> Address {
        match wire {
            Wire::Tcp => Address::parse(&format!("{}:{}", self.host, self.port)),
            Wire::Unix => Address::Unix(self.dir.path().join("redis.sock")),
        }
    }

    /// How often it has run this command, by its own count.
    #[must_use]
    pub fn calls(&self, command: &str) -> u64 {
        let info = Resp::connect(&self.address(Wire::Unix)).ask(&[b"INFO", b"commandstats"]);
        let info = String::from_utf8_lossy(&info).into_owned();
        let counted = info.split_once(&format!("cmdstat_{command}:calls="));
        counted.map_or(0, |(_, rest)| {
            let digits = rest.split(',').next().unwrap_or_default();
            digits.parse().expect("a count is a number")
        })
    }
}

/// A redis-benchmark command line against this address, of SET only.
#[must_use]
pub fn benchmark(address: &Address) -> Command {
    let mut command = Command::new("redis-benchmark");
    match address {
        Address::Tcp(address) => {
            command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
        }
        Address::Unix(path) => {
            command.arg("-s").arg(path);
        }
    }
    command.args(["-t", "set", "-r", "1000", "--csv"]);
    command
}
