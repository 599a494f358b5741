//! What a balancer promises: the less busy one, failed ones left out and tried again by one, and
//! nothing forgotten when the addresses change.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

fn addresses(ports: impl IntoIterator<Item = u16>) -> Arc<[Weighted]> {
    ports.into_iter().map(|port| Weighted::plain(address(port))).collect()
}

fn address(port: u16) -> Address {
    Address::Tcp(([10, 0, 0, 1], port).into())
}

fn balancer(ports: impl IntoIterator<Item = u16>) -> Balancer {
    let balancer = Balancer::new(Name::parse("/#/dns/redis.prod/4143").unwrap());
    balancer.update(&addresses(ports));
    balancer
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
    probe.opened(Duration::from_millis(3));
    let after = balancer.pick_at(&[], now + LONG, || 0).unwrap();
    assert_eq!(after.address(), &address(1));
    assert_eq!(busy.len(), 10);
}

#[test]
fn a_probe_that_says_nothing_makes_room_for_another() {
    let balancer = balancer([1]);
    let now = Instant::now();
    balancer.pick_at(&[], now, || 0).unwrap().failed_at("refused", now, 0);
    drop(balancer.pick_at(&[], now + LONG, || 0));
    assert_eq!(balancer.status().endpoints[0].health, "down");
    assert!(balancer.endpoints()[0].is_admitting(Instant::now()));
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
    drop(held);
    assert!(balancer.pick(&[]).is_some());
}

/// Something that happens to a balancer.
#[derive(Clone, Debug)]
enum Event {
    Pick,
    Open(usize),
    Fail(usize),
    Drop(usize),
    Update(Vec<u16>),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Pick),
        any::<usize>().prop_map(Event::Open),
        any::<usize>().prop_map(Event::Fail),
        any::<usize>().prop_map(Event::Drop),
        prop::collection::btree_set(1_u16..6, 1..5).prop_map(|ports| Event::Update(ports.into_iter().collect())),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_a_stream_finds_an_endpoint_and_the_counts_come_back_to_nothing(
        events in prop::collection::vec(event(), 0..200),
    ) {
        let balancer = balancer([1, 2, 3]);
        let mut leases: Vec<Lease> = Vec::new();
        for event in events {
            let held = |index: usize| leases.get(index.checked_rem(leases.len())?);
            match event {
                Event::Pick => leases.push(balancer.pick(&[]).expect("an endpoint")),
                Event::Open(index) => held(index).into_iter().for_each(|lease| lease.opened(LONG)),
                Event::Fail(index) => held(index).into_iter().for_each(|lease| lease.failed("refused")),
                Event::Drop(index) => leases.truncate(index % 8),
                Event::Update(ports) => balancer.update(&addresses(ports)),
            }
            prop_assert!(balancer.open() <= leases.len());
        }
        leases.clear();
        prop_assert_eq!(balancer.open(), 0);
    }
}
