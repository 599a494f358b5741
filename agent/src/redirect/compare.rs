//! Whether what is installed is what the file asks for. The tools print rules in words of their own, so the same tool is
//! asked what it makes of the plan in a network namespace that is made for it and gone afterwards; the two are compared,
//! counters and handles left out.

use super::{
    RulesError,
    command::Iptables,
    groups::Groups,
    installed::{Installed, Tool, is_here},
    iptables::{self, Saved},
    nft,
    plan::Plan,
    rule::Family,
    tool::{ToolError, run, run_apart},
    ways::Way,
};

/// What there is, beside what there should be.
#[derive(Debug, Default)]
pub struct Report {
    /// One for each tool that ours is installed with.
    pub sets: Vec<Set>,
    /// What differs from the configuration, a line each; none if it is as wanted.
    pub differences: Vec<String>,
    /// The `ip` rules and routes that are there.
    pub ways: Vec<Way>,
}

/// The rules that one tool shows.
#[derive(Debug)]
pub struct Set {
    /// What they are: `nft table inet adit`.
    pub name: String,
    /// How many.
    pub rules: usize,
    /// What was counted, by the rules' comments, in order.
    pub counters: Vec<Counter>,
}

/// What rules of one comment have counted. In a place where only first packets come, these are connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counter {
    /// The rules' comment: `include 1`.
    pub comment: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A rule, and where it stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Placed {
    place: String,
    rule: String,
}

/// Looks at what is installed; `tool` is looked at beside those that are usual.
///
/// # Errors
/// A tool that does not answer, or cannot read the plan.
pub(super) fn look(plan: &Plan, tool: &Tool) -> Result<Report, RulesError> {
    let installed = Installed::find(tool)?;
    let mut report = Report { sets: sets(&installed)?, ways: installed.ways.clone(), ..Report::default() };
    match Groups::of(plan).fault() {
        // No tool can say what it would make of it.
        Some(fault) => report.differences.push(fault),
        None => report.differences = of_rules(&installed, plan)?,
    }
    match report.sets.as_slice() {
        [] if !plan.chains.is_empty() => report.differences.push("no rules are installed".to_owned()),
        [_, _, ..] => report.differences.push("two tools have rules of adit's; apply keeps one".to_owned()),
        _ => {}
    }
    let here = &installed.ways;
    let wanted: Vec<_> = plan.ways.iter().filter(|way| is_here(way.family())).collect();
    let missing = wanted.iter().filter(|way| !here.contains(way)).map(|way| format!("missing: {way}"));
    let extra = here.iter().filter(|way| !wanted.contains(way)).map(|way| format!("not wanted: {way}"));
    report.differences.extend(missing.chain(extra));
    Ok(report)
}

impl Report {
    /// Whether what is installed is what the file asks for.
    pub fn matches(&self) -> bool {
        self.differences.is_empty()
    }
}

/// The commands of iptables that have something of ours.
fn commands(installed: &Installed) -> Vec<&Iptables> {
    let mut commands: Vec<&Iptables> = Vec::new();
    for (command, _, saved) in &installed.iptables {
        if !saved.is_empty() && !commands.contains(&command) {
            commands.push(command);
        }
    }
    commands
}

/// What there is, and what it has counted.
fn sets(installed: &Installed) -> Result<Vec<Set>, ToolError> {
    let mut sets = Vec::new();
    if let Some(table) = &installed.nft {
        let rules = of_nft(table).iter().filter(|placed| !placed.rule.starts_with("type ")).count();
        sets.push(Set { name: format!("nft table {}", nft::TABLE), rules, counters: counters_of_nft(table) });
    }
    for command in commands(installed) {
        let mut set = Set { name: format!("chains of {}", command.name()), rules: 0, counters: Vec::new() };
        for (_, family, here) in of_command(installed, command) {
            set.rules += of_iptables(*family, here).len();
            let counted = run(&command.program(*family, "-save"), &["-c"], "")?;
            add(&mut set.counters, counters_of_iptables(&counted));
        }
        sets.push(set);
    }
    Ok(sets)
}

