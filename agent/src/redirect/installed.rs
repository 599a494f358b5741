//! What of ours is in the kernel, and how it becomes something else: found by what it is called and tagged with, never by
//! what the file says, so that it can be taken away whatever the file says by then.

use std::fs;

use super::{
    RulesError,
    command::Iptables,
    iptables::{self, Saved},
    nft,
    plan::Plan,
    rule::Family,
    tool::{ToolError, find, run},
    ways::{self, Way},
};

/// What rules are installed with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tool {
    /// nft.
    Nft,
    /// iptables and ip6tables.
    Iptables(Iptables),
}

/// What of ours is installed.
#[derive(Clone, Debug, Default)]
pub struct Installed {
    /// The table, as nft lists it.
    pub(super) nft: Option<String>,
    /// The tables of each command of iptables, by family; those without anything of ours too.
    pub(super) iptables: Vec<(Iptables, Family, Saved)>,
    /// Rules and routes.
    pub(super) ways: Vec<Way>,
    /// Commands of iptables that do not show this process what they have.
    pub unseen: Vec<String>,
}

impl Installed {
    /// Looks at every tool of this host, and at this one.
    ///
    /// # Errors
    /// A tool that is there and does not answer.
    pub fn find(tool: &Tool) -> Result<Installed, ToolError> {
        let mut installed = Installed::default();
        if find("nft").is_some() && of_kernel(run("nft", &["list", "tables", "inet"], ""))?.lines().any(is_ours) {
            installed.nft = Some(run("nft", &["list", "table", "inet", "adit"], "")?);
        }
        let named = match tool {
            Tool::Nft => None,
            Tool::Iptables(command) => Some(command),
        };
        for command in Iptables::all(named) {
            for family in families() {
                match of_kernel(command.saved(family)) {
                    // Those of iptables-legacy are root's alone to see, whatever an agent of another user may do.
                    Err(error) if error.is_forbidden() && named != Some(&command) => {
                        installed.unseen.push(command.program(family, ""));
                    }
                    saved => installed.iptables.push((command.clone(), family, saved?)),
                }
            }
        }
        if find("ip").is_some() {
            for family in families() {
                let [rules, routes] = ways::questions(family);
                installed.ways.extend(ways::rules(family, &run("ip", &rules, "")?));
                installed.ways.extend(ways::routes(family, &run("ip", &routes, "")?));
            }
        }
        Ok(installed)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.nft.is_none() && self.ways.is_empty() && self.iptables.iter().all(|(_, _, saved)| saved.is_empty())
    }

    /// Whether rules stand in each place where a plan has some, be they this plan's or others, and the ways are there that it
    /// wants: what somebody's `flush` has left of ours is no whole.
    pub fn stands_in_for(&self, plan: &Plan) -> bool {
        if plan.ways.iter().any(|way| is_here(way.family()) && !self.ways.contains(way)) {
            return false;
        }
        if let Some(table) = &self.nft {
            return nft::has_rules_of(table, plan);
        }
        let fills = |family, saved: &Saved| saved.has_rules_of(&iptables::wanted(plan, family));
        let of = |command| self.iptables.iter().filter(move |(other, ..)| other == command);
        self.iptables.iter().any(|(command, ..)| of(command).all(|(_, family, saved)| fills(*family, saved)))
    }

    /// What there is, in a few words each.
    pub fn names(&self) -> Vec<String> {
        let table = self.nft.iter().map(|_| format!("the nft table {}", nft::TABLE));
        let filled = self.iptables.iter().filter(|(_, _, saved)| !saved.is_empty());
        let chains = filled.map(|(command, family, _)| format!("the chains of {}", command.program(*family, "")));
        let ways = self.ways.iter().map(|way| format!("the {}", way.describe()));
        table.chain(chains).chain(ways).collect()
    }

    /// Puts a plan in its place. What fails leaves things as they were.
    pub(super) fn replace(&self, plan: &Plan, tool: &Tool) -> Result<(), RulesError> {
        self.put(plan, tool).map_err(|error| match self.put_back(tool) {
            Ok(()) => RulesError::Tool(error),
            Err(RulesError::Tool(second)) => RulesError::Half(error, second),
            Err(other) => other,
        })
    }

