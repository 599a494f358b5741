//! Captures: what a text fills in must be what its pattern takes, and where a peer's words choose a
//! target they are fenced in.

use adit_protocol::{Pattern, Template};

use crate::identity::Identity;
use crate::peers::server_name;
use crate::service::Target;
use crate::spec::Spec;
use crate::spec::inbound::ServiceSpec;
use crate::spec::outbound::PeerSpec;
use crate::spec::report::{At, Report};

pub(super) fn check(spec: &Spec, report: &mut Report) {
    for service in spec.inbound.iter().flat_map(|inbound| &inbound.services) {
        undefined_in_target(service, report);
        fence(service, report);
    }
    for peer in spec.outbound.iter().flat_map(|outbound| &outbound.peers) {
        undefined_in_peer(peer, report);
        literal_identity(peer, report);
    }
}

fn undefined_in_target(service: &ServiceSpec, report: &mut Report) {
    let Some(At { at, value: Target::Name(to) }) = &service.to else {
        return;
    };
    for name in &service.names {
        undefined("to", *at, to, &name.value, report);
    }
}

fn undefined_in_peer(peer: &PeerSpec, report: &mut Report) {
    let Some(pattern) = peer.name.as_ref().or(peer.bound.as_ref()) else {
        return;
    };
    let texts = [("identity", &peer.identity), ("sni", &peer.sni), ("as", &peer.send_as)];
    for (key, text) in texts {
        let Some(text) = text else { continue };
        undefined(key, text.at, &text.value, &pattern.value, report);
    }
}

fn undefined(key: &str, at: usize, text: &Template, pattern: &Pattern, report: &mut Report) {
    for name in text.names() {
        if !pattern.capture_names().any(|captured| captured == name) {
            let message = format!("`{key}` uses {{{name}}}, which `{pattern}` does not capture");
            report.problem(at, message, format!("write {{{name}}} in the pattern, or leave it out here"));
        }
    }
}

/// DESIGN.md section 4: a capture may stand in `to` only with `reach`, and never leads near.
fn fence(service: &ServiceSpec, report: &mut Report) {
    let Some(to) = &service.to else { return };
    if to.value.is_captured() && service.reach.is_empty() {
        let help = "add `reach = [\"10.1.0.0/16:5432\"]` with the networks and ports it may lead to";
        report.problem(to.at, "`to` lets the peer's words choose where to connect", help);
    }
    let is_name = matches!(to.value, Target::Name(_));
    for reach in &service.reach {
        if !is_name {
            let message = "`reach` has no meaning where `to` is an address";
            report.problem(reach.at, message, "leave it out");
        } else if to.value.is_captured() && reach.value.is_near() {
            let message = format!("no captured name may lead to {}", reach.value);
            let help = "write loopback, link-local, multicast and unix targets out in `to`";
            report.problem(reach.at, message, help);
        }
    }
}

/// An identity without captures is known now, so it is judged now; so are an SNI and a name.
fn literal_identity(peer: &PeerSpec, report: &mut Report) {
    if let Some(identity) = literal(&peer.identity)
        && let Err(cause) = Identity::name(identity.value)
    {
        report.problem(identity.at, cause.message, cause.help);
    }
    if let Some(sni) = literal(&peer.sni)
        && let Err(cause) = server_name(sni.value)
    {
        report.problem(sni.at, cause.message, cause.help);
    }
    if let Some(name) = literal(&peer.send_as) {
        literal_name(&name, report);
    }
}

fn literal_name(name: &At<&str>, report: &mut Report) {
    match adit_protocol::Name::parse(name.value) {
        Err(cause) => report.problem(name.at, format!("`as` is no name: {cause}"), ""),
        Ok(name_) if name_.is_bound() => {
            let message = format!("`as` is the bound name {name_}, which no agent may be asked for");
            report.problem(name.at, message, "write a logical name, such as \"/svc/redis\"");
        }
        Ok(_) => {}
    }
}

fn literal(text: &Option<At<Template>>) -> Option<At<&str>> {
    text.as_ref().filter(|text| text.value.is_literal()).map(|text| At { at: text.at, value: text.value.as_str() })
}
