//! What a configuration asks of netfilter and of routing, as rules in order. Pure, but for the numbers of accounts, which
//! it asks for: `adit redirect print` shows on any machine what `apply` would do.
//!
//! The order within a place is the same everywhere: the agent's own traffic first, so that nothing loops; then exclusions;
//! then what the file names of the loopback networks; then connections to this host itself, which are for no other host;
//! then the inclusions.

use std::net::{IpAddr, SocketAddr};

use adit_config::{Config, Inbound, Net, Origin, Ports, Redirect, RedirectMode, Source, Strict, Target, TcpListen};

use super::{
    choice::{Choice, Part, loopback, merged},
    names::{Account, LookUp, PlanError, number},
    rule::{Chain, Family, Hook, Marks, Rule, Test, Then},
    ways::Way,
};

/// The rules and ways that a configuration asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// None is empty.
    pub chains: Vec<Chain>,
    /// What `ip` is to add.
    pub ways: Vec<Way>,
    /// What an operator should know of, a line each.
    pub warnings: Vec<String>,
}

impl Plan {
    /// The plan of a configuration.
    ///
    /// # Errors
    /// It names an account that this host does not have, or what cannot be written in a rule.
    pub fn of(config: &Config, look_up: LookUp<'_>) -> Result<Plan, PlanError> {
        let mut draft = Draft::of(config, look_up)?;
        draft.bring_answers_home(config);
        if let Some(redirect) = config.outbound.as_ref().and_then(|outbound| outbound.redirect.as_ref()) {
            draft.capture(redirect, look_up)?;
        }
        draft.refuse_others(config);
        Ok(draft.finish())
    }

    /// Whether the file asks for nothing at all.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.ways.is_empty()
    }

    /// How many rules there are, in all places.
    pub fn rules(&self) -> usize {
        self.chains.iter().map(|chain| chain.rules.len()).sum()
    }
}

struct Draft {
    plan: Plan,
    marks: Marks,
    table: u32,
    /// The agent's own traffic is left alone.
    own: Vec<Rule>,
    /// Answers to transparent sources: they stand before everything in their place.
    home: Vec<Rule>,
    /// What was to come to this host, and leaves it all the same: a routing rule of ours is gone, or who sends it is bound to
    /// an interface (SO_BINDTODEVICE, socket(7)), so that it is routed by that one whatever its mark or its new destination.
    stays: Vec<Rule>,
    /// Whether connections are given to a door by TPROXY.
    tproxy: bool,
}

impl Draft {
    fn of(config: &Config, look_up: LookUp<'_>) -> Result<Draft, PlanError> {
        let netfilter = &config.netfilter;
        let route = netfilter.route_mark;
        // The mark of a connection is another word than that of a packet. Captured connections and those to services in
        // a client's name must be told apart, for the former are given to the door.
        let connection = if route == u32::MAX { route - 1 } else { route + 1 };
        let mut own = Vec::new();
        if let Some(mark) = netfilter.mark {
            own.push(Rule::both(vec![Test::Mark(mark)], Then::Leave, "own traffic, by its mark"));
        }
        if has_transparent(config) {
            own.push(Rule::both(vec![Test::Mark(route)], Then::Leave, "own traffic, as a client"));
        }
        if let Some(user) = &netfilter.user {
            let user = number("[netfilter]", Account::User(user), look_up)?;
            own.push(Rule::both(vec![Test::User(vec![user])], Then::Leave, "own traffic, by its user"));
        }
        Ok(Draft {
            plan: Plan::default(),
            marks: Marks { connection, route },
            table: netfilter.route_table,
            own,
            home: Vec::new(),
            stays: Vec::new(),
            tproxy: false,
        })
    }

    fn add(&mut self, hook: Hook, rules: Vec<Rule>) {
        if !rules.is_empty() {
            self.plan.chains.push(Chain { hook, rules });
        }
    }

    fn way(&mut self, way: Way) {
        if !self.plan.ways.contains(&way) {
            self.plan.ways.push(way);
        }
    }

    /// Packets with the route's mark come to this host.
    fn route_home(&mut self, family: Family) {
        self.way(Way::Home(family, self.table));
        self.way(Way::Marked(family, self.marks.route, self.table));
    }

