//! The table of all metrics, with their names, kinds and labels: the reference in the README and `/metrics` both come from
//! it. Nothing here counts.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Seconds in buckets.
    Histogram,
}

/// One metric: its name, shape, labels, and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Metric(pub &'static str, pub Shape, pub &'static str, pub &'static str);

/// Every metric there is.
pub const METRICS: &[Metric] = &[
    Metric("adit_streams_opened_total", Shape::Counter, "direction", "streams that were asked for"),
    Metric(
        "adit_streams_ended_total",
        Shape::Counter,
        "direction, end, side",
        "streams that ended, by why and by whose doing",
    ),
    Metric("adit_streams_active", Shape::Gauge, "direction", "streams that are live"),
    Metric(
        "adit_stream_bytes_total",
        Shape::Counter,
        "direction, way",
        "stream bytes: `sent` into tunnels, `received` from them",
    ),
    Metric("adit_stream_open_seconds", Shape::Histogram, "direction", "from accept (or OPEN) to the answer"),
    Metric(
        "adit_refusals_total",
        Shape::Counter,
        "direction, code",
        "REFUSE frames sent (inbound), or received with no endpoint left to try (outbound)",
    ),
    Metric(
        "adit_service_connects_total",
        Shape::Counter,
        "service, outcome",
        "admitted streams by whether their service (its first name) could be connected to: `ok`, `failed`, `timeout`",
    ),
    Metric("adit_open_retries_total", Shape::Counter, "", "attempts to open a stream after the first"),
    Metric(
        "adit_handshakes_total",
        Shape::Counter,
        "side, outcome",
        "TLS handshakes of `dialer` or `acceptor`: `ok`, `failed`, `timeout`, `closed` (not a word was said), `setup`",
    ),
    Metric("adit_handshake_seconds", Shape::Histogram, "side", "what a TLS handshake that succeeded took"),
    Metric("adit_tunnels_used_total", Shape::Counter, "kind", "streams put on a `fresh` or a `recycled` tunnel"),
    Metric("adit_tunnels_idle", Shape::Gauge, "", "idle tunnels in the outbound pool"),
    Metric("adit_tunnels_accepted", Shape::Gauge, "", "tunnels that are open on the inbound side"),
    Metric(
        "adit_protocol_violations_total",
        Shape::Counter,
        "side",
        "tunnels closed because the peer (of this `dialer` or `acceptor`) broke the protocol",
    ),
    Metric("adit_accept_errors_total", Shape::Counter, "", "accept calls that failed, such as for want of descriptors"),
    Metric(
        "adit_limit_reached_total",
        Shape::Counter,
        "limit",
        "times a limit turned something away, ended it, or made it wait; `limit` is its key under `[limits]`",
    ),
    Metric(
        "adit_not_captured_total",
        Shape::Counter,
        "why",
        "connections refused at the door for captured ones: a `loop` (made to the door itself), or `unknown` (the kernel \
         does not say where it was meant to go)",
    ),
    Metric(
        "adit_workloads_sought_total",
        Shape::Counter,
        "outcome",
        "connections whose local process was looked for: `found`, or `unknown`",
    ),
    Metric("adit_unverified_tunnels_total", Shape::Counter, "", "tunnels opened under verify = \"none\""),
    Metric(
        "adit_dns_lookups_total",
        Shape::Counter,
        "outcome",
        "DNS look-ups: `found`, `negative` (an authority says there is no such name), `failed`",
    ),
    Metric(
        "adit_dns_answers",
        Shape::Gauge,
        "state",
        "answers that are kept: `fresh`, `stale` (the last good one, for the last look-up failed), `negative`, `failed`, `pending`",
    ),
    Metric(
        "adit_dns_oldest_answer_age_seconds",
        Shape::Gauge,
        "",
        "the age of the oldest stale answer that is in use, 0 without one",
    ),
    Metric("adit_fs_bad_lines", Shape::Gauge, "", "lines of `/#/fs` files that say nothing and are left out"),
    Metric(
        "adit_bound_names",
        Shape::Gauge,
        "direction, state",
        "bound names in use: `up`, `down` (it has endpoints, and none is up), `negative`, `failed`, `pending`",
    ),
    Metric(
        "adit_endpoints",
        Shape::Gauge,
        "name, bound, health",
        "endpoints `up`, `down` (or refusing this name) or on `probation` of each bound name that a listener's `to` leads to and that is in use",
    ),
    Metric(
        "adit_certificate_start_timestamp_seconds",
        Shape::Gauge,
        "id",
        "from when on a certificate of ours is valid, in seconds since 1970",
    ),
    Metric(
        "adit_certificate_expiry_timestamp_seconds",
        Shape::Gauge,
        "id",
        "when a certificate of ours expires, in seconds since 1970",
    ),
    Metric(
        "adit_ca_expiry_timestamp_seconds",
        Shape::Gauge,
        "",
        "when the last CA of our bundle expires, in seconds since 1970",
    ),
    Metric(
        "adit_revocation_list_next_update_timestamp_seconds",
        Shape::Gauge,
        "file",
        "when a revocation list promises a newer one, in seconds since 1970",
    ),
    Metric(
        "adit_tls_reloads_total",
        Shape::Counter,
        "outcome",
        "reloads of certificates, bundle and revocation lists: `ok`, or `failed` (what was in force stays)",
    ),
    Metric(
        "adit_tls_fault",
        Shape::Gauge,
        "",
        "1 while the TLS files on disk are not in force, because one is bad, or a Workload API gives nothing of use",
    ),
    Metric(
        "adit_config_reloads_total",
        Shape::Counter,
        "outcome",
        "reloads of the configuration: `ok`, `unchanged` (it says what is in force), or `failed` (what was in force stays)",
    ),
    Metric(
        "adit_config_fault",
        Shape::Gauge,
        "",
        "1 while the configuration file on disk is not in force, because it could not be",
    ),
    Metric(
        "adit_workload_api_fault",
        Shape::Gauge,
        "",
        "1 while the stream of the SPIFFE Workload API is broken (what it gave last stays in force)",
    ),
    Metric(
        "adit_workload_api_faults_total",
        Shape::Counter,
        "",
        "times that stream broke, or the reason why it cannot be opened became another",
    ),
    Metric(
        "adit_rules_lost_total",
        Shape::Counter,
        "why",
        "times that the kernel's rules which `run --redirect` holds were found `gone` (they were put back), or `others` of adit's in their place",
    ),
    Metric("adit_draining", Shape::Gauge, "", "1 while the agent drains"),
    Metric(
        "adit_predecessors",
        Shape::Gauge,
        "",
        "agents before this one, of before an upgrade, that still carry streams",
    ),
    Metric(
        "adit_predecessors_behind",
        Shape::Gauge,
        "",
        "those of them that cannot read the file or the credentials there are now, or do not answer: a right that was \
         withdrawn may still hold for their streams",
    ),
    Metric("adit_predecessor_streams", Shape::Gauge, "", "their live streams, which no other metric here counts"),
    Metric("adit_descriptors_limit", Shape::Gauge, "", "file descriptors this process may have"),
    Metric("adit_start_timestamp_seconds", Shape::Gauge, "", "when this process started, in seconds since 1970"),
    Metric("adit_build_info", Shape::Gauge, "version", "always 1"),
];

