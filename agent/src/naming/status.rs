//! What is known of a bound name, for people.

use super::Addrs;
use super::lead::Parts;
use crate::addr::{Weight, Weighted};
use adit_protocol::Name;
use serde::Serialize;
use std::time::{Duration, Instant};

/// A bound name that is followed, as `/status` and `/delegate` show it.
#[derive(Clone, Debug, Serialize)]
pub struct NameStatus {
    /// The bound name.
    pub name: String,
    /// `pending`, `bound`, `negative` or `failed`.
    pub state: &'static str,
    /// Its addresses, with tier and weight where they are not like all others.
    pub addresses: Vec<String>,
    /// How long ago the oldest answer it rests on was confirmed, in milliseconds.
    pub age_ms: Option<u64>,
    /// How long until one of them is asked for again, in milliseconds.
    pub next_ms: Option<u64>,
    /// Why the last look-up or reading failed, if it did; older answers are then still in use.
    pub last_error: Option<String>,
    /// How many addresses are beyond the bound.
    #[serde(skip_serializing_if = "is_none")]
    pub left_out: usize,
    /// Lines of its file that say nothing, the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad_lines: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

impl NameStatus {
    pub(super) fn of(name: &Name, addrs: &Addrs, parts: &Parts, now: Instant) -> Self {
        let (state, addresses) = match addrs {
            Addrs::Pending => ("pending", Vec::new()),
            Addrs::Bound(all) => ("bound", all.iter().map(shown).collect()),
            Addrs::Neg => ("negative", Vec::new()),
            Addrs::Failed(_) => ("failed", Vec::new()),
        };
        let known = || parts.entries.iter().map(|entry| (entry, entry.known()));
        let fault = parts.file.as_ref().and_then(|said| said.fault.clone());
        let error = known().find_map(|(entry, known)| Some(format!("{}: {}", entry.question, known.last_error()?)));
        let bad = parts.file.iter().flat_map(|said| &said.bad.told);
        Self {
            name: name.to_string(),
            state,
            addresses,
            age_ms: known().filter_map(|(_, known)| known.age(now)).max().map(millis),
            next_ms: known().filter_map(|(_, known)| known.next_in(now)).min().map(millis),
            last_error: fault.or(error),
            left_out: parts.cut,
            bad_lines: bad.map(ToString::to_string).collect(),
        }
    }
}

fn shown(one: &Weighted) -> String {
    let weight = if one.weight == Weight::ONE { String::new() } else { format!(" * {}", one.weight.value()) };
    let tier = if one.tier == 0 { String::new() } else { format!(" (tier {})", one.tier) };
    format!("{}{weight}{tier}", one.address)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