/// What differs between the rules that are there and those of the plan.
fn of_rules(installed: &Installed, plan: &Plan) -> Result<Vec<String>, ToolError> {
    let mut found = Vec::new();
    if installed.nft.is_some() {
        let wanted = if plan.chains.is_empty() { String::new() } else { rendered(&nft::script(plan))? };
        let here = run("nft", &["-s", "list", "table", "inet", "adit"], "")?;
        found.extend(differences(&of_nft(&wanted), &of_nft(&here)));
    }
    for command in commands(installed) {
        for (_, family, here) in of_command(installed, command) {
            let wanted = rendered_chains(command, *family, &iptables::restore(plan, *family))?;
            found.extend(differences(&of_iptables(*family, &wanted), &of_iptables(*family, here)));
            for rule in here.tables.values().flat_map(iptables::Table::overtaken) {
                found.push(format!("stands before the jump to adit's chain ({}): {rule}", family.as_str()));
            }
        }
    }
    Ok(found)
}

fn of_command<'a>(
    installed: &'a Installed,
    command: &'a Iptables,
) -> impl Iterator<Item = &'a (Iptables, Family, Saved)> {
    installed.iptables.iter().filter(move |(other, ..)| other == command)
}

/// What nft makes of a script.
fn rendered(script: &str) -> Result<String, ToolError> {
    run_apart(&["sh", "-c", "nft -f - && nft -s list table inet adit"], script)
}

/// What a command of iptables makes of an input.
fn rendered_chains(command: &Iptables, family: Family, input: &str) -> Result<Saved, ToolError> {
    if input.is_empty() {
        return Ok(Saved::default());
    }
    let (restore, save) = (command.program(family, "-restore"), command.program(family, "-save"));
    let words = ["sh", "-c", "\"$0\" --noflush && \"$1\"", restore.as_str(), save.as_str()];
    run_apart(&words, input).map(|text| Saved::parse(&text))
}

fn of_nft(table: &str) -> Vec<Placed> {
    let mut chain = String::new();
    let mut placed = Vec::new();
    for line in table.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("chain ") {
            chain = name.trim_end_matches(['{', ' ']).to_owned();
        } else if !chain.is_empty() && !line.is_empty() && line != "}" {
            placed.push(Placed { place: format!("chain {chain}"), rule: line.to_owned() });
        }
    }
    placed
}

fn of_iptables(family: Family, saved: &Saved) -> Vec<Placed> {
    let saved = saved.rules_only();
    let tables = saved.tables.iter().flat_map(|(name, table)| {
        let lines = table.chains.values().flatten().chain(&table.jumps);
        lines.map(move |line| (name.clone(), line.clone()))
    });
    tables.map(|(name, rule)| Placed { place: format!("{} table {name}", family.as_str()), rule }).collect()
}

/// What is missing, what is too much, and otherwise whether the order is another.
fn differences(wanted: &[Placed], here: &[Placed]) -> Vec<String> {
    let without = |all: &[Placed], others: &[Placed]| {
        let mut others = others.to_vec();
        let mut rest = Vec::new();
        for placed in all {
            match others.iter().position(|other| other == placed) {
                Some(at) => _ = others.swap_remove(at),
                None => rest.push(placed.clone()),
            }
        }
        rest
    };
    let line = |what: &str, Placed { place, rule }: &Placed| format!("{what} in {place}: {rule}");
    let mut lines: Vec<_> = without(wanted, here).iter().map(|placed| line("missing", placed)).collect();
    lines.extend(without(here, wanted).iter().map(|placed| line("not wanted", placed)));
    if lines.is_empty() {
        let other = wanted.iter().zip(here).find(|(wanted, here)| wanted != here);
        lines.extend(other.map(|(_, here)| line("in another order", here)));
    }
    lines
}

