//! A name through a table to bound names, every rewriting step kept. The work is bounded however the table is written: by
//! depth, and by a budget of steps, for a table can double at each level. Names that come back to
//! themselves are a loop, and an error; nothing is guessed and nothing is asked of a namer.

use super::{Bound, Dtab, Leaf, LookUpError, NameTree, Rule};
use adit_protocol::{Captures, Name};

/// Rules one after another; Linkerd's bound.
const MAX_DEPTH: usize = 100;

/// Branches and leaves in all. A written table needs tens; a doubling one is stopped in
/// milliseconds.
const MAX_STEPS: usize = 10_000;

/// Asking so many rules whether they match counts as one more step: a long table is stopped as soon as a short one.
const RULES_PER_STEP: usize = 1_000;

/// Trees within trees, over all rules of a chain: two for each rule and some parentheses. It bounds
/// the recursion, which a stack of 2 MiB holds with room.
const MAX_NESTING: usize = 250;

/// How many rules a look-up that was too deep names.
const RULES_NAMED: usize = 5;

/// Whom a name leads to and by which rules: the whole tree of rewriting steps, in the order in which they count.
#[derive(Clone, Debug, PartialEq)]
pub struct Delegation {
    /// The name that is rewritten. Where a rule made something that is no name, the name it made it of.
    pub name: Name,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// What becomes of a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is bound: a namer is asked.
    Bound(Bound),
    /// These rules match it, the first one counts most; none: no rule knows it.
    Rules(Vec<Step>),
    /// It leads to no bound name.
    Wrong(LookUpError),
}

/// What a rule makes of a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The rule, by its index in [`Dtab::entries`].
    pub rule: usize,
    /// Its tree, filled in, each leaf followed to its end.
    pub tree: NameTree<Delegation>,
}

impl Delegation {
    /// See [`Dtab::delegate`].
    pub(super) fn of(dtab: &Dtab, name: &Name) -> Self {
        let mut walk = Walk { dtab, asked: name, trail: Vec::new(), steps: 0, nesting: 0 };
        // Of a table that goes beyond the budget nothing is worth showing but that.
        walk.delegate(name).unwrap_or_else(|beyond| Self::wrong(name, beyond))
    }

    fn wrong(name: &Name, cause: LookUpError) -> Self {
        Self { name: name.clone(), outcome: Outcome::Wrong(cause) }
    }

    /// Whom the name leads to: what is left of the steps when each alternative and union is taken by its rule. What
    /// stands behind a `!` or `$` is never reached, and not looked at.
    ///
    /// # Errors
    /// See [`Dtab::look_up`].
    pub fn leads(&self) -> Result<NameTree<&Bound>, LookUpError> {
        match self.settled()? {
            NameTree::Neg => Err(LookUpError::NoSuchName(self.name.clone())),
            NameTree::Fail => Err(LookUpError::Forbidden(self.name.clone())),
            NameTree::Empty => Err(LookUpError::Empty(self.name.clone())),
            tree => Ok(tree),
        }
    }

    /// Whether a branch stops alternatives: nothing that stands behind it is ever reached.
    #[must_use]
    pub fn stops(branch: &NameTree<Self>) -> bool {
        matches!(settle(branch), Ok(NameTree::Fail | NameTree::Empty))
    }

    fn settled(&self) -> Result<NameTree<&Bound>, LookUpError> {
        match &self.outcome {
            Outcome::Bound(bound) => Ok(NameTree::Leaf(bound)),
            Outcome::Rules(steps) => Ok(NameTree::alt(settle_each(steps.iter().map(|step| &step.tree))?)),
            Outcome::Wrong(cause) => Err(cause.clone()),
        }
    }
}

fn settle(tree: &NameTree<Delegation>) -> Result<NameTree<&Bound>, LookUpError> {
    Ok(match tree {
        NameTree::Leaf(delegation) => delegation.settled()?,
        NameTree::Alt(branches) => NameTree::alt(settle_each(branches)?),
        NameTree::Failover(branches) => NameTree::failover(settle_each(branches)?),
        NameTree::Union(branches) => {
            let settled = branches.iter().map(|(weight, branch)| Ok((*weight, settle(branch)?)));
            NameTree::union(settled.collect::<Result<Vec<_>, _>>()?)
        }
        NameTree::Neg => NameTree::Neg,
        NameTree::Fail => NameTree::Fail,
        NameTree::Empty => NameTree::Empty,
    })
}

/// Alternatives, up to the first that stops them.
fn settle_each<'a>(
    branches: impl IntoIterator<Item = &'a NameTree<Delegation>>,
) -> Result<Vec<NameTree<&'a Bound>>, LookUpError> {
    let mut settled = Vec::new();
    for branch in branches {
        settled.push(settle(branch)?);
        if matches!(settled.last(), Some(NameTree::Fail | NameTree::Empty)) {
            break;
        }
    }
    Ok(settled)
}

/// A look-up under way. Its errors are those of the budget; all others stand in the tree, where they belong.
struct Walk<'a> {
    dtab: &'a Dtab,
    asked: &'a Name,
    /// The names being rewritten, outermost first, each with the rule that is taken.
    trail: Vec<(Name, usize)>,
    steps: usize,
    nesting: usize,
}

/// How a rule's prefix fits a name: what it captured and what it left over.
struct Fit<'a> {
    rule: usize,
    name: &'a Name,
    captures: Captures,
    rest: &'a str,
}

