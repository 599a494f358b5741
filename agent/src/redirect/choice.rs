//! One include or exclude of the file, as tests of packets: accounts as numbers, names that are safe to write, networks and
//! ports without overlap (an interval set of nft may have none).

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use adit_config::{Net, Origin, Ports, Selector};

use super::{
    names::{Account, LookUp, PlanError, cgroup, interface, number},
    rule::{Family, Rule, Test, Then},
};

/// Which of a choice's destinations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// All.
    All,
    /// The networks it names within the loopback ones.
    Loopback,
    /// All others.
    Elsewhere,
}

/// An include or an exclude.
#[derive(Debug)]
pub(super) struct Choice {
    /// `include 1`: what its rules and counters are called.
    pub(super) label: String,
    /// Whose connections it is about.
    pub(super) from: Origin,
    nets: Vec<Net>,
    ports: Vec<Ports>,
    /// What is asked of who sends a packet; a rule for each.
    who: Vec<Vec<Test>>,
}

impl Choice {
    /// That of the `index`th entry, from 0, of the list that is called `list`.
    pub(super) fn of(list: &str, index: usize, selector: &Selector, look_up: LookUp<'_>) -> Result<Choice, PlanError> {
        let place = format!("[[outbound.redirect.{list}]] {}", index + 1);
        let user = |name: &String| number(&place, Account::User(name), look_up);
        let group = |name: &String| number(&place, Account::Group(name), look_up);
        // Two names may be one account, and a set holds nothing twice.
        let users: BTreeSet<_> = selector.users.iter().map(user).collect::<Result<_, _>>()?;
        let groups: BTreeSet<_> = selector.groups.iter().map(group).collect::<Result<_, _>>()?;
        let cgroups: BTreeSet<_> =
            selector.cgroups.iter().map(|name| cgroup(&place, name)).collect::<Result<_, _>>()?;
        let interfaces: BTreeSet<_> =
            selector.interfaces.iter().map(|name| interface(&place, name)).collect::<Result<_, _>>()?;
        let mut who = Vec::new();
        who.extend((!users.is_empty()).then_some(Test::User(users.into_iter().collect())));
        who.extend((!groups.is_empty()).then_some(Test::Group(groups.into_iter().collect())));
        who.extend((!interfaces.is_empty()).then_some(Test::Interface(interfaces.into_iter().collect())));
        let with = |cgroup| who.iter().cloned().chain([Test::Cgroup(cgroup)]).collect();
        let who = if cgroups.is_empty() { vec![who] } else { cgroups.into_iter().map(with).collect() };
        Ok(Choice {
            label: format!("{list} {}", index + 1),
            from: selector.from,
            nets: without_overlap(&selector.nets),
            ports: merged(&selector.ports),
            who,
        })
    }

    /// The rules that do this to every such connection of a family; none if it is about no such.
    pub(super) fn rules(&self, family: Family, part: Part, then: Then) -> Vec<Rule> {
        let of_family = |net: &&Net| Family::of(net.address()) == family;
        let of_part = |net: &&Net| match part {
            Part::All => true,
            Part::Loopback => is_loopback(**net),
            Part::Elsewhere => !is_loopback(**net),
        };
        let nets: Vec<_> = self.nets.iter().filter(of_family).filter(of_part).copied().collect();
        let nowhere = if self.nets.is_empty() { part == Part::Loopback } else { nets.is_empty() };
        if nowhere {
            return Vec::new();
        }
        let mut tests = Vec::new();
        if !nets.is_empty() && nets.iter().all(|net| net.prefix() > 0) {
            tests.push(Test::Net(nets));
        }
        if !self.ports.is_empty() {
            tests.push(Test::Port(self.ports.clone()));
        }
        let rule = |who: &Vec<Test>| Rule {
            family: Some(family),
            tests: tests.iter().chain(who).cloned().collect(),
            then,
            comment: self.label.clone(),
        };
        self.who.iter().map(rule).collect()
    }

    /// The same for both families, in one rule where the two are alike.
    pub(super) fn rules_of_both(&self, then: Then) -> Vec<Rule> {
        if self.nets.is_empty() {
            let both = |rule: Rule| Rule { family: None, ..rule };
            return self.rules(Family::V4, Part::All, then).into_iter().map(both).collect();
        }
        Family::BOTH.iter().flat_map(|family| self.rules(*family, Part::All, then)).collect()
    }
}

fn is_loopback(net: Net) -> bool {
    match net.address() {
        IpAddr::V4(address) => address.is_loopback() && net.prefix() >= 8,
        IpAddr::V6(address) => address == Ipv6Addr::LOCALHOST && net.prefix() == 128,
    }
}

/// An address that connections to this host itself come to, in rules that know only families.
pub(super) fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Without those that lie in another.
fn without_overlap(nets: &[Net]) -> Vec<Net> {
    let within = |inner: &Net, outer: &Net| outer.prefix() <= inner.prefix() && outer.contains(inner.address());
    let mut kept: Vec<Net> = Vec::new();
    for net in nets {
        if !kept.iter().any(|other| within(net, other)) {
            kept.retain(|other| !within(other, net));
            kept.push(*net);
        }
    }
    kept
}

/// In order, and those that touch as one.
pub(super) fn merged(ports: &[Ports]) -> Vec<Ports> {
    let mut sorted = ports.to_vec();
    sorted.sort();
    let mut merged: Vec<Ports> = Vec::new();
    for next in sorted {
        match merged.last_mut() {
            Some(last) if next.first <= last.last.saturating_add(1) => last.last = last.last.max(next.last),
            _ => merged.push(next),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_ports_are_written_without_overlap() {
        let nets = ["10.1.0.0/16", "fd00::/8", "10.0.0.0/8", "10.2.3.4", "192.168.0.0/16"];
        let kept = without_overlap(&nets.map(|net| Net::parse(net).unwrap()));
        assert_eq!(
            kept.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["fd00::/8", "10.0.0.0/8", "192.168.0.0/16"]
        );
        let ports = ["6379", "80", "6000-6100", "81", "6050-6200", "65535"];
        let kept = merged(&ports.map(|ports| Ports::parse(ports).unwrap()));
        assert_eq!(kept.iter().map(ToString::to_string).collect::<Vec<_>>(), ["80-81", "6000-6200", "6379", "65535"]);
    }
}
