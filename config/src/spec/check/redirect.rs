//! `[outbound.redirect]` and `[netfilter]`: whether the rules bring to the door what they are meant to, and the door can be
//! come to. What a rule misses leaves this host in plaintext.

use std::net::IpAddr;

use crate::listen::TcpListen;
use crate::net::{Net, covers};
use crate::redirect::{Origin, RedirectMode, Unmatched};
use crate::spec::Spec;
use crate::spec::keys;
use crate::spec::redirect::{NetfilterSpec, RedirectSpec, SelectorSpec};
use crate::spec::report::{At, Report};

pub(super) fn check(spec: &Spec, report: &mut Report) {
    marks(&spec.netfilter, report);
    let Some(redirect) = spec.outbound.iter().find_map(|outbound| outbound.redirect.as_ref()) else {
        return;
    };
    for selector in redirect.include.iter().chain(&redirect.exclude) {
        condition(selector, report);
        origin(selector, report);
    }
    idle(redirect, report);
    nothing(redirect, report);
    plaintext(redirect, report);
    own(&spec.netfilter, redirect, report);
    for include in &redirect.include {
        families(redirect, include, report);
    }
    forwarded(redirect, report);
    any_port(redirect, report);
}

fn marks(spec: &NetfilterSpec, report: &mut Report) {
    let places = [spec.route_mark.as_ref().map(|mark| mark.at), spec.mark.as_ref().map(|mark| mark.at)];
    let same = spec.netfilter.mark == Some(spec.netfilter.route_mark);
    if let Some(at) = places.into_iter().flatten().next().filter(|_| same) {
        let message = "`mark` and `route_mark` are the same, so what the agent sends would come back to this host";
        report.problem(at, message, "make them different");
    }
}

/// An entry of no condition was meant to have one: nobody captures all there is.
fn condition(selector: &SelectorSpec, report: &mut Report) {
    if selector.is_whole && has_none(selector) {
        let then = if selector.name == keys::INCLUDE { "every connection" } else { "none" };
        let message = format!("this {} has no condition, so {then} would be captured", selector.name);
        report.problem(selector.at, message, "add one, such as `net = [\"10.0.0.0/8\"]`");
    }
}

fn has_none(selector: &SelectorSpec) -> bool {
    let SelectorSpec { nets, ports, users, groups, cgroups, interfaces, .. } = selector;
    let texts = [users, groups, cgroups, interfaces];
    nets.is_empty() && ports.is_empty() && texts.iter().all(|list| list.is_empty())
}

fn origin(selector: &SelectorSpec, report: &mut Report) {
    let (idle, why, other) = match selector.from {
        Origin::Forwarded => (
            vec![("user", &selector.users), ("group", &selector.groups), ("cgroup", &selector.cgroups)],
            "forwarded connections, which are of no process of this host",
            Origin::Local,
        ),
        Origin::Local => {
            (vec![("interface", &selector.interfaces)], "local connections, which come in by none", Origin::Forwarded)
        }
    };
    for (key, first) in idle.into_iter().filter_map(|(key, list)| Some((key, list.first()?))) {
        let help = format!("leave it out, or write `from = \"{}\"`", other.as_str());
        report.problem(first.at, format!("`{key}` has no meaning for {why}"), help);
    }
}

/// What an exclude takes away whole would leave in plaintext, though an include names it.
fn idle(redirect: &RedirectSpec, report: &mut Report) {
    for include in redirect.include.iter().filter(|include| include.is_whole) {
        let takes = |exclude: &SelectorSpec| exclude.is_whole && !has_none(exclude) && takes_all(exclude, include);
        let Some(index) = redirect.exclude.iter().position(takes) else { continue };
        let message = format!("this {} can never match: exclude {} takes all its connections", include.name, index + 1);
        report.problem(include.at, message, "make the exclude narrower, or remove one of them");
    }
}

/// Whether no connection gets past the exclude that the include is about, as far as the file tells.
fn takes_all(exclude: &SelectorSpec, include: &SelectorSpec) -> bool {
    let nets = |net: &At<Net>| exclude.nets.iter().any(|wide| wide.value.covers(&net.value));
    let nets = exclude.nets.is_empty() || (!include.nets.is_empty() && include.nets.iter().all(nets));
    let ports = |selector: &SelectorSpec| selector.ports.iter().map(|ports| ports.value).collect::<Vec<_>>();
    let texts = |wide: &[At<String>], narrow: &[At<String>]| {
        let is_in = |one: &At<String>| wide.iter().any(|other| other.value == one.value);
        wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(is_in))
    };
    exclude.from == include.from
        && nets
        && covers(&ports(exclude), &ports(include))
        && texts(&exclude.users, &include.users)
        && texts(&exclude.groups, &include.groups)
        && texts(&exclude.cgroups, &include.cgroups)
        && texts(&exclude.interfaces, &include.interfaces)
}

