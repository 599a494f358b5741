//! That shares hold: whatever the weights, however many streams there are at once, and whoever comes and goes.

use super::*;

/// A balancer of endpoints with these weights, drawn from by a seed; nothing takes time.
struct Draws {
    balancer: Balancer,
    rng: fastrand::Rng,
    now: Instant,
}

impl Draws {
    fn of(weights: &[u32], seed: u64) -> Self {
        let balancer = empty(BalancerKind::Least, OnLeave::Keep);
        balancer.update(&weighted(weights));
        Self { balancer, rng: fastrand::Rng::with_seed(seed), now: Instant::now() }
    }

    fn pick(&mut self) -> Lease {
        let rng = &mut self.rng;
        self.balancer.pick_at(&[], self.now, || rng.u64(..)).expect("an endpoint")
    }

    fn picks(&self) -> Vec<u64> {
        self.balancer.status().endpoints.iter().map(|endpoint| endpoint.picks).collect()
    }

    /// How far the picks are from the shares of `weights`, at the worst, in streams.
    fn off(&self, weights: &[u32]) -> f64 {
        let picks = self.picks();
        let (all, total) = (picks.iter().sum::<u64>() as f64, f64::from(weights.iter().sum::<u32>()));
        let off = |(picks, weight): (&u64, &u32)| (*picks as f64 - all * f64::from(*weight) / total).abs();
        picks.iter().zip(weights).map(off).fold(0.0, f64::max)
    }
}

/// The weights that shares are tried with.
const SHARES: [&[u32]; 5] = [&[1, 9], &[1, 1, 98], &[5, 5, 5, 5], &[1, 2, 3, 4, 5, 6, 7], &[1, 1000]];

#[test]
fn short_streams_one_after_another_keep_the_shares() {
    for weights in SHARES {
        let mut draws = Draws::of(weights, 7);
        for _ in 0..10_000 {
            drop(draws.pick());
        }
        let off = draws.off(weights);
        assert!(off < 5.0, "{weights:?}: {:?}, off by {off}", draws.picks());
    }
}

#[test]
fn as_many_at_once_as_may_be_keep_the_shares() {
    for weights in SHARES {
        for at_once in [2, 3, 5, 10, 20, 50, 100] {
            let mut draws = Draws::of(weights, at_once);
            let mut open = VecDeque::new();
            for _ in 0..10_000 {
                open.push_back(draws.pick());
                if open.len() as u64 == at_once {
                    open.pop_front();
                }
            }
            let off = draws.off(weights);
            assert!(off < 10.0, "{weights:?}, {at_once} at once: {:?}, off by {off}", draws.picks());
        }
    }
}

#[test]
fn streams_of_random_length_keep_the_shares() {
    for weights in SHARES {
        for at_once in [2, 10, 100] {
            let mut draws = Draws::of(weights, at_once as u64);
            let mut open = Vec::new();
            for _ in 0..10_000 {
                open.push(draws.pick());
                if open.len() == at_once {
                    open.swap_remove(draws.rng.usize(..at_once));
                }
            }
            let off = draws.off(weights);
            assert!(off < 40.0, "{weights:?}, {at_once} at once: {:?}, off by {off}", draws.picks());
        }
    }
}

#[test]
fn streams_that_are_held_keep_the_shares() {
    for weights in SHARES {
        let mut draws = Draws::of(weights, 11);
        let held: Vec<Lease> = (0..2000).map(|_| draws.pick()).collect();
        let off = draws.off(weights);
        assert!(off < 5.0, "{weights:?}: {:?}, off by {off}", draws.picks());
        assert_eq!(held.len(), 2000);
    }
}

#[test]
fn an_endpoint_whose_streams_do_not_end_gets_few_more() {
    let mut draws = Draws::of(&[1, 1], 2);
    let mut held = Vec::new();
    for _ in 0..10_000 {
        let lease = draws.pick();
        if lease.address() == &address(1) {
            held.push(lease);
        }
    }
    assert!(held.len() <= 9, "{} streams wait at it", held.len());
}