impl Walk<'_> {
    /// Where `name` leads: the rules that match it, the last one first.
    fn delegate(&mut self, name: &Name) -> Result<Delegation, LookUpError> {
        let outcome = if name.is_bound() {
            self.bind(name)
        } else if let Some(looping) = self.looping(name) {
            Outcome::Wrong(looping)
        } else {
            Outcome::Rules(self.follow_rules(name)?)
        };
        Ok(Delegation { name: name.clone(), outcome })
    }

    fn follow_rules(&mut self, name: &Name) -> Result<Vec<Step>, LookUpError> {
        if self.trail.len() >= MAX_DEPTH {
            return Err(self.too_deep());
        }
        self.steps += self.dtab.entries.len() / RULES_PER_STEP;
        let mut steps = Vec::new();
        for (rule, entry) in self.dtab.entries.iter().enumerate().rev() {
            let Some((captures, taken)) = entry.take(name) else {
                continue;
            };
            let fit = Fit { rule, name, captures, rest: after(name.as_str(), taken) };
            self.trail.push((name.clone(), rule));
            steps.push(Step { rule, tree: self.grow(&entry.tree, &fit)? });
            self.trail.pop();
        }
        Ok(steps)
    }

    /// A rule's tree with every leaf followed to its end.
    fn grow(&mut self, tree: &NameTree<Leaf>, fit: &Fit<'_>) -> Result<NameTree<Delegation>, LookUpError> {
        self.step()?;
        self.nesting += 1;
        let grown = match tree {
            NameTree::Leaf(leaf) => self.follow(leaf, fit)?,
            NameTree::Alt(branches) => NameTree::Alt(self.grow_each(branches, fit)?),
            NameTree::Failover(branches) => NameTree::Failover(self.grow_each(branches, fit)?),
            NameTree::Union(branches) => {
                let grown = branches.iter().map(|(weight, branch)| Ok((*weight, self.grow(branch, fit)?)));
                NameTree::Union(grown.collect::<Result<_, _>>()?)
            }
            NameTree::Neg => NameTree::Neg,
            NameTree::Fail => NameTree::Fail,
            NameTree::Empty => NameTree::Empty,
        };
        self.nesting -= 1;
        Ok(grown)
    }

    fn grow_each(
        &mut self,
        branches: &[NameTree<Leaf>],
        fit: &Fit<'_>,
    ) -> Result<Vec<NameTree<Delegation>>, LookUpError> {
        branches.iter().map(|branch| self.grow(branch, fit)).collect()
    }

    /// The destination, filled in, with what the prefix left over behind it; nothing at all is `~`.
    fn follow(&mut self, leaf: &Leaf, fit: &Fit<'_>) -> Result<NameTree<Delegation>, LookUpError> {
        // The parser has checked that the prefix makes each capture.
        let filled = leaf.0.expand(&fit.captures).unwrap_or_default();
        let made = format!("{}{}", filled.trim_end_matches('/'), fit.rest);
        if made.is_empty() {
            return Ok(NameTree::Neg);
        }
        match Name::parse(&made) {
            Ok(name) => self.delegate(&name).map(NameTree::Leaf),
            Err(cause) => {
                let cause = LookUpError::BadName { rule: self.dtab.rule(fit.rule), made, cause };
                Ok(NameTree::Leaf(Delegation::wrong(fit.name, cause)))
            }
        }
    }

    fn bind(&self, name: &Name) -> Outcome {
        let rule = || self.trail.last().map(|(_, rule)| self.dtab.rule(*rule));
        match Bound::parse(name) {
            Ok(bound) => Outcome::Bound(bound),
            Err(cause) => Outcome::Wrong(LookUpError::BadBound { name: name.clone(), rule: rule(), cause }),
        }
    }

    /// Whether a name is already being rewritten, and by which rules it came back.
    fn looping(&self, name: &Name) -> Option<LookUpError> {
        let start = self.trail.iter().position(|(above, _)| above == name)?;
        let rules = self.trail[start..].iter().map(|(_, rule)| self.dtab.rule(*rule)).collect();
        Some(LookUpError::Loop { name: name.clone(), rules })
    }

    fn step(&mut self) -> Result<(), LookUpError> {
        self.steps += 1;
        if self.nesting >= MAX_NESTING {
            return Err(self.too_deep());
        }
        if self.steps > MAX_STEPS {
            return Err(LookUpError::TooMany { name: self.asked.clone(), budget: MAX_STEPS });
        }
        Ok(())
    }

    fn too_deep(&self) -> LookUpError {
        LookUpError::TooDeep { name: self.asked.clone(), rules: self.last_rules() }
    }

    /// The last few rules taken, each once, in order.
    fn last_rules(&self) -> Vec<Rule> {
        let mut last: Vec<usize> = Vec::new();
        for (_, rule) in self.trail.iter().rev() {
            if !last.contains(rule) && last.len() < RULES_NAMED {
                last.insert(0, *rule);
            }
        }
        last.into_iter().map(|rule| self.dtab.rule(rule)).collect()
    }
}

/// A path from its segment number `taken` on, with its leading `/`, or nothing.
fn after(path: &str, taken: usize) -> &str {
    path.match_indices('/').nth(taken).map_or("", |(at, _)| &path[at..])
}
