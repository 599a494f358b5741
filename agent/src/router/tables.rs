//! What the router keeps: a route for each name in use, and a road for each bound name that routes
//! lead to. Roads are shared, so that two names of one service count its streams together. Pure but
//! for the watching; the time is an argument.

use super::decide::State;
use super::refusals::Refusals;
use super::{RoadStatus, RouterStatus, Rules};
use crate::addr::Address;
use crate::addr::Weighted;
use crate::balance::{Balancer, EndpointStatus, Lease, Tally, Without};
use crate::naming::{Addrs, Namers};
use adit_config::dtab::{Bound, NameTree};
use adit_config::peers::{BalancerKind, Expectation, NoRule, OnLeave, Settings};
use adit_protocol::Name;
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A name that was not used for this long is dropped.
const IDLE: Duration = Duration::from_secs(600);

/// When the routes are full, names not used for this long make room first.
const IDLE_WHEN_FULL: Duration = Duration::from_secs(60);

/// What is kept.
#[derive(Debug)]
pub(super) struct Tables {
    rules: Arc<Rules>,
    routes: HashMap<Name, Arc<Route>>,
    roads: HashMap<RoadKey, Arc<Road>>,
    /// Routes kept at most.
    most: usize,
}

/// What two names must have in common to share a road.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RoadKey {
    bound: Name,
    balancer: BalancerKind,
    on_leave: OnLeave,
}

/// Where a name leads.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) tree: NameTree<Arc<Way>>,
    used: Mutex<Instant>,
}

/// One of the bound names a logical name leads to, with what this host's rules say of the two, worked out once.
#[derive(Debug)]
pub struct Way {
    road: Arc<Road>,
    expectation: Result<Expectation, NoRule>,
    settings: Settings,
    /// The logical name.
    name: Name,
}

/// A bound name with its addresses and its balancer.
#[derive(Debug)]
pub(super) struct Road {
    addrs: watch::Receiver<Addrs>,
    balancer: Balancer,
    /// Endpoints that have not got what one of the names asks for.
    refusals: Refusals,
    /// Nobody used it when it was last looked at. After new rules a road has a while to be led to again.
    unused: AtomicBool,
    /// Ends the task that follows its addresses, if it has one.
    _follows: Option<DropGuard>,
}

/// What the rules say of a way, before it has a road.
#[derive(Debug)]
pub(super) struct Said {
    name: Name,
    bound: Bound,
    expectation: Result<Expectation, NoRule>,
    settings: Settings,
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
    pub(super) fn new(rules: Rules, most: usize) -> Self {
        Self { rules: Arc::new(rules), routes: HashMap::new(), roads: HashMap::new(), most }
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        self.rules.clone()
    }

    /// Takes these rules instead. What names led to is forgotten; roads stay, for most will be led to again.
    pub(super) fn change(&mut self, rules: Rules) {
        self.rules = Arc::new(rules);
        self.routes.clear();
    }

    /// The kept route of a name, which is now in use.
    pub(super) fn used(&self, name: &Name, now: Instant) -> Option<Arc<Route>> {
        let route = self.routes.get(name)?;
        route.use_at(now);
        Some(route.clone())
    }

    /// The same, and nobody has used it.
    pub(super) fn kept(&self, name: &Name) -> Option<Arc<Route>> {
        self.routes.get(name).cloned()
    }

    /// Every road there is.
    pub(super) fn roads(&self) -> Vec<Arc<Road>> {
        self.roads.values().cloned().collect()
    }

    /// Keeps what a name leads to; if somebody was quicker, theirs. None if the rules are others by now.
    pub(super) fn add(
        &mut self,
        name: &Name,
        tree: NameTree<Said>,
        rules: &Arc<Rules>,
        namers: &Namers,
        now: Instant,
    ) -> Option<Arc<Route>> {
        if !Arc::ptr_eq(&self.rules, rules) {
            return None;
        }
        self.make_room(now);
        if let Some(route) = self.routes.get(name) {
            return Some(route.clone());
        }
        let tree = tree.map(&mut |said| self.way(said, namers));
        let route = Arc::new(Route { tree, used: Mutex::new(now) });
        self.routes.insert(name.clone(), route.clone());
        Some(route)
    }

