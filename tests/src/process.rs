//! Programs that a test starts: their output goes to a file, its tail is shown when the test fails, and they end with
//! the test. Only what was started here is ever signalled, by its id.

use std::{
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

use crate::wait::{LIMIT, until, within};

/// How long a program may take to end once asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How much of a program's output a failing test shows.
const TAIL_LINES: usize = 40;

/// A running program.
#[derive(Debug)]
pub struct Program {
    name: String,
    process: Process,
    log: PathBuf,
    farewell: Signal,
}

/// Who has started it.
#[derive(Debug)]
enum Process {
    /// This process.
    Child(Child),
    /// Another; how it ends, that one's parent is told alone.
    Other(Pid, OwnedFd),
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
        Self { name: name.to_owned(), process: Process::Child(child), log: log.to_owned(), farewell: Signal::TERM }
    }

    /// A program that one of ours has started, and that outlives that one. How it has ended cannot be known, and is told as
    /// success.
    #[must_use]
    pub fn adopt(name: &str, pid: u32, log: &Path) -> Self {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id is a small number");
        let process = pidfd_open(pid, PidfdFlags::empty()).unwrap_or_else(|error| panic!("{name} lives: {error}"));
        Self {
            name: name.to_owned(),
            process: Process::Other(pid, process),
            log: log.to_owned(),
            farewell: Signal::TERM,
        }
    }

    /// Says which signal asks this program to end; SIGTERM unless told.
    #[must_use]
    pub fn ended_by(mut self, farewell: Signal) -> Self {
        self.farewell = farewell;
        self
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        match &mut self.process {
            Process::Child(child) => child,
            Process::Other(..) => panic!("{} is another's child", self.name),
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        match &self.process {
            Process::Child(child) => Pid::from_child(child),
            Process::Other(pid, _) => *pid,
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal)
            .unwrap_or_else(|error| panic!("signal {} with {signal:?}: {error}", self.name));
    }

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.process.has_ended().expect("a child can be waited for")
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
        if matches!(self.process.has_ended(), Ok(Some(_))) {
            return;
        }
        let _ = kill_process(self.pid(), self.farewell);
        if within(GRACE, || self.process.has_ended().ok().flatten()).is_none() {
            let _ = kill_process(self.pid(), Signal::KILL);
            let _ = within(GRACE, || self.process.has_ended().ok().flatten());
        }
    }
}

impl Process {
    fn has_ended(&mut self) -> io::Result<Option<ExitStatus>> {
        match self {
            Self::Child(child) => child.try_wait(),
            // Readable once it has (pidfd_open(2)).
            Self::Other(_, process) => {
                let ended = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&Timespec::default()))?;
                Ok((ended > 0).then(ExitStatus::default))
            }
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
