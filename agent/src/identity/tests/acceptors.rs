//! What a dialer makes of an acceptor's certificate: proven, unrevoked, for its purpose, and the one
//! its rule expects; and which certificate an acceptor picks.

use rcgen::{ExtendedKeyUsagePurpose, SanType};

use super::*;

/// A dialer of `world` that expects `expected` meets an acceptor that shows `issued`.
fn dial(world: &World, expected: &Verify, issued: &Issued) -> Met {
    dial_from(&world.snapshot(&["host.a"]), world, expected, issued)
}

fn dial_from(dialer: &Snapshot, world: &World, expected: &Verify, issued: &Issued) -> Met {
    let own = dialer.credential(None).unwrap();
    let acceptor = world.snapshot(&["host.b"]);
    let server = serving(&acceptor.server_config(), issued);
    meet(dialer.client_config(expected, own), server, None)
}

/// The dialer's sentence, then the acceptor's.
fn refused(world: &World, expected: &str, issued: &Issued) -> (String, String) {
    let met = dial(world, &expects(expected), issued);
    assert!(!met.succeeded());
    met.sentences()
}

#[test]
fn each_kind_of_name_proves_itself() {
    let world = World::new();
    let names = ["redis.prod", "spiffe://prod/redis", "10.0.0.1", "*.wild.prod"];
    let issued = world.issue(&names);
    for expected in ["redis.prod", "spiffe://prod/redis", "10.0.0.1", "a.wild.prod"] {
        let met = dial(&world, &expects(expected), &issued);
        assert!(met.succeeded(), "{expected}: {:?}", met.sentences());
    }
}

#[test]
fn an_address_is_proven_by_an_address_of_the_certificate_and_by_nothing_that_spells_it() {
    let world = World::new();
    for address in ["10.0.0.1", "fd00::1"] {
        let met = dial(&world, &expects(&format!("ip:{address}")), &world.issue(&["host.b", address]));
        assert!(met.succeeded(), "{address}: {:?}", met.sentences());
    }
    let spelt = |name: SanType| world.spoilt(&["host.b"], |params| params.subject_alt_names.push(name));
    let dns = |text: &str| spelt(SanType::DnsName(text.try_into().unwrap()));
    let uri = |text: &str| spelt(SanType::URI(text.try_into().unwrap()));
    let mapped = std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped();
    for (what, issued) in [
        ("another", world.issue(&["10.0.0.2"])),
        ("a name", world.issue(&["host.b"])),
        ("a DNS name that spells it", dns("10.0.0.1")),
        ("a DNS name that spells the rule", dns("ip:10.0.0.1")),
        ("a URI that spells it", uri("ip:10.0.0.1")),
        ("its sixteen bytes", spelt(SanType::IpAddress(mapped.into()))),
    ] {
        let (dialer, acceptor) = refused(&world, "ip:10.0.0.1", &issued);
        says(&dialer, &["refused (bad_certificate)", "does not prove 10.0.0.1: it has "]);
        assert!(acceptor.contains("bad_certificate"), "{what}: {acceptor}");
    }
    let (dialer, _) = refused(&world, "host.c", &world.issue(&["10.0.0.1"]));
    says(&dialer, &["does not prove host.c: it has 10.0.0.1"]);
}

#[test]
fn another_name_is_bad_certificate_and_both_names_are_told() {
    let world = World::new();
    let issued = world.issue(&["redis.prod", "spiffe://prod/redis"]);
    let (dialer, acceptor) = refused(&world, "mysql.prod", &issued);
    let told = "does not prove mysql.prod: it has redis.prod, spiffe://prod/redis";
    says(&dialer, &["refused (bad_certificate)", told]);
    says(&acceptor, &["peer sent alert bad_certificate", "not of the name the peer expects"]);
}

#[test]
fn another_spiffe_id_is_refused_and_both_are_told() {
    let world = World::new();
    let issued = world.issue(&["redis.prod", "spiffe://prod/redis"]);
    let (dialer, acceptor) = refused(&world, "spiffe://prod/redis/x", &issued);
    let told = "does not prove spiffe://prod/redis/x: it has redis.prod, spiffe://prod/redis";
    says(&dialer, &["refused (certificate_unknown)", told]);
    says(&acceptor, &["peer sent alert certificate_unknown"]);
}

