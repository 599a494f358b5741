//! What an `[[outbound.peer]]` sets for the streams of one name, where all others have what `[limits]` says.

use std::net::{Ipv4Addr, TcpListener};

use adit_tests::{
    address::Wire,
    end::End,
    load::Service,
    mesh::{B, Mesh},
    wait::{LIMIT, until},
};

const ECHO: &str = "/svc/echo";
const OTHER: &str = "/svc/other";
const IDLE: &str = "adit_tunnels_idle";

#[test]
fn a_name_has_as_many_warm_tunnels_as_it_asks_for() {
    let (mesh, _echo) = world("warm = 2");
    until_idle(&mesh, 2.0);
}

#[test]
fn a_name_keeps_its_idle_tunnels_for_its_own_time() {
    let (mesh, _echo) = world("tunnel_idle = \"100ms\"");
    // given two streams on a tunnel each
    let mut other = End::connect(&mesh.front(OTHER));
    other.send(b"x");
    assert_eq!(other.receive(1), b"x");
    // when that of the name is over, then its tunnel goes
    End::try_echo(&mesh.front(ECHO)).unwrap();
    until("the tunnel of the name to be dropped", LIMIT, || {
        (mesh.a.metric("adit_limit_reached_total{limit=\"tunnel_idle_dialer\"}") == 1.0).then_some(())
    });
    // and when the other one is, then its tunnel stays
    other.finish();
    assert_eq!(other.receive_rest(), b"");
    until_idle(&mesh, 1.0);
}

#[test]
fn a_name_keeps_no_more_idle_tunnels_than_it_may() {
    let (mesh, _echo) = world("pool = 1");
    // given three streams at once
    let mut held: Vec<End> = (0..3).map(|_| End::connect(&mesh.front(ECHO))).collect();
    for end in &mut held {
        end.send(b"x");
        assert_eq!(end.receive(1), b"x");
    }
    // when they end, then one tunnel is kept
    for mut end in held {
        end.finish();
        assert_eq!(end.receive_rest(), b"");
    }
    until("the streams to be over", LIMIT, || {
        let active = mesh.a.metric("adit_streams_active{direction=\"outbound\"}");
        (active == 0.0).then_some(())
    });
    assert_eq!(mesh.a.metric(IDLE), 1.0);
}

#[test]
fn a_quiet_stream_of_a_name_ends_after_its_own_time() {
    let (mesh, _echo) = world("idle = \"200ms\"");
    let mut other = End::connect(&mesh.front(OTHER));
    other.send(b"x");
    assert_eq!(other.receive(1), b"x");
    let mut quiet = End::connect(&mesh.front(ECHO));
    quiet.send(b"x");
    assert_eq!(quiet.receive(1), b"x");
    assert!(quiet.failure().is_some());
    mesh.a.until_logged("end=idle");
    other.send(b"y");
    assert_eq!(other.receive(1), b"y");
}

#[test]
fn a_name_waits_for_a_handshake_no_longer_than_it_says() {
    // given an endpoint that connects and says nothing
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = mute.local_addr().unwrap().port();
    let echo = Service::start(Wire::Tcp, "echo");
    let mesh = Mesh::plan()
        .service(ECHO, echo.address())
        .table(&format!("/svc/echo => /$/inet/127.0.0.1/{port} || /$/inet/127.0.0.1/{{port}} ;"))
        .peers(&rules("connect_timeout = \"200ms\""))
        .start();
    // when a stream comes, then it goes on to the next choice in time
    End::try_echo(&mesh.front(ECHO)).unwrap();
    let handshakes = mesh.a.metric("adit_limit_reached_total{limit=\"handshake\"}");
    assert_eq!(handshakes, 1.0);
}

/// Settings for the one name, and who must answer for every name.
fn rules(settings: &str) -> String {
    format!(
        "[[outbound.peer]]\nname = \"{ECHO}\"\n{settings}\n\n[[outbound.peer]]\nname = \"/svc/{{service}}\"\nidentity = \"{B}\"\n"
    )
}

/// Two names of one echo service, of which one has these settings.
fn world(settings: &str) -> (Mesh, Service) {
    let echo = Service::start(Wire::Tcp, "echo");
    let plan = Mesh::plan().service(ECHO, echo.address()).service(OTHER, echo.address());
    (plan.peers(&rules(settings)).start(), echo)
}

fn until_idle(mesh: &Mesh, count: f64) {
    until("the idle tunnels", LIMIT, || (mesh.a.metric(IDLE) == count).then_some(()));
}
