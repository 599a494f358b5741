//! The other side of `adit-load`: starts it and reads its reports.

use std::{
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    address::{Address, Wire},
    agent::beside_the_tests,
    process::Program,
    wait::LIMIT,
};

/// A running `adit-load`. It ends with this value at the latest.
#[derive(Debug)]
pub struct Load {
    program: Program,
    input: Option<ChildStdin>,
    reports: Receiver<Value>,
    dir: TempDir,
}

/// A service in a process of its own.
#[derive(Debug)]
pub struct Service {
    /// The process, for what it reports.
    pub load: Load,
    address: Address,
}

impl Load {
    /// Starts `adit-load` with these words.
    #[must_use]
    pub fn start(words: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        Self::start_in(dir, &[], words)
    }

    /// The same, with the command that leads into another namespace before it.
    #[must_use]
    pub fn start_inside(inside: &[String], words: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        Self::start_in(dir, inside, words)
    }

    fn start_in(dir: TempDir, inside: &[String], words: &[&str]) -> Self {
        let log = dir.path().join("log");
        let errors = std::fs::File::create(&log).expect("a temporary folder can be written");
        let mut line = inside.to_vec();
        line.push(beside_the_tests().join("adit-load").display().to_string());
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut program = Program::spawn(&format!("adit-load {}", words.join(" ")), &mut command, &log);
        let input = program.child().stdin.take();
        let output = program.child().stdout.take().expect("its output is piped");
        let (send, reports) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let report = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if send.send(report).is_err() {
                    return;
                }
            }
        });
        Self { program, input, reports, dir }
    }

    /// The next report of this kind, other kinds passed over; fails the test after `limit`, or at the program's end.
    pub fn until(&mut self, event: &str, limit: Duration) -> Value {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let report = self
                .reports
                .recv_timeout(left)
                .unwrap_or_else(|error| panic!("no `{event}` in {limit:?} ({error}): {}", self.program.log()));
            assert_ne!(report["event"], "broken", "{report}");
            if report["event"] == event {
                return report;
            }
        }
    }

    /// Asks it to come to its end, waits for that, and returns all reports that were not read yet.
    pub fn rest(&mut self, limit: Duration) -> Vec<Value> {
        self.finish();
        self.program.wait(limit);
        self.reports.iter().collect()
    }

    /// Says a line to it.
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input was not closed");
        writeln!(input, "{line}").expect("it reads its input");
    }

    /// Closes its input, which asks it to come to its end; its last reports can still be read.
    pub fn finish(&mut self) {
        self.input = None;
    }
}

impl Service {
    /// Starts a service (see `adit-load`'s `serve`) on this wire.
    #[must_use]
    pub fn start(wire: Wire, what: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let at = match wire {
            Wire::Tcp => Address::any_port(),
            Wire::Unix => Address::Unix(dir.path().join("service.sock")),
        };
        Self::settle(Load::start_in(dir, &[], &["serve", what, &at.to_string()]))
    }

    /// Starts a service at a given address, in another namespace.
    #[must_use]
    pub fn start_inside(inside: &[String], what: &str, at: &str) -> Self {
        Self::settle(Load::start_inside(inside, &["serve", what, at]))
    }

    fn settle(mut load: Load) -> Self {
        let listening = load.until("listening", LIMIT);
        let address = Address::parse(listening["address"].as_str().expect("an address is text"));
        Self { load, address }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its folder, whose socket lives as long as this value.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        self.load.dir.path()
    }
}
