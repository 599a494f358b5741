//! The task that keeps one host fresh: look up, tell the watchers, wait, again; and forget the host
//! when nobody has watched it for a while. What an answer means is decided in `known`.

use super::known::{Answers, Known, Outcome};
use super::{Addrs, Shared};
use serde::Serialize;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::watch;
use tokio::time::sleep;

/// A host and the port its addresses get.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

/// A host that is kept.
#[derive(Debug)]
pub(super) struct Entry {
    key: Key,
    known: Mutex<Known>,
    told: watch::Sender<Addrs>,
}

/// A host, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct NameStatus {
    /// `host:port`.
    pub name: String,
    /// `pending`, `bound`, `negative` or `failed`.
    pub state: &'static str,
    /// Its addresses, with the port.
    pub addresses: Vec<String>,
    /// How long ago all of it was last confirmed, in milliseconds.
    pub age_ms: Option<u64>,
    /// Why the last look-up failed, if it did; older answers are then still in use.
    pub last_error: Option<String>,
}

impl Entry {
    /// An entry of which nothing is known, and its first watcher.
    pub(super) fn new(key: Key) -> (Arc<Self>, watch::Receiver<Addrs>) {
        let (told, receiver) = watch::channel(Addrs::Pending);
        let entry = Self { key, known: Mutex::default(), told };
        (Arc::new(entry), receiver)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Addrs> {
        self.told.subscribe()
    }

    pub(super) fn status(&self, now: Instant) -> NameStatus {
        let (state, addresses) = match &*self.told.borrow() {
            Addrs::Pending => ("pending", Vec::new()),
            Addrs::Bound(all) => ("bound", all.iter().map(|one| one.address.to_string()).collect()),
            Addrs::Neg => ("negative", Vec::new()),
            Addrs::Failed(_) => ("failed", Vec::new()),
        };
        let known = self.known();
        let age = known.age(now).map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        NameStatus {
            name: self.key.to_string(),
            state,
            addresses,
            age_ms: age,
            last_error: known.last_error().map(str::to_owned),
        }
    }

    /// Tells the watchers, if there is something new.
    fn tell(&self, addrs: Addrs) {
        self.told.send_if_modified(|told| {
            let new = *told != addrs;
            if new {
                *told = addrs;
            }
            new
        });
    }

    /// What is known is replaced field by field from one look-up; a panic elsewhere leaves the last.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a host fresh until it is forgotten or the agent stops; whoever still waits then is told.
pub(super) async fn keep(shared: Arc<Shared>, entry: Arc<Entry>) {
    let kept = shared.stop.run_until_cancelled(refresh(&shared, &entry)).await;
    if kept.is_none() {
        shared.names().remove(&entry.key);
        entry.told.send_if_modified(|told| {
            let waiting = *told == Addrs::Pending;
            if waiting {
                *told = Addrs::Failed("the agent is stopping".into());
            }
            waiting
        });
    }
}

async fn refresh(shared: &Shared, entry: &Entry) {
    let mut idle_since = None;
    while !forget(shared, entry, &mut idle_since, Instant::now()) {
        let answers = look_up(shared, &entry.key.host).await;
        count(answers.outcome());
        let now = Instant::now();
        let pause = entry.known().take(answers, &shared.settings, now, fastrand::u64(..));
        let addrs = entry.known().addrs(entry.key.port);
        entry.tell(addrs);
        note_idle(entry, &mut idle_since, now);
        sleep(pause).await;
    }
}

/// Remembers since when nobody has watched.
fn note_idle(entry: &Entry, idle_since: &mut Option<Instant>, now: Instant) {
    match entry.told.receiver_count() {
        0 => _ = idle_since.get_or_insert(now),
        _ => *idle_since = None,
    }
}

/// Forgets the host if nobody has watched it for long enough. Under the map's lock, so that nobody
/// can begin to watch what is being forgotten.
fn forget(shared: &Shared, entry: &Entry, idle_since: &mut Option<Instant>, now: Instant) -> bool {
    let mut names = shared.names();
    note_idle(entry, idle_since, now);
    let idle = idle_since.is_some_and(|since| now.duration_since(since) >= shared.settings.linger);
    if idle {
        names.remove(&entry.key);
    }
    idle
}

/// One look-up, when its turn has come.
async fn look_up(shared: &Shared, host: &str) -> Answers {
    let dns = match &shared.dns {
        Ok(dns) => dns,
        Err(why) => return Answers::failed(why),
    };
    match shared.turns.acquire().await {
        Ok(_turn) => dns.look_up(host).await,
        Err(_) => Answers::failed("look-ups have ended"),
    }
}

fn count(outcome: Outcome) {
    let outcome = match outcome {
        Outcome::Found => "found",
        Outcome::Negative => "negative",
        Outcome::Failed => "failed",
    };
    metrics::counter!("adit_dns_lookups_total", "outcome" => outcome).increment(1);
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
