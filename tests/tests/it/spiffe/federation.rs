//! Two trust domains that believe each other: each vouches for its own ids, and for nothing else.

use std::io::ErrorKind;

use adit_tests::{
    authority::{Authority, Leaf},
    end::End,
    wait::{LIMIT, until},
    workload_api::Set,
};

use super::{ECHO, PARTNER, REDIS, WEB, World, set, svid};

#[test]
fn a_federated_trust_domain_vouches_for_its_own_ids() {
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let a = set(WEB, &one).federated("spiffe://two.example", &[&two]);
    let b = set(PARTNER, &two).federated("spiffe://one.example", &[&one]);
    let world = World::between(one, [a, b], WEB, PARTNER, |plan| plan);
    world.echoes().unwrap();
}

#[test]
fn a_federated_trust_domain_vouches_for_no_id_of_ours() {
    // given a partner whose authority both sides believe for its own ids
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let believed = |set: Set| set.federated("spiffe://two.example", &[&two]);
    // when that authority signs an id of ours, for a dialer or for an acceptor
    let forged_web = Set::of(WEB, &svid(WEB, &two), &[&one]).federated("spiffe://two.example", &[&two]);
    let forged_redis = Set::of(REDIS, &svid(REDIS, &two), &[&one]).federated("spiffe://two.example", &[&two]);
    for sets in [[forged_web, believed(set(REDIS, &one))], [believed(set(WEB, &one)), forged_redis]] {
        // then it is nobody, as if nobody believed that authority
        let world = World::between(Authority::new("unused"), sets, WEB, REDIS, |plan| plan);
        assert!(world.echoes().is_err());
        let said = world.mesh.ping(ECHO).all().to_lowercase();
        assert!(
            said.contains("unknown issuer") || said.contains("unknown ca") || said.contains("unknown_ca"),
            "{said}"
        );
    }
}

#[test]
fn a_federated_trust_domain_vouches_for_no_host_name() {
    const HOST: &str = "a.one.example";
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    // given a host of ours and one of a partner's, both with this name beside their ids
    let named = |id: &str, authority: &Authority| authority.issue(&Leaf::dns(&[HOST]).uri(id));
    let ours = Set::of(WEB, &named(WEB, &one), &[&one]);
    let theirs = Set::of(PARTNER, &named(PARTNER, &two), &[&two]).federated("spiffe://one.example", &[&one]);
    let b = set(REDIS, &one).federated("spiffe://two.example", &[&two]);
    let world = World::between(one, [ours, b], HOST, REDIS, |plan| plan);
    // then B believes ours, and denies the other, whose chain is good as well
    world.echoes().unwrap();
    world.a.give(theirs);
    until("A to be the partner's", LIMIT, || {
        (world.mesh.a.status()["certificates"][0]["names"][1] == PARTNER).then_some(())
    });
    until("B to deny it", LIMIT, || world.echoes().is_err().then_some(()));
    assert!(world.mesh.ping(ECHO).all().contains("denied"), "{}", world.mesh.ping(ECHO).all());
}

#[test]
fn an_authority_that_leaves_its_bundle_ends_the_streams_that_rested_on_it() {
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let a = set(WEB, &one).federated("spiffe://two.example", &[&two]);
    let b = set(PARTNER, &two).federated("spiffe://one.example", &[&one]);
    let next = Authority::new("two, next");
    let after = set(WEB, &one).federated("spiffe://two.example", &[&next]);
    let world = World::between(one, [a, b], WEB, PARTNER, |plan| plan);
    let mut live = End::connect(&world.mesh.front(ECHO));
    live.send(b"one");
    assert_eq!(live.receive(3), b"one");
    // when the partner's authority is another
    world.a.give(after);
    // then what rested on it ends, and nothing new begins
    assert_eq!(live.failure(), Some(ErrorKind::ConnectionReset));
    assert!(world.echoes().is_err());
}