    /// A way over the road that is kept, or over a new one.
    pub(super) fn way(&mut self, said: Said, namers: &Namers) -> Arc<Way> {
        let Said { name, bound, expectation, settings } = said;
        let key = RoadKey {
            bound: bound.path().clone(),
            balancer: settings.balancer.unwrap_or_default(),
            on_leave: settings.on_leave.unwrap_or_default(),
        };
        let road = self.roads.entry(key).or_insert_with_key(|key| Road::to(&bound, key, namers)).clone();
        Arc::new(Way { road, expectation, settings, name })
    }

    fn make_room(&mut self, now: Instant) {
        if self.routes.len() < self.most {
            return;
        }
        self.drop_idle(IDLE_WHEN_FULL, now);
        if self.routes.len() >= self.most {
            self.routes.clear();
            self.drop_idle(IDLE_WHEN_FULL, now);
        }
    }

    /// Drops the names that nobody uses.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.drop_idle(IDLE, now);
    }

    /// A road stays while a route leads over it or a stream is on it, for its counts are still true, and until the look
    /// after the one that first found it unused.
    fn drop_idle(&mut self, idle: Duration, now: Instant) {
        self.routes.retain(|_, route| route.idle(now) < idle);
        self.roads.retain(|_, road| {
            let used = Arc::strong_count(road) > 1 || road.balancer.is_held();
            !road.unused.swap(!used, Ordering::Relaxed) || used
        });
    }

    pub(super) fn status(&self, now: Instant) -> RouterStatus {
        let route = |(name, route): (&Name, &Arc<Route>)| RouteStatus {
            name: name.to_string(),
            tree: route.tree.to_string(),
            idle_s: route.idle(now).as_secs(),
        };
        let mut routes: Vec<_> = self.routes.iter().map(route).collect();
        routes.sort_by(|one, other| one.name.cmp(&other.name));
        let balancer = |road: &Arc<Road>| {
            // No stream may have come since its addresses changed, and none tells it of a name that is gone.
            road.addrs();
            RoadStatus { balancer: road.balancer.status(), refused: road.refusals.status(now) }
        };
        let mut balancers: Vec<_> = self.roads.values().map(balancer).collect();
        balancers.sort_by(|one, other| one.balancer.bound.cmp(&other.balancer.bound));
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

impl Said {
    pub(super) fn of(rules: &Rules, name: &Name, bound: Bound) -> Self {
        let expectation = rules.peers.expect(name, bound.path());
        let settings = rules.peers.settings(name, bound.path());
        Self { name: name.clone(), bound, expectation, settings }
    }
}

impl Way {
    /// The bound name.
    #[must_use]
    pub fn bound(&self) -> &Name {
        self.road.balancer.bound()
    }

    /// Its balancer, as it was told the addresses when this way was chosen.
    #[must_use]
    pub fn balancer(&self) -> &Balancer {
        &self.road.balancer
    }

    /// An endpoint for one stream of this name, without those in `avoid` and, while others are left, those that have refused
    /// this name or just failed.
    pub fn pick(&self, avoid: &[Address]) -> Option<Lease> {
        self.balancer().pick_without(Without { avoid, refused: &self.refused() })
    }

    /// Where a stream would go now; nothing is counted.
    pub fn would_pick(&self) -> Option<Address> {
        self.balancer().would_pick(Without { avoid: &[], refused: &self.refused() })
    }

    /// The endpoint was reached, and says that it has not got what this name asks for; it is left out for a while, for this
    /// name alone.
    pub fn refuses(&self, lease: &Lease, why: &str) {
        lease.answered();
        self.road.refusals.note(&self.name, lease.address(), why, Instant::now(), fastrand::u64(..));
    }

    /// The endpoint has opened a stream of this name.
    pub fn serves(&self, lease: &Lease) {
        self.road.refusals.forget(&self.name, lease.address());
    }

    /// Its endpoints as they stand for this name.
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        let mut endpoints = self.balancer().status().endpoints;
        let now = Instant::now();
        for (address, refusal) in self.road.refusals.of(&self.name, now) {
            let address = address.to_string();
            if let Some(one) = endpoints.iter_mut().find(|one| one.address == address && one.health == "up") {
                one.health = "down";
                one.down_for_ms = refusal.left_ms(now);
                one.last_error = Some(refusal.why.to_string());
            }
        }
        endpoints
    }

    /// How many of them stand how, for this name.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for endpoint in self.endpoints() {
            match endpoint.health {
                "up" => tally.up += 1,
                "down" => tally.down += 1,
                _ => tally.probation += 1,
            }
        }
        tally
    }

    fn refused(&self) -> Vec<Address> {
        let refused = self.road.refusals.of(&self.name, Instant::now());
        refused.into_iter().map(|(address, _)| address).collect()
    }

    /// Who must answer there.
    ///
    /// # Errors
    /// What keeps this host's rules from saying so: no stream goes there.
    pub fn expectation(&self) -> Result<&Expectation, &NoRule> {
        self.expectation.as_ref()
    }

    /// What else the rules say of such streams.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is known of its addresses, which its balancer is then told.
    #[must_use]
    pub fn addrs(&self) -> Addrs {
        self.road.addrs()
    }

    /// What is known of it for a choice.
    pub(super) fn state(&self) -> State<Arc<str>> {
        let addrs = self.road.addrs.borrow();
        match &*addrs {
            Addrs::Pending => State::Pending,
            Addrs::Bound(addresses) => {
                if self.road.balancer.admits_with(addresses, &self.refused()) {
                    State::Up
                } else {
                    State::Down
                }
            }
            Addrs::Neg => State::Neg,
            Addrs::Failed(why) => State::Failed(why.clone()),
        }
    }

    /// Whether it goes over the road of another.
    pub(super) fn shares_road(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.road, &other.road)
    }

    /// Waits until something is known.
    pub(super) async fn settled(&self) -> Result<(), Arc<str>> {
        let mut addrs = self.road.addrs.clone();
        match addrs.wait_for(|addrs| *addrs != Addrs::Pending).await {
            Ok(_) => Ok(()),
            Err(_) => Err("naming has ended".into()),
        }
    }
}

