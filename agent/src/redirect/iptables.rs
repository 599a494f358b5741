//! The rules as iptables-restore(8) reads them: chains of our own, and one jump to each, which stands first. One input for
//! a family; each table in it is one transaction.

mod saved;

pub(super) use saved::{Saved, Table};

use std::{collections::BTreeMap, fmt::Write as _};

use adit_config::Ports;

use super::{
    plan::Plan,
    rule::{Family, Hook, Rule, Test, Then},
};

/// What every chain of ours begins with.
const OURS: &str = "ADIT_";

/// What the last rule of a chain of ours says, which does nothing else: the kernel's chain that leads to it was not there
/// before.
pub(super) const MADE: &str = "adit made the chain that leads here";

/// How many ports one rule may list (xt_multiport); a range counts twice.
const MULTIPORT: usize = 15;

/// The input of `iptables-restore --noflush` that installs a plan where nothing of ours is. Empty if there is nothing to
/// install for the family.
pub fn restore(plan: &Plan, family: Family) -> String {
    write(&wanted(plan, family), &Saved::default())
}

/// The tables that a plan wants.
pub(super) fn wanted(plan: &Plan, family: Family) -> Saved {
    let mut saved = Saved::default();
    for chain in plan.chains.iter().filter(|chain| chain.is_about(family)) {
        let (table, builtin) = place(chain.hook);
        let name = format!("{OURS}{builtin}");
        let rules: Vec<_> = chain.rules.iter().filter(|rule| rule.is_about(family) && has(chain.hook, rule)).collect();
        let table = saved.tables.entry(table.to_owned()).or_default();
        table.jumps.push(format!("-A {builtin} -p tcp -m comment --comment \"adit\" -j {name}"));
        for rule in &rules {
            if let Some((helper, lines)) = helper(rule.then) {
                table.chains.entry(helper.to_owned()).or_insert(lines);
            }
        }
        let lines = rules.iter().flat_map(|rule| spell(&name, rule)).collect();
        table.chains.insert(name, lines);
    }
    saved
}

/// What takes the place of `before`: each table whole, or not at all.
pub(super) fn write(next: &Saved, before: &Saved) -> String {
    let empty = Table::default();
    let tables: BTreeMap<_, _> = next.tables.iter().chain(&before.tables).map(|(name, _)| (name, ())).collect();
    let mut text = String::new();
    for (name, ()) in tables {
        let (next, before) = (next.tables.get(name).unwrap_or(&empty), before.tables.get(name).unwrap_or(&empty));
        if next.is_empty() && before.is_empty() {
            continue;
        }
        let _ = writeln!(text, "*{name}");
        // A chain that is declared is there, and empty.
        for chain in next.chains.keys().chain(before.chains.keys().filter(|chain| !next.chains.contains_key(*chain))) {
            let _ = writeln!(text, ":{chain} - [0:0]");
        }
        for jump in &before.jumps {
            let _ = writeln!(text, "-D{}", jump.strip_prefix("-A").unwrap_or(jump));
        }
        for line in next.chains.values().flatten() {
            let _ = writeln!(text, "{line}");
        }
        for jump in &next.jumps {
            let _ = writeln!(text, "-I{}", jump.strip_prefix("-A").unwrap_or(jump));
        }
        for chain in before.chains.keys().filter(|chain| !next.chains.contains_key(*chain)) {
            let _ = writeln!(text, "-X {chain}");
        }
        text.push_str("COMMIT\n");
    }
    text
}

fn place(hook: Hook) -> (&'static str, &'static str) {
    match hook {
        Hook::MarkOutput => ("mangle", "OUTPUT"),
        Hook::TproxyPrerouting => ("mangle", "PREROUTING"),
        Hook::NatOutput => ("nat", "OUTPUT"),
        Hook::NatPrerouting => ("nat", "PREROUTING"),
        Hook::RejectOutput => ("filter", "OUTPUT"),
        Hook::RejectForward => ("filter", "FORWARD"),
        Hook::StrictInput => ("filter", "INPUT"),
        Hook::HomePostrouting => ("mangle", "POSTROUTING"),
    }
}

/// The target TPROXY itself drops a packet for which nobody listens, and REJECT is of the filter table only.
fn has(hook: Hook, rule: &Rule) -> bool {
    !(hook == Hook::TproxyPrerouting && rule.then == Then::Reset)
}

