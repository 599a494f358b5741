//! A logical name to the way that its next stream takes: the table, the rules for peers, the namers and the balancers
//! put together. What a name leads to is worked out once and kept while it is used; only
//! the first stream to a cold name waits. It opens nothing, and sets no limit to the wait: that is
//! the caller's.

mod census;
mod decide;
pub mod delegate;
mod refusals;
mod tables;

pub use census::{Census, Standing};
pub use refusals::RefusalStatus;
pub use tables::{RouteStatus, Way};

use crate::balance::BalancerStatus;
use crate::naming::Namers;
use adit_config::dtab::{Bound, Dtab, LookUpError};
use adit_config::peers::{PeerMatch, Peers};
use adit_protocol::Name;
use decide::{Choice, State, choose};
use serde::Serialize;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tables::{Route, Said, Tables};
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval};

/// How often what nobody uses is looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// Names kept at most. A captured connection's name comes from whoever connects, so it is bounded: at 2 KB for one with a
/// road of its own they take 32 MB. Names cost no more time where there are more of them.
const MAX_ROUTES: usize = 16_384;

/// Names to ways.
#[derive(Debug)]
pub struct Router {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    namers: Arc<Namers>,
    /// Where look-ups belong that somebody from elsewhere starts.
    runtime: Handle,
    tables: Mutex<Tables>,
}

/// What names lead to, and what holds for whoever is there.
#[derive(Debug)]
struct Rules {
    dtab: Arc<Dtab>,
    peers: Peers,
}

/// Why a name has no way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// No rule knows it, or an authority says that what the rules lead to does not exist.
    NoSuchName {
        /// The name.
        name: Name,
        /// The bound names that do not exist; none if the rules lead to none.
        asked: Vec<Name>,
    },
    /// A rule says `!`.
    Forbidden(Name),
    /// A rule says `$`.
    Empty(Name),
    /// A namer could not find out.
    Failed {
        /// The name.
        name: Name,
        /// The bound name that was asked for.
        bound: Name,
        /// What happened.
        cause: Arc<str>,
    },
    /// The rules loop, lead too far, or make something that is no name.
    Rules(LookUpError),
    /// The stream has tried all that it leads to.
    Spent(Name),
}

/// The router, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct RouterStatus {
    /// The names in use and what they lead to.
    pub routes: Vec<RouteStatus>,
    /// The balancers behind them, each once.
    pub balancers: Vec<RoadStatus>,
}

/// A bound name in use, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct RoadStatus {
    /// Its endpoints, as they stand for all names that lead there.
    #[serde(flatten)]
    pub balancer: BalancerStatus,
    /// Those that have refused a name lately, the first 100.
    pub refused: Vec<RefusalStatus>,
}

impl Router {
    /// A router by these rules; the inbound side's names lead to services, of whom nothing is expected. Its one task lives
    /// on the namers' tracker and ends with their token or with the router. Needs a tokio runtime.
    #[must_use]
    pub fn new(dtab: Dtab, peers: Peers, namers: Arc<Namers>) -> Self {
        Self::keeping(MAX_ROUTES, dtab, peers, namers)
    }

    /// The same, which keeps so many names at most.
    #[must_use]
    pub fn keeping(most: usize, dtab: Dtab, peers: Peers, namers: Arc<Namers>) -> Self {
        let rules = Rules { dtab: Arc::new(dtab), peers };
        let inner =
            Arc::new(Inner { namers, runtime: Handle::current(), tables: Mutex::new(Tables::new(rules, most)) });
        inner.namers.tasks().spawn(sweep(inner.clone()));
        Self { inner }
    }

    /// The way of the next stream to `name`. A union draws anew each time. A warm name is answered at once; the first
    /// answer for a cold one is waited for, as long as it takes.
    ///
    /// # Errors
    /// See [`RouteError`].
    pub async fn route(&self, name: &Name) -> Result<Arc<Way>, RouteError> {
        self.route_past(&[], name).await
    }

    /// The way of a stream that has tried all endpoints of some ways in vain: where the rules fail over, the next one.
    ///
    /// # Errors
    /// See [`RouteError`].
    pub async fn route_past(&self, spent: &[Arc<Way>], name: &Name) -> Result<Arc<Way>, RouteError> {
        let state = |way: &Arc<Way>| match spent.iter().any(|tried| tried.shares_road(way)) {
            true => State::Spent,
            false => way.state(),
        };
        let route = self.inner.find(name)?;
        loop {
            match choose(&route.tree, &state, &mut fastrand::f64) {
                Choice::Use(way) => return Ok(way.clone()),
                Choice::Wait(way) => way.settled().await.map_err(|why| failed(name, way, why))?,
                Choice::Failed(way, why) => return Err(failed(name, way, why)),
                Choice::Neg => {
                    let asked = route.tree.leaves().into_iter().map(|way| way.bound().clone());
                    return Err(not_there(name, asked.collect()));
                }
                Choice::Fail => return Err(RouteError::Forbidden(name.clone())),
                Choice::Empty => return Err(RouteError::Empty(name.clone())),
                Choice::Spent => return Err(RouteError::Spent(name.clone())),
            }
        }
    }

