//! What a balancer promises: shares that hold, the less busy or quicker one, the nearest tier, failed ones left out and
//! tried again by one, and nothing forgotten when the addresses change.

mod shares;

use super::*;
use crate::addr::Weight;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const MILLI: Duration = Duration::from_millis(1);

fn addresses(ports: impl IntoIterator<Item = u16>) -> Arc<[Weighted]> {
    ports.into_iter().map(|port| Weighted::plain(address(port))).collect()
}

fn address(port: u16) -> Address {
    Address::Tcp(([10, 0, 0, 1], port).into())
}

fn empty(kind: BalancerKind, on_leave: OnLeave) -> Balancer {
    Balancer::new(Name::parse("/#/dns/redis.prod/4143").unwrap(), kind, on_leave)
}

fn balancer(ports: impl IntoIterator<Item = u16>) -> Balancer {
    let balancer = empty(BalancerKind::Least, OnLeave::Keep);
    balancer.update(&addresses(ports));
    balancer
}

/// Ports from 1 on, each with its weight in whole numbers.
fn weighted(weights: &[u32]) -> Arc<[Weighted]> {
    let each = |(weight, port): (&u32, u16)| Weighted { weight: Weight::thousandths(weight * 1000), ..plain(port) };
    weights.iter().zip(1..).map(each).collect()
}

fn plain(port: u16) -> Weighted {
    Weighted::plain(address(port))
}

fn in_tier(tier: u16, port: u16) -> Weighted {
    Weighted { tier, ..plain(port) }
}

#[test]
fn streams_go_to_the_lowest_tier_that_has_an_endpoint_which_is_up() {
    let balancer = empty(BalancerKind::Least, OnLeave::Keep);
    balancer.update(&[in_tier(20, 3), in_tier(10, 1), in_tier(10, 2), in_tier(30, 4)].into());
    let now = Instant::now();
    let place = |now| balancer.pick_at(&[], now, || fastrand::u64(..)).unwrap();
    let fail = |port: u16| {
        let others: Vec<Address> = (1..=4).filter(|other| *other != port).map(address).collect();
        balancer.pick_at(&others, now, || 0).unwrap().failed_at("refused", now, 0);
    };
    let near = [address(1), address(2)];
    assert!((0..50).all(|_| near.contains(place(now).address())));
    fail(1);
    assert!((0..50).all(|_| place(now).address() == &address(2)));
    fail(2);
    assert!((0..50).all(|_| place(now).address() == &address(3)));
    fail(3);
    assert!((0..50).all(|_| place(now).address() == &address(4)));
    assert!(balancer.is_admitting());
    fail(4);
    assert!(!balancer.is_admitting());
    assert!((0..50).all(|_| near.contains(place(now).address())), "with all of them down, the lowest tier is tried");
    assert_eq!(balancer.pick_at(&near, now, || 0).unwrap().address(), &address(3));
    let back = place(now + LONG);
    assert!(near.contains(back.address()), "its back-off is over");
    back.opened_at(MILLI, now + LONG);
    assert_eq!(balancer.status().endpoints.iter().map(|endpoint| endpoint.tier).collect::<Vec<_>>(), [20, 10, 10, 30]);
}

#[test]
fn by_time_the_quick_one_gets_the_streams_and_a_slow_one_that_got_well_is_found() {
    let balancer = empty(BalancerKind::Ewma, OnLeave::Keep);
    balancer.update(&addresses([1, 2]));
    let mut rng = fastrand::Rng::with_seed(1);
    let mut now = Instant::now();
    let mut serve = |slow: Duration| {
        let mut at_slow = 0;
        for _ in 0..1000 {
            let lease = balancer.pick_at(&[], now, || rng.u64(..)).unwrap();
            let is_slow = lease.address() == &address(1);
            at_slow += usize::from(is_slow);
            lease.opened_at(if is_slow { slow } else { MILLI }, now);
            now += 10 * MILLI;
        }
        at_slow
    };
    assert!(serve(200 * MILLI) <= 20);
    for _ in 0..5 {
        serve(MILLI);
    }
    let well = serve(MILLI);
    assert!((300..=700).contains(&well), "{well} of 1000");
}