/// One target does one thing: what a rule of ours does in several steps is a chain.
fn helper(then: Then) -> Option<(&'static str, Vec<String>)> {
    let (name, steps) = match then {
        Then::Capture(marks) => {
            let marked = format!("MARK --set-xmark {:#x}/0xffffffff", marks.route);
            ("ADIT_CAPTURE", vec![connection(marks.connection), marked, "ACCEPT".to_owned()])
        }
        Then::Tproxy(marks, door) => {
            let (ip, port) = (door.ip(), door.port());
            let given = format!("TPROXY --on-port {port} --on-ip {ip} --tproxy-mark {:#x}/0xffffffff", marks.route);
            ("ADIT_TPROXY", vec![connection(marks.connection), format!("-p tcp {given}")])
        }
        Then::MarkConnection(mark) => ("ADIT_ASKS", vec![connection(mark), "ACCEPT".to_owned()]),
        Then::RouteHome(mark) => {
            ("ADIT_ANSWERS", vec![format!("MARK --set-xmark {mark:#x}/0xffffffff"), "ACCEPT".to_owned()])
        }
        Then::Leave | Then::Redirect(_) | Then::Dnat(_) | Then::Reset | Then::Drop => return None,
    };
    let step = |step: &String| match step.strip_prefix("-p tcp ") {
        Some(target) => format!("-A {name} -p tcp -j {target}"),
        None => format!("-A {name} -j {step}"),
    };
    Some((name, steps.iter().map(step).collect()))
}

fn connection(mark: u32) -> String {
    format!("CONNMARK --set-xmark {mark:#x}/0xffffffff")
}

fn target(then: Then) -> String {
    match (then, helper(then)) {
        (_, Some((chain, _))) => chain.to_owned(),
        (Then::Redirect(port), None) => format!("REDIRECT --to-ports {port}"),
        (Then::Dnat(door), None) => format!("DNAT --to-destination {door}"),
        (Then::Reset, None) => "REJECT --reject-with tcp-reset".to_owned(),
        (Then::Drop, None) => "DROP".to_owned(),
        (_, None) => "RETURN".to_owned(),
    }
}

/// A rule for each combination of what its lists hold.
fn spell(chain: &str, rule: &Rule) -> Vec<String> {
    let mut heads = vec![format!("-A {chain} -p tcp")];
    for test in &rule.tests {
        let words = words(test);
        heads = heads.iter().flat_map(|head| words.iter().map(move |word| format!("{head} {word}"))).collect();
    }
    let tail = format!("-m comment --comment \"{}\" -j {}", rule.comment, target(rule.then));
    heads.into_iter().map(|head| format!("{head} {tail}")).collect()
}

/// What a test is in iptables; for a list, one for each rule.
fn words(test: &Test) -> Vec<String> {
    match test {
        Test::Mark(mark) => vec![format!("-m mark --mark {mark:#x}")],
        Test::CtMark(mark) => vec![format!("-m connmark --mark {mark:#x}")],
        Test::Net(nets) => nets.iter().map(|net| format!("-d {net}")).collect(),
        Test::Port(ports) => multiport("dport", ports),
        Test::FromPort(ports) => multiport("sport", ports),
        Test::User(users) => users.iter().map(|user| format!("-m owner --uid-owner {user}")).collect(),
        Test::Group(groups) => groups.iter().map(|group| format!("-m owner --gid-owner {group}")).collect(),
        // Within quotes it takes the character that follows a backslash for itself.
        Test::Cgroup(path) => vec![format!("-m cgroup --path \"{}\"", path.replace('\\', "\\\\"))],
        Test::Interface(names) => names.iter().map(|name| format!("-i {name}")).collect(),
        Test::ToThisHost => vec!["-m addrtype --dst-type LOCAL".to_owned()],
        Test::FromElsewhere => vec!["-m addrtype ! --src-type LOCAL".to_owned()],
        Test::Leaving => vec!["! -o lo".to_owned()],
        Test::Decided => vec!["-m conntrack --ctstate ESTABLISHED,RELATED -m tcp ! --syn".to_owned()],
        Test::Rewritten => vec!["-m conntrack --ctstate DNAT".to_owned()],
        Test::Lost => vec!["-m conntrack --ctstate NEW -m tcp ! --syn".to_owned()],
        Test::Unknown => vec!["-m conntrack --ctstate INVALID,UNTRACKED".to_owned()],
        Test::Original => vec!["-m conntrack --ctdir ORIGINAL".to_owned()],
        Test::Reply => vec!["-m conntrack --ctdir REPLY".to_owned()],
    }
}

/// As many to a rule as fit; `end` is the port's: `sport` or `dport`.
fn multiport(end: &str, ports: &[Ports]) -> Vec<String> {
    let words = ports.iter().map(|ports| {
        let Ports { first, last } = *ports;
        if first == last { (first.to_string(), 1) } else { (format!("{first}:{last}"), 2) }
    });
    let mut rules: Vec<(Vec<String>, usize)> = Vec::new();
    for (word, size) in words {
        match rules.last_mut() {
            Some((words, full)) if *full + size <= MULTIPORT => {
                words.push(word);
                *full += size;
            }
            _ => rules.push((vec![word], size)),
        }
    }
    let spell = |words: &Vec<String>| match words.as_slice() {
        [one] => format!("-m tcp --{end} {one}"),
        _ => format!("-m multiport --{end}s {}", words.join(",")),
    };
    rules.iter().map(|(words, _)| spell(words)).collect()
}
