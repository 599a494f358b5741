//! The rules as nft(8) reads them: one table of our own, taken away and made anew in one transaction, so that at no moment
//! there are half of them.

use std::fmt::{self, Write as _};

use adit_config::Net;

use super::{
    plan::Plan,
    rule::{Chain, Family, Hook, Rule, Test, Then},
};

/// What ours is called.
pub const TABLE: &str = "inet adit";

/// What tells a first packet, which has SYN alone.
const FLAGS: &str = "tcp flags & (fin | syn | rst | ack)";

/// What removes the table, whether it is there or not.
pub(super) const REMOVE: &str = "add table inet adit\ndelete table inet adit\n";

/// The script that puts a plan in the place of what is there of ours.
pub fn script(plan: &Plan) -> String {
    let mut text = REMOVE.to_owned();
    if plan.chains.is_empty() {
        return text;
    }
    let _ = writeln!(text, "table {TABLE} {{");
    for (index, chain) in plan.chains.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        write_chain(&mut text, chain);
    }
    text + "}\n"
}

/// Whether a table, as nft lists it, has rules in each place where the plan has some.
pub(super) fn has_rules_of(table: &str, plan: &Plan) -> bool {
    plan.chains.iter().all(|chain| {
        let head = format!("\tchain {} {{", place(chain.hook).0);
        let within = table.lines().skip_while(|line| *line != head).skip(1).take_while(|line| *line != "\t}");
        within.map(str::trim).any(|line| !line.is_empty() && !line.starts_with("type "))
    })
}

fn write_chain(text: &mut String, chain: &Chain) {
    let (name, kind) = place(chain.hook);
    let _ = writeln!(text, "\tchain {name} {{\n\t\ttype {kind}; policy accept;");
    for rule in &chain.rules {
        let _ = writeln!(text, "\t\t{}", Line(rule));
    }
    text.push_str("\t}\n");
}

/// The chain's name, and where it is hooked in. Marks are set after other rules set theirs (-150), for the last one counts;
/// destinations are changed before others change them (-100), who may not do so again; what is refused is refused first.
fn place(hook: Hook) -> (&'static str, &'static str) {
    match hook {
        Hook::MarkOutput => ("output_mark", "route hook output priority -140"),
        Hook::TproxyPrerouting => ("prerouting_tproxy", "filter hook prerouting priority -140"),
        Hook::NatOutput => ("output_redirect", "nat hook output priority -110"),
        Hook::NatPrerouting => ("prerouting_redirect", "nat hook prerouting priority -110"),
        Hook::RejectOutput => ("output_reject", "filter hook output priority -10"),
        Hook::RejectForward => ("forward_reject", "filter hook forward priority -10"),
        Hook::StrictInput => ("input_strict", "filter hook input priority -10"),
        Hook::HomePostrouting => ("postrouting_home", "filter hook postrouting priority -10"),
    }
}

struct Line<'a>(&'a Rule);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { family, tests, then, comment } = self.0;
        let mut words = Vec::new();
        if !tests.iter().any(|test| matches!(test, Test::Net(_))) {
            words.extend(family.map(|family| match family {
                Family::V4 => "meta nfproto ipv4".to_owned(),
                Family::V6 => "meta nfproto ipv6".to_owned(),
            }));
        }
        // Where a port is asked for, that it is TCP is asked for with it.
        if needs_tcp(*then) && !tests.iter().any(|test| matches!(test, Test::Port(_) | Test::FromPort(_))) {
            words.push("meta l4proto tcp".to_owned());
        }
        words.extend(tests.iter().map(test));
        words.push("counter".to_owned());
        words.push(statement(*then));
        write!(f, "{} comment \"{comment}\"", words.join(" "))
    }
}

fn needs_tcp(then: Then) -> bool {
    match then {
        Then::Redirect(_) | Then::Dnat(_) | Then::Capture(_) | Then::Tproxy(..) | Then::Reset | Then::Drop => true,
        Then::Leave | Then::MarkConnection(_) | Then::RouteHome(_) => false,
    }
}

fn test(test: &Test) -> String {
    match test {
        Test::Mark(mark) => format!("meta mark {mark:#x}"),
        Test::CtMark(mark) => format!("ct mark {mark:#x}"),
        Test::Net(nets) => format!("{} daddr {}", ip(nets), set(nets.iter().map(net))),
        Test::Port(ports) => format!("tcp dport {}", set(ports.iter().map(ToString::to_string))),
        Test::FromPort(ports) => format!("tcp sport {}", set(ports.iter().map(ToString::to_string))),
        Test::User(users) => format!("meta skuid {}", set(users.iter().map(ToString::to_string))),
        Test::Group(groups) => format!("meta skgid {}", set(groups.iter().map(ToString::to_string))),
        Test::Cgroup(path) => format!("socket cgroupv2 level {} \"{path}\"", path.split('/').count()),
        Test::Interface(names) => format!("iifname {}", set(names.iter().map(|name| format!("\"{name}\"")))),
        Test::ToThisHost => "fib daddr type local".to_owned(),
        Test::FromElsewhere => "fib saddr type != local".to_owned(),
        Test::Leaving => "oifname != \"lo\"".to_owned(),
        Test::Decided => format!("ct state {{ established, related }} {FLAGS} != syn"),
        Test::Rewritten => "ct status dnat".to_owned(),
        Test::Lost => format!("ct state new {FLAGS} != syn"),
        Test::Unknown => "ct state { invalid, untracked }".to_owned(),
        Test::Original => "ct direction original".to_owned(),
        Test::Reply => "ct direction reply".to_owned(),
    }
}

fn ip(nets: &[Net]) -> &'static str {
    if nets.first().is_some_and(|net| net.address().is_ipv6()) { "ip6" } else { "ip" }
}

fn net(net: &Net) -> String {
    let whole = if net.address().is_ipv4() { 32 } else { 128 };
    if net.prefix() == whole { net.address().to_string() } else { net.to_string() }
}

/// One word, or several in braces.
fn set(words: impl Iterator<Item = String>) -> String {
    let words: Vec<_> = words.collect();
    match words.as_slice() {
        [one] => one.clone(),
        _ => format!("{{ {} }}", words.join(", ")),
    }
}

fn statement(then: Then) -> String {
    match then {
        Then::Leave => "return".to_owned(),
        Then::Redirect(port) => format!("redirect to :{port}"),
        Then::Dnat(door) => format!("dnat {} to {door}", if door.is_ipv4() { "ip" } else { "ip6" }),
        Then::Capture(marks) => {
            format!("ct mark set {:#x} meta mark set {:#x} accept", marks.connection, marks.route)
        }
        // Marked first: where nobody listens, the rule ends at its last word but one.
        Then::Tproxy(marks, door) => format!(
            "ct mark set {:#x} meta mark set {:#x} tproxy {} to {door} accept",
            marks.connection,
            marks.route,
            if door.is_ipv4() { "ip" } else { "ip6" }
        ),
        Then::MarkConnection(mark) => format!("ct mark set {mark:#x} return"),
        Then::RouteHome(mark) => format!("meta mark set {mark:#x} return"),
        Then::Reset => "reject with tcp reset".to_owned(),
        Then::Drop => "drop".to_owned(),
    }
}