#[test]
fn a_wildcard_proves_one_label_and_no_more() {
    let world = World::new();
    let issued = world.issue(&["*.wild.prod"]);
    for expected in ["a.b.wild.prod", "wild.prod"] {
        let (dialer, _) = refused(&world, expected, &issued);
        says(&dialer, &["bad_certificate", "*.wild.prod"]);
    }
}

#[test]
fn the_common_name_proves_nothing() {
    let world = World::new();
    let issued = world.spoilt(&["redis.prod"], |params| params.subject_alt_names.clear());
    let (dialer, _) = refused(&world, "redis.prod", &issued);
    says(&dialer, &["does not prove redis.prod: it has no names at all"]);
}

#[test]
fn an_expired_one_is_certificate_expired() {
    let world = World::new();
    let issued = world.spoilt(&["redis.prod"], |params| {
        params.not_before = OffsetDateTime::now_utc() - 9 * DAY;
        params.not_after = OffsetDateTime::now_utc() - DAY;
    });
    let (dialer, acceptor) = refused(&world, "redis.prod", &issued);
    says(&dialer, &["refused (certificate_expired)", "renew it on the peer"]);
    says(&acceptor, &["peer sent alert certificate_expired"]);
}

#[test]
fn one_that_is_not_yet_valid_is_certificate_expired() {
    let world = World::new();
    let issued = world.spoilt(&["redis.prod"], |params| {
        params.not_before = OffsetDateTime::now_utc() + DAY;
    });
    let (dialer, acceptor) = refused(&world, "redis.prod", &issued);
    says(&dialer, &["certificate_expired", "not valid before"]);
    says(&acceptor, &["certificate_expired"]);
}

#[test]
fn one_of_another_ca_is_unknown_ca_whatever_it_is_called() {
    let (world, other) = (World::new(), World::new());
    for names in [["redis.prod"], ["else.prod"]] {
        let (dialer, acceptor) = refused(&world, "redis.prod", &other.issue(&names));
        says(&dialer, &["refused (unknown_ca)"]);
        says(&acceptor, &["peer sent alert unknown_ca"]);
    }
}

#[test]
fn a_revoked_one_is_certificate_revoked() {
    let world = World::new();
    let issued = world.issue(&["redis.prod"]);
    let mut tls = world.tls(vec![world.pair("host.a", &world.issue(&["host.a"]))]);
    tls.crl = vec![world.file("crl.pem", world.revoke(&issued, SystemTime::now() + DAY))];
    let dialer = load(&tls).unwrap();
    let (dialer, acceptor) = dial_from(&dialer, &world, &expects("redis.prod"), &issued).sentences();
    says(&dialer, &["refused (certificate_revoked)"]);
    says(&acceptor, &["peer sent alert certificate_revoked"]);
}

#[test]
fn one_for_clients_only_is_unsupported_certificate() {
    let world = World::new();
    let issued = world.spoilt(&["redis.prod"], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let (dialer, acceptor) = refused(&world, "redis.prod", &issued);
    says(&dialer, &["refused (unsupported_certificate)", "serverAuth"]);
    says(&acceptor, &["peer sent alert unsupported_certificate"]);
}

#[test]
fn two_uri_names_are_refused_even_under_a_dns_expectation() {
    let world = World::new();
    let issued = world.spoilt(&["redis.prod", "spiffe://prod/a"], |params| {
        let second = "spiffe://prod/b".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(second));
    });
    let (dialer, acceptor) = refused(&world, "redis.prod", &issued);
    says(&dialer, &["2 URI names"]);
    says(&acceptor, &["certificate_unknown"]);
}

#[test]
fn verify_none_believes_anybody_and_knows_nobody() {
    let (world, other) = (World::new(), World::new());
    let met = dial(&world, &Verify::None, &other.issue(&["redis.prod"]));
    assert!(met.succeeded(), "{:?}", met.sentences());
    let chain = met.client.peer_certificates().unwrap();
    let peer = Peer::from_chain(chain, Role::Unverified, 1, SystemTime::now()).unwrap();
    assert!(peer.identities.is_empty());
    assert_eq!(peer.names, ["redis.prod"]);
}