    fn put(&self, plan: &Plan, tool: &Tool) -> Result<(), ToolError> {
        let wanted: Vec<Way> = plan.ways.iter().copied().filter(|way| is_here(way.family())).collect();
        // Before what sends packets there, and taken away after it.
        change_ways("add", wanted.iter().filter(|way| !self.ways.contains(way)))?;
        match tool {
            Tool::Nft => drop(run("nft", &["-f", "-"], &nft::script(plan))?),
            Tool::Iptables(command) => {
                // One that is not there says so.
                run(&command.program(Family::V4, "-restore"), &["--version"], "")?;
            }
        }
        for (command, family, before) in &self.iptables {
            let next = match tool {
                Tool::Iptables(named) if named == command => command.wanted(plan, *family, before)?,
                Tool::Iptables(_) | Tool::Nft => Saved::default(),
            };
            command.put(*family, &next, before)?;
        }
        // Once the others are in place: at no moment is there nothing.
        if *tool != Tool::Nft && self.nft.is_some() {
            run("nft", &["-f", "-"], nft::REMOVE)?;
        }
        change_ways("del", self.ways.iter().filter(|way| !wanted.contains(way)))
    }

    /// Makes what is there what it was when this was found.
    pub(super) fn put_back(&self, tool: &Tool) -> Result<(), RulesError> {
        let now = Installed::find(tool)?;
        change_ways("add", self.ways.iter().filter(|way| !now.ways.contains(way)))?;
        match (&self.nft, &now.nft) {
            (Some(table), _) => drop(run("nft", &["-f", "-"], &format!("{}{table}", nft::REMOVE))?),
            (None, Some(_)) => drop(run("nft", &["-f", "-"], nft::REMOVE)?),
            (None, None) => {}
        }
        for (command, family, now) in &now.iptables {
            let same = |(other, of, _): &&(Iptables, Family, Saved)| other == command && of == family;
            let before = self.iptables.iter().find(same).map(|(_, _, saved)| saved.clone()).unwrap_or_default();
            command.put(*family, &before, now)?;
        }
        change_ways("del", now.ways.iter().filter(|way| !self.ways.contains(way)))?;
        Ok(())
    }
}

/// What tells rules from others of adit's that were put in their place since: the number that the kernel gave the table, and
/// what the chains say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stamp {
    table: Option<String>,
    chains: Vec<(String, Saved)>,
    ways: Vec<Way>,
}

/// What became of rules since they were put in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// They are there.
    Same,
    /// They are gone, or what `ip` has to say of them is.
    Gone,
    /// Others of adit's are in their place.
    Others,
}

impl Stamp {
    /// That of the rules which are in place.
    ///
    /// # Errors
    /// A tool that is there and does not answer.
    pub(super) fn of(tool: &Tool) -> Result<Stamp, ToolError> {
        let found = Installed::find(tool)?;
        // Its first line ends in `# handle 12`: no two tables have the same.
        let listing = found.nft.map(|_| run("nft", &["-a", "list", "table", "inet", "adit"], "")).transpose()?;
        let table = listing.and_then(|listing| listing.lines().next().map(str::to_owned));
        let filled = found.iptables.into_iter().filter(|(_, _, saved)| !saved.is_empty());
        let chains = filled.map(|(command, family, saved)| (command.program(family, ""), saved.rules_only()));
        Ok(Stamp { table, chains: chains.collect(), ways: found.ways })
    }

    /// What became of the rules that had this one, where `now` is that of those which are in place.
    pub fn since(&self, now: &Stamp) -> Since {
        let is_of_none = now.table.is_none() && now.chains.is_empty();
        let has_same_rules = (&self.table, &self.chains) == (&now.table, &now.chains);
        match (has_same_rules, self.ways.iter().all(|way| now.ways.contains(way))) {
            (true, true) => Since::Same,
            (true, false) => Since::Gone,
            (false, _) if is_of_none => Since::Gone,
            (false, _) => Since::Others,
        }
    }
}

/// Of what the kernel does not have, nothing is there.
fn of_kernel<T: Default>(found: Result<T, ToolError>) -> Result<T, ToolError> {
    match found {
        Err(error) if error.is_of_kernel() => Ok(T::default()),
        found => found,
    }
}

fn is_ours(line: &str) -> bool {
    line.trim() == format!("table {}", nft::TABLE)
}

fn change_ways<'a>(verb: &str, ways: impl Iterator<Item = &'a Way>) -> Result<(), ToolError> {
    for way in ways {
        let command = way.command(verb);
        run("ip", &command.split(' ').collect::<Vec<_>>(), "")?;
    }
    Ok(())
}

/// The families that this host's kernel speaks.
pub(super) fn families() -> impl Iterator<Item = Family> {
    Family::BOTH.into_iter().filter(|family| is_here(*family))
}

/// Where IPv6 is not, or is switched off everywhere, no connection of it can be.
pub(super) fn is_here(family: Family) -> bool {
    let off = |interface: &str| {
        let file = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        fs::read_to_string(file).map_or(true, |value| value.trim() == "1")
    };
    family == Family::V4 || !(off("all") && off("lo"))
}
