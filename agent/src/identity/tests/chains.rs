//! Chains longer than two, and what a CA itself may be wrong in: which certificates of a chain are held to which rule.

use rcgen::{
    BasicConstraints, CrlDistributionPoint, CrlIssuingDistributionPoint, DnType, GeneralSubtree, IsCa, Issuer, KeyPair,
    NameConstraints,
};

use super::*;

/// A CA under the world's own.
struct Intermediate {
    issued: Issued,
}

impl Intermediate {
    fn new(world: &World, spoil: impl FnOnce(&mut CertificateParams)) -> Self {
        let issued = world.spoilt(&["unused.prod"], |params| {
            params.subject_alt_names.clear();
            params.extended_key_usages.clear();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "intermediate");
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
            spoil(params);
        });
        Self { issued }
    }

    fn issuer(&self) -> Issuer<'static, KeyPair> {
        let key = KeyPair::from_pem(&self.issued.key).unwrap();
        Issuer::from_ca_cert_pem(&self.issued.certificate, key).unwrap()
    }

    /// A certificate of these names, with this CA's own behind it.
    fn issue(&self, names: &[&str]) -> Issued {
        self.spoilt(names, |_| {})
    }

    fn spoilt(&self, names: &[&str], spoil: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = request(names).params(SystemTime::now()).unwrap();
        spoil(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer()).unwrap().pem();
        Issued { certificate: leaf + &self.issued.certificate, key: key.serialize_pem() }
    }
}

/// The acceptor's verdict on a dialer that shows this: nothing, or the sentence.
fn verdict(acceptor: &Snapshot, issued: &Issued) -> String {
    verdict_at(acceptor, issued, SystemTime::now())
}

fn verdict_at(acceptor: &Snapshot, issued: &Issued, now: SystemTime) -> String {
    let chain = chain(issued);
    let claim = trust::Claim { end_entity: &chain[0], intermediates: &chain[1..], role: Role::Dialer };
    match acceptor.trust.verify(claim, pki::unix_time(now)) {
        Ok(()) => String::new(),
        Err(error) => explain(&error),
    }
}

fn with_lists(world: &World, lists: &[String]) -> Snapshot {
    let mut tls = world.tls(vec![world.pair("host.b", &world.issue(&["host.b"]))]);
    tls.crl = (0..).zip(lists).map(|(number, list)| world.file(&format!("{number}.crl"), list)).collect();
    load(&tls).unwrap()
}

#[test]
fn a_chain_over_an_intermediate_is_admitted() {
    let world = World::new();
    let issued = Intermediate::new(&world, |_| {}).issue(&["a.prod", "spiffe://prod/a"]);
    assert_eq!(verdict(&world.snapshot(&["host.b"]), &issued), "");
}

#[test]
fn every_certificate_of_a_chain_is_held_to_its_rules() {
    let world = World::new();
    let acceptor = world.snapshot(&["host.b"]);
    let names = ["a.prod", "spiffe://prod/a"];
    let permitted = |subtree| {
        move |params: &mut CertificateParams| {
            params.name_constraints =
                Some(NameConstraints { permitted_subtrees: vec![subtree], excluded_subtrees: Vec::new() });
        }
    };
    let dns = |name: &str| GeneralSubtree::DnsName(name.to_owned());
    let expired = |params: &mut CertificateParams| {
        params.not_before = OffsetDateTime::now_utc() - 9 * DAY;
        params.not_after = OffsetDateTime::now_utc() - DAY;
    };
    let rows: [(&str, Intermediate, &str); 5] = [
        ("a constraint that holds", Intermediate::new(&world, permitted(dns("prod"))), ""),
        ("a constraint that is broken", Intermediate::new(&world, permitted(dns("test"))), "NameConstraintViolation"),
        ("expired", Intermediate::new(&world, expired), "certificate_expired"),
        ("no CA", Intermediate::new(&world, |params| params.is_ca = IsCa::ExplicitNoCa), "EndEntityUsedAsCa"),
        (
            "for servers only",
            Intermediate::new(&world, |params| {
                params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
            }),
            "extended key usage",
        ),
    ];
    for (what, intermediate, said) in rows {
        let verdict = verdict(&acceptor, &intermediate.issue(&names));
        assert!(verdict.contains(said) && verdict.is_empty() == said.is_empty(), "{what}: {verdict}");
    }
}

