//! Warm tunnels: idle ones kept ready at every endpoint that a listener's name leads to, so that the first stream after a
//! start, a reload or a quiet hour finds its handshake done.
//!
//! What keeps them is no stream: nobody waits for it, and it leaves an endpoint's one probe to a stream. It goes where one
//! would be let in, so an endpoint that came back is warm before it is tried.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Asks, Outbound, keep};
use crate::{
    balance::Lease,
    router::Way,
    tunnel::dial::{Key, dial},
};

/// How often it is looked whether a tunnel is missing.
const PERIOD: Duration = Duration::from_secs(1);

impl Outbound {
    /// Keeps `each` idle tunnels, or as many as the rules for the name set, ready at each endpoint of the name that `asks`
    /// is about, until `stop`.
    pub async fn keep_warm(self: Arc<Self>, asks: Arc<Asks>, each: usize, stop: CancellationToken) {
        let mut tick = interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            // Looked at each time, for new rules may come; a name that none asks for is not even looked up.
            if each == 0 && !self.router.asks_for_warm(&asks.to) {
                continue;
            }
            let warming = Arc::clone(&self).warm_once(&asks, each);
            if stop.run_until_cancelled(warming).await.is_none() {
                return;
            }
        }
    }

    /// Opens what is missing, at all endpoints at once, and waits until each has come or failed.
    async fn warm_once(self: Arc<Self>, asks: &Asks, each: usize) {
        // A name that leads nowhere is told to the streams that ask for it.
        let Ok(way) = self.route(&[], &asks.to, Instant::now() + self.opening.all).await else { return };
        let each = way.settings().warm.unwrap_or(each);
        if each == 0 {
            return;
        }
        let mut opening = JoinSet::new();
        for lease in way.balancer().admitting() {
            let Ok((key, _)) = self.expect(&way, &lease, asks) else { continue };
            let missing = each.saturating_sub(self.pool.idle(&key));
            let lease = Arc::new(lease);
            for _ in 0..missing {
                opening.spawn(Arc::clone(&self).warm_one(Arc::clone(&way), Arc::clone(&lease), key.clone()));
            }
        }
        while opening.join_next().await.is_some() {}
    }

    async fn warm_one(self: Arc<Self>, way: Arc<Way>, lease: Arc<Lease>, key: Key) {
        let snapshot = self.identity.snapshot();
        let limit = self.opening.under(way.settings()).handshake;
        match dial(&key, &snapshot, self.ours(), limit).await {
            Ok(dialed) => self.pool.put(dialed, keep(way.settings())),
            Err(error) => {
                debug!(endpoint = %lease.address(), "warming a tunnel failed: {error}");
                lease.failed(&error.to_string());
            }
        }
    }
}