/// `… counter packets 3 bytes 180 … comment "include 1"`.
fn counters_of_nft(table: &str) -> Vec<Counter> {
    let mut counters = Vec::new();
    for line in table.lines() {
        let number = |word: &str| line.split(word).nth(1)?.split(' ').next()?.parse().ok();
        let comment = line.split("comment \"").nth(1).and_then(|rest| rest.split('"').next());
        if let (Some(packets), Some(bytes), Some(comment)) = (number("packets "), number(" bytes "), comment) {
            add(&mut counters, vec![Counter { comment: comment.to_owned(), packets, bytes }]);
        }
    }
    counters
}

/// `[3:180] -A ADIT_OUTPUT … --comment "include 1" …`.
fn counters_of_iptables(saved: &str) -> Vec<Counter> {
    let mut counters = Vec::new();
    for line in saved.lines().filter(|line| line.contains("] -A ADIT_")) {
        let counted = line.trim_start_matches('[').split(']').next().and_then(|pair| pair.split_once(':'));
        let comment = line.split("--comment ").nth(1).and_then(|rest| match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next(),
            None => rest.split(' ').next(),
        });
        let parsed = counted.and_then(|(packets, bytes)| Some((packets.parse().ok()?, bytes.parse().ok()?)));
        if let (Some((packets, bytes)), Some(comment)) = (parsed, comment.filter(|comment| *comment != iptables::MADE))
        {
            add(&mut counters, vec![Counter { comment: comment.to_owned(), packets, bytes }]);
        }
    }
    counters
}

/// Adds up those of the same comment.
fn add(sums: &mut Vec<Counter>, more: Vec<Counter>) {
    for counter in more {
        match sums.iter_mut().find(|sum| sum.comment == counter.comment) {
            Some(sum) => {
                sum.packets += counter.packets;
                sum.bytes += counter.bytes;
            }
            None => sums.push(counter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "table inet adit {
	chain output_redirect {
		type nat hook output priority -110; policy accept;
		meta mark 0x0000ad17 counter packets 3 bytes 180 return comment \"own traffic, by its mark\"
		ip daddr 10.0.0.0/8 counter packets 2 bytes 120 redirect to :4140 comment \"include 1\"
		ip6 daddr fd00::/8 counter packets 1 bytes 80 redirect to :4140 comment \"include 1\"
	}
}
";

    #[test]
    fn counters_of_one_comment_are_added_up() {
        let counter = |comment: &str, packets, bytes| Counter { comment: comment.to_owned(), packets, bytes };
        let nft = [counter("own traffic, by its mark", 3, 180), counter("include 1", 3, 200)];
        assert_eq!(counters_of_nft(TABLE), nft);
        let saved = "[1:60] -A ADIT_OUTPUT -p tcp -m comment --comment strict -j REJECT
[2:120] -A ADIT_OUTPUT -p tcp -m comment --comment \"include 2\" -j RETURN
[9:900] -A OUTPUT -p tcp -m comment --comment adit -j ADIT_OUTPUT
";
        assert_eq!(counters_of_iptables(saved), [counter("strict", 1, 60), counter("include 2", 2, 120)]);
    }

    #[test]
    fn what_is_missing_too_much_or_out_of_order_is_told() {
        let wanted = of_nft(TABLE);
        assert_eq!(wanted.len(), 4);
        assert_eq!(differences(&wanted, &wanted), Vec::<String>::new());
        let mut fewer = wanted.clone();
        fewer.pop();
        assert!(differences(&wanted, &fewer)[0].starts_with("missing in chain output_redirect: ip6 daddr"));
        assert!(differences(&fewer, &wanted)[0].starts_with("not wanted in chain output_redirect: ip6 daddr"));
        let mut other = wanted.clone();
        other.swap(1, 2);
        assert!(differences(&wanted, &other)[0].starts_with("in another order in chain output_redirect"));
    }
}
