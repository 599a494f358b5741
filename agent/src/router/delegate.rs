//! What routing would do with a name, for a person to read: each rewriting step with its rule, each bound name with its
//! answer, its endpoints and what is expected of them, and where the next stream would go. It is found out as for a
//! stream, over the same roads and by the same choice; nothing is counted, opened or kept but the roads themselves.

mod report;

pub use report::{Endpoint, Expects, Fate, Place, Report, Row, Setting, Standing, What};

use super::decide::{Choice, State, choose, reached};
use super::{RouteError, Router, Way, failed, not_there, over_unix};
use crate::addr::Address;
use crate::streams::Direction;
use adit_config::dtab::{Bound, Delegation, Dtab, NameTree, Outcome, Within};
use adit_protocol::Name;
use report::settings;
use std::collections::{HashMap, HashSet};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long first answers are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bound names that a trial may ask for. What streams ask for stays in use; of a trial it would only fill the memory, and
/// keep the look-ups of streams waiting.
const MOST_TRIED: usize = 256;

/// Bound names that may be followed while a trial asks for more: one trial after another is bounded by this.
const MOST_FOLLOWED: usize = 16_384;

/// A bound name of the tree, with its way and what was known of it at the time of the report.
struct Seen<'a> {
    bound: &'a Bound,
    way: Arc<Way>,
    state: State<Arc<str>>,
}

impl Router {
    /// What routing would do with a name, by its own rules or by `edited` ones. First answers are waited for, a while.
    /// The look-ups belong to the router's own runtime; the work over the tree, which may be large, is the asker's own, so
    /// that it takes no time from streams.
    pub async fn delegate(&self, side: Direction, name: &Name, edited: Option<Dtab>) -> Report {
        let is_trial = edited.is_some();
        let dtab = edited.map_or_else(|| self.dtab(), Arc::new);
        let delegation = dtab.delegate(name);
        let led = delegation.leads();
        let asked = led.as_ref().map_or(0, |tree| tree.leaves().into_iter().collect::<HashSet<_>>().len());
        let followed = self.inner.namers.followed();
        if is_trial && (asked > MOST_TRIED || followed + asked > MOST_FOLLOWED) {
            let why = format!(
                "the table leads '{name}' to {asked} bound names, and a trial asks for {MOST_TRIED} at most, and for none \
                 beyond {MOST_FOLLOWED} in use ({followed} are); try a part of it"
            );
            return self.unasked(side, &delegation, &dtab, why);
        }
        let ways = led.map(|tree| {
            let _within = self.inner.runtime.enter();
            tree.map(&mut |bound: &Bound| (bound, self.way(name, bound.clone())))
        });
        if let Ok(ways) = &ways {
            let first_answers = async {
                for (_, way) in ways.leaves() {
                    // What it comes to is in its state.
                    _ = way.settled().await;
                }
            };
            _ = timeout(PATIENCE, first_answers).await;
        }
        let seen = ways.map(|ways| ways.map(&mut |(bound, way)| Seen { bound, state: way.state(), way }));
        let mut view =
            Rows { router: self, side, dtab: &dtab, seen: HashMap::new(), reached: HashSet::new(), rows: Vec::new() };
        if let Ok(seen) = &seen {
            view.seen = seen.leaves().into_iter().map(|seen| (ptr::from_ref(seen.bound), seen)).collect();
            let reached = reached(seen, &|seen: &Seen<'_>| seen.state.clone());
            view.reached = reached.into_iter().map(|seen| ptr::from_ref(seen.bound)).collect();
        }
        view.name(&delegation, At::ROOT);
        Report {
            name: name.to_string(),
            side: side.label().to_owned(),
            in_file: dtab.within() == Within::File,
            rows: view.rows,
            outcome: match &seen {
                Ok(tree) => fate(side, name, tree),
                Err(error) => Fate::Refused(RouteError::from(error.clone()).to_string()),
            },
        }
    }

    /// A trial that would ask for too much asks for nothing.
    fn unasked(&self, side: Direction, delegation: &Delegation, dtab: &Dtab, why: String) -> Report {
        let mut view =
            Rows { router: self, side, dtab, seen: HashMap::new(), reached: HashSet::new(), rows: Vec::new() };
        view.name(delegation, At::ROOT);
        Report {
            name: delegation.name.to_string(),
            side: side.label().to_owned(),
            in_file: dtab.within() == Within::File,
            rows: view.rows,
            outcome: Fate::Pending(why),
        }
    }
}

/// What the next stream would meet, in the words it would be told in.
fn fate(side: Direction, name: &Name, tree: &NameTree<Seen<'_>>) -> Fate {
    let error = match choose(tree, &|seen: &Seen<'_>| seen.state.clone(), &mut fastrand::f64) {
        Choice::Use(seen) => return picked(side, &seen.way),
        Choice::Wait(seen) => {
            let bound = seen.way.bound();
            return Fate::Pending(format!(
                "the namer of '{bound}' has not answered within {PATIENCE:?}; ask again, for a look-up may take longer"
            ));
        }
        Choice::Failed(seen, why) => failed(name, &seen.way, why),
        Choice::Neg => not_there(name, tree.leaves().into_iter().map(|seen| seen.way.bound().clone()).collect()),
        Choice::Fail => RouteError::Forbidden(name.clone()),
        Choice::Empty => RouteError::Empty(name.clone()),
        Choice::Spent => RouteError::Spent(name.clone()),
    };
    Fate::Refused(error.to_string())
}

fn picked(side: Direction, way: &Way) -> Fate {
    if let (Direction::Outbound, Err(rule)) = (side, way.expectation()) {
        return Fate::Refused(rule.to_string());
    }
    match (side, way.would_pick()) {
        (Direction::Outbound, Some(Address::Unix(_))) => Fate::Refused(over_unix(way.bound())),
        (_, Some(address)) => {
            let address = address.to_string();
            let endpoints = way.endpoints();
            let down = endpoints.iter().any(|one| one.address == address && one.health != "up");
            Fate::To { address, bound: way.bound().to_string(), down }
        }
        (_, None) => Fate::Refused(format!("'{}' has no endpoint", way.bound())),
    }
}

/// Where a row stands.
#[derive(Clone, Copy)]
struct At {
    depth: usize,
    weight: Option<f64>,
    behind: bool,
}

impl At {
    const ROOT: Self = Self { depth: 0, weight: None, behind: false };

