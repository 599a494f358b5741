//! One endpoint of a balancer and the lease on it. The endpoint counts its open streams and
//! remembers its health; a lease is one stream's hold, and dropping it is the release.

use super::health::{Admission, Health};
use crate::addr::Address;
use adit_protocol::Name;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An address with what is known of it.
#[derive(Debug)]
pub(super) struct Endpoint {
    address: Address,
    open: AtomicUsize,
    record: Mutex<Record>,
}

/// What the leases told.
#[derive(Debug)]
struct Record {
    health: Health,
    opened_in: Option<Duration>,
    last_error: Option<String>,
}

/// One stream's hold on an endpoint, from the choice to the stream's end. Say [`Lease::opened`] or
/// [`Lease::failed`] once it is known; drop it when the stream is over.
#[derive(Debug)]
pub struct Lease {
    endpoint: Arc<Endpoint>,
    bound: Name,
    /// This stream is the endpoint's one probe, and has not told yet how it went.
    probing: AtomicBool,
}

/// An endpoint, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointStatus {
    /// Where it is.
    pub address: String,
    /// `up`, `down` or `probation`.
    pub health: &'static str,
    /// For how much longer it is left out, in milliseconds.
    pub down_for_ms: Option<u64>,
    /// Streams that hold it now.
    pub open: usize,
    /// How long the last successful open took, in milliseconds.
    pub opened_in_ms: Option<u64>,
    /// Why it failed last, until it opens again.
    pub last_error: Option<String>,
}

impl Endpoint {
    pub(super) fn new(address: Address) -> Self {
        let record = Record { health: Health::Up, opened_in: None, last_error: None };
        Self { address, open: AtomicUsize::new(0), record: Mutex::new(record) }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn is_admitting(&self, now: Instant) -> bool {
        self.record().health.admission(now) != Admission::Closed
    }

    /// Takes a hold; if a probe is due, this is it.
    pub(super) fn lease(self: &Arc<Self>, bound: &Name, now: Instant) -> Lease {
        let lease = self.hold(bound);
        let mut record = self.record();
        if record.health.admission(now) == Admission::Probe {
            record.health = record.health.probed();
            lease.probing.store(true, Ordering::Relaxed);
        }
        drop(record);
        lease
    }

    /// Takes a hold that is no probe, even if one is due.
    pub(super) fn hold(self: &Arc<Self>, bound: &Name) -> Lease {
        self.open.fetch_add(1, Ordering::Relaxed);
        Lease { endpoint: self.clone(), bound: bound.clone(), probing: AtomicBool::new(false) }
    }

    pub(super) fn status(&self, now: Instant) -> EndpointStatus {
        let record = self.record();
        let (health, left) = match record.health {
            Health::Up => ("up", None),
            Health::Down { until, .. } => ("down", Some(until.saturating_duration_since(now))),
            Health::Probation { .. } => ("probation", None),
        };
        EndpointStatus {
            address: self.address.to_string(),
            health,
            down_for_ms: left.map(millis),
            open: self.open(),
            opened_in_ms: record.opened_in.map(millis),
            last_error: record.last_error.clone(),
        }
    }

    /// Nothing in here can be left half done, so a panic elsewhere does not spoil it.
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Where to connect.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.endpoint.address
    }

    /// The bound name that this address came from.
    #[must_use]
    pub fn bound(&self) -> &Name {
        &self.bound
    }

    /// The stream was opened; it took this long. The endpoint is up.
    pub fn opened(&self, took: Duration) {
        self.probing.store(false, Ordering::Relaxed);
        let mut record = self.endpoint.record();
        *record = Record { health: Health::Up, opened_in: Some(took), last_error: None };
    }

    /// The endpoint could not be reached, or says it cannot serve; it is left out for a while.
    pub fn failed(&self, why: &str) {
        self.failed_at(why, Instant::now(), fastrand::u64(..));
    }

    pub(super) fn failed_at(&self, why: &str, now: Instant, random: u64) {
        self.probing.store(false, Ordering::Relaxed);
        let mut record = self.endpoint.record();
        record.health = record.health.failed(now, random);
        record.last_error = Some(why.to_owned());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.open.fetch_sub(1, Ordering::Relaxed);
        if *self.probing.get_mut() {
            let mut record = self.endpoint.record();
            record.health = record.health.abandoned(Instant::now());
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
