//! Files that change while the agent runs: all of them or none, told by generation, and a peer
//! judged again under what is in force now.

use super::*;

struct Running {
    world: World,
    store: Store,
}

impl Running {
    fn new() -> Self {
        let world = World::new();
        let mut tls = world.tls(vec![world.pair("host", &world.issue(&["host.a"]))]);
        tls.crl = vec![world.file("crl.pem", revocation_list(&world.ca, &[], later()))];
        let store = Store::load(&tls).unwrap();
        Self { world, store }
    }

    fn generations(&self) -> [u64; 3] {
        let now = self.store.snapshot();
        [now.generation, now.trust_generation, now.credential_generation]
    }
}

fn later() -> SystemTime {
    SystemTime::now() + DAY
}

/// The world's CA with its name and key, made anew at `now`.
fn renewed_ca(world: &World, now: SystemTime) -> String {
    let der = CertificateDer::from_pem_slice(world.ca.certificate().as_bytes()).unwrap();
    let key = rcgen::KeyPair::from_pem(&fs::read_to_string(world.path("ca.key")).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    let name = Leaf::parse(&der).unwrap().issuer.replace("CN=", "");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_before = now.into();
    params.not_after = (now + 30 * DAY).into();
    params.self_signed(&key).unwrap().pem()
}

#[test]
fn files_left_alone_are_not_reloaded() {
    let running = Running::new();
    assert_eq!(running.store.reload_if_changed(), Ok(false));
    assert_eq!(running.store.reload(), Ok(false), "nor is there anything new in them");
    assert_eq!(running.generations(), [1, 1, 1]);
}

#[test]
fn a_renewed_certificate_moves_the_credentials_alone() {
    let running = Running::new();
    let changed = running.store.changed();
    running.world.pair("host", &running.world.issue(&["host.a", "new.a"]));
    assert_eq!(running.store.reload_if_changed(), Ok(true));
    assert_eq!(running.generations(), [2, 1, 2]);
    assert_eq!(*changed.borrow(), 2);
    let now = running.store.snapshot();
    assert_eq!(now.credentials()[0].names, ["host.a", "new.a"]);
}

#[test]
fn a_changed_bundle_or_list_moves_the_trust_alone() {
    let running = Running::new();
    let other = World::new();
    let both = format!("{}{}", running.world.ca.certificate(), other.ca.certificate());
    running.world.file("ca.pem", both);
    assert_eq!(running.store.reload_if_changed(), Ok(true));
    assert_eq!(running.generations(), [2, 2, 1]);

    let revoked = running.world.issue(&["x.y"]);
    running.world.file("crl.pem", running.world.revoke(&revoked, later()));
    assert_eq!(running.store.reload_if_changed(), Ok(true));
    assert_eq!(running.generations(), [3, 3, 1]);
}

#[test]
fn one_bad_file_keeps_all_that_was_and_says_so() {
    let running = Running::new();
    let before = running.store.snapshot();
    running.world.pair("host", &running.world.issue(&["new.a"]));
    running.world.file("ca.pem", "");

    let fault = running.store.reload_if_changed().unwrap_err();

    says(&fault.to_string(), &["ca.pem: is empty"]);
    assert_eq!(running.store.fault(), Some(fault));
    assert!(Arc::ptr_eq(&before, &running.store.snapshot()));
}

#[test]
fn a_certificate_that_expired_in_use_keeps_no_revocation_out() {
    let running = Running::new();
    let tls = running.store.tls();
    let before = running.store.snapshot();
    let revoked = running.world.issue(&["x.y"]);
    running.world.file("crl.pem", running.world.revoke(&revoked, later() + 11 * DAY));
    let when_expired = SystemTime::now() + 11 * DAY;

    let next = before.next(&tls, None, when_expired).unwrap().unwrap();

    assert_eq!((next.trust_generation, next.credential_generation), (2, 1));
    let expired = running.world.issue(&["host.a"]);
    running.world.pair("host", &expired);
    says(&before.next(&tls, None, when_expired).unwrap_err().to_string(), &["host.pem: certificate", "expired at"]);
}

#[test]
fn a_half_swapped_pair_is_taken_once_it_is_whole() {
    let running = Running::new();
    let renewed = running.world.issue(&["host.a"]);
    running.world.file("host.pem", &renewed.certificate);
    assert!(running.store.reload_if_changed().is_err());
    running.world.file("host.key", &renewed.key);
    assert_eq!(running.store.reload_if_changed(), Ok(true));
    assert_eq!(running.store.fault(), None);
}

#[test]
fn a_fault_that_mends_back_to_what_was_is_forgotten() {
    let running = Running::new();
    let bundle = running.world.ca.certificate().to_owned();
    running.world.file("ca.pem", "");
    assert!(running.store.reload_if_changed().is_err());
    running.world.file("ca.pem", bundle);
    assert_eq!(running.store.reload_if_changed(), Ok(false));
    assert_eq!(running.store.fault(), None);
    assert_eq!(running.generations(), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn the_watch_notices_a_change_and_ends_when_cancelled() {
    let running = Running::new();
    let store = Arc::new(running.store);
    let mut changed = store.changed();
    let cancel = tokio_util::sync::CancellationToken::new();
    let watch = tokio::spawn(store.clone().watch(Duration::from_secs(2), cancel.clone()));

    running.world.pair("host", &running.world.issue(&["host.a"]));
    changed.changed().await.unwrap();

    assert_eq!(store.snapshot().credential_generation, 2);
    cancel.cancel();
    watch.await.unwrap();
}

#[test]
fn a_peer_is_held_to_its_dates_whatever_has_changed() {
    let running = Running::new();
    let snapshot = running.store.snapshot();
    let issued = running.world.issue(&["peer.a"]);
    let peer = snapshot.peer(&chain(&issued), Role::Dialer, SystemTime::now()).unwrap();
    let at = |now| snapshot.recheck(&peer, Role::Dialer, now);
    assert_eq!(at(SystemTime::now()), Ok(()));
    says(&at(SystemTime::now() + 11 * DAY).unwrap_err().reason, &["expired at"]);
    says(&at(SystemTime::now() - DAY).unwrap_err().reason, &["not valid before"]);
}

#[test]
fn a_peer_revoked_since_is_found_at_its_next_check() {
    let running = Running::new();
    let issued = running.world.issue(&["peer.a"]);
    let peer = running.store.snapshot().peer(&chain(&issued), Role::Dialer, SystemTime::now()).unwrap();
    running.world.file("crl.pem", running.world.revoke(&issued, later()));
    running.store.reload().unwrap();

    let verdict = running.store.snapshot().recheck(&peer, Role::Dialer, SystemTime::now());

    says(&verdict.unwrap_err().reason, &["certificate_revoked"]);
}

#[test]
fn a_peer_whose_ca_has_left_the_bundle_is_found_at_its_next_check() {
    let running = Running::new();
    let issued = running.world.issue(&["peer.a"]);
    let peer = running.store.snapshot().peer(&chain(&issued), Role::Acceptor, SystemTime::now()).unwrap();
    running.world.file("ca.pem", World::new().ca.certificate());
    running.store.reload().unwrap();
    let now = running.store.snapshot();

    let verdict = now.recheck(&peer, Role::Acceptor, SystemTime::now());

    says(&verdict.unwrap_err().reason, &["unknown_ca"]);
    assert_eq!(now.recheck(&peer, Role::Unverified, SystemTime::now()), Ok(()));
}

#[test]
fn a_stream_outlives_its_peers_certificate_and_every_renewal_but_no_revocation() {
    let running = Running::new();
    let then = SystemTime::now() - 20 * DAY;
    let issued = running.world.ca.issue(&request(&["peer.a"]), then).unwrap();
    let peer = running.store.snapshot().peer(&chain(&issued), Role::Dialer, then + DAY).unwrap();
    let stands = || running.store.snapshot().stands(&peer, Role::Dialer);
    let open = || running.store.snapshot().recheck(&peer, Role::Dialer, SystemTime::now());

    // Expired, and then both hosts' own certificates, the list and the CA are made anew.
    says(&open().unwrap_err().reason, &["expired at"]);
    running.world.pair("host", &running.world.issue(&["host.a"]));
    running.store.reload().unwrap();
    assert_eq!(stands(), Ok(()));
    running.world.file("crl.pem", running.world.revoke(&running.world.issue(&["x.y"]), later()));
    running.store.reload().unwrap();
    assert_eq!(stands(), Ok(()));
    says(&open().unwrap_err().reason, &["expired at"]);

    running.world.file("crl.pem", running.world.revoke(&issued, later()));
    running.store.reload().unwrap();
    says(&stands().unwrap_err().reason, &["certificate_revoked"]);
}

#[test]
fn a_stream_stands_when_its_ca_is_renewed_and_falls_when_it_is_removed() {
    let running = Running::new();
    let issued = running.world.issue(&["peer.a"]);
    let peer = running.store.snapshot().peer(&chain(&issued), Role::Acceptor, SystemTime::now()).unwrap();
    running.world.file("ca.pem", renewed_ca(&running.world, SystemTime::now() + DAY));
    running.store.reload().unwrap();
    assert_eq!(running.store.snapshot().stands(&peer, Role::Acceptor), Ok(()));

    running.world.file("ca.pem", World::new().ca.certificate());
    running.store.reload().unwrap();
    says(&running.store.snapshot().stands(&peer, Role::Acceptor).unwrap_err().reason, &["unknown_ca"]);
    assert_eq!(running.store.snapshot().stands(&peer, Role::Unverified), Ok(()));
}

#[test]
fn a_peer_that_nothing_speaks_against_stays() {
    let running = Running::new();
    let issued = running.world.issue(&["peer.a"]);
    let peer = running.store.snapshot().peer(&chain(&issued), Role::Dialer, SystemTime::now()).unwrap();
    let other = running.world.issue(&["other.a"]);
    running.world.file("crl.pem", running.world.revoke(&other, later()));
    running.store.reload().unwrap();
    let now = running.store.snapshot();
    assert_eq!(now.trust_generation, 2);
    assert_eq!(now.recheck(&peer, Role::Dialer, SystemTime::now()), Ok(()));
}

#[test]
fn files_of_another_name_are_in_force_once_they_are_put_and_a_bad_one_changes_nothing() {
    let running = Running::new();
    let mut tls = running.store.tls();
    tls.certificates = vec![running.world.pair("other", &running.world.issue(&["other.a"]))];
    let names = || running.store.snapshot().credentials()[0].names.clone();

    let prepared = running.store.prepare(&tls).unwrap();
    assert_eq!(names(), ["host.a"], "not before they are put");
    drop(prepared);
    assert_eq!((names()[0].as_str(), running.generations()), ("host.a", [1, 1, 1]));

    running.store.prepare(&tls).unwrap().put();
    assert_eq!((names()[0].as_str(), running.generations()), ("other.a", [2, 1, 2]));

    tls.authorities = Authorities::File(running.world.file("bad.pem", "no bundle"));
    assert!(running.store.prepare(&tls).is_err());
    assert_eq!(running.store.fault(), None);
    // And from now on it is the new files that are looked at.
    running.world.pair("host", &running.world.issue(&["new.a"]));
    assert_eq!(running.store.reload_if_changed(), Ok(false));
    running.world.pair("other", &running.world.issue(&["new.a"]));
    assert_eq!(running.store.reload_if_changed(), Ok(true));
    assert_eq!(names(), ["new.a"]);
}
