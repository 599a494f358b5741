//! What the acceptor's side says of ports and of whose address a service sees: `[inbound] strict`, `[[inbound.capture]]` and
//! `source`. None of it may close the agent's own doors or lead back into one.

use crate::config::Strict;
use crate::net::{Ports, covers};
use crate::service::{Source, Target};
use crate::spec::Spec;
use crate::spec::inbound::{CaptureServiceSpec, InboundSpec, ServiceSpec};
use crate::spec::report::{At, Report};

use super::doors::{Door, doors};

pub(super) fn check(spec: &Spec, report: &mut Report) {
    let Some(inbound) = &spec.inbound else {
        return;
    };
    let doors = doors(spec);
    for service in &inbound.services {
        source(service, report);
    }
    for ports in inbound.captures.iter().flat_map(|capture| &capture.ports) {
        doors.iter().for_each(|door| own_port(ports, door, report));
    }
    shadowed(&inbound.captures, report);
    if let Some(strict) = &inbound.strict {
        protects(strict, inbound, report);
        doors.iter().for_each(|door| closes(strict, inbound, door, report));
    }
}

fn source(service: &ServiceSpec, report: &mut Report) {
    let (Some(source), Some(At { value: Target::Unix(_), .. })) = (&service.source, &service.to) else {
        return;
    };
    if source.value == Source::Transparent {
        let message = "a unix socket sees no address, so `source` cannot be \"transparent\"";
        report.problem(source.at, message, "write \"proxy-v2\", or leave it out");
    }
}

/// The agent refuses its own doors at each connect; a rule that promises one is a mistake all the same.
fn own_port(ports: &At<Ports>, door: &Door, report: &mut Report) {
    let Some(port) = door.port().filter(|port| ports.value.contains(*port)) else {
        return;
    };
    let message = format!("port {port} is this agent's own: {}", door.shown());
    report.problem(ports.at, message, without(ports.value, port));
}

/// How to say the same ports less one.
fn without(ports: Ports, port: u16) -> String {
    let below = (ports.first < port).then(|| Ports { first: ports.first, last: port - 1 });
    let above = (port < ports.last).then(|| Ports { first: port + 1, last: ports.last });
    match [below, above].into_iter().flatten().map(|ports| format!("\"{ports}\"")).collect::<Vec<_>>().join(", ") {
        rest if rest.is_empty() => "leave it out".to_owned(),
        rest => format!("write {rest}"),
    }
}

fn shadowed(captures: &[CaptureServiceSpec], report: &mut Report) {
    let ports = |capture: &CaptureServiceSpec| capture.ports.iter().map(|ports| ports.value).collect::<Vec<_>>();
    for (index, later) in captures.iter().enumerate().filter(|(_, capture)| !capture.ports.is_empty()) {
        let earlier: Vec<_> = captures[..index].iter().flat_map(ports).collect();
        if !earlier.is_empty() && covers(&earlier, &ports(later)) {
            let message = "this [[inbound.capture]] can never match: those before it take all its ports";
            report.problem(later.at, message, "put the narrower one first, or remove it");
        }
    }
}

fn protects(strict: &At<Strict>, inbound: &InboundSpec, report: &mut Report) {
    if strict.value == Strict::Services && service_ports(inbound).is_empty() {
        let message = "`strict` protects nothing: no service is at an address, and there is no [[inbound.capture]]";
        report.warn(strict.at, message, "list the ports, or leave it out");
    }
}

/// A door on loopback is not reached by what the rules reject.
fn closes(strict: &At<Strict>, inbound: &InboundSpec, door: &Door, report: &mut Report) {
    let Some(port) = door.port().filter(|_| !door.is_near()) else {
        return;
    };
    let (ports, help) = match &strict.value {
        Strict::Off => return,
        Strict::Services => (service_ports(inbound), "list the other ports in `strict`, one by one".to_owned()),
        Strict::Ports(ports) => {
            let range = ports.iter().find(|ports| ports.contains(port));
            (ports.clone(), range.map_or_else(String::new, |range| without(*range, port)))
        }
    };
    if ports.iter().any(|ports| ports.contains(port)) {
        let message = format!("`strict` would close port {port}, which is this agent's own: {}", door.shown());
        report.problem(strict.at, message, help);
    }
}

/// What `strict = true` is about. Ports of captures are held against the doors by themselves.
fn service_ports(inbound: &InboundSpec) -> Vec<Ports> {
    let targets = inbound.services.iter().filter_map(|service| match &service.to.as_ref()?.value {
        Target::Tcp(address) => Some(Ports::one(address.port())),
        Target::Unix(_) | Target::Name(_) => None,
    });
    let captures = inbound.captures.iter().flat_map(|capture| &capture.ports);
    targets.chain(captures.map(|ports| ports.value)).collect()
}
