//! The pool: idle tunnels, ready for the next stream to the same agent under the same identities (PROTOCOL.md section
//! 5). A tunnel that was taken has just been read to the end of what had arrived, so that a retired or closed one is
//! never used.
//!
//! Idle tunnels have no task of their own: a sweep each second reads them all, which costs no system call for one on
//! which nothing happened.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use adit_protocol::Violation;
use arc_swap::ArcSwap;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use super::{
    close::close,
    dial::{Dialed, Key},
};
use crate::{
    identity::Store,
    streams::Streams,
    telemetry::metrics,
    wire::{
        channel::Filled,
        tunnel::{Role, Tunnel},
    },
};

/// How often idle tunnels are read and the old ones dropped.
const SWEEP: Duration = Duration::from_secs(1);

/// How long a tunnel may be kept.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Idle for longer it is closed, where nothing else is said of it.
    pub idle: Duration,
    /// Older than this it is not used again; off by default.
    pub age: Option<Duration>,
    /// Idle tunnels of one key at the most, where nothing else is said of them.
    pub of_key: usize,
    /// Tunnels in all: what streams do not use may idle.
    pub all: usize,
    /// A frame that was begun must be whole.
    pub frame: Duration,
}

/// How one tunnel is kept; what is not said is as the pool's limits say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep {
    /// Idle for longer it is closed.
    pub idle: Option<Duration>,
    /// With so many idle tunnels of its key it is closed at once.
    pub of_key: Option<usize>,
}

/// The idle tunnels of this agent's outbound side.
#[derive(Debug)]
pub struct Pool {
    idle: Mutex<HashMap<Key, Vec<Idle>>>,
    /// How many of them there are, so that nobody has to add up.
    all: AtomicUsize,
    /// None is kept any more.
    closed: AtomicBool,
    identity: Arc<Store>,
    streams: Arc<Streams>,
    limits: ArcSwap<PoolLimits>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Idle {
    dialed: Dialed,
    since: Instant,
    /// Idle for longer it is closed.
    stays: Duration,
}

impl Pool {
    /// An empty pool; its closing tunnels run among `tasks`.
    pub fn new(identity: Arc<Store>, streams: Arc<Streams>, limits: PoolLimits, tasks: TaskTracker) -> Arc<Self> {
        let limits = ArcSwap::from_pointee(limits);
        let (idle, all, closed) = (Mutex::default(), AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { idle, all, closed, identity, streams, limits, tasks })
    }

    /// Other limits, from now on.
    pub fn bound_by(&self, limits: PoolLimits) {
        self.limits.store(Arc::new(limits));
    }

    /// An idle tunnel that may be used for `key` now.
    pub fn take(&self, key: &Key) -> Option<Dialed> {
        loop {
            let idle = self.lock().get_mut(key)?.pop()?;
            self.left(1);
            match self.fit(idle.dialed) {
                Ok(mut dialed) => {
                    dialed.recycled = true;
                    return Some(dialed);
                }
                Err(unfit) => self.drop_tunnel(unfit),
            }
        }
    }

    /// Takes a tunnel back whose stream is over, or closes it when it may not be used again.
    pub fn put(&self, dialed: Dialed, keep: Keep) {
        if dialed.key.generation != self.identity.snapshot().generation {
            return self.drop_tunnel(Unfit::Clean(Box::new(dialed)));
        }
        match self.fit(dialed) {
            Ok(dialed) => self.keep(dialed, keep),
            Err(unfit) => self.drop_tunnel(unfit),
        }
    }

    fn keep(&self, dialed: Dialed, keep: Keep) {
        let mut idle = self.lock();
        let all = self.all.load(Relaxed) + self.streams.count();
        let of_key = idle.entry(dialed.key.clone()).or_default();
        let limits = self.limits.load();
        if !self.closed.load(Relaxed) && of_key.len() < keep.of_key.unwrap_or(limits.of_key) && all < limits.all {
            let stays = keep.idle.unwrap_or(limits.idle);
            of_key.push(Idle { dialed, since: Instant::now(), stays });
            self.all.fetch_add(1, Relaxed);
            metrics::tunnels_idle(1);
        } else {
            drop(idle);
            self.drop_tunnel(Unfit::Clean(Box::new(dialed)));
        }
    }

