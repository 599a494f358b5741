//! A SPIFFE Workload API as the source of credentials: its X.509 stream is followed for as long as a [`Workload`] lives,
//! and the last good set stays while the stream is broken. It never judges a set; the store takes it up or leaves it.
//!
//! The stream has a thread and a runtime of its own: a start and a reload wait for the first set without an async context
//! around them, and neither a busy data path nor a stuck one delays a rotation.

pub(super) mod given;
mod stream;

use std::{
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::SystemTime,
};

use adit_config::Spiffe;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::LoadError;
pub(super) use given::Given;

/// A Workload API that is being followed.
#[derive(Debug)]
pub(super) struct Workload {
    news: Arc<News>,
    socket: PathBuf,
    /// The number of the set that the store looked at last.
    taken: AtomicU64,
    _follow: DropGuard,
}

/// What came, and what became of the stream.
#[derive(Debug)]
struct News {
    state: Mutex<State>,
    /// The first set has come.
    first: Condvar,
    /// The number of the latest set.
    number: watch::Sender<u64>,
}

/// A set to look at.
pub(super) struct Latest {
    pub(super) number: u64,
    pub(super) given: Option<Arc<Given>>,
}

#[derive(Debug, Default)]
struct State {
    given: Option<Arc<Given>>,
    at: Option<SystemTime>,
    /// Why the stream is broken, while it is.
    fault: Option<String>,
}

/// How a Workload API does, for an operator to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadStatus {
    /// Its socket.
    pub socket: PathBuf,
    /// When the latest set came.
    pub received: Option<SystemTime>,
    /// Why its stream is broken, while it is.
    pub fault: Option<String>,
}

impl Workload {
    /// Follows the Workload API, and waits until it has given a set, for as long as `of` says.
    ///
    /// # Errors
    /// None came in time: why the last try failed.
    pub(super) fn start(of: &Spiffe) -> Result<Self, LoadError> {
        let news = Arc::new(News { state: Mutex::default(), first: Condvar::new(), number: watch::Sender::new(0) });
        let stop = CancellationToken::new();
        let follow = stream::follow(of.socket.clone(), Arc::clone(&news));
        let guard = stop.clone().drop_guard();
        let unusable = |cause: std::io::Error| {
            let wrong = format!("cannot be followed: {cause}");
            LoadError::new(&given::source(&of.socket, ""), wrong, "let this process have one thread more")
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unusable)?;
        let run = move || runtime.block_on(stop.run_until_cancelled(follow));
        thread::Builder::new().name("adit-spiffe".to_owned()).spawn(run).map_err(unusable)?;
        let workload = Self { news, socket: of.socket.clone(), taken: AtomicU64::new(0), _follow: guard };
        workload.wait(of)?;
        Ok(workload)
    }

    fn wait(&self, of: &Spiffe) -> Result<(), LoadError> {
        let missing = |state: &mut State| state.given.is_none();
        let waited = self.news.first.wait_timeout_while(self.news.lock(), of.wait, missing);
        let (latest, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if latest.given.is_some() {
            return Ok(());
        }
        let why = latest.fault.as_deref().unwrap_or("it does not answer");
        Err(LoadError::new(
            &given::source(&self.socket, ""),
            format!("gave no certificate within {:?} (spiffe_wait): {why}", of.wait),
            "see that the SPIFFE agent runs, that this user may open its socket, and that this workload is registered",
        ))
    }

    /// Whether this follows what `of` asks for.
    pub(super) fn is_of(&self, of: &Spiffe) -> bool {
        self.socket == of.socket
    }

    /// The latest set with its number.
    pub(super) fn latest(&self) -> Latest {
        // The number first: of a set that comes in between, it is seen the next time.
        let number = *self.news.number.borrow();
        Latest { number, given: self.news.lock().given.clone() }
    }

    /// The set of this number has been looked at; one that is of no use is not looked at for its own sake again.
    pub(super) fn took(&self, number: u64) {
        self.taken.store(number, Ordering::Release);
    }

    /// Whether a set came since the last was taken.
    pub(super) fn has_news(&self) -> bool {
        *self.news.number.borrow() != self.taken.load(Ordering::Acquire)
    }

    /// Waits for that.
    pub(super) async fn until_news(&self) {
        let mut number = self.news.number.subscribe();
        while !self.has_news() && number.changed().await.is_ok() {}
    }

    pub(super) fn status(&self) -> WorkloadStatus {
        let latest = self.news.lock();
        WorkloadStatus { socket: self.socket.clone(), received: latest.at, fault: latest.fault.clone() }
    }

    /// Why the stream is broken, while it is.
    pub(super) fn fault(&self) -> Option<LoadError> {
        let fault = self.news.lock().fault.clone()?;
        let wrong = format!("the Workload API's stream is broken: {fault}");
        Some(LoadError::new(&given::source(&self.socket, ""), wrong, "it is tried again, and the last set stays"))
    }
}

impl News {
    fn came(&self, given: Given) {
        let mut latest = self.lock();
        if latest.fault.take().is_some() {
            tracing::info!(socket = %given.source("").display(), "the Workload API gives certificates again");
        }
        latest.given = Some(Arc::new(given));
        latest.at = Some(SystemTime::now());
        self.first.notify_all();
        drop(latest);
        metrics::gauge!("adit_workload_api_fault").set(0.0);
        self.number.send_modify(|number| *number += 1);
    }

    /// An outage that lasts is told once, and again when its reason is another.
    fn broke(&self, socket: &std::path::Path, fault: String) {
        metrics::gauge!("adit_workload_api_fault").set(1.0);
        let mut latest = self.lock();
        if latest.fault.as_ref() != Some(&fault) {
            metrics::counter!("adit_workload_api_faults_total").increment(1);
            let socket = socket.display();
            match latest.given {
                Some(_) => {
                    tracing::error!(%socket, fault, "the Workload API's stream is broken; what it gave last stays in force");
                }
                None => {
                    tracing::error!(%socket, fault, "the Workload API's stream is broken; it has given nothing yet");
                }
            }
        }
        latest.fault = Some(fault);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
