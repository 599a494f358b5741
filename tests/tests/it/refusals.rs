//! Streams that may not or cannot be opened: the application sees a reset, the service sees nothing, and the dialing
//! host's log says what happened.

use std::io::ErrorKind;

use adit_tests::{
    address::{Address, Wire, free_port},
    agent::adit,
    end::End,
    listener::Listener,
    load::Service,
    mesh::{A, B, Mesh},
    wait::{LIMIT, until},
};

const ECHO: &str = "/svc/echo";

#[test]
fn a_denied_identity_is_refused_and_the_application_sees_a_reset() {
    // given a service that somebody else may use
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().service(ECHO, service.address()).only_for("b.web.example").start();
    // when A's application speaks to it
    let mut client = End::connect(&mesh.front(ECHO));
    let failure = client.failure_after(b"let me in");
    // then it is reset, the service never heard of it, and A's log and ping say who was denied
    assert_eq!(failure, Some(ErrorKind::ConnectionReset));
    assert!(!service.has_caller());
    mesh.a.until_logged("denied");
    assert!(mesh.a.log().contains(A), "{}", mesh.a.log());
    assert!(mesh.a.log().contains(&format!("peer=\"{B}\"")), "who refused: {}", mesh.a.log());
    let ping = mesh.ping(ECHO);
    assert!(!ping.status.success());
    assert!(ping.all().contains("denied") && ping.all().contains(A), "{}", ping.all());
    assert!(!ping.all().contains("b.web.example"), "a refusal never says who would be admitted: {}", ping.all());
}

#[test]
fn a_name_that_nobody_serves_is_unknown() {
    // given an outbound listener for a name that B does not serve
    let service = Listener::at(&Address::any_port());
    let listener = "[[outbound.listener]]\nlisten = \"127.0.0.1:0\"\nto = \"/svc/nothing\"\n";
    let mesh = Mesh::plan().service(ECHO, service.address()).a_also(listener).start();
    // when an application speaks to it, then it is reset, and the log says why
    assert_eq!(End::connect(&mesh.front("/svc/nothing")).failure(), Some(ErrorKind::ConnectionReset));
    mesh.a.until_logged("unknown");
}

#[test]
fn a_service_that_is_down_is_a_reset_and_up_again_an_answer() {
    // given a service that is not running
    let at = Address::parse(&format!("127.0.0.1:{}", free_port()));
    let mesh = Mesh::plan().service(ECHO, &at).start();
    // when an application speaks to it, then it is reset, and the log says why
    assert_eq!(End::connect(&mesh.front(ECHO)).failure(), Some(ErrorKind::ConnectionReset));
    mesh.a.until_logged("unavailable");
    // and when the service runs, then the next stream reaches it
    let service = Listener::at(&at);
    let mut client = End::connect(&mesh.front(ECHO));
    client.send(b"hello");
    assert_eq!(service.accept().receive(5), b"hello");
}

#[test]
fn ping_names_the_peer_and_the_rule_that_admits() {
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().service(ECHO, service.address()).start();
    let report = mesh.ping(ECHO).expect_success();
    let bound = format!("/$/inet/{}", service.address().to_string().replace(':', "/"));
    for word in [B, &bound, "rule 1 allow 1"] {
        assert!(report.contains(word), "no `{word}` in:\n{report}");
    }
    assert!(!service.has_caller(), "a probe connects to nothing");
}

#[test]
fn a_service_that_is_down_takes_no_other_service_of_its_host_with_it() {
    const DEAD: &str = "/svc/dead";
    // given two services of one host, of which one is not running, and a second choice for both that is not there
    let echo = Service::start(Wire::Tcp, "echo");
    let dead = Address::parse(&format!("127.0.0.1:{}", free_port()));
    let table = format!("/svc => /$/inet/127.0.0.1/{{port}} || /$/inet/127.0.0.1/{} ;", free_port());
    let plan = Mesh::plan();
    let socket = format!("socket = \"{}\"\n", plan.path("a.sock").display());
    let mesh = plan.service(ECHO, echo.address()).service(DEAD, &dead).table(&table).a_also(&socket).start();
    // when the one that is not running is asked for
    assert_eq!(End::connect(&mesh.front(DEAD)).failure(), Some(ErrorKind::ConnectionReset));
    // then streams of the other go where they went, at their first attempt
    let retried = mesh.a.metric("adit_open_retries_total");
    for _ in 0..3 {
        End::try_echo(&mesh.front(ECHO)).unwrap();
    }
    assert_eq!(mesh.a.metric("adit_open_retries_total"), retried);
    // and whoever asks is told which of the two names it is that has a fault
    let file = mesh.a.file().display().to_string();
    let told = |name: &str| adit(&["delegate", name, "--config", &file]).all();
    let stands = |how: &str| format!("{}   {how}", mesh.b.inbound());
    assert!(told(ECHO).contains(&stands("up")), "{}", told(ECHO));
    until("somebody to ask while it is left out", LIMIT, || {
        let _ = End::connect(&mesh.front(DEAD)).failure();
        told(DEAD).contains(&stands("down")).then_some(())
    });
    until("the same of the status", LIMIT, || {
        let _ = End::connect(&mesh.front(DEAD)).failure();
        let status = mesh.a.status();
        let balancers = status["routes"][0]["balancers"].as_array()?.iter();
        let mut refused = balancers.flat_map(|balancer| balancer["refused"].as_array()).flatten();
        refused
            .any(|one| one["name"] == DEAD && one["why"].as_str().is_some_and(|why| why.contains("unavailable")))
            .then_some(())
    });
}