    /// Whether a tunnel may carry another stream: nothing arrived that forbids it, it is not too old, and its peer is
    /// still who it was and not revoked.
    fn fit(&self, mut dialed: Dialed) -> Result<Dialed, Unfit> {
        let limits = **self.limits.load();
        match rest(&mut dialed.tunnel, limits.frame) {
            Ok(true) => {}
            Ok(false) => return Err(Unfit::Ended),
            Err(rule) => return Err(Unfit::Broken(Box::new(dialed), rule)),
        }
        let reusable = matches!(dialed.tunnel.role(), Role::Dialer(dialer) if dialer.is_reusable());
        let young = limits.age.is_none_or(|age| dialed.born.elapsed() < age);
        let good = self.identity.snapshot().recheck(&dialed.peer, dialed.key.role(), SystemTime::now()).is_ok();
        if reusable && young && good { Ok(dialed) } else { Err(Unfit::Clean(Box::new(dialed))) }
    }

    /// Drops every idle tunnel of `key`: its agent seems to be gone.
    pub fn empty(&self, key: &Key) {
        let dropped = self.lock().remove(key).unwrap_or_default();
        self.left(dropped.len());
    }

    /// How many idle tunnels there are.
    pub fn all(&self) -> usize {
        self.all.load(Relaxed)
    }

    /// How many idle tunnels there are of `key`.
    pub fn idle(&self, key: &Key) -> usize {
        self.lock().get(key).map_or(0, Vec::len)
    }

    /// How many idle tunnels there are of each key.
    pub fn status(&self) -> Vec<(Key, usize)> {
        self.lock().iter().map(|(key, idle)| (key.clone(), idle.len())).collect()
    }

    /// Reads idle tunnels and drops old ones, until `stop`; then closes them all.
    pub async fn sweep(&self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(SWEEP);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.sweep_once(Instant::now());
        }
        self.close();
    }

    /// Closes them all, and every one that comes back.
    pub fn close(&self) {
        // Read under the lock by whoever keeps one.
        let mut idle = self.lock();
        self.closed.store(true, Relaxed);
        let all: Vec<_> = idle.drain().flat_map(|(_, idle)| idle).collect();
        drop(idle);
        for idle in all {
            self.left(1);
            self.tasks.spawn(close(idle.dialed.tunnel));
        }
    }

    fn sweep_once(&self, now: Instant) {
        let generation = self.identity.snapshot().generation;
        let mut swept = Vec::new();
        self.lock().retain(|key, idle| {
            for Idle { dialed, since, stays } in std::mem::take(idle) {
                let overdue = now.duration_since(since) >= stays;
                let outdated = key.generation != generation;
                match self.fit(dialed) {
                    Ok(dialed) if !overdue && !outdated => idle.push(Idle { dialed, since, stays }),
                    Ok(dialed) => {
                        if overdue {
                            metrics::limit_reached("tunnel_idle_dialer");
                        }
                        swept.push(Unfit::Clean(Box::new(dialed)));
                    }
                    Err(unfit) => swept.push(unfit),
                }
            }
            !idle.is_empty()
        });
        self.left(swept.len());
        swept.into_iter().for_each(|unfit| self.drop_tunnel(unfit));
    }

    fn drop_tunnel(&self, unfit: Unfit) {
        match unfit {
            Unfit::Clean(dialed) => drop(self.tasks.spawn(close(dialed.tunnel))),
            Unfit::Ended => {}
            Unfit::Broken(dialed, rule) => {
                let Dialed { tunnel, key, peer, .. } = *dialed;
                warn!(to = %key.address, %peer, "the peer broke the protocol: {rule}; closing its tunnel");
                metrics::rule_broken(&rule);
                metrics::violation("dialer");
                tunnel.channel.reset();
            }
        }
    }

    /// So many are no longer idle.
    fn left(&self, count: usize) {
        self.all.fetch_sub(count, Relaxed);
        metrics::tunnels_idle(-i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Unfit {
    /// It is to be closed as an idle tunnel is.
    Clean(Box<Dialed>),
    /// It has ended, and was closed at once.
    Ended,
    /// Its peer broke this rule.
    Broken(Box<Dialed>, Violation),
}

/// Writes what is sealed, and reads all that has arrived; false when the tunnel has ended.
fn rest(tunnel: &mut Tunnel, frame: Duration) -> Result<bool, Violation> {
    // What a failed write means is read; what the socket does not take now (our FIN after a refusal, say) goes later.
    let _ = tunnel.channel.flush();
    while tunnel.arrival()?.is_some() || tunnel.fill() == Filled::Some {}
    tunnel.check_frame(frame)?;
    Ok(tunnel.channel.end().is_none())
}
