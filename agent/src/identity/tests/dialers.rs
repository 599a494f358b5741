//! What an acceptor makes of a dialer's certificate: every bad one ends in the alert that names its
//! fault, and both hosts can say what to do.

use rcgen::{ExtendedKeyUsagePurpose, SanType};

use super::*;

/// A dialer shows `issued` to an acceptor of `world`: the dialer's sentence, then the acceptor's.
fn refused(world: &World, issued: &Issued) -> (String, String) {
    refused_by(&world.snapshot(&["host.b"]), world, issued)
}

fn refused_by(acceptor: &Snapshot, world: &World, issued: &Issued) -> (String, String) {
    let met = dial(acceptor, world, issued);
    assert!(!met.succeeded());
    met.sentences()
}

fn dial(acceptor: &Snapshot, world: &World, issued: &Issued) -> Met {
    let dialer = world.snapshot(&["host.a"]);
    let own = dialer.credential(None).unwrap();
    let client = showing(&dialer.client_config(&expects("host.b"), own), issued);
    meet(client, acceptor.server_config(), Some("host.b"))
}

/// An acceptor whose bundle is the world's and whose lists are these.
fn acceptor_with_lists(world: &World, lists: &[PathBuf]) -> Snapshot {
    let mut tls = world.tls(vec![world.pair("host.b", &world.issue(&["host.b"]))]);
    tls.crl = lists.to_vec();
    load(&tls).unwrap()
}

#[test]
fn a_good_one_is_admitted_and_known_by_all_its_names() {
    let world = World::new();
    let acceptor = world.snapshot(&["host.b"]);
    let names = ["host.a", "*.host.a", "spiffe://prod/a", "10.0.0.1"];
    let met = dial(&acceptor, &world, &world.issue(&names));
    assert!(met.succeeded(), "{:?}", met.sentences());

    let peer = acceptor.peer(met.server.peer_certificates().unwrap(), Role::Dialer, SystemTime::now()).unwrap();

    let names: Vec<_> = peer.identities.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["host.a", "spiffe://prod/a", "10.0.0.1"], "and no wildcard");
}

#[test]
fn an_expired_one_is_certificate_expired() {
    let world = World::new();
    let issued = world.spoilt(&["host.a"], |params| {
        params.not_before = OffsetDateTime::now_utc() - 9 * DAY;
        params.not_after = OffsetDateTime::now_utc() - DAY;
    });
    let (dialer, acceptor) = refused(&world, &issued);
    says(&dialer, &["peer sent alert certificate_expired: our certificate is expired", "renew it"]);
    says(&acceptor, &["refused (certificate_expired)", "expired at 20", "renew it on the peer"]);
}

#[test]
fn one_that_is_not_yet_valid_is_certificate_expired_and_blames_the_clocks() {
    let world = World::new();
    let issued = world.spoilt(&["host.a"], |params| {
        params.not_before = OffsetDateTime::now_utc() + DAY;
    });
    let (dialer, acceptor) = refused(&world, &issued);
    says(&dialer, &["certificate_expired", "not yet valid", "clocks"]);
    says(&acceptor, &["certificate_expired", "not valid before", "clocks"]);
}

#[test]
fn one_of_another_ca_is_unknown_ca() {
    let (world, other) = (World::new(), World::new());
    let (dialer, acceptor) = refused(&world, &other.issue(&["host.a"]));
    says(&dialer, &["peer sent alert unknown_ca", "bundle"]);
    says(&acceptor, &["refused (unknown_ca)", "[tls] ca"]);
}

#[test]
fn one_of_a_ca_that_has_expired_in_the_bundle_is_certificate_expired() {
    let (world, old) = (World::new(), tempfile::tempdir().unwrap());
    let then = SystemTime::now() - 40 * DAY;
    let old = Authority::create(old.path(), "old CA", 30, Existing::Keep, then).unwrap();
    world.file("ca.pem", format!("{}{}", old.certificate(), world.ca.certificate()));
    let issued = old.sign(&request(&["host.a"]).params(SystemTime::now()).unwrap()).unwrap();
    let (dialer, acceptor) = refused(&world, &issued);
    says(&dialer, &["certificate_expired"]);
    says(&acceptor, &["it, or a CA above it, expired"]);
}

#[test]
fn one_of_another_ca_of_the_same_name_is_unknown_ca_too() {
    let world = World::new();
    let forged = {
        let params = request(&["host.a"]).params(SystemTime::now()).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(world.ca.certificate(), key).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    };
    let (dialer, acceptor) = refused(&world, &forged);
    says(&dialer, &["unknown_ca"]);
    says(&acceptor, &["unknown_ca"]);
}

#[test]
fn a_revoked_one_is_certificate_revoked() {
    let world = World::new();
    let issued = world.issue(&["host.a"]);
    let list = world.file("crl.pem", world.revoke(&issued, SystemTime::now() + DAY));
    let acceptor = acceptor_with_lists(&world, &[list]);
    let (dialer, acceptor) = refused_by(&acceptor, &world, &issued);
    says(&dialer, &["peer sent alert certificate_revoked", "issue a new one"]);
    says(&acceptor, &["refused (certificate_revoked)"]);
}