    /// Services that see their client's address: what they answer is to come back to the agent, not to go to the client.
    fn bring_answers_home(&mut self, config: &Config) {
        for target in transparent_targets(config) {
            for family in target.map_or(Family::BOTH.to_vec(), |ip| vec![Family::of(ip)]) {
                self.route_home(family);
                if target.is_some_and(|ip| ip.is_loopback()) {
                    self.way(Way::FromLoopback(family, self.table));
                }
            }
        }
        if has_transparent(config) {
            let route = self.marks.route;
            let asks = Rule::both(vec![Test::Mark(route)], Then::MarkConnection(route), "asks a service as its client");
            let answers = vec![Test::Reply, Test::CtMark(route)];
            let answers = Rule::both(answers, Then::RouteHome(route), "a service answers its client");
            self.home = vec![asks, answers];
            // Without its entry in connection tracking an answer would leave for the client, until the agent speaks next.
            let ports = transparent_ports(config);
            if !ports.is_empty() {
                let answers = |test| vec![Test::FromPort(ports.clone()), test];
                let lost = |test| Rule::both(answers(test), Then::Drop, "an answer to nobody knows whom");
                self.home.extend([lost(Test::Lost), lost(Test::Unknown)]);
            }
            let leaving = |tests| Rule::both(tests, Then::Drop, "an answer that would leave");
            self.stays.push(leaving(vec![Test::Reply, Test::CtMark(route), Test::Leaving]));
        }
    }

    fn capture(&mut self, redirect: &Redirect, look_up: LookUp<'_>) -> Result<(), PlanError> {
        let choices = |list: &str, selectors: &[_]| {
            let each = selectors.iter().enumerate();
            each.map(|(index, selector)| Choice::of(list, index, selector, look_up)).collect::<Result<Vec<_>, _>>()
        };
        let excludes = choices("exclude", &redirect.exclude)?;
        let includes = choices("include", &redirect.include)?;
        let of = |from: Origin| Choices {
            excludes: excludes.iter().filter(|choice| choice.from == from).collect(),
            includes: includes.iter().filter(|choice| choice.from == from).collect(),
            doors: Family::BOTH.map(|family| self.door(redirect, from, family)),
        };
        let (local, forwarded) = (of(Origin::Local), of(Origin::Forwarded));
        match redirect.mode {
            RedirectMode::Redirect => {
                self.add(Hook::NatOutput, local.nat(&self.own));
                self.add(Hook::NatPrerouting, forwarded.nat(&[]));
                self.keep_redirected(&local);
            }
            RedirectMode::Tproxy if !includes.is_empty() => self.tproxy(&local, &forwarded),
            RedirectMode::Tproxy => {}
        }
        self.add(Hook::RejectOutput, local.reject(redirect.mode, &self.own));
        self.add(Hook::RejectForward, forwarded.reject(redirect.mode, &[]));
        self.warn(&local, "add a loopback address of that family to listen, or name networks");
        self.warn(&forwarded, "listen at an address that the interface has, with expose = true, or name networks");
        Ok(())
    }

    /// What is done to a connection so that it comes to the door; `None` if there is none for it.
    fn door(&self, redirect: &Redirect, from: Origin, family: Family) -> Option<Then> {
        // One whose address the file does not have is in none with an include.
        let doors =
            || redirect.listen.iter().filter_map(TcpListen::address).filter(|door| Family::of(door.ip()) == family);
        match (redirect.mode, from) {
            // A socket that listens everywhere is found by any address, and this one is always there.
            (RedirectMode::Tproxy, _) => doors().next().map(|door| {
                let ip = if door.ip().is_unspecified() { loopback(family) } else { door.ip() };
                Then::Tproxy(self.marks, SocketAddr::new(ip, door.port()))
            }),
            // REDIRECT leads a process to the loopback address, and what is forwarded to the interface's own.
            (RedirectMode::Redirect, Origin::Local) => {
                let near = doors().find(|door| door.ip().is_unspecified() || door.ip() == loopback(family));
                near.map(|door| Then::Redirect(door.port())).or_else(|| doors().next().map(Then::Dnat))
            }
            (RedirectMode::Redirect, Origin::Forwarded) => {
                let wide = doors().find(|door| door.ip().is_unspecified());
                // The kernel drops what comes from outside to a loopback address.
                let other = || doors().find(|door| !door.ip().is_loopback()).map(Then::Dnat);
                wide.map(|door| Then::Redirect(door.port())).or_else(other)
            }
        }
    }

