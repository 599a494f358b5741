//! Every metric of the agent, by one function each; no label takes a value that a peer can choose.
//! Which there are stands in a table beside this file.

mod table;

pub use table::{LIMITS, METRICS, Metric, Shape};

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use adit_protocol::{Code, Violation};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{end::Ending, streams::Direction};

/// Seconds: what a handshake, a look-up or the opening of a stream takes.
const SECONDS: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0];

/// Installs the recorder of this process.
///
/// # Errors
/// When one is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    for &Metric(name, shape, _, help) in METRICS {
        match shape {
            Shape::Counter => describe_counter!(name, help),
            Shape::Gauge => describe_gauge!(name, help),
            Shape::Histogram => describe_histogram!(name, Unit::Seconds, help),
        }
    }
    gauge!("adit_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    gauge!("adit_start_timestamp_seconds").set(now());
    gauge!("adit_draining").set(0.0);
    begin_at_zero();
    Ok(handle)
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A counter that is absent until its first event hides that event: a rate begins at its second sample.
fn begin_at_zero() {
    for direction in Direction::ALL {
        let label = direction.label();
        counter!("adit_streams_opened_total", "direction" => label).absolute(0);
        gauge!("adit_streams_active", "direction" => label).set(0.0);
        stream_bytes(direction, 0, 0);
    }
    for code in Code::ALL {
        for direction in [Direction::Outbound, Direction::Inbound] {
            counter!("adit_refusals_total", "direction" => direction.label(), "code" => code.label()).absolute(0);
        }
    }
    for limit in LIMITS {
        counter!("adit_limit_reached_total", "limit" => limit).absolute(0);
    }
    for side in ["dialer", "acceptor"] {
        counter!("adit_protocol_violations_total", "side" => side).absolute(0);
    }
    counter!("adit_workload_api_faults_total").absolute(0);
    for why in ["gone", "others"] {
        counter!("adit_rules_lost_total", "why" => why).absolute(0);
    }
    for why in ["loop", "unknown"] {
        counter!("adit_not_captured_total", "why" => why).absolute(0);
    }
    for outcome in ["found", "unknown"] {
        counter!("adit_workloads_sought_total", "outcome" => outcome).absolute(0);
    }
    for kind in ["fresh", "recycled"] {
        counter!("adit_tunnels_used_total", "kind" => kind).absolute(0);
    }
    for outcome in ["ok", "failed"] {
        counter!("adit_tls_reloads_total", "outcome" => outcome).absolute(0);
    }
    for outcome in ["ok", "unchanged", "failed"] {
        counter!("adit_config_reloads_total", "outcome" => outcome).absolute(0);
    }
    for outcome in ["found", "negative", "failed"] {
        counter!("adit_dns_lookups_total", "outcome" => outcome).absolute(0);
    }
    for name in ["adit_open_retries_total", "adit_accept_errors_total", "adit_unverified_tunnels_total"] {
        counter!(name).absolute(0);
    }
    names(Answers::default());
    for name in ["adit_tunnels_idle", "adit_tunnels_accepted", "adit_config_fault", "adit_workload_api_fault"] {
        gauge!(name).set(0.0);
    }
}

/// How what DNS and files say stands, for the page.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Answers {
    /// Found, and confirmed by the last look-up.
    pub fresh: usize,
    /// Found, but the last look-up failed: the last known good.
    pub stale: usize,
    /// An authority says that there is none.
    pub negative: usize,
    /// Nothing is known, for the last look-up failed.
    pub failed: usize,
    /// The first look-up is under way.
    pub pending: usize,
    /// The age of the oldest answer that is stale.
    pub oldest: Duration,
    /// Lines of files that say nothing.
    pub bad_lines: usize,
}

/// How answers stand, to be told just before the page is made.
#[allow(clippy::cast_precision_loss, reason = "no process has 2^52 answers")]
pub fn names(answers: Answers) {
    let Answers { fresh, stale, negative, failed, pending, oldest, bad_lines } = answers;
    let states = [("fresh", fresh), ("stale", stale), ("negative", negative), ("failed", failed), ("pending", pending)];
    for (state, count) in states {
        gauge!("adit_dns_answers", "state" => state).set(count as f64);
    }
    gauge!("adit_dns_oldest_answer_age_seconds").set(oldest.as_secs_f64());
    gauge!("adit_fs_bad_lines").set(bad_lines as f64);
}

/// A stream was asked for.
pub fn stream_opened(direction: Direction) {
    counter!("adit_streams_opened_total", "direction" => direction.label()).increment(1);
    gauge!("adit_streams_active", "direction" => direction.label()).increment(1.0);
}

/// A stream ended.
pub fn stream_ended(direction: Direction, ending: &Ending) {
    let labels = [("direction", direction.label()), ("end", ending.end.label()), ("side", ending.side.label())];
    counter!("adit_streams_ended_total", &labels).increment(1);
    gauge!("adit_streams_active", "direction" => direction.label()).decrement(1.0);
}