#[test]
fn an_outdated_list_still_refuses_whom_it_names_and_nobody_else() {
    let world = World::new();
    let (revoked, other) = (world.issue(&["host.a"]), world.issue(&["host.a"]));
    let list = world.file("crl.pem", world.revoke(&revoked, SystemTime::now() - DAY));
    let acceptor = acceptor_with_lists(&world, &[list]);
    let (dialer, _) = refused_by(&acceptor, &world, &revoked);
    says(&dialer, &["certificate_revoked"]);
    assert!(dial(&acceptor, &world, &other).succeeded());
}

#[test]
fn every_list_of_one_issuer_counts() {
    let world = World::new();
    let (first, second) = (world.issue(&["host.a"]), world.issue(&["host.a"]));
    let until = SystemTime::now() + DAY;
    let lists = [world.file("1.crl", world.revoke(&first, until)), world.file("2.crl", world.revoke(&second, until))];
    let acceptor = acceptor_with_lists(&world, &lists);
    for issued in [&first, &second] {
        let (dialer, _) = refused_by(&acceptor, &world, issued);
        says(&dialer, &["certificate_revoked"]);
    }
}

#[test]
fn a_ca_without_a_list_is_not_checked() {
    let (world, other) = (World::new(), World::new());
    let elsewhere = other.revoke(&other.issue(&["x.y"]), SystemTime::now() + DAY);
    let acceptor = acceptor_with_lists(&world, &[world.file("crl.pem", elsewhere)]);
    assert!(dial(&acceptor, &world, &world.issue(&["host.a"])).succeeded());
}

#[test]
fn one_for_servers_only_is_unsupported_certificate() {
    let world = World::new();
    let issued = world.spoilt(&["host.a"], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let (dialer, acceptor) = refused(&world, &issued);
    says(&dialer, &["peer sent alert unsupported_certificate", "clientAuth"]);
    says(&acceptor, &["refused (unsupported_certificate)", "clientAuth"]);
}

#[test]
fn one_without_any_extended_key_usage_is_admitted() {
    let world = World::new();
    let issued = world.spoilt(&["host.a"], |params| params.extended_key_usages.clear());
    assert!(dial(&world.snapshot(&["host.b"]), &world, &issued).succeeded());
}

#[test]
fn a_wildcard_makes_nobody_of_a_dialer() {
    let world = World::new();
    let (dialer, acceptor) = refused(&world, &world.issue(&["*.host.a"]));
    says(&dialer, &["peer sent alert certificate_unknown", "without a wildcard"]);
    says(&acceptor, &["*.host.a", "no identity a dialer can have"]);
}

#[test]
fn a_common_name_makes_nobody_of_a_dialer() {
    let world = World::new();
    let issued = world.spoilt(&["host.a"], |params| params.subject_alt_names.clear());
    let (dialer, acceptor) = refused(&world, &issued);
    says(&dialer, &["certificate_unknown"]);
    says(&acceptor, &["it has no names at all"]);
}

#[test]
fn two_uri_names_are_refused() {
    let world = World::new();
    let issued = world.spoilt(&["host.a", "spiffe://prod/a"], |params| {
        let second = "https://host.a/".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(second));
    });
    let (dialer, acceptor) = refused(&world, &issued);
    says(&dialer, &["certificate_unknown", "exactly one SPIFFE id"]);
    says(&acceptor, &["2 URI names (spiffe://prod/a, https://host.a/)"]);
}

#[test]
fn a_dns_name_that_spells_a_spiffe_id_or_an_address_is_neither() {
    let world = World::new();
    let issued = world.spoilt(&["host.a"], |params| {
        for text in ["spiffe://prod/root", "10.0.0.1", "ip:10.0.0.1"] {
            params.subject_alt_names.push(SanType::DnsName(text.try_into().unwrap()));
        }
    });
    let peer = Peer::from_chain(&chain(&issued), Role::Dialer, 1, SystemTime::now()).unwrap();
    assert_eq!(peer.identities, [Identity::Dns("host.a".to_owned())]);
}

#[test]
fn a_dialer_without_a_certificate_is_told_one_is_required() {
    let world = World::new();
    let acceptor = world.snapshot(&["host.b"]);
    let own = acceptor.credential(None).unwrap();
    let mut client = (*acceptor.client_config(&expects("host.b"), own)).clone();
    client.client_auth_cert_resolver = Arc::new(Nothing);
    let met = meet(Arc::new(client), acceptor.server_config(), Some("host.b"));
    let (dialer, acceptor) = met.sentences();
    says(&dialer, &["certificate_required", "we sent no certificate"]);
    says(&acceptor, &["peer sent no certificate"]);
}

#[derive(Debug)]
struct Nothing;

impl rustls::client::ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