    fn tproxy(&mut self, local: &Choices<'_>, forwarded: &Choices<'_>) {
        self.tproxy = true;
        let marks = self.marks;
        let captured = || vec![Test::Original, Test::CtMark(marks.connection)];
        let leaving = |test| Rule::both(vec![test, Test::Leaving], Then::Drop, "captured, and would leave");
        self.stays.push(leaving(Test::Mark(marks.route)));
        self.stays.push(Rule { tests: [captured(), vec![Test::Leaving]].concat(), ..leaving(Test::Original) });
        let decided = || Rule::both(vec![Test::Decided], Then::Leave, "decided when it began");
        // A connection that connection tracking has forgotten is taken up by the next packet. Were that the door's, all that
        // the application says would be an answer, which is not captured.
        let answers =
            Rule::both(vec![Test::Lost, Test::FromElsewhere], Then::Drop, "of a door, whose connection is forgotten");
        self.home.push(answers);
        if !local.includes.is_empty() {
            let mut rules = self.own.clone();
            rules.push(Rule::both(captured(), Then::Capture(marks), "of a captured connection"));
            rules.push(decided());
            rules.extend(local.deliver(|_| Then::Capture(marks)));
            self.add(Hook::MarkOutput, rules);
        }
        let mut rules = Vec::new();
        for (family, door) in Family::BOTH.into_iter().zip(local.doors) {
            if let Some(door) = door {
                self.route_home(family);
                rules.push(Rule { family: Some(family), ..Rule::both(captured(), door, "of a captured connection") });
            }
        }
        // TPROXY passes a packet on for which nobody listens.
        let away = Rule::both(captured(), Then::Reset, "captured, and the agent is away");
        rules.push(away.clone());
        let chosen = forwarded.deliver(|door| door);
        if !chosen.is_empty() {
            rules.push(decided());
            rules.extend(chosen);
            rules.push(away);
        }
        self.add(Hook::TproxyPrerouting, rules);
    }

    fn warn(&mut self, choices: &Choices<'_>, help: &str) {
        for (family, door) in Family::BOTH.into_iter().zip(choices.doors) {
            let about = |choice: &&&Choice| !choice.rules(family, Part::All, Then::Reset).is_empty();
            let labels: Vec<_> = choices.includes.iter().filter(about).map(|choice| choice.label.as_str()).collect();
            if door.is_none() && !labels.is_empty() {
                let (labels, family) = (labels.join(", "), family.as_str());
                let line = "[outbound.redirect] has no door for";
                self.plan.warnings.push(format!("{line} {family} connections of {labels}, which are refused: {help}"));
            }
        }
    }

    /// `[inbound] strict`.
    fn refuse_others(&mut self, config: &Config) {
        let ports = config.inbound.as_ref().map(strict_ports).unwrap_or_default();
        if ports.is_empty() {
            return;
        }
        let near = vec![Test::Interface(vec!["lo".to_owned()])];
        let mut rules = vec![Rule::both(near, Then::Leave, "from this host itself")];
        if self.tproxy {
            let captured = vec![Test::CtMark(self.marks.connection)];
            rules.push(Rule::both(captured, Then::Leave, "of a captured connection"));
        }
        rules.push(Rule::both(vec![Test::Original, Test::Port(ports)], Then::Reset, "strict"));
        self.add(Hook::StrictInput, rules);
    }

    /// Redirected to a loopback address, and routed elsewhere.
    fn keep_redirected(&mut self, local: &Choices<'_>) {
        for (family, door) in Family::BOTH.into_iter().zip(local.doors) {
            let to = match door {
                Some(Then::Redirect(port)) => SocketAddr::new(loopback(family), port),
                Some(Then::Dnat(door)) => door,
                _ => continue,
            };
            let tests =
                vec![Test::Net(vec![Net::one(to.ip())]), Test::Port(vec![Ports::one(to.port())]), Test::Leaving];
            let rule = Rule::both(tests, Then::Drop, "captured, and would leave");
            self.stays.push(Rule { family: Some(family), ..rule });
        }
    }

    fn finish(mut self) -> Plan {
        let stays = std::mem::take(&mut self.stays);
        self.add(Hook::HomePostrouting, stays);
        if !self.home.is_empty() {
            match self.plan.chains.iter_mut().find(|chain| chain.hook == Hook::MarkOutput) {
                Some(chain) => {
                    self.home.append(&mut chain.rules);
                    chain.rules = self.home;
                }
                None => self.plan.chains.push(Chain { hook: Hook::MarkOutput, rules: self.home }),
            }
        }
        self.plan.chains.sort_by_key(|chain| chain.hook);
        self.plan.ways.sort();
        self.plan
    }
}

/// The connections of one origin, and where they are brought, by family.
struct Choices<'a> {
    excludes: Vec<&'a Choice>,
    includes: Vec<&'a Choice>,
    doors: [Option<Then>; 2],
}

