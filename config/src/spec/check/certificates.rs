//! Certificates are named once and found wherever they are called for.

use std::collections::HashSet;

use crate::spec::Spec;
use crate::spec::inbound::InboundSpec;
use crate::spec::outbound::OutboundSpec;
use crate::spec::report::{At, Report};
use crate::spec::tls::DEFAULT_ID;

pub(super) fn check(spec: &Spec, report: &mut Report) {
    let mut ids = HashSet::new();
    if spec.tls.is_spiffe() {
        ids.insert(DEFAULT_ID);
    }
    for id in spec.tls.certificates.iter().filter_map(|certificate| certificate.id.as_ref()) {
        if !ids.insert(id.value.as_str()) {
            let message = format!("the certificate id `{}` is taken", id.value);
            report.problem(
                id.at,
                message,
                "give each certificate its own; [tls] cert, or the Workload API's first, is `default`",
            );
        }
    }
    for reference in references(spec).filter(|id| !ids.contains(id.value.as_str())) {
        let message = format!("there is no certificate `{}`", reference.value);
        report.problem(reference.at, message, known(&ids));
    }
}

fn references(spec: &Spec) -> impl Iterator<Item = &At<String>> {
    spec.inbound.iter().flat_map(of_inbound).chain(spec.outbound.iter().flat_map(of_outbound))
}

fn of_inbound(inbound: &InboundSpec) -> impl Iterator<Item = &At<String>> {
    let services = inbound.services.iter().map(|service| &service.certificate);
    services.chain(inbound.captures.iter().map(|capture| &capture.certificate)).flatten()
}

fn of_outbound(outbound: &OutboundSpec) -> impl Iterator<Item = &At<String>> {
    let listeners = outbound.listeners.iter().map(|listener| &listener.certificate);
    let redirect = outbound.redirect.iter().map(|redirect| &redirect.certificate);
    let captures = outbound.captures.iter().map(|capture| &capture.certificate);
    let workloads = outbound.workloads.iter().map(|workload| &workload.certificate);
    listeners.chain(redirect).chain(captures).chain(workloads).flatten()
}

fn known(ids: &HashSet<&str>) -> String {
    let mut ids: Vec<_> = ids.iter().copied().collect();
    ids.sort_unstable();
    match ids.as_slice() {
        [] => "add a [[tls.certificate]]".to_owned(),
        ids => format!("add a [[tls.certificate]], or name one of {}", ids.join(", ")),
    }
}
