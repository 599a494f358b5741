//! The agents before this one that still carry streams: each is asked over its line, by the pages that its own admin door
//! had, and is gone once that line ends.
//!
//! The lines outlive the agent that asks over them: the next one goes on with them. So one is left only between two answers.
//! One whose line broke while it lives is listed all the same, and told to end by a signal: it goes by the files by itself.

mod asker;

use std::{
    fmt, io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::join_all;
use hyper::{Method, StatusCode};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tokio::{net::UnixStream, sync::Notify};
use tracing::{info, warn};

use asker::Asker;
pub use asker::QUESTION;

use crate::sys::process::Process;

/// How long one may take over an answer that comes from its memory.
pub const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// How long a process may take to be gone after its line.
const LAST_MOMENT: Duration = Duration::from_secs(1);
/// How long one may take over a reload: it reads files, which may be on a slow disk.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);

/// All of them that live.
#[derive(Debug, Default)]
pub struct Predecessors {
    living: Mutex<Vec<Arc<Predecessor>>>,
    /// Told whenever one is gone.
    gone: Notify,
}

/// One of them.
#[derive(Debug)]
pub struct Predecessor {
    /// Its process id.
    pub pid: i32,
    /// A copy, for the next agent.
    line: OwnedFd,
    asker: Asker,
    /// `None` for one that was gone before it could be held.
    process: Option<Process>,
    /// The line has ended, and the process has not.
    lost: AtomicBool,
}

/// What one has answered.
pub type Answer = Result<(StatusCode, Value), Silence>;

/// Why one has answered nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It has ended.
    Ended,
    /// Nothing came in this time.
    Late(Duration),
    /// It lives, but cannot be asked any more.
    Lost,
    /// It has not answered much that was asked before.
    Busy,
    /// What came is no answer.
    Broken(String),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("it has ended"),
            Self::Lost => {
                f.write_str("the line to it is broken; it follows the files by itself, and SIGTERM drains it")
            }
            Self::Late(limit) => write!(f, "no answer within {limit:?}"),
            Self::Busy => f.write_str("it does not answer"),
            Self::Broken(error) => write!(f, "it answers, but not as an adit agent does: {error}"),
        }
    }
}

impl Predecessors {
    /// Takes the line to one; must run within the runtime, where it is asked from then on.
    ///
    /// # Errors
    /// The line is none.
    pub fn add(self: &Arc<Self>, line: OwnedFd) -> io::Result<()> {
        let copy = line.try_clone()?;
        let stream = StdStream::from(line);
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        // The kernel knows who has made the line (SO_PEERCRED, unix(7)).
        let pid = stream.peer_cred()?.pid().unwrap_or_default();
        let (asker, asking) = Asker::new(stream);
        let process = Pid::from_raw(pid).and_then(|pid| Process::hold(pid).ok());
        let one = Arc::new(Predecessor { pid, line: copy, asker, process, lost: AtomicBool::new(false) });
        self.living().push(Arc::clone(&one));
        let all = Arc::clone(self);
        tokio::spawn(async move {
            asking.await;
            if !one.asker.is_left() {
                one.ended().await;
            }
            all.remove(&one);
        });
        Ok(())
    }

    /// Those that live, the oldest first.
    pub fn all(&self) -> Vec<Arc<Predecessor>> {
        self.living().clone()
    }

    /// Copies of the lines, for the next agent.
    ///
    /// # Errors
    /// There is no descriptor for one.
    pub fn lines(&self) -> io::Result<Vec<OwnedFd>> {
        self.living().iter().map(|one| one.line.try_clone()).collect()
    }

    /// Leaves all of them to the next agent. Returns once nothing is asked any more.
    pub async fn leave(&self) {
        let all = std::mem::take(&mut *self.living());
        join_all(all.iter().map(|one| one.asker.leave())).await;
    }

    /// Asks all of them at once; who does not answer within `limit` is told as such.
    pub async fn ask(&self, method: Method, path: &str, limit: Duration) -> Vec<(i32, Answer)> {
        let mut asked = tokio::task::JoinSet::new();
        for (at, one) in self.all().into_iter().enumerate() {
            let (method, path) = (method.clone(), path.to_owned());
            asked.spawn(async move { (at, one.pid, one.ask(method, path, limit).await) });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by_key(|(at, ..)| *at);
        answers.into_iter().map(|(_, pid, answer)| (pid, answer)).collect()
    }

    /// Has each read its configuration again.
    pub async fn reload(&self) -> Vec<(i32, Answer)> {
        self.ask(Method::POST, "/reload", RELOAD_LIMIT).await
    }

    /// Tells each that the agent ends: their streams have as long as its own.
    pub async fn drain(&self) {
        self.all().iter().filter(|one| one.lost.load(Relaxed)).for_each(|one| one.terminate());
        for (pid, answer) in self.ask(Method::POST, "/drain", LOOK_LIMIT).await {
            if let Err(why) = answer
                && !matches!(why, Silence::Ended | Silence::Lost)
            {
                warn!(pid, "a predecessor was not told that the agent ends: {why}");
            }
        }
    }

    /// Waits until all of them are gone.
    pub async fn all_gone(&self) {
        loop {
            let gone = self.gone.notified();
            if self.living().is_empty() {
                return;
            }
            gone.await;
        }
    }

    fn remove(&self, one: &Arc<Predecessor>) {
        let mut living = self.living();
        let before = living.len();
        living.retain(|other| !Arc::ptr_eq(other, one));
        // One that was left is another's to tell of.
        if living.len() < before {
            info!(pid = one.pid, "a predecessor has ended");
        }
        drop(living);
        self.gone.notify_waiters();
    }

    fn living(&self) -> MutexGuard<'_, Vec<Arc<Predecessor>>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Predecessor {
    async fn ask(&self, method: Method, path: String, limit: Duration) -> Answer {
        match self.asker.ask(method, path, limit).await {
            Err(Silence::Ended) if self.lost.load(Relaxed) => Err(Silence::Lost),
            answer => answer,
        }
    }

    /// Waits for the end of a process whose line has ended; most often that was its end.
    async fn ended(&self) {
        let Some(process) = &self.process else { return };
        if tokio::time::timeout(LAST_MOMENT, process.ended()).await.is_ok() {
            return;
        }
        self.lost.store(true, Relaxed);
        warn!(pid = self.pid, "the line to a predecessor is broken: {}", Silence::Lost);
        process.ended().await;
    }

    fn terminate(&self) {
        self.process.iter().for_each(|process| process.signal(Signal::TERM));
    }
}
