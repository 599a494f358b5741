//! What changes of captured connections: the door's settings, the rules that bring connections there, their names, whose
//! they are, and who may take them on. What the kernel was told when a socket was made cannot change under it.

use super::{Lines, redirect};
use crate::capture::{CaptureMatch, CaptureRule};
use crate::config::{Config, Outbound};
use crate::print::{mark, ports, wait};
use crate::service::CaptureService;
use crate::workload::WorkloadRule;

pub(super) fn lines(old: &Config, next: &Config, lines: &mut Lines) {
    let served = |service: &CaptureService| format!("ports {}", ports(&service.ports));
    lines.entries("[[inbound.capture]]", served_by(old), served_by(next), served);
    if let (Some(old), Some(next)) = (redirect(old), redirect(next)) {
        lines.key("[outbound.redirect] unmatched", old.unmatched.as_str(), next.unmatched.as_str());
        lines.key("[outbound.redirect] remember", wait(old.remember), wait(next.remember));
        let id = |id: &Option<String>| id.clone().unwrap_or_else(|| "none".to_owned());
        lines.key("[outbound.redirect] certificate", id(&old.certificate), id(&next.certificate));
        lines.section("[[outbound.redirect.include]]", &old.include, &next.include);
        lines.section("[[outbound.redirect.exclude]]", &old.exclude, &next.exclude);
    }
    lines.entries("[[outbound.capture]]", captures(old), captures(next), about);
    lines.entries("[[outbound.workload]]", workloads(old), workloads(next), whose);
}

/// Takes over what every socket was made with, or what the rules that hold it to were made with.
pub(super) fn settle(old: &Config, new: &mut Config, waits: &mut Vec<String>) {
    let (was, is) = (&old.netfilter, &new.netfilter);
    let user = |user: &Option<String>| user.clone().unwrap_or_else(|| "none".to_owned());
    let rows = [
        ("mark", mark(was.mark), mark(is.mark)),
        ("route_mark", mark(Some(was.route_mark)), mark(Some(is.route_mark))),
        ("route_table", was.route_table.to_string(), is.route_table.to_string()),
        ("user", user(&was.user), user(&is.user)),
    ];
    for (key, was, is) in rows.into_iter().filter(|(_, was, is)| was != is) {
        waits.push(format!("[netfilter] {key}: {was} -> {is}"));
    }
    new.netfilter.clone_from(&old.netfilter);
    let door = new.outbound.as_mut().and_then(|outbound| outbound.redirect.as_mut());
    if let Some((was, is)) = redirect(old).zip(door)
        && was.mode != is.mode
    {
        waits.push(format!("[outbound.redirect] mode: {} -> {}", was.mode.as_str(), is.mode.as_str()));
        is.mode = was.mode;
    }
}

fn served_by(config: &Config) -> &[CaptureService] {
    config.inbound.as_ref().map_or(&[], |inbound| &inbound.policy.captures)
}

fn captures(config: &Config) -> &[CaptureRule] {
    rules(config, |outbound| &outbound.captures.rules)
}

fn workloads(config: &Config) -> &[WorkloadRule] {
    rules(config, |outbound| &outbound.workloads.rules)
}

fn rules<T>(config: &Config, of: impl Fn(&Outbound) -> &Vec<T>) -> &[T] {
    config.outbound.as_ref().map_or(&[], |outbound| of(outbound))
}

fn about(rule: &CaptureRule) -> String {
    let what = match &rule.matches {
        CaptureMatch::Host(host) => format!("host {host}"),
        CaptureMatch::Net(net) => format!("net {net}"),
    };
    if rule.ports.is_empty() { what } else { format!("{what} port {}", ports(&rule.ports)) }
}

fn whose(rule: &WorkloadRule) -> String {
    match rule.names.iter().map(ToString::to_string).collect::<Vec<_>>() {
        names if names.is_empty() => rule.who.to_string(),
        names => format!("{} to {}", rule.who, names.join(", ")),
    }
}
