//! A logical name to the balancer that its next stream asks: the table, the namers and the
//! balancers put together. What a name leads to is worked out once and kept while it is used; only
//! the first stream to a cold name waits. It opens nothing, and sets no limit to the wait: that is
//! the caller's.

mod decide;
mod tables;

pub use tables::RouteStatus;

use crate::balance::{Balancer, BalancerStatus};
use crate::naming::{Addrs, Namers};
use adit_config::dtab::{Dtab, LookUpError};
use adit_protocol::Name;
use arc_swap::ArcSwap;
use decide::{Choice, choose};
use serde::Serialize;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tables::{Road, Route, Tables};
use tokio::time::{MissedTickBehavior, interval};

/// How often what nobody uses is looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// Names to balancers.
#[derive(Debug)]
pub struct Router {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dtab: ArcSwap<Dtab>,
    namers: Arc<Namers>,
    tables: Mutex<Tables>,
}

/// Why a name has no balancer.
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
}

/// The router, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct RouterStatus {
    /// The names in use and what they lead to.
    pub routes: Vec<RouteStatus>,
    /// The balancers behind them, each once.
    pub balancers: Vec<BalancerStatus>,
}

impl Router {
    /// A router by these rules. Its one task lives on the namers' tracker and ends with their token
    /// or with the router. Needs a tokio runtime.
    #[must_use]
    pub fn new(dtab: Dtab, namers: Arc<Namers>) -> Self {
        let dtab = ArcSwap::from_pointee(dtab);
        let inner = Arc::new(Inner { dtab, namers, tables: Mutex::default() });
        inner.namers.tasks().spawn(sweep(inner.clone()));
        Self { inner }
    }

    /// The balancer for the next stream to `name`. A union draws anew each time. A warm name is
    /// answered at once; the first answer for a cold one is waited for, as long as it takes.
    ///
    /// # Errors
    /// See [`RouteError`].
    pub async fn route(&self, name: &Name) -> Result<Arc<Balancer>, RouteError> {
        let route = self.inner.find(name)?;
        loop {
            match choose(&route.tree, &|road: &Arc<Road>| road.state(), &mut fastrand::f64) {
                Choice::Use(road) => return Ok(road.balancer()),
                Choice::Wait(road) => road.settled().await.map_err(|why| failed(name, road, why))?,
                Choice::Failed(road, why) => return Err(failed(name, road, why)),
                Choice::Neg => return Err(not_there(name, &route)),
                Choice::Fail => return Err(RouteError::Forbidden(name.clone())),
                Choice::Empty => return Err(RouteError::Empty(name.clone())),
            }
        }
    }

    /// Routes by other rules from now on. The roads that are kept, with their health and counts, are those of the new
    /// routes too.
    pub fn change(&self, dtab: Dtab) {
        let mut tables = self.inner.tables();
        self.inner.dtab.store(Arc::new(dtab));
        tables.forget_routes();
    }

    /// The rules it routes by.
    #[must_use]
    pub fn dtab(&self) -> Arc<Dtab> {
        self.inner.dtab.load_full()
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
        if let Some(route) = self.tables().used(name, now) {
            return Ok(route);
        }
        loop {
            let dtab = self.dtab.load_full();
            let tree = dtab.look_up(name).map_err(RouteError::from)?;
            let mut tables = self.tables();
            if Arc::ptr_eq(&dtab, &self.dtab.load()) {
                return Ok(tables.add(name, tree, &self.namers, now));
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

fn failed(name: &Name, road: &Road, cause: Arc<str>) -> RouteError {
    RouteError::Failed { name: name.clone(), bound: road.bound().clone(), cause }
}

fn not_there(name: &Name, route: &Route) -> RouteError {
    let asked = route.tree.leaves().into_iter().map(|road| road.bound().clone()).collect();
    RouteError::NoSuchName { name: name.clone(), asked }
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
                write!(f, "nothing answers to '{name}': DNS knows no address of {}", asked.join(", "))
            }
            Self::Forbidden(name) => write!(f, "'{name}' is forbidden by a rule ('!')"),
            Self::Empty(name) => write!(f, "'{name}' is empty by a rule ('$'): it has no address"),
            Self::Failed { name, bound, cause } => {
                write!(f, "the addresses of '{bound}', to which '{name}' leads, could not be found out: {cause}")
            }
            Self::Rules(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RouteError {}

#[cfg(test)]
mod tests;
