//! `adit ca` as it is typed, in a folder of its own.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::*;

fn ca(dir: &Path, line: &str) -> Result<(), String> {
    let line = line.replace("DIR", dir.to_str().unwrap());
    let argv = ["ca"].into_iter().chain(line.split_whitespace());
    let ca = Ca::try_parse_from(argv).map_err(|error| error.to_string())?;
    ca.run().map_err(|error| error.to_string())
}

#[test]
fn a_ca_issues_a_pair_whose_key_only_the_owner_reads() {
    let dir = tempfile::tempdir().unwrap();
    ca(dir.path(), "init --dir DIR").unwrap();
    ca(dir.path(), "issue --dir DIR --dns a.b --spiffe spiffe://b/a --out DIR/a.b").unwrap();
    for (file, mode) in [("ca.key", 0o600), ("a.b.key", 0o600), ("a.b.pem", 0o644)] {
        let found = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{file}");
    }
}

#[test]
fn nothing_is_overwritten_without_force() {
    let dir = tempfile::tempdir().unwrap();
    ca(dir.path(), "init --dir DIR").unwrap();
    let before = fs::read(dir.path().join("ca.key")).unwrap();
    let error = ca(dir.path(), "init --dir DIR").unwrap_err();
    assert!(error.contains("ca.key: is already there; give --force"), "{error}");
    assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), before);
    ca(dir.path(), "init --dir DIR --force").unwrap();
    assert_ne!(fs::read(dir.path().join("ca.key")).unwrap(), before);
}

#[test]
fn a_pair_is_never_half_replaced() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), "precious").unwrap();
    let error = ca(dir.path(), "init --dir DIR").unwrap_err();
    assert!(error.contains("ca.pem: is already there"), "{error}");
    assert!(!dir.path().join("ca.key").exists());
}

#[test]
fn a_ca_with_another_cas_key_issues_nothing() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    ca(dir.path(), "init --dir DIR").unwrap();
    ca(other.path(), "init --dir DIR").unwrap();
    fs::copy(other.path().join("ca.key"), dir.path().join("ca.key")).unwrap();
    let error = ca(dir.path(), "issue --dir DIR --dns a.b --out DIR/x").unwrap_err();
    assert!(error.contains("ca.key is not the key of ca.pem"), "{error}");
}

#[test]
fn a_certificate_that_would_outlive_its_ca_is_not_issued() {
    let dir = tempfile::tempdir().unwrap();
    ca(dir.path(), "init --dir DIR --days 90").unwrap();
    ca(dir.path(), "issue --dir DIR --dns a.b --days 89 --out DIR/x").unwrap();
    let error = ca(dir.path(), "issue --dir DIR --dns a.b --days 91 --out DIR/y").unwrap_err();
    assert!(error.contains("fewer --days"), "{error}");
}

#[test]
fn a_certificate_that_names_nobody_is_not_issued() {
    let dir = tempfile::tempdir().unwrap();
    ca(dir.path(), "init --dir DIR").unwrap();
    let error = ca(dir.path(), "issue --dir DIR --out DIR/x").unwrap_err();
    assert!(error.contains("--dns"), "{error}");
}

#[test]
fn what_is_no_name_is_refused_on_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    ca(dir.path(), "init --dir DIR").unwrap();
    for (option, said) in [
        ("--spiffe a.b", "spiffe://"),
        ("--spiffe spiffe://b/../a", "SPIFFE id"),
        ("--dns spiffe://b/a", "--spiffe"),
        ("--dns 10.0.0.1", "DNS name"),
        ("--dns a..b", "label is empty"),
        ("--dns a.*.b", "DNS name"),
        ("--dns *.*.b", "DNS name"),
        ("--dns a/b", "DNS name"),
    ] {
        let error = ca(dir.path(), &format!("issue --dir DIR {option} --out DIR/x")).unwrap_err();
        assert!(error.contains(said), "{option}: {error}");
    }
    ca(dir.path(), "issue --dir DIR --dns *.a.b --out DIR/x").unwrap();
}

const LIST: &str = "# two hosts\na.b spiffe://b/a 10.0.0.1\nc.b *.c.b\n";

