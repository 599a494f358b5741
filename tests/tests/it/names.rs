//! Names that a real name server answers, changes, denies, or says nothing about.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use adit_tests::{
    address::Wire,
    dns::Dns,
    end::End,
    load::Service,
    mesh::Mesh,
    need,
    wait::{LIMIT, until, within},
};

const ECHO: &str = "/svc/echo";
const HOST: &str = "echo.mesh.example";

/// Of every record, in seconds: the least the agent honours by default.
const TTL: u32 = 1;

/// Long enough for a record to expire, and to be asked for again, more than once.
const LONG: Duration = Duration::from_secs(4);

/// Of each trouble; together they are minutes.
const A_MINUTE: Duration = Duration::from_secs(61);

/// The longest pause between two look-ups that fail, half a minute and a fifth, and what a look-up takes.
const RECOVERY: Duration = Duration::from_secs(45);

#[test]
fn a_name_leads_to_the_address_it_has_now() {
    need!("unbound", "unbound-control");
    // given a name whose address nobody answers at
    let (dns, mesh, _echo) = world();
    dns.answer(HOST, TTL, &["127.0.0.9"]);
    assert!(End::try_echo(&mesh.front(ECHO)).is_err());
    // when it gets the right one, then streams go there within its time to live
    dns.answer(HOST, TTL, &["127.0.0.1"]);
    until("the new address to be used", LIMIT, || End::try_echo(&mesh.front(ECHO)).ok());
    // and when it moves away again, then streams follow
    dns.answer(HOST, TTL, &["127.0.0.9"]);
    until("the old address to be left", LIMIT, || End::try_echo(&mesh.front(ECHO)).err());
}

#[test]
fn an_endpoint_that_does_not_answer_is_left_out() {
    need!("unbound", "unbound-control");
    // given a name with one address that answers and one that does not
    let (dns, mesh, _echo) = world();
    dns.answer(HOST, 60, &["127.0.0.9", "127.0.0.1"]);
    // then every stream gets through
    for _ in 0..50 {
        End::try_echo(&mesh.front(ECHO)).unwrap();
    }
    // and so does every ping, which knows nothing of the streams before it
    for _ in 0..8 {
        let _ = mesh.ping(ECHO).expect_success();
    }
    // and none is recorded as one of the endpoint that it was tried at in vain
    mesh.a.until_logged("end=closed");
    let log = mesh.a.log();
    let wrong = log.lines().find(|line| line.contains("end=closed") && line.contains("to=\"127.0.0.9:"));
    assert_eq!(wrong, None);
}

#[test]
fn a_name_that_is_not_there_says_so() {
    need!("unbound", "unbound-control");
    let (_dns, mesh, _echo) = world();
    let failure = End::connect(&mesh.front(ECHO)).failure();
    assert_eq!(failure, Some(ErrorKind::ConnectionReset));
    mesh.a.until_logged(HOST);
    assert!(!mesh.ping(ECHO).status.success());
}

#[test]
fn a_name_that_goes_away_takes_its_streams_no_further() {
    need!("unbound", "unbound-control");
    let (dns, mesh, _echo) = world();
    dns.answer(HOST, TTL, &["127.0.0.1"]);
    until("the name to be found", LIMIT, || End::try_echo(&mesh.front(ECHO)).ok());
    dns.deny(HOST);
    until("the name to be gone", LIMIT, || End::try_echo(&mesh.front(ECHO)).err());
}

#[test]
fn the_last_good_answer_outlives_a_server_that_fails() {
    need!("unbound", "unbound-control");
    outlives(Dns::fail);
}

#[test]
fn the_last_good_answer_outlives_a_server_that_is_silent() {
    need!("unbound", "unbound-control");
    outlives(|dns| dns.keep_silent_about(HOST));
}

#[test]
fn a_silent_server_and_no_answer_yet_is_a_reset_in_time() {
    need!("unbound", "unbound-control");
    // given a server that never answered
    let (dns, mesh, _echo) = world();
    dns.keep_silent_about(HOST);
    // when an application connects, then it is reset within the limit for opening a stream
    assert_eq!(End::connect(&mesh.front(ECHO)).failure(), Some(ErrorKind::ConnectionReset));
    mesh.a.until_logged(HOST);
    // and when the server speaks again, then the next stream gets through
    dns.answer(HOST, TTL, &["127.0.0.1"]);
    until("the name to be found", LIMIT, || End::try_echo(&mesh.front(ECHO)).ok());
}

#[test]
fn the_last_good_answer_outlives_minutes_of_failure_and_then_of_silence() {
    need!("unbound", "unbound-control");
    let (dns, mesh, _echo) = world();
    dns.answer(HOST, TTL, &["127.0.0.1"]);
    until("the name to be found", LIMIT, || End::try_echo(&mesh.front(ECHO)).ok());
    for (trouble, comes) in [("failure", Dns::fail as fn(&Dns)), ("silence", |dns| dns.keep_silent_about(HOST))] {
        comes(&dns);
        let calls = calls_for(A_MINUTE, &mesh);
        println!("{calls} streams in {A_MINUTE:?} of {trouble}");
    }
    // and when the server speaks again, then what it says counts
    dns.answer(HOST, TTL, &["127.0.0.9"]);
    until("the new address to be used", RECOVERY, || End::try_echo(&mesh.front(ECHO)).err());
}

/// Streams get through for longer than a record lives after `trouble` has come over the name server.
fn outlives(trouble: impl FnOnce(&Dns)) {
    let (dns, mesh, _echo) = world();
    dns.answer(HOST, TTL, &["127.0.0.1"]);
    until("the name to be found", LIMIT, || End::try_echo(&mesh.front(ECHO)).ok());
    trouble(&dns);
    calls_for(LONG, &mesh);
}

/// One stream after another for as long as `span`, all of which must get through; how many there were.
fn calls_for(span: Duration, mesh: &Mesh) -> usize {
    let (mut calls, begun) = (0, Instant::now());
    let _ = within(span, || {
        End::try_echo(&mesh.front(ECHO)).unwrap_or_else(|error| panic!("after {:?}: {error}", begun.elapsed()));
        calls += 1;
        None::<()>
    });
    assert!(calls > 10, "only {calls} streams in {span:?}");
    calls
}

/// A mesh that finds host B by name, and an echo service there.
fn world() -> (Dns, Mesh, Service) {
    let dns = Dns::start();
    let echo = Service::start(Wire::Tcp, "echo");
    let mesh = Mesh::plan()
        .service(ECHO, echo.address())
        .table("/svc/{service} => /#/dns/{service}.mesh.example/{port} ;")
        .a_also(&dns.table())
        .start();
    (dns, mesh, echo)
}
