//! Waits that cannot both be kept: none of these stops the agent, each makes some limit useless.

use crate::spec::Spec;
use crate::spec::inbound::ServiceSpec;
use crate::spec::report::Report;
use crate::spec::settings::{LimitPlaces, LimitsSpec};

pub(super) fn check(spec: &Spec, report: &mut Report) {
    if let Some(places) = &spec.limits.places {
        limits(&spec.limits, places, report);
    }
    for service in spec.inbound.iter().flat_map(|inbound| &inbound.services) {
        connect(service, &spec.limits, report);
        nobody(service, report);
    }
}

fn limits(spec: &LimitsSpec, places: &LimitPlaces, report: &mut Report) {
    let limits = &spec.limits;
    if limits.answer <= limits.connect {
        let message = "`answer` is not longer than `connect`";
        let help = "make it longer, or a dialer gives up before it can hear why";
        report.warn(places.answer, message, help);
    }
    if limits.open <= limits.answer {
        let message = "`open` is not longer than `answer`";
        report.warn(places.open, message, "make it longer, or nothing is ever tried again");
    }
    if limits.tunnel_idle_dialer >= limits.tunnel_idle_acceptor {
        let message = "`tunnel_idle_dialer` is not shorter than `tunnel_idle_acceptor`";
        report.warn(places.tunnel_idle, message, "make it shorter, or streams will cross a RETIRE");
    }
}

fn connect(service: &ServiceSpec, limits: &LimitsSpec, report: &mut Report) {
    let Some(timeout) = &service.connect_timeout else {
        return;
    };
    if timeout.value >= limits.limits.answer {
        let message = "`connect_timeout` is not shorter than [limits] `answer`";
        let help = "make it shorter, or a dialer with the same limits gives up before it can hear why";
        report.warn(timeout.at, message, help);
    }
}

fn nobody(service: &ServiceSpec, report: &mut Report) {
    if service.admits_nobody {
        let message = "this service admits nobody";
        report.warn(service.at, message, "name who may reach it in `allow`");
    }
}
