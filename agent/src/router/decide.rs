//! A resolved tree to one of its leaves, by what is known of them now. Pure: the states of the
//! leaves and the random numbers are arguments. It never waits; it says what to wait for.

use adit_config::dtab::NameTree;

/// What is known of a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State<E> {
    /// It has addresses, and an endpoint that is up.
    Up,
    /// It has addresses, and all of them failed just now.
    Down,
    /// Nothing is known yet.
    Pending,
    /// It does not exist.
    Neg,
    /// It could not be found out, and why.
    Failed(E),
    /// This stream has already tried all that it has.
    Spent,
}

/// What comes of a tree.
#[derive(Debug, PartialEq)]
pub(super) enum Choice<'a, T, E> {
    /// This leaf takes the stream.
    Use(&'a T),
    /// Nothing can be said before this leaf is known.
    Wait(&'a T),
    /// The namer of this leaf failed, and nothing is left to go on to.
    Failed(&'a T, E),
    /// Nothing there.
    Neg,
    /// `!`
    Fail,
    /// `$`
    Empty,
    /// Nothing there that this stream has not tried.
    Spent,
}

/// The leaf for one stream: of alternatives the first that is there, or, where they fail over by health, the first that
/// is up; of a union one by weight. `random` gives numbers from 0 up to, not including, 1.
pub(super) fn choose<'a, T, E>(
    tree: &'a NameTree<T>,
    state: &impl Fn(&T) -> State<E>,
    random: &mut impl FnMut() -> f64,
) -> Choice<'a, T, E> {
    match tree {
        NameTree::Leaf(leaf) => match state(leaf) {
            State::Up | State::Down => Choice::Use(leaf),
            State::Pending => Choice::Wait(leaf),
            State::Neg => Choice::Neg,
            State::Failed(why) => Choice::Failed(leaf, why),
            State::Spent => Choice::Spent,
        },
        NameTree::Alt(branches) => {
            first(branches, state).map_or(Choice::Neg, |(branch, _)| choose(branch, state, random))
        }
        NameTree::Failover(branches) => {
            healthiest(branches, state).map_or(Choice::Neg, |(branch, _)| choose(branch, state, random))
        }
        NameTree::Union(branches) => {
            draw(branches, state, random()).map_or(Choice::Neg, |branch| choose(branch, state, random))
        }
        NameTree::Neg => Choice::Neg,
        NameTree::Fail => Choice::Fail,
        NameTree::Empty => Choice::Empty,
    }
}

/// What a tree will come to, whatever is drawn in it; in a union, at the best. What a failover prefers is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outlook {
    /// To nothing; ask the next.
    Neg,
    /// To what this stream has already tried.
    Spent,
    /// To an error, `!` or `$`.
    Lost(Stop),
    /// To endpoints that are all down.
    Down,
    /// To a wait.
    Pending,
    /// To an endpoint that is up.
    Up,
}

/// Why a tree comes to no endpoint, though it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    /// `!`
    Fail,
    /// `$`
    Empty,
    /// A namer failed.
    Failed,
}

/// Looks at each leaf once, so a choice costs no more than leaves times depth.
fn outlook<T, E>(tree: &NameTree<T>, state: &impl Fn(&T) -> State<E>) -> Outlook {
    match tree {
        NameTree::Leaf(leaf) => match state(leaf) {
            State::Up => Outlook::Up,
            State::Down => Outlook::Down,
            State::Pending => Outlook::Pending,
            State::Neg => Outlook::Neg,
            State::Failed(_) => Outlook::Lost(Stop::Failed),
            State::Spent => Outlook::Spent,
        },
        NameTree::Alt(branches) => first(branches, state).map_or(Outlook::Neg, |(_, outlook)| outlook),
        NameTree::Failover(branches) => healthiest(branches, state).map_or(Outlook::Neg, |(_, outlook)| outlook),
        NameTree::Union(branches) => {
            let drawn = branches.iter().map(|(_, branch)| outlook(branch, state)).filter(|outlook| outlook.is_alive());
            drawn.max().unwrap_or(Outlook::Neg)
        }
        NameTree::Neg => Outlook::Neg,
        NameTree::Fail => Outlook::Lost(Stop::Fail),
        NameTree::Empty => Outlook::Lost(Stop::Empty),
    }
}

impl Outlook {
    /// Whether a union may draw it.
    fn is_alive(self) -> bool {
        !matches!(self, Self::Neg | Self::Lost(Stop::Fail))
    }
}

