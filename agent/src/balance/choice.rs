//! The power of two choices: of two endpoints drawn at random, the one with fewer open streams.
//! Nearly as even as asking all of them, and its cost does not grow with their number. Pure; the
//! random numbers are arguments.

/// How often two are drawn before all are asked in turn: with half of them out, all draws miss one
/// time in 256.
const DRAWS: usize = 4;

/// The place of the endpoint to use among `count`; `load` gives an endpoint's open streams, or
/// nothing if it is not to be used. None only if none is to be used.
pub(super) fn choose(
    count: usize,
    load: impl Fn(usize) -> Option<usize>,
    mut random: impl FnMut() -> u64,
) -> Option<usize> {
    let drawn = (0..DRAWS).find_map(|_| {
        let (one, other) = two_of(count, random())?;
        lesser([one, other].into_iter(), &load)
    });
    drawn.or_else(|| {
        let start = scaled(random(), count);
        lesser((0..count).map(|step| (start + step) % count), &load)
    })
}

/// The first of those with the least load.
fn lesser(places: impl Iterator<Item = usize>, load: impl Fn(usize) -> Option<usize>) -> Option<usize> {
    let known = places.filter_map(|place| Some((load(place)?, place)));
    known.min_by_key(|(load, _)| *load).map(|(_, place)| place)
}

/// Two different places below `count` (twice the same if there is only one).
fn two_of(count: usize, random: u64) -> Option<(usize, usize)> {
    match count {
        0 => None,
        1 => Some((0, 0)),
        _ => {
            let one = scaled(random, count);
            let other = scaled(random << 32, count - 1);
            Some((one, other + usize::from(other >= one)))
        }
    }
}

/// The upper half of a random number as one below `count`.
fn scaled(random: u64, count: usize) -> usize {
    let wide = u128::from(random >> 32) * count as u128;
    usize::try_from(wide >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_two_the_less_busy_is_chosen() {
        let loads = [3, 1];
        assert_eq!(choose(2, |at| Some(loads[at]), || 0), Some(1));
        assert_eq!(choose(2, |at| Some(loads[at]), || u64::MAX), Some(1));
    }

    #[test]
    fn one_usable_among_many_is_found_whatever_is_drawn() {
        assert_eq!(choose(1000, |at| (at == 777).then_some(5), || 0), Some(777));
        assert_eq!(choose(1000, |_| None, || 0), None);
        assert_eq!(choose(0, |_| Some(0), || 0), None);
    }

    proptest! {
        #[test]
        fn two_different_places_are_drawn(count in 2_usize..2000, random: u64) {
            let (one, other) = two_of(count, random).unwrap();
            prop_assert!(one != other && one < count && other < count);
        }

        #[test]
        fn what_is_chosen_is_usable(loads in prop::collection::vec(prop::option::of(0_usize..9), 0..40), random: u64) {
            let chosen = choose(loads.len(), |at| loads[at], || random);
            prop_assert_eq!(chosen.is_some(), loads.iter().any(Option::is_some));
            prop_assert!(chosen.is_none_or(|at| loads[at].is_some()));
        }

        #[test]
        fn streams_spread_evenly(seed: u64) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut loads = [0_usize; 10];
            for _ in 0..1000 {
                let at = choose(loads.len(), |at| Some(loads[at]), || rng.u64(..)).unwrap();
                loads[at] += 1;
            }
            prop_assert!(loads.iter().all(|load| (90..=110).contains(load)), "{loads:?}");
        }
    }
}
