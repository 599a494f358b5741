//! A resolved tree to one of its leaves, by what is known of them now. Pure: the states of the
//! leaves and the random numbers are arguments. It never waits; it says what to wait for.

use adit_config::dtab::NameTree;

/// What is known of a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State<E> {
    /// It has addresses.
    Ready,
    /// Nothing is known yet.
    Pending,
    /// It does not exist.
    Neg,
    /// It could not be found out, and why.
    Failed(E),
}

/// What comes of a tree.
#[derive(Debug, PartialEq)]
pub(super) enum Choice<'a, T, E> {
    /// This leaf takes the stream.
    Use(&'a T),
    /// Nothing can be said before this leaf is known.
    Wait(&'a T),
    /// The namer of this leaf failed; that is an error and no reason to go on to the next.
    Failed(&'a T, E),
    /// Nothing there.
    Neg,
    /// `!`
    Fail,
    /// `$`
    Empty,
}

/// The leaf for one stream: of alternatives the first that is there, of a union one by weight.
/// `random` gives numbers from 0 up to, not including, 1.
pub(super) fn choose<'a, T, E>(
    tree: &'a NameTree<T>,
    state: &impl Fn(&T) -> State<E>,
    random: &mut impl FnMut() -> f64,
) -> Choice<'a, T, E> {
    match tree {
        NameTree::Leaf(leaf) => match state(leaf) {
            State::Ready => Choice::Use(leaf),
            State::Pending => Choice::Wait(leaf),
            State::Neg => Choice::Neg,
            State::Failed(why) => Choice::Failed(leaf, why),
        },
        NameTree::Alt(branches) | NameTree::Failover(branches) => {
            let first = branches.iter().find(|branch| outlook(branch, state) != Outlook::Neg);
            first.map_or(Choice::Neg, |branch| choose(branch, state, random))
        }
        NameTree::Union(branches) => {
            draw(branches, state, random()).map_or(Choice::Neg, |branch| choose(branch, state, random))
        }
        NameTree::Neg => Choice::Neg,
        NameTree::Fail => Choice::Fail,
        NameTree::Empty => Choice::Empty,
    }
}

/// What a tree will come to, whatever is drawn in it.
#[derive(Clone, Copy, PartialEq)]
enum Outlook {
    /// To nothing; ask the next.
    Neg,
    /// To `!`.
    Fail,
    /// To something: a leaf, a wait, an error, `$`.
    Alive,
}

/// Looks at each leaf once, so a choice costs no more than leaves times depth.
fn outlook<T, E>(tree: &NameTree<T>, state: &impl Fn(&T) -> State<E>) -> Outlook {
    match tree {
        NameTree::Leaf(leaf) if matches!(state(leaf), State::Neg) => Outlook::Neg,
        NameTree::Leaf(_) | NameTree::Empty => Outlook::Alive,
        NameTree::Alt(branches) | NameTree::Failover(branches) => {
            let mut outlooks = branches.iter().map(|branch| outlook(branch, state));
            outlooks.find(|outlook| *outlook != Outlook::Neg).unwrap_or(Outlook::Neg)
        }
        NameTree::Union(branches) if branches.iter().any(|(_, branch)| is_alive(branch, state)) => Outlook::Alive,
        NameTree::Union(_) | NameTree::Neg => Outlook::Neg,
        NameTree::Fail => Outlook::Fail,
    }
}

/// Whether a union may draw this branch.
fn is_alive<T, E>(branch: &NameTree<T>, state: &impl Fn(&T) -> State<E>) -> bool {
    outlook(branch, state) == Outlook::Alive
}

/// A living branch by weight. When all that live weigh nothing, the first of them.
fn draw<'a, T, E>(
    branches: &'a [(f64, NameTree<T>)],
    state: &impl Fn(&T) -> State<E>,
    random: f64,
) -> Option<&'a NameTree<T>> {
    let alive = || branches.iter().filter(|(_, branch)| is_alive(branch, state));
    let total: f64 = alive().map(|(weight, _)| weight).sum();
    let mut left = random * total;
    let drawn = alive().find(|(weight, _)| {
        let hit = left < *weight;
        left -= weight;
        hit
    });
    drawn.or_else(|| alive().next()).map(|(_, branch)| branch)
}

