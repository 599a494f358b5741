//! Weights to draw by. A binary indexed tree of partial sums (P. Fenwick, 1994), so that drawing, and taking one weight
//! out or putting it back, cost the logarithm of their number. Pure; the random numbers are arguments.

/// A weight for each place, in thousandths; 0 is never drawn.
#[derive(Debug)]
pub(super) struct Weights {
    each: Vec<u32>,
    /// The one before place `n` (from 1) holds the sum of the `n & -n` weights that end there.
    sums: Vec<u64>,
    total: u64,
}

impl Weights {
    /// So many places that weigh nothing.
    pub(super) fn nothing(places: usize) -> Self {
        Self { each: vec![0; places], sums: vec![0; places], total: 0 }
    }

    pub(super) fn set(&mut self, place: usize, weight: u32) {
        let before = u64::from(std::mem::replace(&mut self.each[place], weight));
        let replaced = |sum: u64| sum - before + u64::from(weight);
        self.total = replaced(self.total);
        let mut node = place + 1;
        while let Some(sum) = self.sums.get_mut(node - 1) {
            *sum = replaced(*sum);
            node += node & node.wrapping_neg();
        }
    }

    pub(super) fn get(&self, place: usize) -> u32 {
        self.each[place]
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Two different places drawn by weight, the second among what the first left; twice the same if only one weighs
    /// anything.
    pub(super) fn two(&self, random: &mut impl FnMut() -> u64) -> Option<(usize, usize)> {
        if self.total == 0 {
            return None;
        }
        let (one, begins) = self.find(below(self.total, random()));
        let weight = u64::from(self.each[one]);
        let rest = self.total - weight;
        if rest == 0 {
            return Some((one, one));
        }
        let point = below(rest, random());
        let (other, _) = self.find(if point < begins { point } else { point + weight });
        Some((one, other))
    }

    /// The place in whose part of the total this point lies, and where that part begins.
    fn find(&self, point: u64) -> (usize, u64) {
        let (mut place, mut left) = (0, point);
        let mut step = self.sums.len().next_power_of_two();
        while step > 0 {
            if let Some(sum) = self.sums.get(place + step - 1)
                && *sum <= left
            {
                left -= sum;
                place += step;
            }
            step /= 2;
        }
        (place, point - left)
    }
}

/// A random number as one below `count`.
fn below(count: u64, random: u64) -> u64 {
    let wide = u128::from(random) * u128::from(count);
    u64::try_from(wide >> 64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weights(each: &[u32]) -> Weights {
        let mut weights = Weights::nothing(each.len());
        each.iter().enumerate().for_each(|(place, weight)| weights.set(place, *weight));
        weights
    }

    #[test]
    fn nothing_is_drawn_where_nothing_weighs() {
        assert_eq!(weights(&[]).two(&mut || 7), None);
        assert_eq!(weights(&[0, 0]).two(&mut || 7), None);
        assert_eq!(weights(&[0, 5, 0]).two(&mut || u64::MAX), Some((1, 1)));
    }

    proptest! {
        #[test]
        fn each_point_belongs_to_the_place_it_falls_on(each in prop::collection::vec(0_u32..5, 1..40)) {
            let weights = weights(&each);
            let expected: Vec<usize> =
                each.iter().enumerate().flat_map(|(place, weight)| vec![place; *weight as usize]).collect();
            for (point, place) in expected.iter().enumerate() {
                let begins = expected.iter().position(|other| other == place).unwrap();
                prop_assert_eq!(weights.find(point as u64), (*place, begins as u64));
            }
            prop_assert_eq!(weights.total(), expected.len() as u64);
        }

        #[test]
        fn the_two_that_are_drawn_differ_and_weigh_something(
            each in prop::collection::vec(0_u32..5, 2..40), seed: u64,
        ) {
            let heavy = each.iter().filter(|weight| **weight > 0).count();
            let mut rng = fastrand::Rng::with_seed(seed);
            match weights(&each).two(&mut || rng.u64(..)) {
                None => prop_assert_eq!(heavy, 0),
                Some((one, other)) => {
                    prop_assert!(each[one] > 0 && each[other] > 0);
                    prop_assert_eq!(one == other, heavy == 1);
                }
            }
        }
    }
}
