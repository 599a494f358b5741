//! Limits that cannot both be kept: none of these stops the agent, each makes some limit useless.

use std::time::Duration;

use crate::limits::Limits;
use crate::peers::Settings;
use crate::print::wait;
use crate::spec::Spec;
use crate::spec::outbound::PeerSpec;
use crate::spec::report::{At, Report};
use crate::spec::settings::{LimitPlaces, LimitsSpec};

pub(super) fn check(spec: &Spec, report: &mut Report) {
    if let Some(places) = &spec.limits.places {
        limits(&spec.limits, places, report);
    }
    for service in spec.inbound.iter().flat_map(|inbound| &inbound.services) {
        connect(service.connect_timeout.as_ref(), &spec.limits, report);
        if service.admits_nobody {
            nobody("this service", service.at, report);
        }
    }
    for capture in spec.inbound.iter().flat_map(|inbound| &inbound.captures) {
        connect(capture.connect_timeout.as_ref(), &spec.limits, report);
        if capture.admits_nobody {
            nobody("this [[inbound.capture]]", capture.at, report);
        }
    }
    for peer in spec.outbound.iter().flat_map(|outbound| &outbound.peers) {
        times(peer, &spec.limits.limits, report);
    }
}

/// The times of one name against those that hold for all.
fn times(peer: &PeerSpec, limits: &Limits, report: &mut Report) {
    let Settings { connect_timeout, tunnel_idle, .. } = peer.settings;
    let pairs = [
        (
            ("connect_timeout", connect_timeout),
            ("open", limits.open),
            "make it shorter, or a dead endpoint leaves no time for another",
        ),
        (
            ("tunnel_idle", tunnel_idle),
            ("tunnel_idle_acceptor", limits.tunnel_idle_acceptor),
            "make it shorter, or an acceptor with the same limits retires tunnels that are about to be used",
        ),
    ];
    for ((key, value), (limit, most), help) in pairs {
        let place = peer.says.settings.iter().find(|said| said.value == key);
        if let Some((place, value)) = place.zip(value.filter(|value| *value >= most)) {
            report.warn(place.at, compared(key, value, "shorter", limit, most), help);
        }
    }
}

fn limits(spec: &LimitsSpec, places: &LimitPlaces, report: &mut Report) {
    let limits = &spec.limits;
    if limits.answer <= limits.connect {
        let message = compared("answer", limits.answer, "longer", "connect", limits.connect);
        let help = "make it longer, or a dialer gives up before it can hear why";
        report.warn(places.answer, message, help);
    }
    if limits.open <= limits.answer {
        let message = compared("open", limits.open, "longer", "answer", limits.answer);
        report.warn(places.open, message, "make it longer, or a slow first attempt leaves no time for another");
    }
    if limits.tunnel_idle_dialer >= limits.tunnel_idle_acceptor {
        let (dialer, acceptor) = (limits.tunnel_idle_dialer, limits.tunnel_idle_acceptor);
        let message = compared("tunnel_idle_dialer", dialer, "shorter", "tunnel_idle_acceptor", acceptor);
        let help = "make it shorter, or acceptors retire tunnels that dialers are about to use";
        report.warn(places.tunnel_idle, message, help);
    }
    counts(limits, places, report);
}

fn compared(key: &str, value: Duration, how: &str, other: &str, than: Duration) -> String {
    format!("`{key}` ({}) is not {how} than `{other}` ({})", wait(value), wait(than))
}

fn counts(limits: &Limits, places: &LimitPlaces, report: &mut Report) {
    if limits.handshakes_per_source > limits.handshakes {
        let message = "`handshakes_per_source` is greater than `handshakes`, so it limits nothing";
        report.warn(places.handshakes, message, "make it smaller");
    }
    if limits.tunnels_per_peer.zip(limits.tunnels).is_some_and(|(each, all)| each > all) {
        let message = "`tunnels_per_peer` is greater than `tunnels`, so it limits nothing";
        report.warn(places.tunnels, message, "make it smaller");
    }
}

fn connect(timeout: Option<&At<Duration>>, limits: &LimitsSpec, report: &mut Report) {
    let Some(timeout) = timeout else {
        return;
    };
    if timeout.value >= limits.limits.answer {
        let answer = limits.limits.answer;
        let message = compared("connect_timeout", timeout.value, "shorter", "answer", answer);
        let help = "make it shorter, or a dialer with the same limits gives up before it can hear why";
        report.warn(timeout.at, message, help);
    }
}

fn nobody(what: &str, at: usize, report: &mut Report) {
    report.warn(at, format!("{what} admits nobody"), "name who may reach it in `allow`");
}
