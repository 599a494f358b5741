//! Tunnels between streams: kept, kept warm, not used again when they are too old or their credentials have changed.

use adit_tests::{
    address::Wire,
    agent::Agent,
    authority::Leaf,
    end::End,
    load::Service,
    mesh::{A, B, Mesh},
    wait::{LIMIT, until},
};

const ECHO: &str = "/svc/echo";
const FRESH: &str = "adit_tunnels_used_total{kind=\"fresh\"}";
const RECYCLED: &str = "adit_tunnels_used_total{kind=\"recycled\"}";
const HANDSHAKES: &str = "adit_handshakes_total{side=\"dialer\",outcome=\"ok\"}";

#[test]
fn streams_that_follow_each_other_share_one_handshake() {
    let (mesh, _echo) = world("");
    call(&mesh, 20);
    assert_eq!(mesh.a.metric(HANDSHAKES), 1.0);
    assert_eq!((mesh.a.metric(FRESH), mesh.a.metric(RECYCLED)), (1.0, 19.0));
}

#[test]
fn warm_tunnels_are_ready_before_the_first_stream_and_again_after_it() {
    // given an agent that is to keep three
    let (mesh, _echo) = world("[limits]\nwarm = 3\n");
    until_idle(&mesh.a, 3.0);
    // when a stream comes, then it finds its handshake done
    call(&mesh, 1);
    assert_eq!((mesh.a.metric(FRESH), mesh.a.metric(RECYCLED)), (0.0, 1.0));
    // and while one is in use, three more are ready
    let mut held = End::connect(&mesh.front(ECHO));
    held.send(b"x");
    assert_eq!(held.receive(1), b"x");
    until_idle(&mesh.a, 3.0);
}

#[test]
fn warm_tunnels_come_back_after_their_agent_did() {
    let (mut mesh, _echo) = world("[limits]\nwarm = 2\n");
    until_idle(&mesh.a, 2.0);
    mesh.b.kill();
    until_idle(&mesh.a, 0.0);
    mesh.b.restart();
    until_idle(&mesh.a, 2.0);
}

#[test]
fn a_tunnel_that_is_too_old_is_not_used_again() {
    let (mesh, _echo) = world("[limits]\ntunnel_age = \"1ms\"\n");
    call(&mesh, 5);
    assert_eq!((mesh.a.metric(FRESH), mesh.a.metric(RECYCLED)), (5.0, 0.0));
}

#[test]
fn an_idle_tunnel_is_dropped_after_its_time() {
    let (mesh, _echo) = world("[limits]\ntunnel_idle_dialer = \"100ms\"\n");
    call(&mesh, 1);
    until_idle(&mesh.a, 0.0);
    assert_eq!(mesh.a.metric("adit_limit_reached_total{limit=\"tunnel_idle_dialer\"}"), 1.0);
    until("B to see it go", LIMIT, || (mesh.b.metric("adit_tunnels_accepted") == 0.0).then_some(()));
}

#[test]
fn new_credentials_use_no_tunnel_of_the_old_ones() {
    // given an idle tunnel
    let (mesh, _echo) = world("");
    call(&mesh, 1);
    until_idle(&mesh.a, 1.0);
    // when A's certificate is renewed, then the tunnel is dropped, and the next stream shakes hands anew
    mesh.a.swap_credential(&mesh.authority.issue(&Leaf::dns(&[A])));
    until_idle(&mesh.a, 0.0);
    call(&mesh, 1);
    assert_eq!(mesh.a.metric(FRESH), 2.0);
}

#[test]
fn an_acceptor_with_new_credentials_retires_its_tunnels() {
    // given an idle tunnel, and a B that retires within a moment
    let echo = Service::start(Wire::Tcp, "echo");
    let plan = Mesh::plan().service(ECHO, echo.address());
    let mesh = plan.b_also("[limits]\nretire_spread = \"50ms\"\n").start();
    call(&mesh, 1);
    until_idle(&mesh.a, 1.0);
    // when B's certificate is renewed, then A hears of it, and loses no stream
    mesh.b.swap_credential(&mesh.authority.issue(&Leaf::dns(&[B])));
    until_idle(&mesh.a, 0.0);
    call(&mesh, 5);
}

/// Host A with these lines more in its file, and an echo service behind host B.
fn world(a_also: &str) -> (Mesh, Service) {
    let echo = Service::start(Wire::Tcp, "echo");
    let mesh = Mesh::plan().service(ECHO, echo.address()).a_also(a_also).start();
    (mesh, echo)
}

/// So many streams, each begun once the one before it is over for both agents.
fn call(mesh: &Mesh, count: usize) {
    for _ in 0..count {
        End::try_echo(&mesh.front(ECHO)).unwrap();
        until("the stream to be over", LIMIT, || {
            let live = |agent: &Agent, way| agent.metric(&format!("adit_streams_active{{direction=\"{way}\"}}"));
            (live(&mesh.a, "outbound") == 0.0 && live(&mesh.b, "inbound") == 0.0).then_some(())
        });
    }
}

fn until_idle(agent: &Agent, count: f64) {
    until(&format!("{count} idle tunnels"), LIMIT, || (agent.metric("adit_tunnels_idle") == count).then_some(()));
}
