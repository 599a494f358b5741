//! Every section and key the file may have: the one table by which unknown keys are refused, and
//! which the reference is tested against. What a key means is in the section's own file.

use crate::limits::Limits;

/// Every section, by the header that opens it; the first is the file itself.
#[cfg(test)]
pub(crate) const SECTIONS: [&str; 22] = [
    FILE,
    TLS,
    CERTIFICATE,
    INBOUND,
    SERVICE,
    INBOUND_CAPTURE,
    OUTBOUND,
    PEER,
    LISTENER,
    REDIRECT,
    INCLUDE,
    EXCLUDE,
    CAPTURE,
    WORKLOAD,
    NETFILTER,
    ADMIN,
    DNS,
    ZONE,
    FS,
    LIMITS,
    LOG,
    RUNTIME,
];

pub(crate) const FILE: &str = "the file";
pub(crate) const TLS: &str = "[tls]";
pub(crate) const CERTIFICATE: &str = "[[tls.certificate]]";
pub(crate) const INBOUND: &str = "[inbound]";
pub(crate) const SERVICE: &str = "[[inbound.service]]";
pub(crate) const INBOUND_CAPTURE: &str = "[[inbound.capture]]";
pub(crate) const OUTBOUND: &str = "[outbound]";
pub(crate) const PEER: &str = "[[outbound.peer]]";
pub(crate) const LISTENER: &str = "[[outbound.listener]]";
pub(crate) const REDIRECT: &str = "[outbound.redirect]";
pub(crate) const INCLUDE: &str = "[[outbound.redirect.include]]";
pub(crate) const EXCLUDE: &str = "[[outbound.redirect.exclude]]";
pub(crate) const CAPTURE: &str = "[[outbound.capture]]";
pub(crate) const WORKLOAD: &str = "[[outbound.workload]]";
pub(crate) const NETFILTER: &str = "[netfilter]";
pub(crate) const ADMIN: &str = "[admin]";
pub(crate) const DNS: &str = "[dns]";
pub(crate) const ZONE: &str = "[[dns.zone]]";
pub(crate) const FS: &str = "[fs]";
pub(crate) const LIMITS: &str = "[limits]";
pub(crate) const LOG: &str = "[log]";
pub(crate) const RUNTIME: &str = "[runtime]";

/// The keys of a section, in the order of the reference.
pub(crate) fn known(section: &str) -> Vec<&'static str> {
    match section {
        FILE => vec!["tls", "inbound", "outbound", "netfilter", "admin", "dns", "fs", "limits", "log", "runtime"],
        TLS => vec!["ca", "cert", "key", "crl", "spiffe", "spiffe_wait", "certificate"],
        CERTIFICATE => vec!["id", "cert", "key"],
        INBOUND => vec!["listen", "dtab", "conceal", "strict", "service", "capture"],
        SERVICE => vec!["name", "to", "allow", "certificate", "source", "reach", "max_streams", "connect_timeout"],
        INBOUND_CAPTURE => vec!["ports", "allow", "certificate", "source", "max_streams", "connect_timeout"],
        OUTBOUND => vec!["dtab", "find_workloads", "peer", "listener", "redirect", "capture", "workload"],
        PEER => vec![
            "name",
            "bound",
            "identity",
            "verify",
            "sni",
            "as",
            "connect_timeout",
            "idle",
            "tunnel_idle",
            "pool",
            "warm",
            "balancer",
            "on_leave",
        ],
        LISTENER => vec!["listen", "to", "certificate", "expose", "mode", "owner", "group"],
        REDIRECT => {
            vec!["listen", "mode", "unmatched", "remember", "certificate", "expose", "include", "exclude"]
        }
        INCLUDE | EXCLUDE => vec!["from", "net", "port", "user", "group", "cgroup", "interface"],
        CAPTURE => vec!["host", "net", "port", "to", "certificate"],
        WORKLOAD => vec!["unit", "user", "cgroup", "unknown", "name", "certificate", "deny", "allow"],
        NETFILTER => vec!["mark", "route_mark", "route_table", "user"],
        ADMIN => vec!["listen", "expose", "socket", "mode", "owner", "group"],
        DNS => vec!["servers", "min_ttl", "max_ttl", "negative_ttl", "timeout", "zone"],
        ZONE => vec!["name", "servers"],
        FS => vec!["folder"],
        LIMITS => Limits::default().rows().iter().map(|(key, ..)| *key).collect(),
        LOG => vec!["format", "level"],
        RUNTIME => vec!["threads"],
        _ => Vec::new(),
    }
}

/// The known key nearest to a mistyped one, if it is near: at most a quarter of it is otherwise, or it is
/// the first word of what was written (`idle_timeout` for `idle`).
pub(crate) fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let first = |candidate: &&str| key.strip_prefix(candidate).is_some_and(|rest| rest.starts_with(['_', '-']));
    mistyped(key, known).or_else(|| known.iter().copied().find(first))
}

fn mistyped(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let key: Vec<char> = key.chars().take(MAX_COMPARED).collect();
    known
        .iter()
        .map(|candidate| (distance(&key, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(4))
        .min()
        .map(|(_, candidate)| candidate)
}

/// A longer key is near to none.
const MAX_COMPARED: usize = 64;

/// Levenshtein's distance, one row at a time.
fn distance(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (index, right) in b.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, left) in a.iter().enumerate() {
            let replaced = diagonal + usize::from(*left != right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[a.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_key_is_suggested_and_a_far_one_not() {
        let known = known(SERVICE);
        assert_eq!(nearest("allows", &known), Some("allow"));
        assert_eq!(nearest("max_stream", &known), Some("max_streams"));
        assert_eq!(nearest("connect-timeout", &known), Some("connect_timeout"));
        assert_eq!(nearest("certificate_id", &known), Some("certificate"));
        assert_eq!(nearest("redirect", &known), None);
        assert_eq!(nearest(&"x".repeat(100_000), &known), None);
    }

    #[test]
    fn every_section_has_keys_and_none_twice() {
        for section in SECTIONS {
            let mut keys = known(section);
            assert!(!keys.is_empty(), "{section}");
            let all = keys.len();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), all, "{section}");
        }
    }
}
