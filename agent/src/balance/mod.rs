//! Which of a bound name's endpoints the next stream goes to: the less busy of two, leaving out
//! those that just failed. It is told the addresses and how each stream fared; it never resolves a
//! name and never connects.

mod choice;
mod endpoint;
mod health;

pub use endpoint::{EndpointStatus, Lease};
pub use health::{Admission, Health};

use crate::addr::{Address, Weighted};
use adit_protocol::Name;
use endpoint::Endpoint;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The endpoints of one bound name.
#[derive(Debug)]
pub struct Balancer {
    bound: Name,
    set: Mutex<Set>,
}

/// The addresses as they were given last, and an endpoint for each.
#[derive(Debug)]
struct Set {
    addresses: Arc<[Weighted]>,
    endpoints: Arc<[Arc<Endpoint>]>,
}

/// A balancer, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct BalancerStatus {
    /// The bound name.
    pub bound: String,
    /// Its endpoints, in the order of their addresses.
    pub endpoints: Vec<EndpointStatus>,
}

impl Balancer {
    /// A balancer for `bound`, still without an endpoint.
    #[must_use]
    pub fn new(bound: Name) -> Self {
        let set = Set { addresses: Arc::default(), endpoints: Arc::default() };
        Self { bound, set: Mutex::new(set) }
    }

    /// The bound name whose endpoints these are.
    #[must_use]
    pub fn bound(&self) -> &Name {
        &self.bound
    }

    /// Takes these addresses instead of the ones before. An address that stays keeps its count and
    /// its health; streams on one that left go on. The same `Arc` again costs nothing.
    pub fn update(&self, addresses: &Arc<[Weighted]>) {
        let mut set = self.set();
        if !Arc::ptr_eq(&set.addresses, addresses) {
            set.endpoints = successors(&set.endpoints, addresses);
            set.addresses = addresses.clone();
        }
    }

    /// An endpoint for one stream: of two drawn at random the less busy, without those in `avoid`
    /// and, while others are left, those that just failed. None when all are in `avoid`.
    pub fn pick(&self, avoid: &[Address]) -> Option<Lease> {
        self.pick_at(avoid, Instant::now(), || fastrand::u64(..))
    }

    fn pick_at(&self, avoid: &[Address], now: Instant, mut random: impl FnMut() -> u64) -> Option<Lease> {
        let endpoints = self.endpoints();
        let wanted = |endpoint: &Endpoint| !avoid.contains(endpoint.address());
        let healthy = |at: usize| {
            let endpoint = &endpoints[at];
            (wanted(endpoint) && endpoint.is_admitting(now)).then(|| endpoint.open())
        };
        let any = |at: usize| wanted(&endpoints[at]).then(|| endpoints[at].open());
        let chosen = choice::choose(endpoints.len(), healthy, &mut random)
            .or_else(|| choice::choose(endpoints.len(), any, &mut random))?;
        Some(endpoints[chosen].lease(&self.bound, now))
    }

    /// A lease on each endpoint that a stream would be let in to now, for what is no stream: none of them is the probe.
    #[must_use]
    pub fn admitting(&self) -> Vec<Lease> {
        let now = Instant::now();
        let endpoints = self.endpoints();
        endpoints.iter().filter(|endpoint| endpoint.is_admitting(now)).map(|one| one.hold(&self.bound)).collect()
    }

    /// Streams that hold one of the endpoints now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.endpoints().iter().map(|endpoint| endpoint.open()).sum()
    }

    /// What `/status` shows of it.
    #[must_use]
    pub fn status(&self) -> BalancerStatus {
        let now = Instant::now();
        let endpoints = self.endpoints().iter().map(|endpoint| endpoint.status(now)).collect();
        BalancerStatus { bound: self.bound.to_string(), endpoints }
    }

    fn endpoints(&self) -> Arc<[Arc<Endpoint>]> {
        self.set().endpoints.clone()
    }

    /// A set is replaced whole, so a panic elsewhere does not spoil it.
    fn set(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An endpoint for each address, the ones there were before kept.
fn successors(before: &[Arc<Endpoint>], addresses: &[Weighted]) -> Arc<[Arc<Endpoint>]> {
    let known: HashMap<&Address, &Arc<Endpoint>> =
        before.iter().map(|endpoint| (endpoint.address(), endpoint)).collect();
    let endpoint = |address: &Address| match known.get(address) {
        Some(endpoint) => Arc::clone(endpoint),
        None => Arc::new(Endpoint::new(address.clone())),
    };
    addresses.iter().map(|weighted| endpoint(&weighted.address)).collect()
}

#[cfg(test)]
mod tests;