#[test]
fn many_endpoints_share_as_few_do() {
    let weights = [3; 1000];
    let mut draws = Draws::of(&weights, 5);
    for _ in 0..50_000 {
        drop(draws.pick());
    }
    let off = draws.off(&weights);
    assert!(off < 10.0, "off by {off} of 50 each");
}

#[test]
fn the_least_of_weights_gets_its_share_too() {
    let mut draws = Draws::of(&[0, 1], 3);
    for _ in 0..20_020 {
        drop(draws.pick());
    }
    let seldom = draws.picks()[0];
    assert!((15..=25).contains(&seldom), "{seldom} of 20020, where a thousandth beside 1 has 20");
}

#[test]
fn those_that_are_up_share_what_one_that_is_down_leaves() {
    let mut draws = Draws::of(&[1, 9, 90], 3);
    let now = draws.now;
    draws.balancer.pick_at(&[address(1), address(2)], now, || 0).unwrap().failed_at("refused", now, 0);
    for _ in 0..10_000 {
        drop(draws.pick());
    }
    let picks = draws.picks();
    assert!((980..=1020).contains(&picks[0]), "{picks:?}");
}

#[test]
fn an_endpoint_that_was_away_is_owed_nothing() {
    let mut draws = Draws::of(&[1, 1], 3);
    let now = draws.now;
    draws.balancer.pick_at(&[address(2)], now, || 0).unwrap().failed_at("refused", now, 0);
    for _ in 0..1000 {
        drop(draws.pick());
    }
    draws.now += LONG;
    let probe = (0..2).map(|_| draws.pick()).find(|lease| lease.address() == &address(1)).expect("a probe");
    probe.opened_at(MILLI, draws.now);
    drop(probe);
    let before = draws.picks()[0];
    for _ in 0..100 {
        drop(draws.pick());
    }
    let after = draws.picks()[0] - before;
    assert!((45..=55).contains(&after), "{after} of 100");
}

#[test]
fn no_endpoint_has_more_than_its_share_while_others_come_and_go() {
    let mut rng = fastrand::Rng::with_seed(23);
    let balancer = empty(BalancerKind::Least, OnLeave::Keep);
    let (mut ports, mut next, mut open) = ((1..=10).collect::<Vec<u16>>(), 11, Vec::new());
    balancer.update(&addresses(ports.iter().copied()));
    let now = Instant::now();
    for round in 0..20_000_u32 {
        open.push(balancer.pick_at(&[], now, || rng.u64(..)).expect("an endpoint"));
        if open.len() > 200 {
            open.swap_remove(rng.usize(..open.len()));
        }
        if round % 20 == 0 {
            ports.swap_remove(rng.usize(..ports.len()));
            ports.push(next);
            next += 1;
            balancer.update(&addresses(ports.iter().copied()));
        }
        let status = balancer.status();
        let share = status.endpoints.iter().map(|endpoint| endpoint.open).sum::<usize>() / ports.len();
        let most = status.endpoints.iter().map(|endpoint| endpoint.open).max().unwrap();
        // 200 streams on ten endpoints, of which one in twenty streams takes one away with all it has.
        assert!(most <= share + 16, "round {round}: {most} open where a share is {share}");
    }
}

#[test]
fn a_new_endpoint_is_not_flooded() {
    let mut draws = Draws::of(&[1; 20], 9);
    let held: Vec<Lease> = (0..1000).map(|_| draws.pick()).collect();
    let more: Vec<u16> = (1..=21).collect();
    draws.balancer.update(&addresses(more));
    let (mut run, mut longest) = (0, 0);
    let mut new = Vec::new();
    for _ in 0..400 {
        let lease = draws.pick();
        run = if lease.address() == &address(21) { run + 1 } else { 0 };
        longest = longest.max(run);
        new.push(lease);
    }
    let at_new = new.iter().filter(|lease| lease.address() == &address(21)).count();
    // By two choices it is one of the two in 2 of 21 draws.
    assert!((20..=60).contains(&at_new), "{at_new} of 400");
    assert!(longest <= 4, "{longest} in a row");
    assert_eq!(held.len(), 1000);
}