/// The leaves that a choice may come to, whatever is drawn.
pub(super) fn reached<'a, T, E>(tree: &'a NameTree<T>, state: &impl Fn(&T) -> State<E>) -> Vec<&'a T> {
    match tree {
        NameTree::Leaf(leaf) => vec![leaf],
        NameTree::Alt(branches) => first(branches, state).map_or_else(Vec::new, |(branch, _)| reached(branch, state)),
        NameTree::Failover(branches) => {
            healthiest(branches, state).map_or_else(Vec::new, |(branch, _)| reached(branch, state))
        }
        NameTree::Union(branches) => {
            let alive = branches.iter().filter(|(_, branch)| outlook(branch, state).is_alive());
            alive.flat_map(|(_, branch)| reached(branch, state)).collect()
        }
        NameTree::Neg | NameTree::Fail | NameTree::Empty => Vec::new(),
    }
}

/// A branch with what it will come to.
type Seen<'a, T> = (&'a NameTree<T>, Outlook);

/// The first branch that is there.
fn first<'a, T, E>(branches: &'a [NameTree<T>], state: &impl Fn(&T) -> State<E>) -> Option<Seen<'a, T>> {
    let mut seen = branches.iter().map(|branch| (branch, outlook(branch, state)));
    seen.find(|(_, outlook)| *outlook != Outlook::Neg)
}

/// The first branch that is up, or that must be known before anything can be said. Without one: the first that is down,
/// which is tried anyway; else the first that says why it leads nowhere. `!` and `$` end the search.
fn healthiest<'a, T, E>(branches: &'a [NameTree<T>], state: &impl Fn(&T) -> State<E>) -> Option<Seen<'a, T>> {
    let mut best: Option<Seen<'a, T>> = None;
    for branch in branches {
        let outlook = outlook(branch, state);
        let rank = |outlook: Outlook| match outlook {
            Outlook::Lost(_) => Outlook::Lost(Stop::Fail),
            other => other,
        };
        if outlook != Outlook::Neg && best.is_none_or(|(_, best)| rank(outlook) > rank(best)) {
            best = Some((branch, outlook));
        }
        match outlook {
            Outlook::Up | Outlook::Pending | Outlook::Lost(Stop::Fail | Stop::Empty) => return best,
            Outlook::Neg | Outlook::Spent | Outlook::Lost(Stop::Failed) | Outlook::Down => {}
        }
    }
    best
}

/// A living branch by weight, one that this stream has not tried while there is one. When all of them weigh nothing,
/// the first.
fn draw<'a, T, E>(
    branches: &'a [(f64, NameTree<T>)],
    state: &impl Fn(&T) -> State<E>,
    random: f64,
) -> Option<&'a NameTree<T>> {
    let fresh = |outlook: Outlook| outlook.is_alive() && outlook != Outlook::Spent;
    let is_fresh = |branch: &NameTree<T>| fresh(outlook(branch, state));
    let total: f64 = branches.iter().filter(|(_, branch)| is_fresh(branch)).map(|(weight, _)| weight).sum();
    let mut left = random * total;
    let drawn = branches.iter().filter(|(_, branch)| is_fresh(branch)).find(|(weight, _)| {
        let hit = left < *weight;
        left -= weight;
        hit
    });
    let spare = || branches.iter().find(|(_, branch)| is_fresh(branch));
    let spent = || branches.iter().find(|(_, branch)| outlook(branch, state) == Outlook::Spent);
    drawn.or_else(spare).or_else(spent).map(|(_, branch)| branch)
}

#[cfg(test)]
mod tests {
    use super::NameTree::{Alt, Empty, Fail, Leaf, Union};
    use super::*;
    use adit_config::dtab::{Dtab, LookUpError};
    use adit_protocol::Name;
    use proptest::prelude::*;

    type Tree = NameTree<&'static str>;

