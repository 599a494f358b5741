//! Bound names to addresses, kept fresh. Each question to DNS that somebody wants answered is looked up by one task, ahead
//! of its answer's end, and each file is read by one, so that a stream to a known name never waits. It knows nothing of
//! rules, balancers or streams, and starts no task that outlives its token.
//!
//! A bound name is a list of places, `host port` with a weight and a tier: one for `/#/dns`, a record's each for `/#/srv`, a
//! line's each for `/#/fs`. `lead` follows the places and what is known of their hosts.

mod dns;
mod file;
mod files;
mod keep;
mod known;
mod lead;
mod marked;
mod place;
mod question;
mod settings;
mod status;

pub use settings::{Settings, Zone};
pub use status::NameStatus;

use crate::addr::{Address, Weighted};
use crate::telemetry::metrics::Answers;
use adit_config::dtab::{Bound, Host, Namer};
use adit_protocol::Name;
use arc_swap::ArcSwap;
use dns::Dns;
use keep::Entry;
use lead::Lead;
use question::{Fact, Question};
use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What is known of a bound name's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addrs {
    /// Nothing yet; the first look-up is under way.
    Pending,
    /// These, at least one. Kept as the same `Arc` while they do not change.
    Bound(Arc<[Weighted]>),
    /// An authority says there is no such name or no address.
    Neg,
    /// Nothing was ever known and the last look-up failed, for this reason.
    Failed(Arc<str>),
}

/// All names that are watched.
#[derive(Debug)]
pub struct Namers {
    shared: Arc<Shared>,
}