#[test]
fn a_list_of_hosts_becomes_an_archive_for_each_that_tar_unpacks_with_its_modes() {
    let dir = tempfile::tempdir().unwrap();
    ca(dir.path(), "init --dir DIR").unwrap();
    fs::write(dir.path().join("hosts"), LIST).unwrap();
    ca(dir.path(), "issue --dir DIR --hosts DIR/hosts --out DIR/out").unwrap();
    for (host, name) in [("a.b", "spiffe://b/a"), ("c.b", "*.c.b")] {
        let archive = dir.path().join(format!("out/{host}.tar"));
        assert_eq!(fs::metadata(&archive).unwrap().permissions().mode() & 0o777, 0o600);
        let tls = dir.path().join(host);
        fs::create_dir(&tls).unwrap();
        let tar = std::process::Command::new("tar").arg("-C").arg(&tls).arg("-xpf").arg(&archive).status().unwrap();
        assert!(tar.success());
        for (file, mode) in [("ca.pem", 0o644), ("host.pem", 0o644), ("host.key", 0o640)] {
            assert_eq!(fs::metadata(tls.join(file)).unwrap().permissions().mode() & 0o777, mode, "{file}");
        }
        assert!(show::certificates(&tls.join("host.pem"), SystemTime::now()).unwrap().contains(name));
        // The key is that of the certificate, and the bundle that of the CA.
        let tls_of = |file: &str| tls.join(file);
        let certificate =
            adit_config::Certificate { id: "x".into(), cert: tls_of("host.pem"), key: tls_of("host.key") };
        let authorities = adit_config::Authorities::File(tls_of("ca.pem"));
        crate::identity::Store::load(&adit_config::Tls { authorities, crl: vec![], certificates: vec![certificate] })
            .unwrap();
    }
}

#[test]
fn archives_are_made_for_all_hosts_or_for_none_and_replace_nothing_unasked() {
    let dir = tempfile::tempdir().unwrap();
    ca(dir.path(), "init --dir DIR").unwrap();
    fs::create_dir(dir.path().join("out")).unwrap();
    fs::write(dir.path().join("hosts"), LIST).unwrap();
    fs::write(dir.path().join("out/c.b.tar"), "precious").unwrap();
    let issue = "issue --dir DIR --hosts DIR/hosts --out DIR/out";
    assert!(ca(dir.path(), issue).unwrap_err().contains("c.b.tar: is already there; give --force"));
    assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 1);
    assert_eq!(fs::read(dir.path().join("out/c.b.tar")).unwrap(), b"precious");
    // What fails when the first is in its place takes that back.
    fs::remove_file(dir.path().join("out/c.b.tar")).unwrap();
    fs::create_dir_all(dir.path().join("out/c.b.tar/full")).unwrap();
    ca(dir.path(), &format!("{issue} --force")).unwrap_err();
    assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 1);
    fs::remove_dir_all(dir.path().join("out/c.b.tar")).unwrap();
    ca(dir.path(), issue).unwrap();
    let before = fs::read(dir.path().join("out/a.b.tar")).unwrap();
    ca(dir.path(), &format!("{issue} --force")).unwrap();
    assert_ne!(fs::read(dir.path().join("out/a.b.tar")).unwrap(), before);
    assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 2);
}

#[test]
fn a_bad_list_makes_nothing_and_tells_every_line() {
    let dir = tempfile::tempdir().unwrap();
    ca(dir.path(), "init --dir DIR").unwrap();
    fs::write(dir.path().join("hosts"), "a.b\nspiffe://b/a\na.b\n").unwrap();
    let error = ca(dir.path(), "issue --dir DIR --hosts DIR/hosts --out DIR/out").unwrap_err();
    assert!(error.contains("hosts:2: ") && error.contains("hosts:3: "), "{error}");
    assert!(!dir.path().join("out").exists());
}

fn leaf(file: &Path) -> crate::identity::Leaf {
    crate::identity::Leaf::parse(&crate::identity::read_certificates(file).unwrap()[0]).unwrap()
}

