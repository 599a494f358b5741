//! Bad certificates, each on either side: no byte passes, and the dialing host's log and `adit ping` name the cause,
//! never "connection reset".

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use adit_tests::{
    address::Address,
    authority::{Authority, Leaf},
    end::End,
    listener::Listener,
    mesh::{A, B, Mesh, Plan},
    need,
    peer::Papers,
    wait::{LIMIT, until},
};

const ECHO: &str = "/svc/echo";

/// Long enough to start two agents in.
const SHORT_LIFE: Duration = Duration::from_secs(4);

#[test]
fn an_expired_certificate_of_the_acceptor_is_named() {
    let plan = Mesh::plan();
    let short = plan.authority().issue(&Leaf::dns(&[B]).for_only(SHORT_LIFE));
    refused_when(&after(SHORT_LIFE), plan.b_shows(short), &["expired"]);
}

#[test]
fn an_expired_certificate_of_the_dialer_is_named() {
    let plan = Mesh::plan();
    let short = plan.authority().issue(&Leaf::dns(&[A]).for_only(SHORT_LIFE));
    refused_when(&after(SHORT_LIFE), plan.a_shows(short), &["expired"]);
}

#[test]
fn an_acceptor_of_another_ca_is_named() {
    let foreign = Authority::new("another").issue(&Leaf::dns(&[B]));
    refused(Mesh::plan().b_shows(foreign), &["unknown issuer", "unknown ca"]);
}

#[test]
fn a_dialer_of_another_ca_is_named() {
    let foreign = Authority::new("another").issue(&Leaf::dns(&[A]));
    refused(Mesh::plan().a_shows(foreign), &["unknown issuer", "unknown ca"]);
}

#[test]
fn an_acceptor_of_another_name_is_named() {
    // A asks for B by SNI, so an acceptor that has no such certificate says so first.
    let plan = Mesh::plan();
    let other = plan.authority().issue(&Leaf::dns(&["c.adit.example"]));
    refused(plan.b_shows(other), &["unrecognized name", "not valid for name", "name mismatch"]);
}

#[test]
fn a_dialer_of_another_name_is_denied() {
    let plan = Mesh::plan();
    let other = plan.authority().issue(&Leaf::dns(&["c.adit.example"]));
    refused(plan.a_shows(other), &["denied"]);
}

#[test]
fn a_revoked_acceptor_is_named() {
    let plan = Mesh::plan();
    let credential = plan.authority().issue(&Leaf::dns(&[B]));
    let list = plan.authority().revoke(&[&credential]);
    refused(plan.b_shows(credential).a_revokes(list), &["revoked"]);
}

#[test]
fn a_revoked_dialer_is_named() {
    let plan = Mesh::plan();
    let credential = plan.authority().issue(&Leaf::dns(&[A]));
    let list = plan.authority().revoke(&[&credential]);
    refused(plan.a_shows(credential).b_revokes(list), &["revoked"]);
}

#[test]
fn an_acceptor_with_a_client_certificate_is_named() {
    let plan = Mesh::plan();
    let wrong = plan.authority().issue(&Leaf::dns(&[B]).only_for_clients());
    refused(plan.b_shows(wrong), &["purpose", "extended key usage", "unsupported certificate"]);
}

#[test]
fn a_dialer_with_a_server_certificate_is_named() {
    let plan = Mesh::plan();
    let wrong = plan.authority().issue(&Leaf::dns(&[A]).only_for_servers());
    refused(plan.a_shows(wrong), &["purpose", "extended key usage", "unsupported certificate"]);
}

#[test]
fn a_dialer_with_a_wildcard_is_denied() {
    let plan = Mesh::plan();
    let wild = plan.authority().issue(&Leaf::dns(&["*.adit.example"]));
    refused(plan.a_shows(wild), &["denied", "bad certificate", "wildcard"]);
}

#[test]
fn a_dialer_with_two_uris_is_refused() {
    need!("python3");
    // given a certificate with two URI names, which no agent of ours would start with
    let plan = Mesh::plan();
    let two = plan.authority().issue(&Leaf::dns(&[A]).uri("spiffe://adit.example/a").uri("spiffe://adit.example/b"));
    let papers = Papers::of(plan.authority(), &two);
    let service = Listener::at(&Address::any_port());
    // when a second peer shows it to B
    let (b, _dir) = plan.service(ECHO, service.address()).start_b();
    let said = papers.dial(&b.inbound(), "hello", &["--to", ECHO, "--sni", B]);
    // then it is turned away in the handshake, and both sides' words say so
    assert!(!said.status.success(), "{}", said.all());
    b.until_logged("2 URI names");
    assert!(!service.has_caller());
}

