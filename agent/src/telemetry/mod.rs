//! What the agent tells of itself: metrics, the log, and one access record a stream.

pub mod gauges;
pub mod log;
pub mod metrics;
pub mod record;