#[test]
fn a_ca_is_nobody_and_signs_no_further_than_it_may() {
    let world = World::new();
    let acceptor = world.snapshot(&["host.b"]);
    let as_ca = world.spoilt(&["a.prod"], |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    says(&verdict(&acceptor, &as_ca), &["CaUsedAsEndEntity"]);

    let first = Intermediate::new(&world, |_| {});
    let second = first.spoilt(&["x.prod"], |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let issuer = Issuer::from_ca_cert_pem(&second.certificate, KeyPair::from_pem(&second.key).unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = request(&["a.prod"]).params(SystemTime::now()).unwrap().signed_by(&key, &issuer).unwrap().pem();
    let issued = Issued { certificate: leaf + &second.certificate, key: key.serialize_pem() };
    says(&verdict(&acceptor, &issued), &["PathLenConstraintViolated"]);
}

#[test]
fn a_revoked_intermediate_takes_its_own_with_it() {
    let world = World::new();
    let intermediate = Intermediate::new(&world, |_| {});
    let acceptor = with_lists(&world, &[world.revoke(&intermediate.issued, SystemTime::now() + DAY)]);
    says(&verdict(&acceptor, &intermediate.issue(&["a.prod"])), &["certificate_revoked"]);
}

#[test]
fn an_entry_refuses_whatever_distribution_point_its_list_is_of() {
    let world = World::new();
    let point = |uri: &str| CrlDistributionPoint { uris: vec![uri.to_owned()] };
    let issued =
        world.spoilt(&["a.prod"], |params| params.crl_distribution_points = vec![point("http://a.prod/1.crl")]);
    let mut list = list_params(&[&issued], SystemTime::now() + DAY);
    list.issuing_distribution_point =
        Some(CrlIssuingDistributionPoint { distribution_point: point("http://b.prod/1.crl"), scope: None });
    let acceptor = with_lists(&world, &[list.signed_by(world.ca.issuer()).unwrap().pem().unwrap()]);
    says(&verdict(&acceptor, &issued), &["certificate_revoked"]);
}

#[test]
fn a_ca_of_the_bundle_is_held_to_both_its_dates() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let soon = SystemTime::now() + 2 * DAY;
    let ca = Authority::create(dir.path(), "CA of tomorrow", 30, Existing::Keep, soon).unwrap();
    world.file("ca.pem", format!("{}{}", ca.certificate(), world.ca.certificate()));
    let acceptor = world.snapshot(&["host.b"]);
    let issued = ca.issue(&request(&["a.prod"]), SystemTime::now()).unwrap();
    says(&verdict(&acceptor, &issued), &["certificate_expired", "not valid before"]);
    assert_eq!(verdict_at(&acceptor, &issued, soon), "");
}

#[test]
fn a_revoked_ca_of_the_bundle_proves_nobody() {
    let world = World::new();
    let intermediate = Intermediate::new(&world, |_| {});
    let list = world.revoke(&intermediate.issued, SystemTime::now() + DAY);
    world.file("ca.pem", format!("{}{}", intermediate.issued.certificate, world.ca.certificate()));
    let acceptor = with_lists(&world, &[list]);
    says(&verdict(&acceptor, &intermediate.issue(&["a.prod"])), &["certificate_revoked"]);
}

#[test]
fn a_peer_whose_intermediate_or_ca_has_expired_since_is_found_at_its_next_check() {
    let world = World::new();
    let intermediate = Intermediate::new(&world, |params| params.not_after = OffsetDateTime::now_utc() + 2 * DAY);
    let snapshot = world.snapshot(&["host.b"]);
    let issued = intermediate.issue(&["a.prod"]);
    let peer = snapshot.peer(&chain(&issued), Role::Dialer, SystemTime::now()).unwrap();
    let at = |days| snapshot.recheck(&peer, Role::Dialer, SystemTime::now() + days * DAY);
    assert_eq!(at(1), Ok(()));
    says(&at(3).unwrap_err().reason, &["certificate_expired"]);
}
