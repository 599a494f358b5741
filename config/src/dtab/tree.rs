//! A tree of alternatives: what stands to the right of `=>`, and what a look-up answers with. Generic over its leaves,
//! so that the table as written and the table as resolved obey one set of rules. It never resolves anything itself.

use std::fmt;

/// A tree of leaves, tried in order or drawn by weight.
#[derive(Clone, Debug, PartialEq)]
pub enum NameTree<T> {
    /// One destination.
    Leaf(T),
    /// `a | b`: the first that is not [`NameTree::Neg`].
    Alt(Vec<NameTree<T>>),
    /// `a || b`: the first that is not [`NameTree::Neg`] and has an endpoint that is up; with all of them down, the first
    /// that is not [`NameTree::Neg`].
    Failover(Vec<NameTree<T>>),
    /// `2 * a & 1 * b`: one of them, drawn by weight for each connection; a weight is finite and not negative.
    Union(Vec<(f64, NameTree<T>)>),
    /// `~`: there is nothing here, ask the next.
    Neg,
    /// `!`: it is forbidden, stop.
    Fail,
    /// `$`: it exists and has no address, stop.
    Empty,
}

impl<T> NameTree<T> {
    /// The alternatives as one tree: what is `~` is left out, what follows a `!` or `$` can never be reached.
    #[must_use]
    pub fn alt(branches: impl IntoIterator<Item = Self>) -> Self {
        only(reachable(branches), |branch| branch).unwrap_or_else(Self::Alt)
    }

    /// The same for alternatives that fail over by health.
    #[must_use]
    pub fn failover(branches: impl IntoIterator<Item = Self>) -> Self {
        only(reachable(branches), |branch| branch).unwrap_or_else(Self::Failover)
    }

    /// The weighted branches as one tree: `~` and `!` are dropped; with nothing left it is `~`. A union of one branch
    /// is that branch, `!` included.
    #[must_use]
    pub fn union(branches: impl IntoIterator<Item = (f64, Self)>) -> Self {
        let all: Vec<_> = branches.into_iter().collect();
        if all.len() == 1 {
            return only(all, |(_, branch)| branch).unwrap_or_else(Self::Union);
        }
        let kept = all.into_iter().filter(|(_, branch)| !matches!(branch, Self::Neg | Self::Fail)).collect();
        only(kept, |(_, branch)| branch).unwrap_or_else(Self::Union)
    }

    /// The same tree with other leaves.
    pub fn map<U>(self, leaf: &mut impl FnMut(T) -> U) -> NameTree<U> {
        match self {
            Self::Leaf(it) => NameTree::Leaf(leaf(it)),
            Self::Alt(branches) => NameTree::Alt(branches.into_iter().map(|branch| branch.map(leaf)).collect()),
            Self::Failover(branches) => {
                NameTree::Failover(branches.into_iter().map(|branch| branch.map(leaf)).collect())
            }
            Self::Union(branches) => {
                NameTree::Union(branches.into_iter().map(|(weight, branch)| (weight, branch.map(leaf))).collect())
            }
            Self::Neg => NameTree::Neg,
            Self::Fail => NameTree::Fail,
            Self::Empty => NameTree::Empty,
        }
    }

    /// Every leaf, left to right.
    pub fn leaves(&self) -> Vec<&T> {
        match self {
            Self::Leaf(leaf) => vec![leaf],
            Self::Alt(branches) | Self::Failover(branches) => branches.iter().flat_map(Self::leaves).collect(),
            Self::Union(branches) => branches.iter().flat_map(|(_, branch)| branch.leaves()).collect(),
            Self::Neg | Self::Fail | Self::Empty => Vec::new(),
        }
    }
}

/// Without what is `~`, and without what follows a `!` or `$`.
fn reachable<T>(branches: impl IntoIterator<Item = NameTree<T>>) -> Vec<NameTree<T>> {
    let mut kept = Vec::new();
    for branch in branches {
        match branch {
            NameTree::Neg => {}
            NameTree::Fail | NameTree::Empty => {
                kept.push(branch);
                break;
            }
            _ => kept.push(branch),
        }
    }
    kept
}