    fn below(self) -> Self {
        Self { depth: self.depth + 1, weight: None, ..self }
    }
}

/// The rows so far, and what they are made from.
struct Rows<'a> {
    router: &'a Router,
    side: Direction,
    dtab: &'a Dtab,
    /// By the place in the tree: one bound name may stand at many.
    seen: HashMap<*const Bound, &'a Seen<'a>>,
    reached: HashSet<*const Bound>,
    rows: Vec<Row>,
}

impl Rows<'_> {
    fn push(&mut self, at: At, what: What) {
        self.rows.push(Row { depth: at.depth, weight: at.weight, behind_a_stop: at.behind, what });
    }

    fn name(&mut self, delegation: &Delegation, at: At) {
        let name = delegation.name.to_string();
        match &delegation.outcome {
            Outcome::Bound(bound) => {
                let place = self.place(bound, at.behind);
                self.push(at, What::Bound(Box::new(place)));
            }
            Outcome::Wrong(error) => self.push(at, What::Wrong { name, error: error.to_string() }),
            Outcome::Rules(steps) if steps.is_empty() => self.push(at, What::Unknown { name }),
            Outcome::Rules(steps) => {
                self.push(at, What::Name { name });
                let mut at = at.below();
                for step in steps {
                    let rule = self.dtab.rule(step.rule);
                    let (line, column) = (rule.place.line, rule.place.column);
                    self.push(at, What::Rule { number: rule.number, text: rule.text, line, column });
                    self.tree(&step.tree, at.below());
                    at.behind |= Delegation::stops(&step.tree);
                }
            }
        }
    }

    fn tree(&mut self, tree: &NameTree<Delegation>, at: At) {
        match tree {
            NameTree::Leaf(delegation) => self.name(delegation, at),
            NameTree::Alt(branches) => self.alternatives("|", branches, at),
            NameTree::Failover(branches) => self.alternatives("||", branches, at),
            NameTree::Union(branches) => {
                self.push(at, What::Choice { sign: "&".to_owned() });
                for (weight, branch) in branches {
                    self.tree(branch, At { weight: Some(*weight), ..at.below() });
                }
            }
            NameTree::Neg => self.push(at, What::Stop { sign: "~".to_owned() }),
            NameTree::Fail => self.push(at, What::Stop { sign: "!".to_owned() }),
            NameTree::Empty => self.push(at, What::Stop { sign: "$".to_owned() }),
        }
    }

    fn alternatives(&mut self, sign: &str, branches: &[NameTree<Delegation>], at: At) {
        self.push(at, What::Choice { sign: sign.to_owned() });
        let mut at = at.below();
        for branch in branches {
            self.tree(branch, at);
            at.behind |= Delegation::stops(branch);
        }
    }

    fn place(&self, bound: &Bound, behind: bool) -> Place {
        let mut place = Place {
            name: bound.path().to_string(),
            residual: bound.residual().to_owned(),
            standing: Standing::Behind,
            state: None,
            age_ms: None,
            next_ms: None,
            last_error: None,
            endpoints: Vec::new(),
            expects: None,
            settings: Vec::new(),
        };
        let seen = self.seen.get(&ptr::from_ref(bound));
        let Some(seen) = seen.filter(|_| !behind) else {
            place.standing = if behind { Standing::Behind } else { Standing::Unasked };
            return place;
        };
        let (state, fault) = match &seen.state {
            State::Pending => ("pending", None),
            State::Neg => ("negative", None),
            State::Failed(why) => ("failed", Some(why.to_string())),
            State::Up | State::Down | State::Spent => ("bound", None),
        };
        let known = self.router.inner.namers.known(bound.path());
        place.standing = self.standing(seen);
        place.state = Some(state.to_owned());
        place.age_ms = known.as_ref().and_then(|known| known.age_ms);
        place.next_ms = known.as_ref().and_then(|known| known.next_ms);
        place.last_error = known.and_then(|known| known.last_error).or(fault);
        if state == "bound" {
            place.endpoints = seen.way.endpoints().into_iter().map(Endpoint::from).collect();
        }
        if self.side == Direction::Outbound {
            place.expects = Some(match seen.way.expectation() {
                Ok(expectation) => Expects::by(expectation),
                Err(rule) => Expects::Refused(rule.to_string()),
            });
            place.settings = settings(seen.way.settings());
        }
        place
    }

    fn standing(&self, seen: &Seen<'_>) -> Standing {
        let is_reached = self.reached.contains(&ptr::from_ref(seen.bound));
        match &seen.state {
            State::Neg => Standing::Absent,
            State::Down if !is_reached => Standing::Down,
            _ if !is_reached => Standing::PassedOver,
            State::Pending => Standing::Waited,
            _ if self.reached.len() > 1 => Standing::Drawn,
            _ => Standing::Taken,
        }
    }
}