#[test]
fn by_time_whom_nothing_is_known_of_is_tried_by_one_and_a_failure_counts_as_a_peak() {
    let balancer = empty(BalancerKind::Ewma, OnLeave::Keep);
    balancer.update(&addresses([1, 2]));
    let now = Instant::now();
    let place = || balancer.pick_at(&[], now, || fastrand::u64(..)).unwrap();
    balancer.pick_at(&[address(2)], now, || 0).unwrap().opened_at(MILLI, now);
    let first = place();
    assert_eq!(first.address(), &address(2));
    let beside: Vec<Lease> = (0..20).map(|_| place()).collect();
    assert!(beside.iter().all(|lease| lease.address() == &address(1)));
    first.failed_at("refused", now, 0);
    drop((first, beside));
    let cost = balancer.status().endpoints[1].cost_ms.unwrap();
    assert!(cost > 900.0, "{cost}");
}

#[test]
fn a_lease_counts_until_it_is_dropped() {
    let balancer = balancer([1]);
    let lease = balancer.pick(&[]).unwrap();
    assert_eq!((lease.address(), balancer.open()), (&address(1), 1));
    assert_eq!(lease.bound().as_str(), "/#/dns/redis.prod/4143");
    drop(lease);
    assert_eq!(balancer.open(), 0);
}

#[test]
fn the_less_busy_endpoint_gets_the_stream() {
    let balancer = balancer([1, 2]);
    let first = balancer.pick(&[]).unwrap();
    let second = balancer.pick(&[]).unwrap();
    assert_ne!(first.address(), second.address());
}

#[test]
fn what_is_to_be_avoided_is_never_picked() {
    let balancer = balancer([1, 2]);
    let picked = balancer.pick(&[address(1)]).unwrap();
    assert_eq!(picked.address(), &address(2));
    assert!(balancer.pick(&[address(1), address(2)]).is_none());
    assert!(balancer.pick(&[address(1), address(1)]).is_some());
    drop(picked);
    assert_eq!((balancer.is_admitting(), balancer.open()), (true, 0));
}

#[test]
fn who_only_asks_where_a_stream_would_go_changes_nothing() {
    let balancer = balancer([1, 2]);
    let held = balancer.pick(&[]).unwrap();
    let other = if held.address() == &address(1) { address(2) } else { address(1) };
    for _ in 0..100 {
        assert_eq!(balancer.would_pick(Without::default()), Some(other.clone()));
    }
    assert_eq!((balancer.open(), balancer.pick(&[]).unwrap().address()), (1, &other));
    assert_eq!(empty(BalancerKind::Least, OnLeave::Keep).would_pick(Without::default()), None);
}

#[test]
fn an_address_that_is_named_twice_is_one_endpoint() {
    let balancer = balancer([1, 1, 2]);
    assert_eq!(balancer.status().endpoints.len(), 2);
}

#[test]
fn a_failed_endpoint_is_left_out_then_probed_by_one_stream_then_up_again() {
    let balancer = balancer([1, 2]);
    let now = Instant::now();
    let busy: Vec<Lease> = (0..10).map(|_| balancer.pick_at(&[address(1)], now, || 0).unwrap()).collect();
    balancer.pick_at(&[address(2)], now, || 0).unwrap().failed_at("refused", now, 0);

    let during = balancer.pick_at(&[], now, || 0).unwrap();
    assert_eq!(during.address(), &address(2), "it is left out although it is idle");
    let probe = balancer.pick_at(&[], now + LONG, || 0).unwrap();
    assert_eq!(probe.address(), &address(1), "the back-off is over");
    let beside = balancer.pick_at(&[], now + LONG, || 0).unwrap();
    assert_eq!(beside.address(), &address(2), "one probe is enough");
    probe.opened_at(Duration::from_millis(3), now + LONG);
    let after = balancer.pick_at(&[], now + LONG, || 0).unwrap();
    assert_eq!(after.address(), &address(1));
    assert_eq!(busy.len(), 10);
}