impl Road {
    fn to(bound: &Bound, key: &RoadKey, namers: &Namers) -> Arc<Self> {
        let balancer = Balancer::new(key.bound.clone(), key.balancer, key.on_leave);
        let addrs = namers.watch(bound);
        // Where a leaving endpoint ends streams, it must be noticed though no new stream asks.
        let follows = matches!(key.on_leave, OnLeave::After(_)).then(|| {
            let stop = namers.stop().child_token();
            namers.tasks().spawn(follow(addrs.clone(), balancer.clone(), stop.clone()));
            stop.drop_guard()
        });
        Arc::new(Self {
            addrs,
            balancer,
            refusals: Refusals::default(),
            unused: AtomicBool::new(false),
            _follows: follows,
        })
    }

    /// What is known of its addresses, and its balancer, which was told.
    pub(super) fn told(&self) -> (Addrs, &Balancer) {
        (self.addrs(), &self.balancer)
    }

    /// What is known of its addresses, which its balancer is then told.
    fn addrs(&self) -> Addrs {
        let addrs = self.addrs.borrow().clone();
        tell(&self.balancer, &addrs);
        addrs
    }
}

/// Tells a balancer of each change of its addresses, until `stop`.
async fn follow(mut addrs: watch::Receiver<Addrs>, balancer: Balancer, stop: CancellationToken) {
    loop {
        let now = addrs.borrow_and_update().clone();
        tell(&balancer, &now);
        // An error: nobody will ever change them.
        if !matches!(stop.run_until_cancelled(addrs.changed()).await, Some(Ok(()))) {
            return;
        }
    }
}

/// A name that no longer exists has lost all its endpoints; one of which nothing is known, none.
fn tell(balancer: &Balancer, addrs: &Addrs) {
    match addrs {
        Addrs::Bound(addresses) => balancer.update(addresses),
        Addrs::Neg => balancer.update(&Arc::<[Weighted]>::default()),
        Addrs::Pending | Addrs::Failed(_) => {}
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bound())
    }
}
