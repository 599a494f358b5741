//! The part of `/metrics` that is read off what there is at that moment: faults, certificates, revocation lists, bound
//! names and their endpoints. Every label's value is a word of the agent's, or stands in the configuration or follows
//! from it by the table: bound names that a caller chose are counted, never named.

use std::time::{Duration, SystemTime};

use adit_protocol::Name;

use super::View;
use crate::{
    identity::Snapshot,
    router::{Census, Standing},
    telemetry::gauges::Gauges,
};

/// All of them, as the page ends.
pub(super) fn text(view: &View) -> String {
    let mut gauges = Gauges::default();
    let fault = view.identity.fault().is_some();
    gauges.open("adit_tls_fault").add(&[], f64::from(u8::from(fault)));
    credentials(&mut gauges, &view.identity.snapshot());
    names(&mut gauges, view);
    gauges.into_text()
}

fn credentials(gauges: &mut Gauges, now: &Snapshot) {
    let mut series = gauges.open("adit_certificate_start_timestamp_seconds");
    for credential in now.credentials() {
        series.add(&[("id", &credential.id)], timestamp(credential.not_before));
    }
    let mut series = gauges.open("adit_certificate_expiry_timestamp_seconds");
    for credential in now.credentials() {
        series.add(&[("id", &credential.id)], timestamp(credential.not_after));
    }
    let mut series = gauges.open("adit_ca_expiry_timestamp_seconds");
    now.trust_ends().into_iter().for_each(|end| series.add(&[], timestamp(end)));
    let mut series = gauges.open("adit_revocation_list_next_update_timestamp_seconds");
    for (file, moment) in now.promised_lists() {
        series.add(&[("file", &file)], timestamp(moment));
    }
}

fn names(gauges: &mut Gauges, view: &View) {
    let now = view.now.load();
    let to: Vec<Name> = now.doors.iter().filter_map(|door| Name::parse(door.to.as_deref()?).ok()).collect();
    let rules = now.inbound.as_ref().map(|inbound| inbound.rules.load_full());
    let outbound = now.outbound.as_ref().map(|outbound| outbound.router.census(&to));
    let inbound = rules.map(|rules| rules.services.router.census([]));
    let sides = [("outbound", outbound), ("inbound", inbound)];
    let mut series = gauges.open("adit_bound_names");
    for (direction, census) in sides.iter().filter_map(|(side, census)| Some((side, census.as_ref()?))) {
        for standing in Standing::ALL {
            let count = census.names.get(&standing).copied().unwrap_or_default();
            series.add(&[("direction", direction), ("state", standing.label())], number(count));
        }
    }
    let [(_, outbound), _] = sides;
    endpoints(gauges, &outbound.unwrap_or_default());
}

fn endpoints(gauges: &mut Gauges, census: &Census) {
    let mut series = gauges.open("adit_endpoints");
    for ((name, bound), tally) in &census.endpoints {
        for (health, count) in [("up", tally.up), ("down", tally.down), ("probation", tally.probation)] {
            series.add(&[("name", name.as_str()), ("bound", bound.as_str()), ("health", health)], number(count));
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "no process has 2^52 names or endpoints")]
fn number(count: usize) -> f64 {
    count as f64
}

/// Seconds since 1970; what was before is 1970.
fn timestamp(moment: SystemTime) -> f64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}
