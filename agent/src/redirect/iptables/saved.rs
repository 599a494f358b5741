//! What of ours stands in the tables, as iptables-save(8) prints it.

use std::collections::BTreeMap;

use super::{MADE, OURS};

/// Ours in the tables of one family.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Saved {
    /// By the table's name; those that hold nothing of ours too.
    pub(crate) tables: BTreeMap<String, Table>,
}

/// Ours in one table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Table {
    /// Our chains, and the rules of each as they are added.
    pub(crate) chains: BTreeMap<String, Vec<String>>,
    /// The rules of others' chains that lead to ours.
    pub(crate) jumps: Vec<String>,
    /// Others' rules that stand before a jump of ours.
    pub(crate) before_ours: Vec<String>,
}

impl Saved {
    /// Whether there are rules in each chain of another, and as many jumps to them.
    pub(crate) fn has_rules_of(&self, other: &Saved) -> bool {
        other.tables.iter().all(|(name, other)| {
            let here = self.tables.get(name).cloned().unwrap_or_default();
            let count = |chain| here.chains.get(chain).map_or(0, Vec::len);
            other.chains.iter().all(|(chain, rules)| rules.is_empty() || count(chain) > 0)
                && here.jumps.len() >= other.jumps.len()
        })
    }

    /// Reads what `iptables-save` prints, with or without counters.
    pub(crate) fn parse(text: &str) -> Saved {
        let mut saved = Saved::default();
        let mut table = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = Some(saved.tables.entry(name.trim().to_owned()).or_default());
            } else if let Some(table) = table.as_mut() {
                table.take(without_counters(line));
            }
        }
        saved
    }

    /// Whether nothing of ours is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.values().all(Table::is_empty)
    }

    /// Without what is only remembered of a table.
    pub(crate) fn rules_only(&self) -> Saved {
        let mut rules = self.clone();
        rules.tables.retain(|_, table| !table.is_empty());
        for table in rules.tables.values_mut() {
            table.before_ours.clear();
            table.chains.values_mut().for_each(|lines| lines.retain(|line| !line.contains(MADE)));
        }
        rules
    }
}

impl Table {
    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.jumps.is_empty()
    }

    /// The kernel's chains that lead to ours.
    pub(crate) fn builtins(&self) -> Vec<String> {
        self.jumps.iter().filter_map(|jump| jump.split(' ').nth(1)).map(str::to_owned).collect()
    }

    /// Those of them that were not there before ours were.
    pub(crate) fn made(&self) -> impl Iterator<Item = String> {
        let made = self.chains.iter().filter(|(_, lines)| lines.iter().any(|line| line.contains(MADE)));
        made.filter_map(|(name, _)| name.strip_prefix(OURS)).map(str::to_owned)
    }

    /// Says in the chain that this one of the kernel's leads to that it is there for its sake.
    pub(crate) fn set_made(&mut self, builtin: &str) {
        let name = format!("{OURS}{builtin}");
        let line = format!("-A {name} -m comment --comment \"{MADE}\"");
        self.chains.entry(name).or_default().push(line);
    }

    fn take(&mut self, line: &str) {
        if let Some(chain) = line.strip_prefix(':') {
            let name = chain.split(' ').next().unwrap_or_default();
            if name.starts_with(OURS) {
                self.chains.entry(name.to_owned()).or_default();
            }
            return;
        }
        let Some(rule) = line.strip_prefix("-A ") else { return };
        let chain = rule.split(' ').next().unwrap_or_default();
        if chain.starts_with(OURS) {
            self.chains.entry(chain.to_owned()).or_default().push(line.to_owned());
        } else if leads_to_ours(rule) {
            self.jumps.push(line.to_owned());
        } else {
            let head = format!("-A {chain} ");
            if !self.jumps.iter().any(|jump| jump.starts_with(&head)) {
                self.before_ours.push(line.to_owned());
            }
        }
    }

    /// Others' rules of the chains that jumps of ours stand in, which stand before them.
    pub(crate) fn overtaken(&self) -> Vec<&String> {
        let heads: Vec<_> = self.jumps.iter().filter_map(|jump| jump.split(' ').nth(1)).collect();
        let stands = |rule: &&String| rule.split(' ').nth(1).is_some_and(|chain| heads.contains(&chain));
        self.before_ours.iter().filter(stands).collect()
    }
}

fn leads_to_ours(rule: &str) -> bool {
    let mut words = rule.split(' ').skip_while(|word| !matches!(*word, "-j" | "-g"));
    words.nth(1).is_some_and(|target| target.starts_with(OURS))
}

/// `[12:720] -A …` is what `-c` makes of a rule.
fn without_counters(line: &str) -> &str {
    if line.starts_with('[') { line.split_once("] ").map_or(line, |(_, rule)| rule) } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "# Generated by iptables-save v1.8.9 on Wed Nov 25 09:00:00 2026
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:ADIT_OUTPUT - [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
[1:60] -A OUTPUT ! -d 127.0.0.0/8 -j DOCKER
-A OUTPUT -p tcp -m comment --comment adit -j ADIT_OUTPUT
[3:180] -A ADIT_OUTPUT -p tcp -m comment --comment \"include 1\" -j REDIRECT --to-ports 4140
COMMIT
*filter
:INPUT DROP [0:0]
COMMIT
";

    #[test]
    fn ours_are_told_from_others_rules() {
        let saved = Saved::parse(SAVED);
        let nat = &saved.tables["nat"];
        assert_eq!(nat.chains["ADIT_OUTPUT"].len(), 1);
        assert!(nat.chains["ADIT_OUTPUT"][0].starts_with("-A ADIT_OUTPUT -p tcp"));
        assert_eq!(nat.jumps, ["-A OUTPUT -p tcp -m comment --comment adit -j ADIT_OUTPUT"]);
        assert_eq!(nat.overtaken(), ["-A OUTPUT ! -d 127.0.0.0/8 -j DOCKER"]);
        assert!(saved.tables["filter"].is_empty());
    }

    #[test]
    fn a_chain_of_the_kernels_that_is_there_for_ours_is_known() {
        let mut table = Saved::parse(SAVED).tables["nat"].clone();
        assert_eq!((table.builtins(), table.made().count()), (vec!["OUTPUT".to_owned()], 0));
        table.set_made("OUTPUT");
        assert_eq!(table.made().collect::<Vec<_>>(), ["OUTPUT"]);
    }

    #[test]
    fn what_is_written_over_it_takes_the_place_of_all_that_was_ours() {
        let text = super::super::write(&Saved::default(), &Saved::parse(SAVED));
        let wanted = "*nat
:ADIT_OUTPUT - [0:0]
-D OUTPUT -p tcp -m comment --comment adit -j ADIT_OUTPUT
-X ADIT_OUTPUT
COMMIT
";
        assert_eq!(text, wanted);
    }
}
