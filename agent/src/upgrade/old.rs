//! The agent that is to be succeeded: starts the successor, hears whether it is ready, and tells it to go; or ends it.

use std::{
    env,
    ffi::OsString,
    fmt, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{io::AsyncWriteExt, net::UnixStream};

use super::{
    LINE, OLDER,
    word::{GO, SERVING, Said, YOURS, hear},
};
use crate::sys::{process::Process, successor};

/// What a kernel adds to the name of a program whose file was replaced (proc_pid_exe(5)).
const DELETED: &str = " (deleted)";

/// How long a successor may take to accept once it is told to: it reads its file once more, and no more than that.
const SERVING_LIMIT: Duration = Duration::from_secs(10);

/// How this process was started, and so how its successor is.
#[derive(Clone, Debug)]
pub struct Origin {
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// A successor that was started. Dropped before it was told to go, it is killed.
#[derive(Debug)]
pub struct Successor {
    pid: u32,
    process: Killed,
    line: UnixStream,
}

/// A process that is killed when this is dropped: it, and nobody else who may have its number by then.
#[derive(Debug)]
struct Killed(Option<(Pid, Option<Process>)>);

/// Why there was no upgrade; the agent serves on.
#[derive(Debug)]
pub enum Failed {
    /// It is the first process of its PID namespace: with its end all others there end.
    First,
    /// The program could not be run.
    Start(PathBuf, io::Error),
    /// Something else of the system.
    System(&'static str, io::Error),
    /// The successor cannot start, in its own words.
    Said(String),
    /// It ended before it served, and said nothing.
    Silent(u32),
    /// It was not ready in time.
    Late(u32, Duration),
    /// It was ready, and then did not accept in time.
    Idle(u32),
    /// Somebody told the agent to end meanwhile.
    Ending,
}

impl Origin {
    /// That of this process; to be asked at its start, before its file is replaced.
    ///
    /// # Errors
    /// The kernel does not say which program it runs.
    pub fn own() -> io::Result<Self> {
        let arguments: Vec<_> = env::args_os().collect();
        let file = still_called(env::current_exe()?);
        let called = arguments.first().map(Path::new).and_then(|called| called_by_path(called, &file));
        Ok(Self { program: called.unwrap_or(file), arguments })
    }

    /// The program's file.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Starts a successor with these sockets, and with the lines to agents before this one.
    ///
    /// # Errors
    /// It does not run.
    pub async fn start(&self, sockets: Vec<(String, OwnedFd)>, older: Vec<OwnedFd>) -> Result<Successor, Failed> {
        if std::process::id() == 1 {
            return Err(Failed::First);
        }
        let line = |error| Failed::System("making a line to the successor", error);
        let (here, there) = StdStream::pair().map_err(line)?;
        here.set_nonblocking(true).map_err(line)?;
        let here = UnixStream::from_std(here).map_err(line)?;
        let older = older.into_iter().enumerate().map(|(at, line)| (format!("{OLDER}{at}"), line));
        let given: Vec<_> = [(LINE.to_owned(), there.into())].into_iter().chain(older).chain(sockets).collect();
        let Self { program, arguments } = self.clone();
        let started = tokio::task::spawn_blocking(move || {
            let given: Vec<_> = given.iter().map(|(name, descriptor)| (name.clone(), descriptor.as_fd())).collect();
            successor::start(&program, &arguments, &given)
        });
        let started = started.await.map_err(|error| Failed::System("starting the successor", error.into()))?;
        let pid = started.map_err(|error| Failed::Start(self.program.clone(), error))?;
        Ok(Successor { pid, process: Killed(watch(pid)), line: here })
    }
}

/// The name of a program's file, which the kernel gives and may say is gone.
fn still_called(program: PathBuf) -> PathBuf {
    match program.to_str().and_then(|text| text.strip_suffix(DELETED)) {
        Some(name) => name.into(),
        None => program,
    }
}

/// The path by which `file` was called, if it was by one. It may lead over links, which lead to another version by the time
/// of an upgrade (`/opt/adit/current/adit`); the kernel tells where they led.
fn called_by_path(called: &Path, file: &Path) -> Option<PathBuf> {
    let has_folder = called.parent().is_some_and(|folder| folder != Path::new(""));
    let leads_there = has_folder && called.canonicalize().is_ok_and(|leads_to| leads_to == file);
    leads_there.then(|| std::path::absolute(called).ok()).flatten()
}

fn watch(pid: u32) -> Option<(Pid, Option<Process>)> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    Some((pid, Process::hold(pid).ok()))
}

impl Successor {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it is ready, and says its version; no longer than `limit`.
    ///
    /// # Errors
    /// It is not, and will not be.
    pub async fn ready(&mut self, limit: Duration) -> Result<String, Failed> {
        let said = tokio::time::timeout(limit, Said::read(&mut self.line)).await;
        match said.map_err(|_| Failed::Late(self.pid, limit))? {
            Ok(Some(Said::Ready(version))) => Ok(version),
            Ok(Some(Said::Failed(text))) => Err(Failed::Said(text)),
            Ok(None) => Err(Failed::Silent(self.pid)),
            Err(error) => Err(Failed::System("hearing the successor", error)),
        }
    }

    /// Tells it to go, and waits until it accepts too.
    ///
    /// # Errors
    /// It does not, and this agent is the only one that does.
    pub async fn go(&mut self) -> Result<(), Failed> {
        if self.line.write_all(GO.as_bytes()).await.is_err() {
            return Err(Failed::Silent(self.pid));
        }
        let serves = tokio::time::timeout(SERVING_LIMIT, hear(&mut self.line, SERVING)).await;
        match serves.map_err(|_| Failed::Idle(self.pid))? {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failed::Silent(self.pid)),
            Err(error) => Err(Failed::System("hearing the successor", error)),
        }
    }

    /// Leaves the place to it. From here on the line is the other way around: it asks, and this agent answers.
    ///
    /// # Errors
    /// It has ended by now.
    pub async fn take_over(mut self) -> Result<UnixStream, Failed> {
        if self.line.write_all(YOURS.as_bytes()).await.is_err() {
            return Err(Failed::Silent(self.pid));
        }
        self.process.0 = None;
        Ok(self.line)
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        match &self.0 {
            Some((_, Some(process))) => process.signal(Signal::KILL),
            // One that has ended needs no signal.
            Some((pid, None)) => drop(kill_process(*pid, Signal::KILL)),
            None => {}
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str(
                "the agent is the first process of its container, which ends with it; start a container with the new \
                 version instead, or one with an init process (docker run --init)",
            ),
            Self::Start(program, error) => write!(f, "running {}: {error}", program.display()),
            Self::System(what, error) => write!(f, "{what}: {error}"),
            Self::Said(text) => f.write_str(text),
            Self::Silent(pid) => write!(
                f,
                "the new process ({pid}) ended before it served, and said nothing of why; what it wrote is where the \
                 agent's log is"
            ),
            Self::Late(pid, limit) => {
                write!(
                    f,
                    "the new process ({pid}) was not ready within {limit:?} (`upgrade_ready` in [limits]), and was killed"
                )
            }
            Self::Idle(pid) => write!(
                f,
                "the new process ({pid}) was ready, but did not accept connections within {SERVING_LIMIT:?}, and was killed"
            ),
            Self::Ending => f.write_str("the agent was told to end"),
        }
    }
}

impl std::error::Error for Failed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_whose_file_was_replaced_keeps_its_name() {
        assert_eq!(still_called("/usr/bin/adit (deleted)".into()), Path::new("/usr/bin/adit"));
        assert_eq!(still_called("/usr/bin/adit".into()), Path::new("/usr/bin/adit"));
    }

    #[test]
    fn a_program_that_was_called_over_a_link_is_called_so_again() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().canonicalize().unwrap().join(name);
        std::fs::create_dir(at("1.0")).unwrap();
        std::fs::write(at("1.0/adit"), "").unwrap();
        std::os::unix::fs::symlink("1.0", at("current")).unwrap();
        let called = |called: &Path| called_by_path(called, &at("1.0/adit"));
        assert_eq!(called(&at("current/adit")), Some(at("current/adit")));
        // A bare name was looked up in PATH, and a wrapper may say what it likes.
        assert_eq!(called(Path::new("adit")), None);
        assert_eq!(called(&at("elsewhere/adit")), None);
    }
}