/// All stream bytes so far, to be told just before the page is made.
pub fn stream_bytes(direction: Direction, sent: u64, received: u64) {
    counter!("adit_stream_bytes_total", "direction" => direction.label(), "way" => "sent").absolute(sent);
    counter!("adit_stream_bytes_total", "direction" => direction.label(), "way" => "received").absolute(received);
}

/// A stream got its answer.
pub fn stream_open_took(direction: Direction, took: Duration) {
    histogram!("adit_stream_open_seconds", "direction" => direction.label()).record(took);
}

/// A stream was refused.
pub fn refused(direction: Direction, code: &'static str) {
    counter!("adit_refusals_total", "direction" => direction.label(), "code" => code).increment(1);
}

/// A service of the file is served.
pub fn service_served(service: &str) {
    for outcome in ["ok", "failed", "timeout"] {
        counter!("adit_service_connects_total", "service" => service.to_owned(), "outcome" => outcome).increment(0);
    }
}

/// A service was connected to, or not.
pub fn service_connected(service: &Arc<str>, outcome: &'static str) {
    counter!("adit_service_connects_total", "service" => Arc::clone(service), "outcome" => outcome).increment(1);
}

/// Another attempt to open a stream.
pub fn open_retried() {
    counter!("adit_open_retries_total").increment(1);
}

/// A handshake ended.
pub fn handshake(side: &'static str, outcome: &'static str, took: Duration) {
    counter!("adit_handshakes_total", "side" => side, "outcome" => outcome).increment(1);
    if outcome == "ok" {
        histogram!("adit_handshake_seconds", "side" => side).record(took);
    }
}

/// A connection at the door for captured ones was none.
pub fn not_captured(why: &'static str) {
    counter!("adit_not_captured_total", "why" => why).increment(1);
}

/// The local process of a connection was looked for.
pub fn workload_sought(was_found: bool) {
    counter!("adit_workloads_sought_total", "outcome" => if was_found { "found" } else { "unknown" }).increment(1);
}

/// A stream was put on a tunnel.
pub fn tunnel_used(recycled: bool) {
    counter!("adit_tunnels_used_total", "kind" => if recycled { "recycled" } else { "fresh" }).increment(1);
}

/// A tunnel was opened whose acceptor nobody verified.
pub fn tunnel_unverified() {
    counter!("adit_unverified_tunnels_total").increment(1);
}

/// Idle tunnels in the pool, more or fewer.
pub fn tunnels_idle(change: i64) {
    #[allow(clippy::cast_precision_loss, reason = "no process has 2^52 tunnels")]
    gauge!("adit_tunnels_idle").increment(change as f64);
}

/// An accepted tunnel begins (1.0) or ends (-1.0).
pub fn tunnels_accepted(change: f64) {
    gauge!("adit_tunnels_accepted").increment(change);
}

/// A peer broke this rule. The one that is a limit of ours as well counts as such.
pub fn rule_broken(rule: &Violation) {
    if matches!(rule, Violation::Unfinished) {
        limit_reached("open_frame");
    }
}

/// A peer broke the protocol.
pub fn violation(side: &'static str) {
    counter!("adit_protocol_violations_total", "side" => side).increment(1);
}

/// An accept call failed.
pub fn accept_failed() {
    counter!("adit_accept_errors_total").increment(1);
}

/// A limit of [`LIMITS`] turned something away, ended it, or made it wait.
pub fn limit_reached(limit: &'static str) {
    counter!("adit_limit_reached_total", "limit" => limit).increment(1);
}

/// The configuration was read again.
pub fn config_reloaded(outcome: &'static str) {
    counter!("adit_config_reloads_total", "outcome" => outcome).increment(1);
}

/// Whether the file on disk could not be put in force.
pub fn config_fault(is_there: bool) {
    gauge!("adit_config_fault").set(if is_there { 1.0 } else { 0.0 });
}

/// The kernel's rules that the agent holds were not in place.
pub fn rules_lost(why: &'static str) {
    counter!("adit_rules_lost_total", "why" => why).increment(1);
}

/// The agent drains.
pub fn draining() {
    gauge!("adit_draining").set(1.0);
}

/// How many agents before this one live, how many of them go by something earlier or do not answer, and how many streams
/// they carry.
#[allow(clippy::cast_precision_loss, reason = "nobody has 2^52 of either")]
pub fn predecessors(count: usize, behind: usize, streams: u64) {
    gauge!("adit_predecessors").set(count as f64);
    gauge!("adit_predecessors_behind").set(behind as f64);
    gauge!("adit_predecessor_streams").set(streams as f64);
}

/// How many descriptors this process may have.
#[allow(clippy::cast_precision_loss, reason = "no limit is above 2^52")]
pub fn descriptors(limit: u64) {
    gauge!("adit_descriptors_limit").set(limit as f64);
}