struct Shared {
    setup: ArcSwap<Setup>,
    /// Told when the setup has changed.
    anew: watch::Sender<()>,
    questions: Mutex<HashMap<Question, Arc<Entry>>>,
    leads: Mutex<HashMap<Name, Arc<Lead>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The settings, and who is asked by them.
struct Setup {
    settings: Settings,
    dns: Dns,
}

impl Setup {
    fn new(settings: Settings) -> Self {
        Self { dns: Dns::new(&settings), settings }
    }
}

impl Namers {
    /// Namers whose tasks are spawned on `tasks` and end with `stop`.
    #[must_use]
    pub fn new(settings: Settings, tasks: TaskTracker, stop: CancellationToken) -> Self {
        let shared = Shared {
            setup: ArcSwap::from_pointee(Setup::new(settings)),
            anew: watch::Sender::new(()),
            questions: Mutex::default(),
            leads: Mutex::default(),
            tasks,
            stop,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The addresses of a bound name, now and as they change. It is followed once however many
    /// watch it, from now until nobody has watched it for a while. Needs a tokio runtime.
    #[must_use]
    pub fn watch(&self, bound: &Bound) -> watch::Receiver<Addrs> {
        match bound.namer() {
            Namer::Unix(path) => fixed(Address::Unix(path.clone())),
            Namer::Inet { host: Host::Ip(ip), port } => fixed(Address::Tcp((*ip, *port).into())),
            Namer::Inet { .. } | Namer::Dns { .. } | Namer::Srv { .. } | Namer::Fs { .. } => self.follow(bound),
        }
    }

    fn follow(&self, bound: &Bound) -> watch::Receiver<Addrs> {
        match self.shared.leads().entry(bound.path().clone()) {
            hash_map::Entry::Occupied(kept) => kept.get().subscribe(),
            hash_map::Entry::Vacant(place) => {
                let (lead, receiver) = Lead::new(bound.clone());
                place.insert(lead.clone());
                self.shared.tasks.spawn(lead::lead(self.shared.clone(), lead));
                receiver
            }
        }
    }

    /// Other settings from now on. What is known stays in use, and every question is asked anew soon.
    pub fn reload(&self, settings: Settings) {
        if self.shared.setup.load().settings != settings {
            self.shared.setup.store(Arc::new(Setup::new(settings)));
            self.shared.anew.send_replace(());
        }
    }

    /// Every name that is followed, in its order.
    #[must_use]
    pub fn status(&self) -> Vec<NameStatus> {
        let now = Instant::now();
        let leads: Vec<_> = self.shared.leads().values().cloned().collect();
        let mut all: Vec<_> = leads.iter().map(|lead| lead.status(now)).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// What is known of one bound name, if it is followed: an address as written is not.
    #[must_use]
    pub fn known(&self, bound: &Name) -> Option<NameStatus> {
        let lead = self.shared.leads().get(bound).cloned();
        lead.map(|lead| lead.status(Instant::now()))
    }

    /// How long ago the oldest answer was confirmed that a bound name's addresses rest on; none where nobody is asked.
    #[must_use]
    pub fn age(&self, bound: &Name) -> Option<Duration> {
        let lead = self.shared.leads().get(bound).cloned();
        lead.and_then(|lead| lead.age(Instant::now()))
    }

    /// Why nothing is known of a host's addresses of this kind, if nothing is, whatever is known of the others.
    #[must_use]
    pub fn lacks(&self, host: &str, is_ipv4: bool) -> Option<String> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let entry = self.shared.questions().get(&Question::Host(host.into())).cloned();
        let Some(entry) = entry else { return Some("nobody looks it up".to_owned()) };
        // As `look_up` asks: A, then AAAA.
        entry.known().lacks(usize::from(!is_ipv4)).map(str::to_owned)
    }

    /// How many names are followed.
    #[must_use]
    pub fn followed(&self) -> usize {
        self.shared.leads().len()
    }

    /// How the answers stand.
    #[must_use]
    pub fn answers(&self) -> Answers {
        let now = Instant::now();
        let mut answers = Answers::default();
        let entries: Vec<_> = self.shared.questions().values().cloned().collect();
        for entry in entries {
            let known = entry.known();
            match known.fact() {
                Fact::Found(_) if known.last_error().is_some() => {
                    answers.stale += 1;
                    answers.oldest = answers.oldest.max(known.age(now).unwrap_or_default());
                }
                Fact::Found(_) => answers.fresh += 1,
                Fact::Neg => answers.negative += 1,
                Fact::Failed(_) => answers.failed += 1,
                Fact::Pending => answers.pending += 1,
            }
        }
        let leads: Vec<_> = self.shared.leads().values().cloned().collect();
        answers.bad_lines = leads.iter().map(|lead| lead.bad_lines()).sum();
        answers
    }

    /// Where the tasks of whoever works with these namers belong.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.shared.tasks
    }

    /// Cancelled when those tasks should end.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.shared.stop
    }
}

impl Shared {
    /// The answer to a question, now and as it changes: it is asked once however many want to know.
    fn ask(self: &Arc<Self>, question: Question) -> (Arc<Entry>, watch::Receiver<Fact>) {
        match self.questions().entry(question) {
            hash_map::Entry::Occupied(kept) => (kept.get().clone(), kept.get().subscribe()),
            hash_map::Entry::Vacant(place) => {
                let (entry, receiver) = Entry::new(place.key().clone());
                place.insert(entry.clone());
                self.tasks.spawn(keep::keep(self.clone(), entry.clone()));
                (entry, receiver)
            }
        }
    }

    /// The map is whole between any two calls, so a panic elsewhere does not spoil it.
    fn questions(&self) -> MutexGuard<'_, HashMap<Question, Arc<Entry>>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As above.
    fn leads(&self) -> MutexGuard<'_, HashMap<Name, Arc<Lead>>> {
        self.leads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("settings", &self.setup.load().settings).finish_non_exhaustive()
    }
}

/// Tells the watchers, if there is something new.
fn tell<T: PartialEq>(told: &watch::Sender<T>, now: T) {
    told.send_if_modified(|told| {
        let new = *told != now;
        if new {
            *told = now;
        }
        new
    });
}

/// An address that is what it is.
fn fixed(address: Address) -> watch::Receiver<Addrs> {
    watch::channel(Addrs::Bound([Weighted::plain(address)].into())).1
}

/// Since when nobody has watched.
#[derive(Debug, Default)]
struct Idle(Option<Instant>);

impl Idle {
    fn note(&mut self, watchers: usize, now: Instant) {
        match watchers {
            0 => _ = self.0.get_or_insert(now),
            _ => self.0 = None,
        }
    }

    /// Whether nobody has watched for as long as `linger`.
    fn is_over(&mut self, watchers: usize, linger: Duration, now: Instant) -> bool {
        self.note(watchers, now);
        self.0.is_some_and(|since| now.duration_since(since) >= linger)
    }
}

#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;