#[test]
fn a_stream_that_failed_somewhere_is_no_probe_while_another_is_up() {
    let balancer = balancer(1..=9);
    let now = Instant::now();
    // given eight that have failed and whose back-off is over, and one that is up
    let mut failed = Vec::new();
    while failed.len() < 8 {
        let lease = balancer.pick_at(&failed, now, || fastrand::u64(..)).unwrap();
        if *lease.address() != address(9) {
            lease.failed_at("connect: refused", now, 0);
            failed.push(lease.address().clone());
        }
    }
    // when a stream has met one of those in vain, then it goes to the one that is up
    for tried in &failed {
        let lease = balancer.pick_at(std::slice::from_ref(tried), now + LONG, || fastrand::u64(..)).unwrap();
        assert_eq!(*lease.address(), address(9));
    }
    // and without that one to the next that is due
    let rest = balancer.pick_at(&[address(9), failed[0].clone()], now + LONG, || fastrand::u64(..)).unwrap();
    assert!(failed[1..].contains(rest.address()));
    assert_eq!(rest.health(), Health::Probation { failures: 1 });
}

#[test]
fn one_that_has_refused_the_name_comes_after_all_that_are_up_and_before_all_that_are_down() {
    let balancer = balancer(1..=3);
    let (now, refused) = (Instant::now(), [address(1)]);
    let pick = |avoid: &[Address], now| {
        balancer.pick_by(Without { avoid, refused: &refused }, now, || fastrand::u64(..)).unwrap()
    };
    for _ in 0..50 {
        assert_ne!(*pick(&[], now).address(), address(1));
    }
    // when no other is up
    for other in [2, 3] {
        let others: Vec<Address> = (1..=3).filter(|port| *port != other).map(address).collect();
        balancer.pick_at(&others, now, || 0).unwrap().failed_at("connect: refused", now, 0);
    }
    for _ in 0..50 {
        assert_eq!(*pick(&[], now).address(), address(1));
    }
    // then those that are down come after it
    assert_ne!(*pick(&[address(1)], now).address(), address(1));
    // and once their back-off is over, a stream of that name tries them as any other would
    let first = pick(&[], now + LONG);
    assert_ne!(*first.address(), address(1));
    assert_eq!(first.health(), Health::Probation { failures: 1 });
}

#[test]
fn an_endpoint_whose_back_off_is_over_counts_beside_one_that_has_refused_the_name() {
    let addresses = addresses(1..=2);
    let balancer = balancer(1..=2);
    let long_ago = Instant::now().checked_sub(LONG).unwrap();
    balancer.pick_at(&[address(1)], long_ago, || 0).unwrap().failed_at("connect: refused", long_ago, 0);
    assert!(balancer.admits_with(&addresses, &[address(1)]));
    balancer.pick_at(&[address(1)], Instant::now(), || 0).unwrap().failed_at("connect: refused", Instant::now(), 0);
    assert!(!balancer.admits_with(&addresses, &[address(1)]));
}

#[test]
fn a_probe_that_says_nothing_makes_room_for_another() {
    let balancer = balancer([1]);
    let now = Instant::now();
    balancer.pick_at(&[], now, || 0).unwrap().failed_at("refused", now, 0);
    drop(balancer.pick_at(&[], now + LONG, || 0));
    assert_eq!(balancer.status().endpoints[0].health, "down");
    assert!(balancer.is_admitting());
}

#[test]
fn when_all_are_down_one_is_tried_anyway() {
    let balancer = balancer([1, 2]);
    let now = Instant::now();
    for port in [1, 2] {
        balancer.pick_at(&[address(port)], now, || 0).unwrap().failed_at("refused", now, 0);
    }
    assert!(balancer.pick_at(&[], now, || 0).is_some());
}

#[test]
fn an_endpoint_that_stays_keeps_its_count_and_its_health() {
    let balancer = balancer([1, 2]);
    let held = balancer.pick(&[address(2)]).unwrap();
    held.failed("refused");
    balancer.update(&addresses([1, 3]));
    let kept = &balancer.status().endpoints[0];
    assert_eq!((kept.open, kept.health), (1, "down"));
    assert_eq!(kept.last_error.as_deref(), Some("refused"));
}

#[test]
fn the_stream_of_an_endpoint_that_left_goes_on() {
    let balancer = balancer([1]);
    let held = balancer.pick(&[]).unwrap();
    balancer.update(&addresses([2]));
    assert_eq!((held.address(), balancer.open()), (&address(1), 0));
    assert_eq!((balancer.is_held(), balancer.status().left), (true, 1));
    drop(held);
    assert!(balancer.pick(&[]).is_some());
    assert!(!balancer.is_held());
}