/// The values of `limit` in `adit_limit_reached_total`: keys of `[limits]`, but for two. `service_streams` is a service's
/// own `max_streams`; `admin_connections` is a constant of the admin door. The limits that are not here end streams, and
/// are the `end` of `adit_streams_ended_total`: `idle` and `half_closed` are idle, `stalled` and `unread` stalled, `life`
/// aged, `drain` drained; keepalive and `user_timeout` are the kernel's, and show as reset.
pub const LIMITS: [&str; 15] = [
    "handshake",
    "open_frame",
    "connect",
    "answer",
    "open",
    "tunnels",
    "tunnels_per_peer",
    "handshakes",
    "eager_bytes",
    "streams",
    "service_streams",
    "tunnel_idle_dialer",
    "tunnel_idle_acceptor",
    "tunnel_age",
    "admin_connections",
];

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// The rows of the reference, in the order of the table.
    fn reference() -> String {
        let row = |Metric(name, shape, labels, help): &Metric| {
            let shape = format!("{shape:?}").to_lowercase();
            format!("| `{name}` | {shape} | {labels} | {help} |\n")
        };
        METRICS.iter().map(row).collect()
    }

    #[test]
    fn the_readmes_reference_is_this_table() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let readme = fs::read_to_string(readme).unwrap();
        let rows: String =
            readme.lines().filter(|line| line.starts_with("| `adit_")).map(|line| format!("{line}\n")).collect();
        assert!(rows == reference(), "the README's metrics reference shall be:\n{}", reference());
    }

    #[test]
    fn every_limit_that_counts_is_named_once() {
        let mut limits = LIMITS.to_vec();
        limits.sort_unstable();
        limits.dedup();
        assert_eq!(limits.len(), LIMITS.len());
    }
}
