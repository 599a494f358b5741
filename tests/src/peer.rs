//! The second adit/1, in Python (`tests/peer`): a stranger that follows the protocol to the letter, or breaks it at a
//! point of the test's choice. Its own README lists what it can do.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    address::Address,
    authority::{Authority, Credential},
    process::{Finished, Program, run},
};

/// How long one of its calls may take: more than any limit of the agent it speaks to.
const LIMIT: Duration = Duration::from_secs(60);

/// Certificate, key and bundle of one peer, in a folder of their own.
#[derive(Debug)]
pub struct Papers {
    dir: TempDir,
}

/// An acceptor that runs until it is dropped.
#[derive(Debug)]
pub struct Acceptor {
    program: Program,
    address: Address,
    _papers: Papers,
}

impl Papers {
    /// Writes them down.
    #[must_use]
    pub fn of(authority: &Authority, credential: &Credential) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let files = [("ca.pem", authority.pem()), ("cert.pem", &credential.cert), ("key.pem", &credential.key)];
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("a temporary folder can be written");
        }
        Self { dir }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Plays a dialer at `door` until its end; `input` is the stream's, the output is what came back.
    #[must_use]
    pub fn dial(&self, door: &Address, input: &str, options: &[&str]) -> Finished {
        let file = self.dir.path().join("input");
        fs::write(&file, input).expect("a temporary folder can be written");
        let mut command = self.command("dial");
        command.args(["--connect", &door.to_string()]).args(options);
        run(command.stdin(File::open(file).expect("it was just written")), LIMIT)
    }

    /// Plays an acceptor on loopback.
    #[must_use]
    pub fn accept(self, options: &[&str]) -> Acceptor {
        let mut command = self.command("accept");
        command.args(["--listen", "127.0.0.1:0"]).args(options);
        let mut program = Program::start("the second peer", &mut command, &self.dir.path().join("log"));
        let port = program.until_ready(|| {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let (first, _) = log.split_once('\n')?;
            first.trim().parse::<u16>().ok()
        });
        let address = Address::parse(&format!("127.0.0.1:{port}"));
        Acceptor { program, address, _papers: self }
    }

    fn command(&self, role: &str) -> Command {
        let mut command = Command::new("python3");
        command.arg("-u").arg(script()).arg(role);
        for (option, file) in [("--ca", "ca.pem"), ("--cert", "cert.pem"), ("--key", "key.pem")] {
            command.arg(option).arg(self.dir.path().join(file));
        }
        command
    }
}

impl Acceptor {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What it reported so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.log()
    }
}

/// Where it lives.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peer")
}

fn script() -> PathBuf {
    folder().join("peer.py")
}
