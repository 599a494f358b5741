//! `[[outbound.capture]]`: each entry says which connections it names, and how; and each can be reached by some.

use crate::capture::ROOT;
use crate::net::{Net, Ports, covers};
use crate::spec::Spec;
use crate::spec::capture::CaptureSpec;
use crate::spec::report::{At, Report};

use super::captures::sample;
use adit_protocol::{Name, Template};

pub(super) fn check(spec: &Spec, report: &mut Report) {
    let Some(outbound) = &spec.outbound else {
        return;
    };
    for capture in &outbound.captures {
        matches(capture, report);
        if let Some(to) = &capture.to {
            name(to, report);
        }
    }
    shadowed(&outbound.captures, report);
    if let Some(first) = outbound.captures.first().filter(|_| outbound.redirect.is_none()) {
        let message = "no connection is captured, for there is no [outbound.redirect]";
        report.warn(first.at, message, "add one with `listen`");
    }
}

fn matches(capture: &CaptureSpec, report: &mut Report) {
    match (capture.says.host, capture.says.net) {
        (true, false) if capture.says.to => {}
        (true, false) => {
            let message = "this [[outbound.capture]] gives the connections of its `host` no name";
            report.problem(capture.at, message, "add `to = \"/svc/redis\"`");
        }
        (false, true) => {}
        (true, true) => {
            report.problem(capture.at, "this [[outbound.capture]] has both `host` and `net`", "make two entries");
        }
        (false, false) => {
            let message = "this [[outbound.capture]] does not say which connections it names";
            let help = "add `net = \"10.0.0.0/8\"`, or `host = \"redis.prod.internal\"`";
            report.problem(capture.at, message, help);
        }
    }
}

/// Its captures are the parts of a destination, and it is a name whatever those are.
fn name(to: &At<Template>, report: &mut Report) {
    let template = &to.value;
    for name in template.names().filter(|name| !["ip", "port"].contains(name)) {
        let message = format!("`to` uses {{{name}}}, which no connection has");
        report.problem(to.at, message, "{ip} and {port} are what it may use");
    }
    match Name::parse(&sample(template, "1")) {
        Err(cause) => report.problem(to.at, format!("`to` is \"{template}\", which is no name: {cause}"), ""),
        Ok(name) if name.segments().next() == Some(ROOT) && template.as_str() != "/dst/{ip}/{port}" => {
            let message =
                format!("`to` is \"{template}\", and no agent serves a name of /{ROOT} but /{ROOT}/{{ip}}/{{port}}");
            report.warn(to.at, message, "leave it out, or choose another name");
        }
        Ok(_) => {}
    }
}

/// An entry that leaves nothing to a later one of the same host or network.
fn shadowed(captures: &[CaptureSpec], report: &mut Report) {
    let is_plain = |capture: &CaptureSpec| capture.says.all_ports && capture.says.host != capture.says.net;
    for (index, later) in captures.iter().enumerate().filter(|(_, capture)| is_plain(capture)) {
        let ports = ports(later);
        let before = captures[..index].iter().filter(|earlier| is_plain(earlier));
        let earlier: Vec<_> = before.filter(|earlier| covers(&self::ports(earlier), &ports)).collect();
        let what = match (&later.host, &later.net) {
            (Some(host), None) if has_host(&earlier, &host.value) || has_all(&earlier) => (host.at, host.value.clone()),
            (None, Some(net)) if has_net(&earlier, &net.value) => (net.at, net.value.to_string()),
            _ => continue,
        };
        let message = format!("this entry for {} can never match: one before it takes its connections", what.1);
        report.problem(what.0, message, "put the narrower one first, or remove it");
    }
}

fn ports(capture: &CaptureSpec) -> Vec<Ports> {
    capture.ports.iter().map(|ports| ports.value).collect()
}

fn has_host(earlier: &[&CaptureSpec], host: &str) -> bool {
    earlier.iter().any(|capture| capture.host.as_ref().is_some_and(|earlier| earlier.value == host))
}

fn has_net(earlier: &[&CaptureSpec], net: &Net) -> bool {
    earlier.iter().any(|capture| capture.net.as_ref().is_some_and(|earlier| earlier.value.covers(net)))
}

/// Whether nothing of either family is left.
fn has_all(earlier: &[&CaptureSpec]) -> bool {
    ["0.0.0.0/0", "::/0"].iter().all(|all| Net::parse(all).is_ok_and(|all| has_net(earlier, &all)))
}