#[test]
fn a_certificate_writes_nothing_but_its_own_line() {
    let words = "a\n2026 INFO \u{1b}[2Jroot";
    let issued = World::new().spoilt(&["b.prod"], |params| {
        params.subject_alt_names.push(SanType::DnsName(words.try_into().unwrap()));
        params.subject_alt_names.extend([words, words].map(|uri| SanType::URI(uri.try_into().unwrap())));
    });
    let peer = Peer::from_chain(&chain(&issued), Role::Unverified, 1, SystemTime::now()).unwrap();
    let error = Peer::from_chain(&chain(&issued), Role::Dialer, 1, SystemTime::now()).unwrap_err();
    for shown in [peer.to_string(), error.to_string()] {
        assert!(shown.contains("a\\n2026") && !shown.contains(char::is_control), "{shown:?}");
    }
}

#[test]
fn verify_none_still_demands_the_key_of_the_certificate() {
    let world = World::new();
    let dialer = world.snapshot(&["host.a"]);
    let own = dialer.credential(None).unwrap();
    let stolen =
        Issued { certificate: world.issue(&["redis.prod"]).certificate, key: world.issue(&["thief.prod"]).key };
    let key = PrivateKeyDer::from_pem_slice(stolen.key.as_bytes()).unwrap();
    let signer = settings::provider().key_provider.load_private_key(key).unwrap();
    let mut server = (*dialer.server_config()).clone();
    server.cert_resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain(&stolen), signer)));
    let met = meet(dialer.client_config(&Verify::None, own), Arc::new(server), None);
    assert!(matches!(met.dialer, Err(Error::InvalidCertificate(_))), "{:?}", met.dialer);
    says(&met.sentences().1, &["decrypt_error"]);
}

fn two_services(world: &World) -> Snapshot {
    let pairs = [("default", ["host.b"]), ("wild", ["*.wild.prod"]), ("redis", ["redis.wild.prod"])];
    let pairs = pairs.map(|(id, names)| world.pair(id, &world.issue(&names)));
    load(&world.tls(pairs.to_vec())).unwrap()
}

#[test]
fn sni_picks_the_exact_name_before_the_wildcard_and_none_the_default() {
    let world = World::new();
    let snapshot = two_services(&world);
    let picked = |sni| snapshot.credential_for_sni(sni).map(|one| one.id.as_str());
    assert_eq!(picked(None), Some("default"));
    assert_eq!(picked(Some("redis.wild.prod")), Some("redis"));
    assert_eq!(picked(Some("REDIS.wild.prod")), Some("redis"));
    assert_eq!(picked(Some("mysql.wild.prod")), Some("wild"));
    assert_eq!(picked(Some("a.b.wild.prod")), None);
    assert_eq!(picked(Some("wild.prod")), None);
}

#[test]
fn what_sni_picks_is_what_is_shown() {
    let world = World::new();
    let snapshot = two_services(&world);
    let own = snapshot.credential(None).unwrap();
    for (sni, expected) in
        [(None, "host.b"), (Some("redis.wild.prod"), "redis.wild.prod"), (Some("mysql.wild.prod"), "mysql.wild.prod")]
    {
        let client = snapshot.client_config(&expects(expected), own);
        let met = meet(client, snapshot.server_config(), sni);
        assert!(met.succeeded(), "{sni:?}: {:?}", met.sentences());
        let shown = &met.client.peer_certificates().unwrap()[0];
        let presented = snapshot.credential_for_sni(met.server.server_name()).unwrap();
        assert_eq!(&presented.chain()[0], shown);
    }
}

#[test]
fn an_sni_that_no_certificate_covers_is_unrecognized_name() {
    let world = World::new();
    let snapshot = two_services(&world);
    let own = snapshot.credential(None).unwrap();
    let client = snapshot.client_config(&expects("mysql.test"), own);
    let met = meet(client, snapshot.server_config(), Some("mysql.test"));
    let (dialer, acceptor) = met.sentences();
    says(&dialer, &["peer sent alert unrecognized_name", "no certificate for the server name"]);
    says(&acceptor, &["unrecognized_name"]);
}
