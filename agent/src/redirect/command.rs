//! One of a host's iptables commands: what it has of ours, and how that becomes something else.
//!
//! Where iptables keeps its rules in nft's tables, a chain of the kernel's (`OUTPUT`) is there only since somebody used it.
//! One that is there for our sake alone says so in ours, and goes with it: what is left is what was there before.

use std::{collections::BTreeSet, fs, path::PathBuf};

use super::{
    iptables::{self, Saved},
    plan::Plan,
    rule::Family,
    tool::{ToolError, find, run, run_apart},
};

/// One of the iptables commands of a host, which may have several: `iptables`, `iptables-legacy`, `/usr/sbin/iptables-nft`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Iptables {
    folder: String,
    /// What follows `iptables` in its name.
    kind: String,
}

impl Iptables {
    /// Those that Debian has.
    const USUAL: [&'static str; 3] = ["iptables", "iptables-nft", "iptables-legacy"];

    /// Reads a command's name, or its path.
    ///
    /// # Errors
    /// It does not begin with `iptables`, so that those beside it cannot be told.
    pub fn parse(command: &str) -> Result<Iptables, String> {
        let at = command.rfind('/').map_or(0, |slash| slash + 1);
        let (folder, name) = command.split_at(at);
        let kind = name.strip_prefix("iptables").filter(|kind| kind.is_empty() || kind.starts_with('-'));
        let kind = kind.ok_or("it is no command like `iptables` or `iptables-legacy`")?;
        Ok(Iptables { folder: folder.to_owned(), kind: kind.to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.program(Family::V4, "")
    }

    /// The one of a family, and for one task: `-restore`, `-save`.
    pub(super) fn program(&self, family: Family, task: &str) -> String {
        let base = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        format!("{}{base}{}{task}", self.folder, self.kind)
    }

    /// The file that it is in the end: several names lead to one.
    fn file(&self) -> Option<PathBuf> {
        find(&self.program(Family::V4, "-save")).and_then(|file| fs::canonicalize(file).ok())
    }

    /// Whether its tables are nft's.
    fn is_nft(&self) -> bool {
        run(&self.name(), &["--version"], "").is_ok_and(|version| version.contains("nf_tables"))
    }

    /// Those of this host, each once, `named` first.
    pub(super) fn all(named: Option<&Iptables>) -> Vec<Iptables> {
        let usual = Self::USUAL.iter().filter_map(|name| Iptables::parse(name).ok());
        let mut seen = BTreeSet::new();
        let known = |command: &Iptables| command.file().is_some_and(|file| seen.insert(file));
        named.cloned().into_iter().chain(usual).filter(known).collect()
    }

    /// What it has of ours; nothing if it is not installed for this family.
    ///
    /// # Errors
    /// The command does not answer.
    pub(super) fn saved(&self, family: Family) -> Result<Saved, ToolError> {
        let save = self.program(family, "-save");
        if find(&save).is_none() {
            return Ok(Saved::default());
        }
        run(&save, &[] as &[&str], "").map(|text| Saved::parse(&text))
    }

    /// What takes the place of `before`.
    ///
    /// # Errors
    /// The command refuses; the tables that it had come to are then changed.
    pub(super) fn put(&self, family: Family, next: &Saved, before: &Saved) -> Result<(), ToolError> {
        let text = iptables::write(next, before);
        if !text.is_empty() {
            // Who else changes them meanwhile holds a lock.
            let restored = run(&self.program(family, "-restore"), &["--noflush", "--wait", "5"], &text);
            restored.map_err(|error| self.explain(family, &text, error))?;
        }
        clear_made(family, before, next)
    }

    /// The old iptables says no to a whole table. Which rule it is that this kernel does not know is found by giving it each
    /// alone, in a network namespace that is gone afterwards.
    fn explain(&self, family: Family, text: &str, error: ToolError) -> ToolError {
        // Where there can be no such namespace, it would refuse every rule.
        if error.names_a_line() || run_apart(&["true"], "").is_err() {
            return error;
        }
        let restore = self.program(family, "-restore");
        let words = ["sh", "-c", "\"$0\" --noflush", restore.as_str()];
        let refused = |input: &String| run_apart(&words, input).is_err();
        let culprit = one_by_one(text).into_iter().find(|(_, input)| refused(input));
        match culprit {
            Some((rule, _)) => error.about(rule),
            None => error,
        }
    }

    /// What a plan wants, where a chain of the kernel's that is there for its sake is known as such.
    ///
    /// # Errors
    /// nft does not answer.
    pub(super) fn wanted(&self, plan: &Plan, family: Family, before: &Saved) -> Result<Saved, ToolError> {
        let mut wanted = iptables::wanted(plan, family);
        if wanted.is_empty() || !self.is_nft() || find("nft").is_none() {
            return Ok(wanted);
        }
        let there = chains(&run("nft", &["list", "chains", nft_family(family)], "")?);
        for (name, table) in &mut wanted.tables {
            let before = before.tables.get(name);
            for builtin in table.builtins() {
                let is_made = before.is_some_and(|before| before.made().any(|made| made == builtin));
                if is_made || !there.contains(&(name.clone(), builtin.clone())) {
                    table.set_made(&builtin);
                }
            }
        }
        Ok(wanted)
    }
}

/// Each rule of ours in an input, and an input with this one alone: its table, and all chains that it may lead to.
fn one_by_one(text: &str) -> Vec<(&str, String)> {
    let mut head = String::new();
    let mut inputs = Vec::new();
    for line in text.lines() {
        if line.starts_with('*') {
            head = format!("{line}\n");
        } else if line.starts_with(':') {
            head += &format!("{line}\n");
        } else if line.starts_with("-A ") {
            inputs.push((line, format!("{head}{line}\nCOMMIT\n")));
        }
    }
    inputs
}

/// Takes away the kernel's chains that were there for ours alone, if nothing else has come to them since.
fn clear_made(family: Family, before: &Saved, next: &Saved) -> Result<(), ToolError> {
    let family = nft_family(family);
    for (name, table) in &before.tables {
        let still = |builtin: &String| next.tables.get(name).is_some_and(|table| table.builtins().contains(builtin));
        for builtin in table.made().filter(|builtin| !still(builtin)) {
            if is_bare(&run("nft", &["list", "chain", family, name, &builtin], "")?) {
                run("nft", &["delete", "chain", family, name, &builtin], "")?;
            }
        }
        if table.made().next().is_some() && !run("nft", &["list", "table", family, name], "")?.contains('\t') {
            run("nft", &["delete", "table", family, name], "")?;
        }
    }
    Ok(())
}

/// Whether a chain, as nft lists it, has no rule, and lets everything by.
fn is_bare(chain: &str) -> bool {
    let rest = chain.lines().map(str::trim).filter(|line| !line.ends_with('{') && *line != "}");
    rest.into_iter().all(|line| line.starts_with("type ") && line.ends_with("policy accept;"))
}

/// The chains of `nft list chains`, each with its table.
fn chains(listing: &str) -> BTreeSet<(String, String)> {
    let mut table = "";
    let mut found = BTreeSet::new();
    for words in listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()) {
        match words.as_slice() {
            ["table", _, name, "{"] => table = name,
            ["chain", name, "{"] => _ = found.insert((table.to_owned(), (*name).to_owned())),
            _ => {}
        }
    }
    found
}

fn nft_family(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "table ip nat {
\tchain OUTPUT {
\t\ttype nat hook output priority -100; policy accept;
\t}
}
table ip filter {
\tchain INPUT {
\t\ttype filter hook input priority filter; policy drop;
\t}
}
";

    #[test]
    fn the_chains_that_are_there_are_read_with_their_tables() {
        let there = chains(LISTING);
        assert!(there.contains(&("nat".to_owned(), "OUTPUT".to_owned())));
        assert!(there.contains(&("filter".to_owned(), "INPUT".to_owned())));
        assert_eq!(there.len(), 2);
    }

    #[test]
    fn each_rule_is_tried_alone_in_its_table() {
        let text = "*nat\n:ADIT_A - [0:0]\n-A ADIT_A -j RETURN\nCOMMIT\n*filter\n:ADIT_B - [0:0]\n-D INPUT -j ADIT_B\n\
                    -A ADIT_B -j ACCEPT\n-A ADIT_B -j DROP\nCOMMIT\n";
        let inputs = one_by_one(text);
        assert_eq!(inputs.len(), 3);
        assert_eq!(inputs[2].0, "-A ADIT_B -j DROP");
        assert_eq!(inputs[2].1, "*filter\n:ADIT_B - [0:0]\n-A ADIT_B -j DROP\nCOMMIT\n");
    }

    #[test]
    fn a_chain_with_a_rule_or_a_policy_is_not_bare() {
        let (nat, filter) = LISTING.split_at(LISTING.find("table ip filter").unwrap());
        assert!(is_bare(nat));
        assert!(!is_bare(filter));
        assert!(!is_bare(&nat.replace("accept;\n", "accept;\n\t\ttcp dport 9 accept\n")));
    }

    #[test]
    fn the_commands_of_a_kind_are_told_from_the_one_that_is_named() {
        let legacy = Iptables::parse("/usr/sbin/iptables-legacy").unwrap();
        assert_eq!(legacy.program(Family::V6, "-restore"), "/usr/sbin/ip6tables-legacy-restore");
        assert_eq!(Iptables::parse("iptables").unwrap().program(Family::V4, "-save"), "iptables-save");
        for other in ["", "ip6tables", "iptablesx", "nft", "iptables/x"] {
            assert!(Iptables::parse(other).is_err(), "{other}");
        }
    }
}