fn nothing(redirect: &RedirectSpec, report: &mut Report) {
    if redirect.include.is_empty() {
        let message =
            "no [[outbound.redirect.include]] says which connections come to this door, so rules of others must";
        report.warn(redirect.at, message, "add one, and `adit redirect` makes the rules");
    }
}

fn plaintext(redirect: &RedirectSpec, report: &mut Report) {
    if let Some(At { at, value: Unmatched::Pass }) = redirect.unmatched {
        let message = "`unmatched = \"pass\"` lets captured connections that no rule knows go on in plaintext";
        report.warn(at, message, "leave it out to have them refused");
    }
}

/// What the agent sends must be told from what it captures, or it comes back to its own door.
fn own(spec: &NetfilterSpec, redirect: &RedirectSpec, report: &mut Report) {
    let Some(At { at, value: None }) = spec.mark else { return };
    let is_local = redirect.include.iter().any(|include| include.from == Origin::Local);
    if is_local && spec.netfilter.user.is_none() {
        let message = "`mark` is \"off\" and there is no `user`, so the agent would capture its own connections";
        report.problem(at, message, "leave it out, or add `user` with the user that the agent runs as");
    }
}

/// A connection is only brought to a door of its own family of addresses. The rules refuse what has none.
fn families(redirect: &RedirectSpec, include: &SelectorSpec, report: &mut Report) {
    for (is_v4, family, door) in [(true, "IPv4", "127.0.0.1:4140"), (false, "IPv6", "[::1]:4140")] {
        let has_door = redirect.listen.iter().any(|listen| is_or_may_be(listen, |ip| is_v4_addr(ip) == is_v4));
        let net = include.nets.iter().find(|net| net.value.address().is_ipv4() == is_v4);
        if has_door || redirect.listen.is_empty() || (net.is_none() && !include.nets.is_empty()) {
            continue;
        }
        let at = net.map_or(include.at, |net| net.at);
        let what =
            net.map_or_else(|| format!("such connections over {family}"), |net| format!("those to {}", net.value));
        let message = format!("no listener of [outbound.redirect] takes {family}, so {what} will be refused");
        report.warn(at, message, format!("add \"{door}\" to `listen`"));
    }
}

fn is_v4_addr(ip: IpAddr) -> bool {
    ip.to_canonical().is_ipv4()
}

/// REDIRECT rewrites the destination of what comes in to the address of the interface that it came in by.
fn forwarded(redirect: &RedirectSpec, report: &mut Report) {
    let is_far = |listen: &At<TcpListen>| is_or_may_be(listen, |ip| !ip.to_canonical().is_loopback());
    if redirect.mode == RedirectMode::Tproxy || redirect.listen.iter().any(is_far) || redirect.listen.is_empty() {
        return;
    }
    for include in redirect.include.iter().filter(|include| include.from == Origin::Forwarded) {
        let message =
            "no listener of [outbound.redirect] is where forwarded connections come, so these will be refused";
        let help = "listen on every address with `expose = true`, or write `mode = \"tproxy\"`";
        report.warn(include.at, message, help);
    }
}

/// Whether a door's address is such a one, as far as the file knows.
fn is_or_may_be(listen: &At<TcpListen>, such: impl Fn(IpAddr) -> bool) -> bool {
    listen.value.address().is_none_or(|address| such(address.ip()))
}

/// A rule names the port it brings connections to.
fn any_port(redirect: &RedirectSpec, report: &mut Report) {
    for At { at, value } in redirect.listen.iter().filter(|_| !redirect.include.is_empty()) {
        let (message, help) = match value {
            TcpListen::At(address) if address.port() != 0 => continue,
            TcpListen::At(_) => {
                ("`adit redirect` cannot make rules for port 0, which is another one each time", "write the port")
            }
            TcpListen::Given(_) => (
                "`adit redirect` cannot make rules for a socket whose address the file does not have",
                "write the address: the socket that systemd gives is found by it as well",
            ),
        };
        report.problem(*at, message, help);
    }
}
