//! What the router keeps: a route for each name in use, and a road for each bound name that routes
//! lead to. Roads are shared, so that two names of one service count its streams together. Pure but
//! for the watching; the time is an argument.

use super::Addrs;
use super::RouterStatus;
use super::decide::State;
use crate::balance::Balancer;
use crate::naming::Namers;
use adit_config::dtab::{Bound, NameTree};
use adit_protocol::Name;
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A name that was not used for this long is dropped.
const IDLE: Duration = Duration::from_secs(600);

/// When the routes are full, names not used for this long make room first.
const IDLE_WHEN_FULL: Duration = Duration::from_secs(60);

/// Names kept at most. A captured connection's name comes from whoever connects, so it is bounded.
const MAX_ROUTES: usize = 16_384;

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Tables {
    routes: HashMap<Name, Arc<Route>>,
    roads: HashMap<Name, Arc<Road>>,
}

/// Where a name leads.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) tree: NameTree<Arc<Road>>,
    used: Mutex<Instant>,
}

/// A bound name with its addresses and its balancer.
#[derive(Debug)]
pub(super) struct Road {
    addrs: watch::Receiver<Addrs>,
    balancer: Arc<Balancer>,
}

/// A name in use, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct RouteStatus {
    /// The logical name.
    pub name: String,
    /// The bound names it leads to, as a tree.
    pub tree: String,
    /// How long ago a stream last asked for it, in seconds.
    pub idle_s: u64,
}

impl Tables {
    /// The kept route of a name, which is now in use.
    pub(super) fn used(&self, name: &Name, now: Instant) -> Option<Arc<Route>> {
        let route = self.routes.get(name)?;
        route.use_at(now);
        Some(route.clone())
    }

    /// Keeps what a name leads to; if somebody was quicker, theirs.
    pub(super) fn add(&mut self, name: &Name, tree: NameTree<Bound>, namers: &Namers, now: Instant) -> Arc<Route> {
        self.make_room(now);
        let Self { routes, roads } = self;
        let route = routes.entry(name.clone()).or_insert_with(|| {
            let mut road =
                |bound: Bound| roads.entry(bound.path().clone()).or_insert_with(|| Road::to(&bound, namers)).clone();
            Arc::new(Route { tree: tree.map(&mut road), used: Mutex::new(now) })
        });
        route.clone()
    }

    fn make_room(&mut self, now: Instant) {
        if self.routes.len() < MAX_ROUTES {
            return;
        }
        self.drop_idle(IDLE_WHEN_FULL, now);
        if self.routes.len() >= MAX_ROUTES {
            self.routes.clear();
            self.drop_idle(IDLE_WHEN_FULL, now);
        }
    }

    /// Drops every name: what they lead to has changed.
    pub(super) fn forget_routes(&mut self) {
        self.routes.clear();
    }

    /// Drops the names that nobody uses.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.drop_idle(IDLE, now);
    }

    /// A road stays while a route leads over it or a stream is on it: its counts are still true.
    fn drop_idle(&mut self, idle: Duration, now: Instant) {
        self.routes.retain(|_, route| route.idle(now) < idle);
        self.roads.retain(|_, road| Arc::strong_count(road) > 1 || road.balancer.open() > 0);
    }

    pub(super) fn status(&self, now: Instant) -> RouterStatus {
        let route = |(name, route): (&Name, &Arc<Route>)| RouteStatus {
            name: name.to_string(),
            tree: route.tree.to_string(),
            idle_s: route.idle(now).as_secs(),
        };
        let mut routes: Vec<_> = self.routes.iter().map(route).collect();
        routes.sort_by(|one, other| one.name.cmp(&other.name));
        let mut balancers: Vec<_> = self.roads.values().map(|road| road.balancer().status()).collect();
        balancers.sort_by(|one, other| one.bound.cmp(&other.bound));
        RouterStatus { routes, balancers }
    }
}

impl Route {
    fn use_at(&self, now: Instant) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Road {
    fn to(bound: &Bound, namers: &Namers) -> Arc<Self> {
        let balancer = Arc::new(Balancer::new(bound.path().clone()));
        Arc::new(Self { addrs: namers.watch(bound), balancer })
    }

    pub(super) fn bound(&self) -> &Name {
        self.balancer.bound()
    }

    /// What is known of its addresses.
    pub(super) fn state(&self) -> State<Arc<str>> {
        match &*self.addrs.borrow() {
            Addrs::Pending => State::Pending,
            Addrs::Bound(_) => State::Ready,
            Addrs::Neg => State::Neg,
            Addrs::Failed(why) => State::Failed(why.clone()),
        }
    }

    /// Its balancer, told of the latest addresses.
    pub(super) fn balancer(&self) -> Arc<Balancer> {
        if let Addrs::Bound(addresses) = &*self.addrs.borrow() {
            self.balancer.update(addresses);
        }
        self.balancer.clone()
    }

    /// Waits until something is known.
    pub(super) async fn settled(&self) -> Result<(), Arc<str>> {
        let mut addrs = self.addrs.clone();
        match addrs.wait_for(|addrs| *addrs != Addrs::Pending).await {
            Ok(_) => Ok(()),
            Err(_) => Err("naming has ended".into()),
        }
    }
}

impl fmt::Display for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bound())
    }
}
