//! Which of a bound name's endpoints the next stream goes to: of two the one that is less busy for its weight, or the
//! quicker one, in the nearest tier, leaving out those that just failed. It is told the addresses and how each stream
//! fared; it never resolves a name and never connects.

mod cost;
mod endpoint;
mod health;
mod set;
mod weights;

pub use endpoint::{EndpointStatus, Lease};
pub use health::{Admission, Health};
pub use set::Without;

use crate::addr::{Address, Weighted};
use crate::flight::Pick;
use adit_config::peers::{BalancerKind, OnLeave};
use adit_protocol::Name;
use serde::Serialize;
use set::Set;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The endpoints of one bound name. Cheap to clone; clones are the same balancer.
#[derive(Clone, Debug)]
pub struct Balancer {
    home: Arc<Home>,
}

/// What a balancer and its leases share.
#[derive(Debug)]
struct Home {
    bound: Name,
    kind: BalancerKind,
    on_leave: OnLeave,
    set: Mutex<Set>,
}

/// A balancer, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct BalancerStatus {
    /// The bound name.
    pub bound: String,
    /// How it chooses: `least` or `ewma`.
    pub balancer: &'static str,
    /// Its endpoints, in the order of their addresses.
    pub endpoints: Vec<EndpointStatus>,
    /// Streams on endpoints that left the answer.
    pub left: usize,
}

/// How the endpoints of a balancer stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Nothing speaks against them.
    pub up: usize,
    /// They failed, and have not been reached since.
    pub down: usize,
    /// They failed, and one stream tries whether they are back.
    pub probation: usize,
}

impl Balancer {
    /// A balancer for `bound`, still without an endpoint.
    #[must_use]
    pub fn new(bound: Name, kind: BalancerKind, on_leave: OnLeave) -> Self {
        Self { home: Arc::new(Home { bound, kind, on_leave, set: Mutex::default() }) }
    }

    /// The bound name whose endpoints these are.
    #[must_use]
    pub fn bound(&self) -> &Name {
        &self.home.bound
    }

    /// Takes these addresses instead of the ones before. An address that stays, or comes back while streams are still on
    /// it, keeps its count and its health. The same `Arc` again costs nothing.
    pub fn update(&self, addresses: &Arc<[Weighted]>) {
        self.home.set().update(addresses, self.home.on_leave, Instant::now);
    }

    /// The same, and whether any endpoint but those of `besides` would let a stream in now.
    pub fn admits_with(&self, addresses: &Arc<[Weighted]>, besides: &[Address]) -> bool {
        let mut set = self.home.set();
        set.update(addresses, self.home.on_leave, Instant::now);
        set.is_admitting(Instant::now) && (besides.is_empty() || set.admits_besides(besides, Instant::now()))
    }

    /// An endpoint for one stream, without those in `avoid` and, while others are left, those that just failed; in the
    /// lowest tier that has one. None when all are in `avoid`.
    pub fn pick(&self, avoid: &[Address]) -> Option<Lease> {
        self.pick_without(Without { avoid, refused: &[] })
    }

    /// The same, and while others are up without those that have refused the stream's name.
    pub fn pick_without(&self, without: Without<'_>) -> Option<Lease> {
        self.pick_by(without, Instant::now(), || fastrand::u64(..))
    }

    #[cfg(test)]
    fn pick_at(&self, avoid: &[Address], now: Instant, random: impl FnMut() -> u64) -> Option<Lease> {
        self.pick_by(Without { avoid, refused: &[] }, now, random)
    }

    fn pick_by(&self, without: Without<'_>, now: Instant, mut random: impl FnMut() -> u64) -> Option<Lease> {
        // Counted before anybody else may choose.
        let mut set = self.home.set();
        let (endpoint, pick) = set.pick(self.home.kind, without, now, &mut random)?;
        Some(Lease::new(endpoint, self.home.clone(), pick))
    }

    /// Where a stream would go now, for somebody who only wants to know: nothing is counted. The next stream may draw
    /// another.
    #[must_use]
    pub fn would_pick(&self, without: Without<'_>) -> Option<Address> {
        let mut set = self.home.set();
        let chosen = set.choose(self.home.kind, without, Instant::now(), &mut || fastrand::u64(..))?;
        Some(set.address(chosen.at).clone())
    }

    /// A lease on each endpoint that a stream could be given now, for what is no stream: none of them is the probe.
    #[must_use]
    pub fn admitting(&self) -> Vec<Lease> {
        let endpoints = self.home.set().admitting(Instant::now());
        endpoints.into_iter().map(|endpoint| Lease::new(endpoint, self.home.clone(), Pick::default())).collect()
    }

    /// Whether any endpoint would let a stream in now.
    #[must_use]
    pub fn is_admitting(&self) -> bool {
        self.home.set().is_admitting(Instant::now)
    }

    /// How many endpoints there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.home.set().count()
    }

    /// Streams that hold one of the endpoints now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.home.set().open()
    }

    /// Whether any stream is on it, at an endpoint of now or at one that left.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let set = self.home.set();
        set.open() + set.open_at_left() > 0
    }

    /// How its endpoints stand.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for health in self.home.set().healths() {
            match health {
                Health::Up => tally.up += 1,
                Health::Down { .. } => tally.down += 1,
                Health::Probation { .. } => tally.probation += 1,
            }
        }
        tally
    }

    /// What `/status` shows of it.
    #[must_use]
    pub fn status(&self) -> BalancerStatus {
        let set = self.home.set();
        BalancerStatus {
            bound: self.home.bound.to_string(),
            balancer: self.home.kind.as_str(),
            endpoints: set.status(Instant::now()),
            left: set.open_at_left(),
        }
    }
}

impl Home {
    /// A set is left whole by whoever changes it, so a panic elsewhere does not spoil it.
    fn set(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