impl Choices<'_> {
    /// What follows the agent's own traffic; `with` says what is done where there is this door. None if nothing is done.
    fn deliver(&self, with: impl Fn(Then) -> Then) -> Vec<Rule> {
        let with: Vec<_> = self.doors.iter().map(|door| door.map(&with)).collect();
        self.in_order(&with, "")
    }

    fn nat(&self, own: &[Rule]) -> Vec<Rule> {
        let rules = self.deliver(|door| door);
        if rules.is_empty() { rules } else { own.iter().cloned().chain(rules).collect() }
    }

    /// The same for families without a door. Only their first packets count, as where they are brought to one. And what NAT
    /// leaves as it is goes nowhere: connection tracking has no connection for it, or takes it for an earlier one's.
    fn reject(&self, mode: RedirectMode, own: &[Rule]) -> Vec<Rule> {
        let with = |has: bool| self.doors.map(|door| (door.is_some() == has).then_some(Then::Reset));
        let mut rules = self.in_order(&with(false), ", without a door");
        if mode == RedirectMode::Redirect {
            let missed = self.in_order(&with(true), ", of no known connection");
            if !missed.is_empty() {
                rules.push(Rule::both(vec![Test::Rewritten], Then::Leave, "brought to the door"));
                rules.extend(missed);
            }
        }
        if rules.is_empty() {
            return rules;
        }
        let decided = Rule::both(vec![Test::Decided], Then::Leave, "decided when it began");
        own.iter().cloned().chain([decided]).chain(rules).collect()
    }

    fn in_order(&self, with: &[Option<Then>], remark: &str) -> Vec<Rule> {
        let included = |part: Part| {
            let of_family = |(family, then): (Family, &Option<Then>)| {
                let then = (*then)?;
                Some(self.includes.iter().flat_map(move |choice| choice.rules(family, part, then)))
            };
            let rules = Family::BOTH.into_iter().zip(with).filter_map(of_family).flatten();
            rules.map(|rule| Rule { comment: format!("{}{remark}", rule.comment), ..rule }).collect::<Vec<_>>()
        };
        let (near, elsewhere) = (included(Part::Loopback), included(Part::Elsewhere));
        if near.is_empty() && elsewhere.is_empty() {
            return Vec::new();
        }
        let mut rules: Vec<_> = self.excludes.iter().flat_map(|choice| choice.rules_of_both(Then::Leave)).collect();
        rules.extend(near);
        if !elsewhere.is_empty() {
            rules.push(Rule::both(vec![Test::ToThisHost], Then::Leave, "to this host itself"));
            rules.extend(elsewhere);
        }
        rules
    }
}

/// The addresses of services that see their client's address; `None` for those that only a connection tells.
fn transparent_targets(config: &Config) -> Vec<Option<IpAddr>> {
    let Some(inbound) = &config.inbound else { return Vec::new() };
    let services = inbound.policy.services.iter().filter(|service| service.source == Source::Transparent);
    let services = services.map(|service| match &service.to {
        Target::Tcp(address) => Some(address.ip()),
        Target::Unix(_) | Target::Name(_) => None,
    });
    let captures = inbound.policy.captures.iter().filter(|capture| capture.source == Source::Transparent).map(|_| None);
    services.chain(captures).collect()
}

/// The ports of services that see their client's address, as far as the file tells.
fn transparent_ports(config: &Config) -> Vec<Ports> {
    let Some(Inbound { policy, .. }) = &config.inbound else { return Vec::new() };
    let services = policy.services.iter().filter(|service| service.source == Source::Transparent);
    let services = services.filter_map(|service| match &service.to {
        Target::Tcp(address) => Some(Ports::one(address.port())),
        Target::Unix(_) | Target::Name(_) => None,
    });
    let captures = policy.captures.iter().filter(|capture| capture.source == Source::Transparent);
    merged(&services.chain(captures.flat_map(|capture| capture.ports.iter().copied())).collect::<Vec<_>>())
}

fn has_transparent(config: &Config) -> bool {
    !transparent_targets(config).is_empty()
}

fn strict_ports(inbound: &Inbound) -> Vec<Ports> {
    match &inbound.strict {
        Strict::Off => Vec::new(),
        Strict::Ports(ports) => merged(ports),
        Strict::Services => {
            let services = inbound.policy.services.iter().filter_map(|service| match &service.to {
                Target::Tcp(address) => Some(Ports::one(address.port())),
                Target::Unix(_) | Target::Name(_) => None,
            });
            let captures = inbound.policy.captures.iter().flat_map(|capture| capture.ports.iter().copied());
            merged(&services.chain(captures).collect::<Vec<_>>())
        }
    }
}