#[cfg(test)]
mod tests {
    use super::NameTree::{Alt, Empty, Fail, Leaf, Union};
    use super::*;
    use proptest::prelude::*;

    type Tree = NameTree<&'static str>;

    /// A leaf's state by its first letter.
    fn state(leaf: &&str) -> State<&'static str> {
        match leaf.as_bytes()[0] {
            b'r' => State::Ready,
            b'p' => State::Pending,
            b'n' => State::Neg,
            _ => State::Failed("servfail"),
        }
    }

    fn chosen(tree: &Tree, random: f64) -> Choice<'_, &'static str, &'static str> {
        choose(tree, &state, &mut || random)
    }

    #[test]
    fn an_alternative_goes_on_only_past_what_is_not_there() {
        let rows = [
            (Alt(vec![Leaf("n"), Leaf("r")]), Choice::Use(&"r")),
            (Alt(vec![Leaf("r1"), Leaf("r2")]), Choice::Use(&"r1")),
            (Alt(vec![Leaf("n"), Leaf("p"), Leaf("r")]), Choice::Wait(&"p")),
            (Alt(vec![Leaf("f"), Leaf("r")]), Choice::Failed(&"f", "servfail")),
            (Alt(vec![Leaf("n"), Fail]), Choice::Fail),
            (Alt(vec![Leaf("n"), Empty]), Choice::Empty),
            (Alt(vec![Leaf("n1"), Leaf("n2")]), Choice::Neg),
        ];
        for (tree, expected) in rows {
            assert_eq!(chosen(&tree, 0.0), expected, "{tree}");
        }
    }

    #[test]
    fn a_union_draws_by_weight_among_what_is_there() {
        let tree = Union(vec![(1.0, Leaf("r1")), (5.0, Leaf("n")), (3.0, Leaf("r2")), (9.0, Fail)]);
        assert_eq!(chosen(&tree, 0.24), Choice::Use(&"r1"));
        assert_eq!(chosen(&tree, 0.26), Choice::Use(&"r2"));
        assert_eq!(chosen(&Union(vec![(1.0, Leaf("n")), (1.0, Fail)]), 0.5), Choice::Neg);
    }

    #[test]
    fn a_weight_of_nothing_is_drawn_only_when_nothing_else_is_there() {
        let spare = Union(vec![(0.0, Leaf("r1")), (1.0, Leaf("r2"))]);
        assert_eq!(chosen(&spare, 0.0), Choice::Use(&"r2"));
        let alone = Union(vec![(0.0, Leaf("r1")), (1.0, Leaf("n"))]);
        assert_eq!(chosen(&alone, 0.999), Choice::Use(&"r1"));
    }

    #[test]
    fn a_union_that_may_come_to_nothing_lets_the_next_alternative_in() {
        let tree = Alt(vec![Union(vec![(1.0, Leaf("n")), (1.0, Fail)]), Leaf("r")]);
        assert_eq!(chosen(&tree, 0.0), Choice::Use(&"r"));
        let waiting = Union(vec![(1.0, Alt(vec![Leaf("n"), Leaf("p")])), (1.0, Leaf("r"))]);
        assert_eq!(chosen(&waiting, 0.0), Choice::Wait(&"p"));
    }

    proptest! {
        #[test]
        fn shares_follow_the_weights(seed: u64, one in 1_u32..20, other in 1_u32..20) {
            let (one, other) = (f64::from(one), f64::from(other));
            let tree = Union(vec![(one, Leaf("r1")), (other, Leaf("r2"))]);
            let mut rng = fastrand::Rng::with_seed(seed);
            let hits = (0..4000).filter(|_| chosen(&tree, rng.f64()) == Choice::Use(&"r1")).count();
            let share = f64::from(u32::try_from(hits).unwrap()) / 4000.0;
            prop_assert!((share - one / (one + other)).abs() < 0.05, "{share} for {one}:{other}");
        }
    }
}
