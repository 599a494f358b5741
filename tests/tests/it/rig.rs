//! The rig itself: a certificate that should be bad is bad, a name server that should fail fails, and a
//! bystander hears what he should.

use std::{fs, net::UdpSocket, process::Command, time::Duration};

use adit_tests::{
    address::Address,
    authority::{Authority, Credential, Leaf},
    dns::Dns,
    end::End,
    listener::Listener,
    need, need_that,
    netns::{Family, Host, Hosts},
    process::run,
    skip::is_root,
};

/// A second opinion: OpenSSL's verdict on a certificate of `authority`.
fn openssl(authority: &Authority, credential: &Credential, list: Option<&str>, purpose: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).display().to_string()
    };
    let (ca, cert) = (write("ca.pem", authority.pem()), write("cert.pem", &credential.cert));
    let mut command = Command::new("openssl");
    command.args(["verify", "-purpose", purpose, "-CAfile", &ca]);
    if let Some(list) = list {
        command.args(["-crl_check", "-CRLfile", &write("crl.pem", list)]);
    }
    run(command.arg(cert), Duration::from_secs(10)).all()
}

#[test]
fn an_honest_certificate_is_good() {
    need!("openssl");
    let authority = Authority::new("one");
    let good = authority.issue(&Leaf::dns(&["b.adit.example"]).uri("spiffe://adit.example/b"));
    let list = authority.revoke(&[]);
    for purpose in ["sslserver", "sslclient"] {
        let verdict = openssl(&authority, &good, Some(&list), purpose);
        assert!(verdict.ends_with(": OK\n"), "{verdict}");
    }
}

#[test]
fn each_bad_certificate_is_bad_in_its_own_way() {
    need!("openssl");
    let authority = Authority::new("one");
    let leaf = Leaf::dns(&["b.adit.example"]);
    let verdict = |leaf: Leaf, purpose| openssl(&authority, &authority.issue(&leaf), None, purpose);
    assert!(verdict(leaf.clone().expired(), "sslserver").contains("certificate has expired"));
    assert!(verdict(leaf.clone().not_yet_valid(), "sslserver").contains("not yet valid"));
    assert!(verdict(leaf.clone().only_for_clients(), "sslserver").contains("unsuitable certificate purpose"));
    assert!(verdict(leaf.clone().only_for_servers(), "sslclient").contains("unsuitable certificate purpose"));
    let foreign = Authority::new("two").issue(&leaf);
    assert!(openssl(&authority, &foreign, None, "sslserver").contains("unable to get local issuer"));
    let revoked = authority.issue(&leaf);
    let list = authority.revoke(&[&revoked]);
    assert!(openssl(&authority, &revoked, Some(&list), "sslserver").contains("certificate revoked"));
}

#[test]
fn the_name_server_answers_denies_fails_and_keeps_silent() {
    need!("unbound", "unbound-control");
    let dns = Dns::start();
    assert_eq!(ask(&dns, "b.mesh.example"), Some((NXDOMAIN, 0)));
    dns.answer("b.mesh.example", 1, &["127.0.0.1", "127.0.0.2"]);
    assert_eq!(ask(&dns, "b.mesh.example"), Some((NOERROR, 2)));
    dns.answer("b.mesh.example", 1, &["127.0.0.3"]);
    assert_eq!(ask(&dns, "b.mesh.example"), Some((NOERROR, 1)));
    dns.keep_silent_about("b.mesh.example");
    assert_eq!(ask(&dns, "b.mesh.example"), None);
    dns.answer("b.mesh.example", 1, &["127.0.0.1"]);
    assert_eq!(ask(&dns, "b.mesh.example"), Some((NOERROR, 1)));
    dns.deny("b.mesh.example");
    assert_eq!(ask(&dns, "b.mesh.example"), Some((NXDOMAIN, 0)));
    dns.fail();
    assert_eq!(ask(&dns, "b.mesh.example"), Some((SERVFAIL, 0)));
    dns.answer("b.mesh.example", 1, &["127.0.0.1"]);
    assert_eq!(ask(&dns, "b.mesh.example"), Some((NOERROR, 1)));
    dns.keep_silent_about("b.mesh.example");
    dns.break_silence("b.mesh.example", 1, &["127.0.0.1", "127.0.0.2"]);
    assert_eq!(ask(&dns, "b.mesh.example"), Some((NOERROR, 2)));
}

#[test]
fn the_bystander_hears_every_frame_between_hosts_and_no_other() {
    need!("ip", "tcpdump");
    need_that!(is_root(), "only root makes namespaces");
    let hosts = Hosts::join();
    let wire = hosts.listen();
    for family in Family::BOTH {
        for (from, to) in [(Host::A, Host::B), (Host::Container, Host::C), (Host::C, Host::A)] {
            // when a word goes from host to host
            let service = hosts.on(to, || Listener::at(&Address::parse("[::]:7000")));
            let mut caller = hosts.on(from, || End::connect(&to.at(family, 7000)));
            let mut called = service.accept();
            let word = format!("from {from:?} to {to:?} over {family:?}");
            caller.send(word.as_bytes());
            assert_eq!(called.receive(word.len()), word.as_bytes());
            // then both see the addresses that they have, and the bystander hears it
            assert_eq!((caller.other(), called.other()), (to.at(family, 7000), caller.address()));
            assert!(wire.holds(&word), "{word}");
        }
        // and what goes from a container to its host crosses no wire
        let service = hosts.on(Host::A, || Listener::at(&Address::parse("[::]:7001")));
        let mut caller = hosts.on(Host::Container, || End::connect(&Host::A.at(family, 7001)));
        caller.send(b"within the host");
        assert_eq!(service.accept().receive(15), b"within the host");
    }
    assert!(!wire.holds("within the host"));
    assert!(wire.frames("tcp port 7001").is_empty());
    assert!(!wire.frames("tcp port 7000").is_empty());
}

/// Response codes of RFC 1035, section 4.1.1.
const NOERROR: u8 = 0;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// Asks for A records; the response code and how many answers, or nothing within a second.
fn ask(dns: &Dns, name: &str) -> Option<(u8, u8)> {
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.send_to(&query, dns.address()).unwrap();
    let mut answer = [0; 512];
    socket.recv(&mut answer).ok()?;
    Some((answer[3] & 15, answer[7]))
}
