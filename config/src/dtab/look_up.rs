//! A name through a table to bound names. The work is bounded however the table is written: by
//! depth, and by a budget of steps, for a table can double at each level. Names that come back to
//! themselves are a loop, and an error; nothing is guessed and nothing is asked of a namer.

use super::{Bound, Dtab, Leaf, LookUpError, NameTree, Rule};
use adit_protocol::{Captures, Name};

/// Rules one after another; Linkerd's bound.
const MAX_DEPTH: usize = 100;

/// Branches and leaves in all. A written table needs tens; a doubling one is stopped in
/// milliseconds.
const MAX_STEPS: usize = 10_000;

/// Trees within trees, over all rules of a chain: two for each rule and some parentheses. It bounds
/// the recursion, which a stack of 2 MiB holds with room.
const MAX_NESTING: usize = 250;

/// How many rules a look-up that was too deep names.
const RULES_NAMED: usize = 5;

/// See [`Dtab::look_up`].
pub(super) fn look_up(dtab: &Dtab, name: &Name) -> Result<NameTree<Bound>, LookUpError> {
    let mut walk = Walk { dtab, asked: name, trail: Vec::new(), steps: 0, nesting: 0 };
    match walk.delegate(name)? {
        NameTree::Neg => Err(LookUpError::NoSuchName(name.clone())),
        NameTree::Fail => Err(LookUpError::Forbidden(name.clone())),
        NameTree::Empty => Err(LookUpError::Empty(name.clone())),
        tree => Ok(tree),
    }
}

/// A look-up under way.
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
    captures: Captures,
    rest: &'a str,
}

impl Walk<'_> {
    /// Where `name` leads: the rules that match it, the last one first.
    fn delegate(&mut self, name: &Name) -> Result<NameTree<Bound>, LookUpError> {
        if name.is_bound() {
            return self.bind(name);
        }
        self.check(name)?;
        let mut branches = Vec::new();
        for (rule, entry) in self.dtab.entries.iter().enumerate().rev() {
            let Some((captures, taken)) = entry.take(name) else {
                continue;
            };
            let fit = Fit { rule, captures, rest: after(name.as_str(), taken) };
            self.trail.push((name.clone(), rule));
            branches.push(self.grow(&entry.tree, &fit)?);
            self.trail.pop();
        }
        Ok(NameTree::alt(branches))
    }

    /// A rule's tree with every leaf followed to its end.
    fn grow(&mut self, tree: &NameTree<Leaf>, fit: &Fit<'_>) -> Result<NameTree<Bound>, LookUpError> {
        self.step()?;
        self.nesting += 1;
        let grown = match tree {
            NameTree::Leaf(leaf) => self.follow(leaf, fit)?,
            NameTree::Alt(branches) => NameTree::alt(self.grow_each(branches, fit)?),
            NameTree::Failover(branches) => NameTree::failover(self.grow_each(branches, fit)?),
            NameTree::Union(branches) => self.grow_union(branches, fit)?,
            NameTree::Neg => NameTree::Neg,
            NameTree::Fail => NameTree::Fail,
            NameTree::Empty => NameTree::Empty,
        };
        self.nesting -= 1;
        Ok(grown)
    }

    fn grow_each(&mut self, branches: &[NameTree<Leaf>], fit: &Fit<'_>) -> Result<Vec<NameTree<Bound>>, LookUpError> {
        let mut grown = Vec::with_capacity(branches.len());
        for branch in branches {
            grown.push(self.grow(branch, fit)?);
        }
        Ok(grown)
    }

    fn grow_union(
        &mut self,
        branches: &[(f64, NameTree<Leaf>)],
        fit: &Fit<'_>,
    ) -> Result<NameTree<Bound>, LookUpError> {
        let mut grown = Vec::with_capacity(branches.len());
        for (weight, branch) in branches {
            grown.push((*weight, self.grow(branch, fit)?));
        }
        Ok(NameTree::union(grown))
    }

    /// The destination, filled in, with what the prefix left over behind it; nothing at all is `~`.
    fn follow(&mut self, leaf: &Leaf, fit: &Fit<'_>) -> Result<NameTree<Bound>, LookUpError> {
        // The parser has checked that the prefix makes each capture.
        let filled = leaf.0.expand(&fit.captures).unwrap_or_default();
        let made = format!("{}{}", filled.trim_end_matches('/'), fit.rest);
        if made.is_empty() {
            return Ok(NameTree::Neg);
        }
        match Name::parse(&made) {
            Ok(name) => self.delegate(&name),
            Err(cause) => Err(LookUpError::BadName { rule: self.dtab.rule(fit.rule), made, cause }),
        }
    }

    fn bind(&self, name: &Name) -> Result<NameTree<Bound>, LookUpError> {
        Bound::parse(name).map(NameTree::Leaf).map_err(|cause| LookUpError::BadBound {
            name: name.clone(),
            rule: self.trail.last().map(|(_, rule)| self.dtab.rule(*rule)),
            cause,
        })
    }

    /// Refuses a name that is already being rewritten, and one too far down.
    fn check(&self, name: &Name) -> Result<(), LookUpError> {
        if let Some(start) = self.trail.iter().position(|(above, _)| above == name) {
            let rules = self.trail[start..].iter().map(|(_, rule)| self.dtab.rule(*rule)).collect();
            return Err(LookUpError::Loop { name: name.clone(), rules });
        }
        if self.trail.len() >= MAX_DEPTH {
            return Err(self.too_deep());
        }
        Ok(())
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
