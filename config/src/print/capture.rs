//! What the file says of captured connections, printed: the door, the rules that bring connections there, their names,
//! whose they are, and what netfilter's rules and the agent must agree on.

use std::fmt::Display;

use super::{Page, list, quote, wait};
use crate::capture::{CaptureMatch, CaptureRule};
use crate::config::Strict;
use crate::net::Ports;
use crate::redirect::{Netfilter, Redirect, Selector};
use crate::workload::{Then, Who, WorkloadRule};

pub(super) fn redirect(redirect: Option<&Redirect>, page: &mut Page) {
    let Some(redirect) = redirect else {
        return page.no_section("[outbound.redirect]", "this agent takes no captured connections");
    };
    page.section("[outbound.redirect]");
    page.key("listen", list(redirect.listen.iter().map(quote)));
    page.noted("mode", quote(redirect.mode.as_str()), "redirect or tproxy");
    page.noted("unmatched", quote(redirect.unmatched.as_str()), "refuse, or pass: in plaintext");
    page.noted("remember", wait(redirect.remember), "how long an address that a host name had still counts as its own");
    page.maybe("certificate", redirect.certificate.as_deref(), "web", "the first certificate of [tls]");
    page.key("expose", redirect.expose);
    redirect.include.iter().for_each(|one| selector("[[outbound.redirect.include]]", one, page));
    redirect.exclude.iter().for_each(|one| selector("[[outbound.redirect.exclude]]", one, page));
}

fn selector(header: &str, selector: &Selector, page: &mut Page) {
    page.section(header);
    page.key("from", quote(selector.from.as_str()));
    let nets = list(selector.nets.iter().map(quote));
    let [users, groups, cgroups, interfaces] =
        [&selector.users, &selector.groups, &selector.cgroups, &selector.interfaces].map(|list| texts(list));
    let lists = [
        ("net", nets),
        ("port", ports(&selector.ports)),
        ("user", users),
        ("group", groups),
        ("cgroup", cgroups),
        ("interface", interfaces),
    ];
    // An empty one is refused, for it would mean the contrary of what it says.
    lists.into_iter().filter(|(_, list)| list != "[]").for_each(|(key, list)| page.key(key, list));
}

fn texts(texts: &[String]) -> String {
    list(texts.iter().map(quote))
}

/// One port as a number, several as text.
pub(crate) fn ports(ports: &[Ports]) -> String {
    list(ports.iter().map(|ports| if ports.first == ports.last { ports.to_string() } else { quote(ports) }))
}

pub(crate) fn strict(strict: &Strict) -> String {
    match strict {
        Strict::Off => "false".to_owned(),
        Strict::Services => "true".to_owned(),
        Strict::Ports(list) => ports(list),
    }
}

pub(super) fn capture(rule: &CaptureRule, page: &mut Page) {
    page.section("[[outbound.capture]]");
    match &rule.matches {
        CaptureMatch::Host(host) => page.key("host", quote(host)),
        CaptureMatch::Net(net) => page.key("net", quote(net)),
    }
    if rule.ports.is_empty() {
        page.unset("port", "[6379]", "every port");
    } else {
        page.key("port", ports(&rule.ports));
    }
    page.key("to", quote(&rule.to));
    page.maybe("certificate", rule.certificate.as_deref(), "web", "as [outbound.redirect] says");
}

pub(super) fn workload(rule: &WorkloadRule, page: &mut Page) {
    page.section("[[outbound.workload]]");
    match &rule.who {
        Who::Unknown => page.key("unknown", true),
        Who::Process { unit, user, cgroup } => {
            condition("unit", unit.as_ref(), "web.service", page);
            condition("user", user.as_ref(), "www-data", page);
            condition("cgroup", cgroup.as_ref(), "/system.slice/*", page);
        }
    }
    if rule.names.is_empty() {
        page.unset("name", list(std::iter::once(quote("/svc/{any}"))), "every name");
    } else {
        page.key("name", list(rule.names.iter().map(quote)));
    }
    match &rule.then {
        Then::Certificate(id) => page.key("certificate", quote(id)),
        Then::Deny => page.key("deny", true),
        Then::Allow => page.key("allow", true),
    }
}

fn condition(key: &str, value: Option<&impl Display>, example: &str, page: &mut Page) {
    page.maybe(key, value.map(ToString::to_string).as_deref(), example, "any");
}

pub(super) fn netfilter(netfilter: &Netfilter, page: &mut Page) {
    page.section("[netfilter]");
    page.noted("mark", mark(netfilter.mark), "of every socket of the agent's own, none of which is captured");
    page.noted("route_mark", mark(Some(netfilter.route_mark)), "of packets to deliver to this host itself");
    page.noted("route_table", netfilter.route_table, "the routing table that delivers them");
    page.maybe("user", netfilter.user.as_deref(), "adit", "the mark alone tells the agent's own connections");
}

/// `[netfilter] mark`, as the file writes it.
pub(crate) fn mark(mark: Option<u32>) -> String {
    mark.map_or_else(|| quote("off"), |mark| format!("{mark:#x}"))
}