/// None is `~`, one is itself; more are handed back.
fn only<T, B>(mut branches: Vec<B>, tree: impl FnOnce(B) -> NameTree<T>) -> Result<NameTree<T>, Vec<B>> {
    match branches.len() {
        0 => Ok(NameTree::Neg),
        1 => Ok(branches.pop().map_or(NameTree::Neg, tree)),
        _ => Err(branches),
    }
}

impl<T: fmt::Display> fmt::Display for NameTree<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaf(leaf) => write!(f, "{leaf}"),
            Self::Alt(branches) => print_alt(branches, f),
            Self::Failover(branches) => print_failover(branches, f),
            Self::Union(branches) => print_union(branches, f),
            Self::Neg => f.write_str("~"),
            Self::Fail => f.write_str("!"),
            Self::Empty => f.write_str("$"),
        }
    }
}

fn print_alt<T: fmt::Display>(branches: &[NameTree<T>], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, branch) in branches.iter().enumerate() {
        f.write_str(if at == 0 { "" } else { " | " })?;
        match branch {
            NameTree::Alt(_) => write!(f, "({branch})")?,
            _ => write!(f, "{branch}")?,
        }
    }
    Ok(())
}

fn print_failover<T: fmt::Display>(branches: &[NameTree<T>], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, branch) in branches.iter().enumerate() {
        f.write_str(if at == 0 { "" } else { " || " })?;
        match branch {
            NameTree::Alt(_) | NameTree::Failover(_) => write!(f, "({branch})")?,
            _ => write!(f, "{branch}")?,
        }
    }
    Ok(())
}

fn print_union<T: fmt::Display>(branches: &[(f64, NameTree<T>)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, (weight, branch)) in branches.iter().enumerate() {
        f.write_str(if at == 0 { "" } else { " & " })?;
        if *weight != 1.0 {
            write!(f, "{weight} * ")?;
        }
        match branch {
            NameTree::Alt(_) | NameTree::Failover(_) | NameTree::Union(_) => write!(f, "({branch})")?,
            _ => write!(f, "{branch}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::NameTree::{Alt, Empty, Fail, Failover, Leaf, Neg, Union};
    use super::*;

    #[test]
    fn an_alternative_leaves_out_what_is_not_there() {
        assert_eq!(NameTree::alt([Neg, Leaf(1), Neg, Leaf(2)]), Alt(vec![Leaf(1), Leaf(2)]));
        assert_eq!(NameTree::alt([Neg, Leaf(1)]), Leaf(1));
        assert_eq!(NameTree::<u8>::alt([]), Neg);
    }

    #[test]
    fn a_stop_ends_an_alternative() {
        assert_eq!(NameTree::alt([Leaf(1), Fail, Leaf(2)]), Alt(vec![Leaf(1), Fail]));
        assert_eq!(NameTree::alt([Empty, Leaf(2)]), Empty);
    }

    #[test]
    fn a_union_drops_its_dead_branches() {
        assert_eq!(NameTree::union([(9.0, Fail), (1.0, Leaf(1)), (1.0, Neg)]), Leaf(1));
        assert_eq!(NameTree::<u8>::union([(9.0, Fail), (1.0, Neg)]), Neg);
        assert_eq!(NameTree::union([(9.0, Leaf(1)), (1.0, Empty)]), Union(vec![(9.0, Leaf(1)), (1.0, Empty)]));
    }

    #[test]
    fn a_mapped_tree_keeps_its_shape() {
        let tree = Alt(vec![Union(vec![(0.5, Leaf(1)), (1.0, Empty)]), Fail]);
        assert_eq!(tree.map(&mut |leaf| leaf * 10).to_string(), "0.5 * 10 & $ | !");
    }

    #[test]
    fn it_prints_with_the_parentheses_it_needs_and_no_others() {
        let inner = Alt(vec![Leaf("/a"), Leaf("/b")]);
        let tree = Alt(vec![Union(vec![(0.5, inner.clone()), (1.0, Leaf("/c"))]), Fail]);
        assert_eq!(tree.to_string(), "0.5 * (/a | /b) & /c | !");
        let spare = Alt(vec![Failover(vec![Leaf("/c"), inner]), Leaf("/d")]);
        assert_eq!(spare.to_string(), "/c || (/a | /b) | /d");
    }
}