#[test]
fn what_is_due_is_renewed_with_its_names_its_mode_and_another_key() {
    let dir = tempfile::tempdir().unwrap();
    ca(dir.path(), "init --dir DIR").unwrap();
    let names = "--dns a.b --dns *.a.b --spiffe spiffe://b/a --ip 10.0.0.1";
    ca(dir.path(), &format!("issue --dir DIR {names} --days 20 --out DIR/host")).unwrap();
    let (pem, key) = (dir.path().join("host.pem"), dir.path().join("host.key"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let (before, old_key) = (leaf(&pem), fs::read(&key).unwrap());
    // not yet
    ca(dir.path(), "renew --dir DIR DIR --within 19d").unwrap();
    assert_eq!((leaf(&pem), fs::read(&key).unwrap()), (before.clone(), old_key.clone()));
    // now
    ca(dir.path(), "renew --dir DIR DIR").unwrap();
    let after = leaf(&pem);
    assert_eq!((&after.dns, &after.uris, &after.ips), (&before.dns, &before.uris, &before.ips));
    assert_ne!(after.serial, before.serial);
    assert!(after.not_after >= before.not_after);
    let new_key = fs::read(&key).unwrap();
    assert_ne!(new_key, old_key);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o640);
    // and with the key that is there, for longer
    ca(dir.path(), "renew --dir DIR DIR/host.pem --keep-key --days 60").unwrap();
    assert_eq!(fs::read(&key).unwrap(), new_key);
    assert!(leaf(&pem).not_after > after.not_after);
    // then nothing is due, and nothing lies about
    ca(dir.path(), "renew --dir DIR DIR").unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
}

#[test]
fn a_key_in_the_certificates_own_file_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    ca(dir.path(), "init --dir DIR").unwrap();
    ca(dir.path(), "issue --dir DIR --dns a.b --days 1 --out DIR/host").unwrap();
    let (pem, key) = (dir.path().join("host.pem"), dir.path().join("host.key"));
    let both = [fs::read(&pem).unwrap(), fs::read(&key).unwrap()].concat();
    fs::write(&pem, &both).unwrap();
    let error = ca(dir.path(), "renew --dir DIR DIR").unwrap_err();
    assert!(error.contains("host.pem: holds a key too, which would be lost"), "{error}");
    assert_eq!(fs::read(&pem).unwrap(), both);
}

#[test]
fn what_this_ca_did_not_issue_is_not_renewed_and_keeps_no_other_from_it() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    ca(dir.path(), "init --dir DIR").unwrap();
    ca(other.path(), "init --dir DIR").unwrap();
    ca(other.path(), "issue --dir DIR --dns a.b --days 1 --out DIR/host").unwrap();
    for file in ["host.pem", "host.key"] {
        fs::copy(other.path().join(file), dir.path().join(format!("a{file}"))).unwrap();
    }
    ca(dir.path(), "issue --dir DIR --dns b.b --days 1 --out DIR/b").unwrap();
    let before = leaf(&dir.path().join("b.pem"));
    let error = ca(dir.path(), "renew --dir DIR DIR").unwrap_err();
    assert!(error.contains("ahost.pem: was not issued by this CA"), "{error}");
    assert_ne!(leaf(&dir.path().join("b.pem")).serial, before.serial);
}

#[test]
fn a_folder_without_certificates_and_a_time_that_is_none_are_told() {
    let dir = tempfile::tempdir().unwrap();
    ca(dir.path(), "init --dir DIR").unwrap();
    assert!(ca(dir.path(), "renew --dir DIR DIR").unwrap_err().contains("holds no certificate NAME.pem"));
    assert!(ca(dir.path(), "renew --dir DIR DIR/x.pem").unwrap_err().contains("x.pem: No such file"));
    for time in ["30", "d", "1w", "-1d", "999999999999999999999d", "99999d"] {
        assert!(ca(dir.path(), &format!("renew --dir DIR DIR --within={time}")).unwrap_err().contains("30d"), "{time}");
    }
}

#[test]
fn a_missing_ca_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = ca(dir.path(), "issue --dir DIR --dns a.b --out DIR/x").unwrap_err();
    assert!(error.contains("ca.pem"), "{error}");
}
