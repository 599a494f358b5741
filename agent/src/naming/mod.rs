//! Bound names to addresses, kept fresh. Every host that somebody watches is looked up by one task,
//! ahead of its answer's end, so that a stream to a known name never waits for DNS. It knows
//! nothing of rules, balancers or streams, and starts no task that outlives its token.

mod dns;
mod keep;
mod known;
mod settings;

pub use keep::NameStatus;
pub use settings::Settings;

use crate::addr::{Address, Weighted};
use adit_config::dtab::{Bound, Host, Namer};
use dns::Dns;
use keep::{Entry, Key};
use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Look-ups under way at once, over all names; more of them wait their turn.
const LOOK_UPS_AT_ONCE: usize = 256;

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
    settings: Settings,
    /// Without a resolver every host is answered with why there is none; addresses still work.
    dns: Result<Dns, String>,
    turns: Semaphore,
    names: Mutex<HashMap<Key, Arc<Entry>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Namers {
    /// Namers whose tasks are spawned on `tasks` and end with `stop`. A resolver that cannot be
    /// made (no `/etc/resolv.conf`) is told to each host that needs it.
    #[must_use]
    pub fn new(settings: Settings, tasks: TaskTracker, stop: CancellationToken) -> Self {
        let shared = Shared {
            dns: Dns::new(&settings),
            settings,
            turns: Semaphore::new(LOOK_UPS_AT_ONCE),
            names: Mutex::default(),
            tasks,
            stop,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The addresses of a bound name, now and as they change. A host is looked up once however many
    /// watch it, from now until nobody has watched it for a while. Needs a tokio runtime.
    #[must_use]
    pub fn watch(&self, bound: &Bound) -> watch::Receiver<Addrs> {
        match bound.namer() {
            Namer::Unix(path) => fixed(Address::Unix(path.clone())),
            Namer::Inet { host: Host::Ip(ip), port } => fixed(Address::Tcp((*ip, *port).into())),
            Namer::Inet { host: Host::Name(host), port } | Namer::Dns { host, port } => {
                self.watch_host(Key { host: host.as_str().into(), port: *port })
            }
            Namer::Srv { .. } | Namer::Fs { .. } => watch::channel(Addrs::Failed("not yet".into())).1,
        }
    }

    fn watch_host(&self, key: Key) -> watch::Receiver<Addrs> {
        match self.shared.names().entry(key) {
            hash_map::Entry::Occupied(kept) => kept.get().subscribe(),
            hash_map::Entry::Vacant(place) => {
                let (entry, receiver) = Entry::new(place.key().clone());
                place.insert(entry.clone());
                self.shared.tasks.spawn(keep::keep(self.shared.clone(), entry));
                receiver
            }
        }
    }

    /// Every host that is kept, in the order of its name.
    #[must_use]
    pub fn status(&self) -> Vec<NameStatus> {
        let now = Instant::now();
        let mut all: Vec<_> = self.shared.names().values().map(|entry| entry.status(now)).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
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
    /// The map is whole between any two calls, so a panic elsewhere does not spoil it.
    fn names(&self) -> MutexGuard<'_, HashMap<Key, Arc<Entry>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// An address that is what it is.
fn fixed(address: Address) -> watch::Receiver<Addrs> {
    watch::channel(Addrs::Bound([Weighted::plain(address)].into())).1
}

#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;