    /// A leaf's state by its first letter.
    fn state(leaf: &&str) -> State<&'static str> {
        match leaf.as_bytes()[0] {
            b'r' => State::Up,
            b'd' => State::Down,
            b'p' => State::Pending,
            b'n' => State::Neg,
            b's' => State::Spent,
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

    /// What a tree that a rule writes so comes to, in a word; its leaves are named by their state.
    fn outcome(text: &str) -> String {
        let path = |letter: char| if letter.is_ascii_lowercase() { format!("/$/unix/{letter}") } else { letter.into() };
        let rule: String = ["/x => "].into_iter().map(str::to_owned).chain(text.chars().map(path)).collect();
        let tree = Dtab::parse(&rule).unwrap().look_up(&Name::parse("/x").unwrap());
        let tree = match tree {
            Ok(tree) => tree.map(&mut |bound| bound.path().segments().last().unwrap().to_owned()),
            Err(LookUpError::Forbidden(_)) => Fail,
            Err(LookUpError::Empty(_)) => Empty,
            Err(error) => panic!("{error}"),
        };
        match choose(&tree, &|leaf: &String| state(&leaf.as_str()), &mut || 0.0) {
            Choice::Use(leaf) => leaf.clone(),
            Choice::Wait(leaf) => format!("wait for {leaf}"),
            Choice::Failed(leaf, _) => format!("{leaf} failed"),
            Choice::Neg => "~".to_owned(),
            Choice::Fail => "!".to_owned(),
            Choice::Empty => "$".to_owned(),
            Choice::Spent => "spent".to_owned(),
        }
    }

    #[test]
    fn a_failover_goes_past_whatever_is_not_up_and_comes_back_to_the_first_that_is_only_down() {
        let rows = [
            // Two branches, every combination of states.
            ("r1 || r2", "r1"),
            ("r1 || d1", "r1"),
            ("r1 || p", "r1"),
            ("r1 || n", "r1"),
            ("r1 || f1", "r1"),
            ("r1 || s", "r1"),
            ("r1 || !", "r1"),
            ("d1 || r1", "r1"),
            ("d1 || d2", "d1"),
            ("d1 || p", "wait for p"),
            ("d1 || n", "d1"),
            ("d1 || f1", "d1"),
            ("d1 || s", "d1"),
            ("d1 || !", "d1"),
            ("d1 || $", "d1"),
            ("p || r1", "wait for p"),
            ("p || d1", "wait for p"),
            ("p || f1", "wait for p"),
            ("n || r1", "r1"),
            ("n || d1", "d1"),
            ("n || p", "wait for p"),
            ("n || n", "~"),
            ("n || f1", "f1 failed"),
            ("n || s", "spent"),
            ("n || !", "!"),
            ("n || $", "$"),
            ("f1 || r1", "r1"),
            ("f1 || d1", "d1"),
            ("f1 || p", "wait for p"),
            ("f1 || n", "f1 failed"),
            ("f1 || f2", "f1 failed"),
            ("f1 || s", "f1 failed"),
            ("f1 || !", "f1 failed"),
            ("s || r1", "r1"),
            ("s || d1", "d1"),
            ("s || p", "wait for p"),
            ("s || n", "spent"),
            ("s || f1", "f1 failed"),
            ("s || s", "spent"),
            ("s || !", "!"),
            ("! || r1", "!"),
            ("$ || r1", "$"),
            ("~ || r1", "r1"),
            // More of them, and within one another.
            ("d1 || f1 || r1", "r1"),
            ("d1 || ! || r1", "d1"),
            ("(d1 || n) || r1", "r1"),
            ("(d1 || d2) || r1", "r1"),
            ("(d1 | r1) || r2", "r2"),
            ("(n | d1) || d2", "d1"),
            ("(n | !) || r1", "!"),
            ("(d1 || r1) | r2", "r1"),
            ("(d1 || n) | r2", "d1"),
            ("(n || n) | r2", "r2"),
            ("(s || s) | r2", "spent"),
            ("s | r1", "spent"),
            ("d1 | r1", "d1"),
            ("f1 | r1", "f1 failed"),
            ("(d1 & d2) || r1", "r1"),
            ("(s & r1) || r2", "r1"),
            ("(s & s) || r2", "r2"),
            ("(f1 & n) || d1", "d1"),
            ("(! & n) || r1", "r1"),
            ("s & r1", "r1"),
            ("s & !", "spent"),
            ("d1 || (d2 | r1)", "d1"),
            ("d1 || (n | r1)", "r1"),
            ("d1 || (p & r1)", "wait for p"),
        ];
        for (text, expected) in rows {
            assert_eq!(outcome(text), expected, "{text}");
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

    /// Trees whose leaves are named by their state.
    fn tree() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![
            6 => prop::sample::select(vec!["r", "d", "p", "n", "f"]).prop_map(Leaf),
            1 => Just(Fail),
            1 => Just(Empty),
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            let branches = || prop::collection::vec(inner.clone(), 1..4);
            prop_oneof![
                branches().prop_map(Alt),
                branches().prop_map(NameTree::Failover),
                prop::collection::vec((0.0..3.0, inner), 1..4).prop_map(Union),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_choice_is_one_of_those_that_are_reached(tree in tree(), random in 0.0..1.0) {
            let reached = reached(&tree, &state);
            if let Choice::Use(leaf) | Choice::Wait(leaf) | Choice::Failed(leaf, _) = chosen(&tree, random) {
                prop_assert!(reached.iter().any(|one| std::ptr::eq(*one, leaf)), "{leaf} of {tree}");
            }
        }

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
