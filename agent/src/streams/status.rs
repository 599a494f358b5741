//! Live streams as the status page and `adit whois` show them.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use serde::Serialize;

use super::{Direction, Met, Stream};

/// One stream, as the status page shows it.
#[derive(Debug, Serialize)]
pub struct StreamStatus {
    id: String,
    direction: Direction,
    name: String,
    from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<String>,
    to: Option<String>,
    peer: Option<String>,
    age_seconds: f64,
    bytes_sent: u64,
    bytes_received: u64,
}

impl StreamStatus {
    /// As it is at this moment.
    pub fn of(stream: &Stream) -> Self {
        let Met { to, peer } = stream.met();
        Self {
            id: stream.id.to_string(),
            direction: stream.direction,
            name: stream.name.to_string(),
            from: stream.came.from.clone(),
            original: stream.came.original.map(|original| original.to_string()),
            workload: stream.came.workload.clone(),
            to,
            peer,
            age_seconds: stream.since.elapsed().max(Duration::ZERO).as_secs_f64(),
            bytes_sent: stream.sent.load(Relaxed),
            bytes_received: stream.received.load(Relaxed),
        }
    }
}
