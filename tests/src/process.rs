//! Programs that a test starts: their output goes to a file, its tail is shown when the test fails, and they end with
//! the test. Only what was started here is ever signalled, by its id.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{LIMIT, until, within};

/// How long a program may take to end once asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How much of a program's output a failing test shows.
const TAIL_LINES: usize = 40;

/// A running program.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
    farewell: Signal,
}

impl Program {
    /// Starts `command` with its output, both kinds, appended to the file `log`.
    #[must_use]
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let (out, err) = (append(log), append(log));
        Self::spawn(name, command.stdin(Stdio::null()).stdout(out).stderr(err), log)
    }

    /// Starts `command`, whose standard streams the caller has arranged; `log` is where its standard error goes.
    #[must_use]
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Self {
        let child =
            command.spawn().unwrap_or_else(|error| panic!("start {name} ({:?}): {error}", command.get_program()));
        Self { name: name.to_owned(), child, log: log.to_owned(), farewell: Signal::TERM }
    }

    /// Says which signal asks this program to end; SIGTERM unless told.
    #[must_use]
    pub fn ended_by(mut self, farewell: Signal) -> Self {
        self.farewell = farewell;
        self
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal)
            .unwrap_or_else(|error| panic!("signal {} with {signal:?}: {error}", self.name));
    }

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} to end", self.name);
        until(&what, limit, || self.has_ended())
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(self.farewell);
        self.wait(LIMIT)
    }

    /// Kills it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(GRACE);
    }

    /// All it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until `ready`, and fails the test at once if the program ends before.
    pub fn until_ready<T>(&mut self, mut ready: impl FnMut() -> Option<T>) -> T {
        let what = format!("{} to be ready", self.name);
        until(&what, LIMIT, || {
            let found = ready();
            if found.is_none() {
                assert!(self.has_ended().is_none(), "{} ended before it was ready:\n{}", self.name, self.tail());
            }
            found
        })
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the last lines of {}:\n{}\n---", self.name, self.tail());
        }
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = kill_process(self.pid(), self.farewell);
        if within(GRACE, || self.child.try_wait().ok().flatten()).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a program that runs to its end has said.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Its standard output; fails the test if it did not succeed.
    #[must_use]
    pub fn expect_success(self) -> String {
        assert!(self.status.success(), "{}:\n{}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }

    /// Both outputs, one after the other.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs `command` to its end, within `limit`.
#[must_use]
pub fn run(command: &mut Command, limit: Duration) -> Finished {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let (stdout, stderr) = (dir.path().join("stdout"), dir.path().join("stderr"));
    let name = command.get_program().to_string_lossy().into_owned();
    let arranged = command.stdout(append(&stdout)).stderr(append(&stderr));
    let status = Program::spawn(&name, arranged, &stderr).wait(limit);
    let read = |file| String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
    Finished { status, stdout: read(stdout), stderr: read(stderr) }
}

/// Starts a program that cannot bind port 0: asks the kernel for a free port, and for another if the start fails.
pub fn on_a_free_port<T>(mut start: impl FnMut(u16) -> io::Result<T>) -> T {
    const ATTEMPTS: usize = 5;
    let mut failures = Vec::new();
    for _ in 0..ATTEMPTS {
        match start(crate::address::free_port()) {
            Ok(started) => return started,
            Err(error) => failures.push(error.to_string()),
        }
    }
    panic!("no port would do: {failures:#?}");
}

fn append(file: &Path) -> File {
    File::options()
        .create(true)
        .append(true)
        .open(file)
        .unwrap_or_else(|error| panic!("open {}: {error}", file.display()))
}
