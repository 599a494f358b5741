//! Captures: what a text fills in must be what its pattern takes, and where a peer's words choose a
//! target they are fenced in.

use adit_protocol::{Captures, Name, Pattern, Template};

use crate::dtab::{Bound, Host, Namer};
use crate::identity::{IP, Identity};
use crate::peers::server_name;
use crate::service::{Target, is_near};
use crate::spec::Spec;
use crate::spec::inbound::ServiceSpec;
use crate::spec::outbound::PeerSpec;
use crate::spec::report::{At, Report};

pub(super) fn check(spec: &Spec, report: &mut Report) {
    for service in spec.inbound.iter().flat_map(|inbound| &inbound.services) {
        undefined_in_target(service, report);
        filled_target(service, report);
        fence(service, report);
    }
    for peer in spec.outbound.iter().flat_map(|outbound| &outbound.peers) {
        undefined_in_peer(peer, report);
        filled_peer(peer, report);
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

const WRITE_OUT: &str = "loopback, link-local, multicast and unix targets must stand in `to` without captures";

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
            report.problem(reach.at, message, WRITE_OUT);
        }
    }
}

/// What comes of a text without captures is known now. One with captures is tried with a letter in
/// each: what is no identity, SNI or name even then will never be one.
fn filled_peer(peer: &PeerSpec, report: &mut Report) {
    if let Some(text) = &peer.identity {
        filled_identity(text, report);
    }
    if let Some(text) = &peer.sni
        && let Err(cause) = server_name(&sample(&text.value, "x"))
    {
        report.problem(text.at, cause.message + &tried(&text.value), cause.help);
    }
    if let Some(text) = &peer.send_as {
        sendable(text, report);
    }
}

/// An address is tried with what may be a part of one, or all of it.
fn filled_identity(text: &At<Template>, report: &mut Report) {
    let words = if text.value.as_str().starts_with(IP) { &["10.0.0.1", "1"][..] } else { &["x"] };
    let tries = words.iter().map(|word| Identity::name(&sample(&text.value, word)));
    if let Some(cause) = tries.reduce(Result::or).and_then(Result::err) {
        let tried = if text.value.is_literal() { String::new() } else { tried_with(words.last().unwrap_or(&"")) };
        report.problem(text.at, cause.message + &tried, cause.help);
    }
}

fn tried_with(word: &str) -> String {
    format!(" (tried with {word} for each capture)")
}

fn tried(template: &Template) -> String {
    if template.is_literal() { String::new() } else { tried_with("x") }
}

/// The text with the same word for each capture.
pub(super) fn sample(template: &Template, word: &str) -> String {
    let captures: Captures = template.names().map(|name| (name, word)).collect();
    template.expand(&captures).unwrap_or_default()
}

fn sendable(text: &At<Template>, report: &mut Report) {
    let template = &text.value;
    match Name::parse(&sample(template, "x")) {
        Err(cause) => report.problem(text.at, format!("`as` is \"{template}\", which is no name: {cause}"), ""),
        Ok(name) if name.is_bound() => {
            let message = format!("`as` is the bound name {template}, which no agent may be asked for");
            report.problem(text.at, message, "write a logical name, such as \"/svc/redis\"");
        }
        Ok(_) => {}
    }
}

/// A name for the inbound table must be one, and a bound name one that a namer takes. A digit is
/// both a host's label and a port.
fn filled_target(service: &ServiceSpec, report: &mut Report) {
    let Some(At { at, value: Target::Name(to) }) = &service.to else {
        return;
    };
    match Name::parse(&sample(to, "1")) {
        Err(cause) => report.problem(*at, format!("`to` is \"{to}\", which is no name: {cause}"), ""),
        Ok(name) if name.is_bound() => {
            filled_bound(*at, to, &name, report);
        }
        Ok(_) => {}
    }
}

fn filled_bound(at: usize, to: &Template, name: &Name, report: &mut Report) {
    match Bound::parse(name) {
        Err(cause) => report.problem(at, format!("`to` is \"{to}\", which leads nowhere: {cause}"), ""),
        Ok(bound) if !to.is_literal() && leads_near(&bound) => {
            report.problem(at, format!("no captured name may lead to {to}"), WRITE_OUT);
        }
        Ok(_) => {}
    }
}

fn leads_near(bound: &Bound) -> bool {
    match bound.namer() {
        Namer::Unix(_) => true,
        Namer::Inet { host: Host::Ip(ip), .. } => is_near(*ip),
        Namer::Inet { host: Host::Name(_), .. } | Namer::Dns { .. } | Namer::Srv { .. } | Namer::Fs { .. } => false,
    }
}
