//! Files that cannot be used: each is one line that names the file, the fault and the remedy.

use std::os::unix::fs::PermissionsExt;

use rcgen::SanType;

use super::*;

/// The one-line fault of a certificate and key with this text.
fn fault(world: &World, certificate: &str, key: &str) -> String {
    let certificate = Certificate {
        id: "default".to_owned(),
        cert: world.file("host.pem", certificate),
        key: world.file("host.key", key),
    };
    let line = load(&world.tls(vec![certificate])).unwrap_err().to_string();
    assert!(!line.contains('\n'), "{line:?}");
    line
}

fn bundle_fault(world: &World, bundle: &str) -> String {
    let mut tls = world.tls(vec![world.pair("host", &world.issue(&["host.a"]))]);
    tls.authorities = Authorities::File(world.file("bundle.pem", bundle));
    load(&tls).unwrap_err().to_string()
}

fn list_fault(world: &World, list: impl AsRef<[u8]>) -> String {
    let mut tls = world.tls(vec![world.pair("host", &world.issue(&["host.a"]))]);
    tls.crl = vec![world.file("crl.pem", list)];
    load(&tls).unwrap_err().to_string()
}

#[test]
fn a_credential_says_who_we_are_and_until_when() {
    let world = World::new();
    let snapshot = world.snapshot(&["host.a", "*.host.a", "spiffe://prod/a"]);
    let credential = snapshot.credential(None).unwrap();
    assert_eq!(credential.names, ["host.a", "*.host.a", "spiffe://prod/a"]);
    assert_eq!(credential.identities.len(), 2, "the wildcard is nobody");
    assert!(credential.not_after > SystemTime::now() + 9 * DAY);
    assert!(credential.issuer.contains("test CA"));
    assert!(snapshot.credential(Some("host.a")).is_some());
    assert!(snapshot.credential(Some("other")).is_none());
}

#[test]
fn a_key_of_another_certificate_is_told() {
    let world = World::new();
    let (one, other) = (world.issue(&["host.a"]), world.issue(&["host.a"]));
    let line = fault(&world, &one.certificate, &other.key);
    says(&line, &["host.key: is not the key of the certificate in", "host.pem"]);
}

#[test]
fn an_expired_certificate_is_told() {
    let world = World::new();
    let issued = world.spoilt(&["host.a"], |params| {
        params.not_before = OffsetDateTime::now_utc() - 9 * DAY;
        params.not_after = OffsetDateTime::now_utc() - DAY;
    });
    let line = fault(&world, &issued.certificate, &issued.key);
    says(&line, &["host.pem: certificate", "expired at 20", "renew it"]);
}

#[test]
fn a_certificate_of_tomorrow_is_told() {
    let world = World::new();
    let issued = world.spoilt(&["host.a"], |params| {
        params.not_before = OffsetDateTime::now_utc() + DAY;
    });
    let line = fault(&world, &issued.certificate, &issued.key);
    says(&line, &["host.pem", "not valid before", "clock"]);
}

#[test]
fn two_uri_names_are_told() {
    let world = World::new();
    let issued = world.spoilt(&["spiffe://prod/a"], |params| {
        params.subject_alt_names.push(SanType::URI("spiffe://prod/b".try_into().unwrap()));
    });
    let line = fault(&world, &issued.certificate, &issued.key);
    says(&line, &["host.pem: has 2 URI names", "one SPIFFE id"]);
}

#[test]
fn what_a_file_should_hold_is_told() {
    let world = World::new();
    let good = world.issue(&["host.a"]);
    let (certificate, key) = (good.certificate.as_str(), good.key.as_str());
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let cut = &certificate[..certificate.len() - 30];
    for (certificate, key, parts) in [
        ("", key, ["host.pem: is empty", "PEM"]),
        (" \n", key, ["host.pem: is empty", "PEM"]),
        (certificate, "", ["host.key: is empty", "PEM"]),
        (key, key, ["host.pem: holds no certificate but a private key", "CERTIFICATE"]),
        (certificate, certificate, ["host.key: holds no private key but a certificate", "PRIVATE KEY"]),
        ("hello", key, ["host.pem: holds no PEM section", "-----BEGIN"]),
        (cut, key, ["host.pem: is cut short", "-----END"]),
        (certificate, &encrypted, ["host.key: holds an encrypted private key", "decrypt"]),
        (certificate, &format!("{key}{key}"), ["host.key: holds more than one", "leave the one"]),
    ] {
        says(&fault(&world, certificate, key), &parts);
    }
}

#[test]
fn a_missing_file_is_told() {
    let world = World::new();
    let mut pair = world.pair("host", &world.issue(&["host.a"]));
    pair.key = world.path("gone.key");
    let line = load(&world.tls(vec![pair])).unwrap_err().to_string();
    says(&line, &["gone.key: cannot be read", "check the path"]);
}

#[test]
fn a_bundle_of_hosts_is_told() {
    let world = World::new();
    let line = bundle_fault(&world, &world.issue(&["host.a"]).certificate);
    says(&line, &["bundle.pem: certificate", "is not a CA's"]);
}

#[test]
fn a_bundle_of_expired_cas_is_told() {
    let world = World::new();
    let tls = world.tls(vec![]);
    let later = SystemTime::now() + 60 * DAY;
    let line = Snapshot::load(&tls, None, later).unwrap_err().to_string();
    says(&line, &["ca.pem: every CA in it has expired"]);
}

#[test]
fn a_file_that_is_no_revocation_list_is_told() {
    let world = World::new();
    says(&list_fault(&world, ""), &["crl.pem: is empty"]);
    let line = list_fault(&world, world.ca.certificate());
    says(&line, &["crl.pem: holds no revocation list but a certificate"]);
    says(&list_fault(&world, [0x30, 0x01]), &["crl.pem: holds a revocation list that cannot be used"]);
}

#[test]
fn a_revocation_list_may_be_der() {
    let world = World::new();
    let issued = world.issue(&["host.a"]);
    let list = world.revoke(&issued, SystemTime::now() + DAY);
    let der = rustls_pki_types::CertificateRevocationListDer::from_pem_slice(list.as_bytes());
    let mut tls = world.tls(vec![world.pair("host", &issued)]);
    tls.crl = vec![world.file("crl.der", der.unwrap())];
    assert!(load(&tls).is_ok());
}

#[test]
fn each_form_of_key_is_read() {
    // One key in the three forms would need another tool: these were made by it, with no
    // certificate, so that reading gets as far as finding that the pair does not match.
    let world = World::new();
    let certificate = world.issue(&["host.a"]).certificate;
    for (form, key) in [
        ("SEC1", include_str!("keys/sec1.pem")),
        ("PKCS#1", include_str!("keys/pkcs1.pem")),
        ("PKCS#8", include_str!("keys/pkcs8.pem")),
    ] {
        let line = fault(&world, &certificate, key);
        assert!(line.contains("is not the key of the certificate"), "{form}: {line}");
    }
}

#[test]
fn a_key_open_to_others_is_known() {
    let world = World::new();
    let key = world.pair("host", &world.issue(&["host.a"])).key;
    assert!(!pem::is_read_by_others(&key));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(pem::is_read_by_others(&key));
}