    /// The way from a logical name to a bound one, whether or not the rules lead there: for somebody who only looks. It is
    /// watched from now on, so that a second look knows more.
    #[must_use]
    pub fn way(&self, name: &Name, bound: Bound) -> Arc<Way> {
        let mut tables = self.inner.tables();
        let said = Said::of(&tables.rules(), name, bound);
        tables.way(said, &self.inner.namers)
    }

    /// How old the answer is that a way's addresses rest on; none where nobody had to be asked.
    #[must_use]
    pub fn answer_age(&self, bound: &Name) -> Option<Duration> {
        self.inner.namers.age(bound)
    }

    /// Takes these rules instead, for every stream that asks from now on. Where they lead over a road that is known, its
    /// addresses, counts and health are as they were.
    pub fn change(&self, dtab: Dtab, peers: Peers) {
        self.inner.tables().change(Rules { dtab: Arc::new(dtab), peers });
    }

    /// The rules it routes by.
    #[must_use]
    pub fn dtab(&self) -> Arc<Dtab> {
        self.inner.tables().rules().dtab.clone()
    }

    /// Whether the rules that may be about a name ask for warm tunnels.
    #[must_use]
    pub fn asks_for_warm(&self, name: &Name) -> bool {
        let rules = self.inner.tables().rules();
        let may_be_about = |matches: &PeerMatch| match matches {
            PeerMatch::Logical(pattern) => pattern.matches(name).is_some(),
            PeerMatch::Bound(_) => true,
        };
        let mut asking = rules.peers.rules.iter().filter(|rule| rule.settings.warm.is_some_and(|warm| warm > 0));
        asking.any(|rule| may_be_about(&rule.matches))
    }

    /// What is in use, for `/status`.
    #[must_use]
    pub fn status(&self) -> RouterStatus {
        self.inner.tables().status(Instant::now())
    }
}

impl Inner {
    /// The route of a name: the one that is kept, or a new one by the rules.
    fn find(&self, name: &Name) -> Result<Arc<Route>, RouteError> {
        let now = Instant::now();
        loop {
            let tables = self.tables();
            if let Some(route) = tables.used(name, now) {
                return Ok(route);
            }
            let rules = tables.rules();
            drop(tables);
            let tree = rules.dtab.look_up(name)?.map(&mut |bound| Said::of(&rules, name, bound));
            if let Some(route) = self.tables().add(name, tree, &rules, &self.namers, now) {
                return Ok(route);
            }
        }
    }

    /// Every change of the tables is one insertion or removal, so a panic elsewhere spoils nothing.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what nobody uses, until the router is dropped or the agent stops.
async fn sweep(inner: Arc<Inner>) {
    let stop = inner.namers.stop().clone();
    let router = Arc::downgrade(&inner);
    drop(inner);
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        match router.upgrade() {
            Some(inner) => inner.tables().sweep(Instant::now()),
            None => return,
        }
    }
}

fn failed(name: &Name, way: &Way, cause: Arc<str>) -> RouteError {
    RouteError::Failed { name: name.clone(), bound: way.bound().clone(), cause }
}

/// Bound names that an error tells.
const MOST_TOLD: usize = 8;

fn not_there(name: &Name, mut asked: Vec<Name>) -> RouteError {
    let mut told = HashSet::new();
    asked.retain(|bound| told.len() < MOST_TOLD && told.insert(bound.clone()));
    RouteError::NoSuchName { name: name.clone(), asked }
}

/// Why no tunnel goes to such a bound name.
pub fn over_unix(bound: &Name) -> String {
    format!("{bound}: a tunnel goes over TCP, never over a unix socket")
}

impl RouteError {
    /// A short word for a metric's label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoSuchName { .. } => "no_such_name",
            Self::Forbidden(_) => "forbidden",
            Self::Empty(_) => "empty",
            Self::Failed { .. } => "namer_failed",
            Self::Rules(_) => "rules",
            Self::Spent(_) => "spent",
        }
    }
}

impl From<LookUpError> for RouteError {
    fn from(error: LookUpError) -> Self {
        match error {
            LookUpError::NoSuchName(name) => Self::NoSuchName { name, asked: Vec::new() },
            LookUpError::Forbidden(name) => Self::Forbidden(name),
            LookUpError::Empty(name) => Self::Empty(name),
            rules => Self::Rules(rules),
        }
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName { name, asked } if asked.is_empty() => {
                write!(f, "no rule knows '{name}'")
            }
            Self::NoSuchName { name, asked } => {
                let asked: Vec<&str> = asked.iter().map(Name::as_str).collect();
                write!(f, "nothing answers to '{name}': there is no address of {}", asked.join(", "))
            }
            Self::Forbidden(name) => write!(f, "'{name}' is forbidden by a rule ('!')"),
            Self::Empty(name) => write!(f, "'{name}' is empty by a rule ('$'): it has no address"),
            Self::Failed { name, bound, cause } => {
                write!(f, "the addresses of '{bound}', to which '{name}' leads, could not be found out: {cause}")
            }
            Self::Rules(error) => error.fmt(f),
            Self::Spent(name) => write!(f, "all that '{name}' leads to was tried"),
        }
    }
}

impl std::error::Error for RouteError {}

#[cfg(test)]
mod tests;