#[test]
fn an_endpoint_that_comes_back_finds_its_count_and_its_health() {
    let balancer = balancer([1]);
    let held = balancer.pick(&[]).unwrap();
    balancer.update(&addresses([2]));
    held.failed("refused");
    balancer.update(&addresses([3]));
    balancer.update(&addresses([1, 2]));
    let back = &balancer.status().endpoints[0];
    assert_eq!((back.open, back.health), (1, "down"));
    held.opened(MILLI);
    assert_eq!(balancer.status().endpoints[0].health, "up");
}

/// Waits for a stream to be ended, and says after how long it was.
async fn ended(lease: &Lease) -> Duration {
    let began = tokio::time::Instant::now();
    lease.left().await;
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn streams_of_an_endpoint_that_left_end_after_a_while_and_not_all_at_once() {
    let balancer = empty(BalancerKind::Least, OnLeave::After(LONG));
    balancer.update(&addresses([1]));
    let held: Vec<Lease> = (0..50).map(|_| balancer.pick(&[]).unwrap()).collect();
    balancer.update(&addresses([2]));
    let mut after = Vec::new();
    for lease in &held {
        after.push(ended(lease).await);
    }
    assert!(after.iter().all(|after| (LONG..=2 * LONG + MILLI).contains(after)), "{after:?}");
    let (least, most) = (after.iter().min().unwrap(), after.iter().max().unwrap());
    assert!(*most - *least > LONG / 2, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_stays_if_its_endpoint_comes_back_in_time() {
    let balancer = empty(BalancerKind::Least, OnLeave::After(LONG));
    balancer.update(&addresses([1, 2]));
    let held = balancer.pick(&[address(2)]).unwrap();
    let stays = tokio::time::timeout(10 * LONG, held.left());
    let comes_and_goes = async {
        balancer.update(&addresses([2]));
        tokio::time::sleep(LONG / 2).await;
        balancer.update(&addresses([1, 2]));
    };
    let (stayed, ()) = tokio::join!(stays, comes_and_goes);
    assert!(stayed.is_err(), "it was ended");
    balancer.update(&addresses([2]));
    assert!(ended(&held).await >= LONG);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_kept_is_never_ended() {
    let balancer = balancer([1]);
    let held = balancer.pick(&[]).unwrap();
    balancer.update(&addresses([2]));
    assert!(tokio::time::timeout(1000 * LONG, held.left()).await.is_err());
}

/// Something that happens to a balancer.
#[derive(Clone, Debug)]
enum Event {
    Pick,
    Open(usize),
    Fail(usize),
    Drop(usize),
    Update(Vec<u16>),
    Wait,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Pick),
        any::<usize>().prop_map(Event::Open),
        any::<usize>().prop_map(Event::Fail),
        any::<usize>().prop_map(Event::Drop),
        prop::collection::btree_set(1_u16..6, 1..5).prop_map(|ports| Event::Update(ports.into_iter().collect())),
        Just(Event::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_a_stream_finds_an_endpoint_and_the_counts_come_back_to_nothing(
        events in prop::collection::vec(event(), 0..200), seed: u64,
    ) {
        let balancer = balancer([1, 2, 3]);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut now = Instant::now();
        let mut leases: Vec<Lease> = Vec::new();
        for event in events {
            let held = |index: usize| leases.get(index.checked_rem(leases.len())?);
            match event {
                Event::Pick => {
                    let up = balancer.home.set().is_admitting(|| now);
                    let lease = balancer.pick_at(&[], now, || rng.u64(..)).expect("an endpoint");
                    let health = lease.health();
                    prop_assert!(!up || !matches!(health, Health::Down { .. }), "{health:?} while another is up");
                    leases.push(lease);
                }
                Event::Open(index) => held(index).into_iter().for_each(|lease| lease.opened_at(LONG, now)),
                Event::Fail(index) => held(index).into_iter().for_each(|lease| lease.failed_at("refused", now, seed)),
                Event::Drop(index) => leases.truncate(index % 8),
                Event::Update(ports) => balancer.update(&addresses(ports)),
                Event::Wait => now += LONG,
            }
            prop_assert!(balancer.open() <= leases.len());
        }
        leases.clear();
        prop_assert_eq!(balancer.open(), 0);
        prop_assert!(!balancer.is_held());
    }
}
