//! One endpoint of a balancer and the lease on it. The endpoint counts its open streams and remembers its health; a
//! lease is one stream's hold, and dropping it is the release.

use super::Home;
use super::cost::Cost;
use super::health::{Admission, Health};
use crate::addr::Address;
use crate::flight::Pick;
use adit_config::peers::OnLeave;
use adit_protocol::Name;
use serde::Serialize;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;

/// An address with what is known of it.
#[derive(Debug)]
pub(super) struct Endpoint {
    address: Address,
    open: AtomicUsize,
    record: Mutex<Record>,
    /// Whether it has left the answer, for those whose streams then end.
    gone: Option<watch::Sender<bool>>,
}

/// What the leases told.
#[derive(Debug, Default)]
struct Record {
    health: Health,
    cost: Cost,
    opened_in: Option<Duration>,
    last_error: Option<String>,
}

/// One stream's hold on an endpoint, from the choice to the stream's end. Say [`Lease::opened`] or
/// [`Lease::failed`] once it is known; drop it when the stream is over.
#[derive(Debug)]
pub struct Lease {
    endpoint: Arc<Endpoint>,
    home: Arc<Home>,
    /// This stream is the endpoint's one probe, and has not told yet how it went.
    probing: AtomicBool,
    pick: Pick,
}

/// An endpoint, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointStatus {
    /// Where it is.
    pub address: String,
    /// Its tier: the lowest that has an endpoint which is up gets the streams.
    pub tier: u16,
    /// Its share within its tier.
    pub weight: f64,
    /// `up`, `down` or `probation`.
    pub health: &'static str,
    /// For how much longer it is left out, in milliseconds.
    pub down_for_ms: Option<u64>,
    /// Streams that hold it now.
    pub open: usize,
    /// How often it was picked since it came into the answer.
    pub picks: u64,
    /// How long the last successful open took, in milliseconds.
    pub opened_in_ms: Option<u64>,
    /// What opening a stream counts as now (peak EWMA), in milliseconds, if anything is known.
    pub cost_ms: Option<f64>,
    /// Why it failed last, until it opens again.
    pub last_error: Option<String>,
}

impl Endpoint {
    pub(super) fn new(address: Address, on_leave: OnLeave) -> Self {
        let gone = match on_leave {
            OnLeave::Keep => None,
            OnLeave::After(_) => Some(watch::Sender::new(false)),
        };
        Self { address, open: AtomicUsize::new(0), record: Mutex::default(), gone }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn health(&self) -> Health {
        self.record().health
    }

    /// What a stream counts as here, in seconds.
    pub(super) fn cost(&self, now: Instant) -> f64 {
        self.record().cost.counts(now, self.open())
    }

    /// Says that it left the answer, or that it is back in it.
    pub(super) fn tell_gone(&self, is_gone: bool) {
        if let Some(gone) = &self.gone {
            gone.send_replace(is_gone);
        }
    }

    /// Whether the next stream is its one probe, which that stream then is.
    pub(super) fn probe(&self, now: Instant) -> bool {
        let mut record = self.record();
        let due = record.health.admission(now) == Admission::Probe;
        if due {
            record.health = record.health.probed();
        }
        due
    }

    pub(super) fn status(&self, tier: u16, weight: f64, picks: u64, now: Instant) -> EndpointStatus {
        let record = self.record();
        let (health, left) = match record.health {
            Health::Up => ("up", None),
            Health::Down { until, .. } => ("down", Some(until.saturating_duration_since(now))),
            Health::Probation { .. } => ("probation", None),
        };
        EndpointStatus {
            address: self.address.to_string(),
            tier,
            weight,
            health,
            down_for_ms: left.map(millis),
            open: self.open(),
            picks,
            opened_in_ms: record.opened_in.map(millis),
            cost_ms: record.cost.known(now).map(|seconds| seconds * 1e3),
            last_error: record.last_error.clone(),
        }
    }

    /// Nothing in here can be left half done, so a panic elsewhere does not spoil it.
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub(super) fn new(endpoint: Arc<Endpoint>, home: Arc<Home>, pick: Pick) -> Self {
        endpoint.open.fetch_add(1, Ordering::Relaxed);
        Self { endpoint, home, probing: AtomicBool::new(pick.probe), pick }
    }

    /// Why it is this endpoint.
    #[must_use]
    pub fn pick(&self) -> Pick {
        self.pick
    }

    /// Where to connect.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.endpoint.address
    }

    /// The bound name that this address came from.
    #[must_use]
    pub fn bound(&self) -> &Name {
        &self.home.bound
    }

    /// What is known of the endpoint.
    #[cfg(test)]
    pub(super) fn health(&self) -> Health {
        self.endpoint.health()
    }

    /// What becomes of the stream when its endpoint leaves the answer.
    #[must_use]
    pub fn on_leave(&self) -> OnLeave {
        self.home.on_leave
    }

    /// The stream was opened; it took this long. The endpoint is up.
    pub fn opened(&self, took: Duration) {
        self.opened_at(took, Instant::now());
    }

    pub(super) fn opened_at(&self, took: Duration, now: Instant) {
        self.probing.store(false, Ordering::Relaxed);
        let mut record = self.endpoint.record();
        let was_up = record.health == Health::Up;
        let cost = record.cost.opened(took, now);
        *record = Record { health: Health::Up, cost, opened_in: Some(took), last_error: None };
        drop(record);
        if !was_up {
            self.home.set().refresh(&self.endpoint, now);
        }
    }

    /// The endpoint was reached, though it did not open this stream: nothing speaks against it.
    pub fn answered(&self) {
        self.probing.store(false, Ordering::Relaxed);
        let mut record = self.endpoint.record();
        let was_up = record.health == Health::Up;
        (record.health, record.last_error) = (Health::Up, None);
        drop(record);
        if !was_up {
            self.home.set().refresh(&self.endpoint, Instant::now());
        }
    }

    /// The endpoint could not be reached, or says it cannot serve; it is left out for a while.
    pub fn failed(&self, why: &str) {
        self.failed_at(why, Instant::now(), fastrand::u64(..));
    }

    pub(super) fn failed_at(&self, why: &str, now: Instant, random: u64) {
        self.probing.store(false, Ordering::Relaxed);
        let mut record = self.endpoint.record();
        record.health = record.health.failed(now, random);
        record.cost = record.cost.failed(now);
        record.last_error = Some(why.to_owned());
        drop(record);
        self.home.set().refresh(&self.endpoint, now);
    }

    /// Waits until the stream has to end because its endpoint left the answer and did not come back in time; for ever
    /// where such streams are kept. Streams of one endpoint wait for different times, so that not all of them come anew
    /// at once.
    pub async fn left(&self) {
        match self.home.on_leave {
            OnLeave::Keep => pending().await,
            // In a box of its own, for most streams never come here and would have room for it nevertheless.
            OnLeave::After(after) => Box::pin(self.gone_for(after.mul_f64(1.0 + fastrand::f64()))).await,
        }
    }

    async fn gone_for(&self, after: Duration) {
        let Some(mut gone) = self.endpoint.gone.as_ref().map(watch::Sender::subscribe) else { return pending().await };
        // The sender is in the endpoint, which this lease holds: no wait here ends because it is gone.
        loop {
            _ = gone.wait_for(|gone| *gone).await;
            if timeout(after, gone.wait_for(|gone| !gone)).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.open.fetch_sub(1, Ordering::Relaxed);
        if *self.probing.get_mut() {
            let now = Instant::now();
            let mut record = self.endpoint.record();
            record.health = record.health.abandoned(now);
            drop(record);
            self.home.set().refresh(&self.endpoint, now);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