#[test]
fn a_wildcard_proves_an_acceptor() {
    let plan = Mesh::plan();
    let wild = plan.authority().issue(&Leaf::dns(&["*.adit.example"]));
    served(plan.b_shows(wild));
}

#[test]
fn a_spiffe_id_is_an_identity() {
    let plan = Mesh::plan();
    let id = "spiffe://adit.example/web";
    let spiffe = plan.authority().issue(&Leaf::dns(&[]).uri(id));
    let service = Listener::at(&Address::any_port());
    let mesh = plan.a_shows(spiffe).service(ECHO, service.address()).only_for(id).start();
    speak(&mesh, &service);
}

#[test]
fn a_list_that_revokes_another_certificate_revokes_nothing_else() {
    let plan = Mesh::plan();
    let other = plan.authority().issue(&Leaf::dns(&[A]));
    let list = plan.authority().revoke(&[&other]);
    served(plan.a_revokes(list.clone()).b_revokes(list));
}

#[test]
fn an_agent_does_not_start_with_a_certificate_that_cannot_serve() {
    let leaf = Leaf::dns(&[B]);
    let authority = Authority::new("adit tests");
    let mut mismatched = authority.issue(&leaf);
    mismatched.key = authority.issue(&leaf).key;
    let mut unreadable = authority.issue(&leaf);
    "not a key\n".clone_into(&mut unreadable.key);
    let cases =
        [(authority.issue(&leaf.expired()), "expired"), (mismatched, "is not the key"), (unreadable, "key.pem")];
    for (credential, cause) in cases {
        let service = Address::parse("127.0.0.1:1");
        let ended = Mesh::plan().b_shows(credential).service(ECHO, &service).fail_to_start_b();
        assert_eq!(ended.status.code(), Some(1), "{}", ended.all());
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(cause), "no `{cause}` in {}", ended.stderr);
    }
}

fn served(plan: Plan) {
    let service = Listener::at(&Address::any_port());
    let mesh = plan.service(ECHO, service.address()).start();
    speak(&mesh, &service);
}

fn speak(mesh: &Mesh, service: &Listener) {
    let mut client = End::connect(&mesh.front(ECHO));
    client.send(b"hello");
    assert_eq!(service.accept().receive(5), b"hello");
}

fn refused(plan: Plan, causes: &[&str]) {
    refused_when(&|| true, plan, causes);
}

/// With this plan, once it is `time`, an application is reset, and log and ping name one of the causes.
fn refused_when(time: &dyn Fn() -> bool, plan: Plan, causes: &[&str]) {
    let service = Listener::at(&Address::any_port());
    let mesh = plan.service(ECHO, service.address()).start();
    until("the certificate to be bad", LIMIT, || time().then_some(()));
    // when an application speaks, and the operator asks why
    let mut client = End::connect(&mesh.front(ECHO));
    let failure = client.failure_after(b"hello");
    let ping = mesh.ping(ECHO);
    // then nothing passes, and both say why
    assert_eq!(failure, Some(ErrorKind::ConnectionReset));
    assert!(!service.has_caller());
    assert!(!ping.status.success(), "{}", ping.all());
    assert!(names_one_of(&ping.all(), causes), "ping names none of {causes:?}:\n{}", ping.all());
    until("host A's log to name the cause", LIMIT, || names_one_of(&mesh.a.log(), causes).then_some(()));
    assert!(!ping.all().to_lowercase().contains("connection reset"), "{}", ping.all());
    assert!(!mesh.a.log().to_lowercase().contains("connection reset"), "{}", mesh.a.log());
}

/// `unknown_ca`, `UnknownCA` and `unknown ca` are one cause.
fn names_one_of(text: &str, causes: &[&str]) -> bool {
    let plain = |text: &str| text.to_lowercase().replace(['_', ' '], "");
    let text = plain(text);
    causes.iter().any(|cause| text.contains(&plain(cause)))
}

fn after(span: Duration) -> impl Fn() -> bool {
    // A second more, for certificates count in whole ones.
    let over = Instant::now() + span + Duration::from_secs(1);
    move || Instant::now() > over
}
