//! Another reading of the protocol, on either side of the agent: it keeps every rule, or breaks one at a chosen point.
//!
//! What breaks a rule is tried on the second peer itself as well, as the data scenarios are tried without a tunnel.

use std::io::ErrorKind;

use adit_tests::{
    address::{Address, Wire, free_port},
    agent::Agent,
    authority::Leaf,
    end::End,
    load::{Load, Service},
    mesh::{A, B, Mesh, Plan},
    need,
    peer::{Acceptor, Papers},
    wait::LIMIT,
};
use tempfile::TempDir;

const ECHO: &str = "/svc/echo";

/// What no dialer may send, each a script of `peer.py`, with the agent's answer: the end of the tunnel.
const BROKEN_DIALERS: &[(&str, &str)] = &[
    ("data before open", r#"{"send": "DATA", "text": "x"}"#),
    ("fin before open", r#"{"send": "FIN"}"#),
    ("an acceptor's frame", r#"{"send": "ACCEPT"}"#),
    ("a reserved kind", r#"{"header": [8, 0]}"#),
    ("a kind beyond the extensions", r#"{"header": [128, 0]}"#),
    ("an open beyond its bound", r#"{"header": ["OPEN", 4097]}"#),
    ("two opens", r#"{"together": [{"send": "OPEN", "to": "/svc/echo"}, {"send": "OPEN", "to": "/svc/echo"}]}"#),
    ("data of no bytes", r#"{"together": [{"send": "OPEN", "to": "/svc/echo"}, {"header": ["DATA", 0]}]}"#),
    ("data beyond its bound", r#"{"together": [{"send": "OPEN", "to": "/svc/echo"}, {"header": ["DATA", 1048577]}]}"#),
    ("a fin with a payload", r#"{"together": [{"send": "OPEN", "to": "/svc/echo"}, {"header": ["FIN", 1]}]}"#),
    (
        "data after fin",
        r#"{"together": [{"send": "OPEN", "to": "/svc/echo"}, {"send": "FIN"}, {"send": "DATA", "text": "x"}]}"#,
    ),
    ("extensions without end", r#"{"repeat": 17, "steps": [{"send": 64, "zeros": 4096}]}"#),
    ("half a header", r#"{"header": ["OPEN", 9], "cut": 2}"#),
    ("a header without its frame", r#"{"header": ["OPEN", 9]}"#),
];

/// What no acceptor may send in answer to OPEN.
const BROKEN_ACCEPTORS: &[(&str, &str)] = &[
    ("data before accept", r#"{"send": "DATA", "text": "x"}"#),
    ("fin before accept", r#"{"send": "FIN"}"#),
    ("done before accept", r#"{"send": "DONE"}"#),
    ("a dialer's frame", r#"{"send": "OPEN", "to": "/svc/echo"}"#),
    ("two accepts", r#"{"together": [{"send": "ACCEPT"}, {"send": "ACCEPT"}]}"#),
    ("done before fin", r#"{"together": [{"send": "ACCEPT"}, {"send": "DONE"}]}"#),
    ("a reserved kind", r#"{"header": [9, 0]}"#),
    ("a reason beyond its bound", r#"{"header": ["REFUSE", 515]}"#),
    ("half a header", r#"{"header": ["ACCEPT", 0], "cut": 3}"#),
];

#[test]
fn the_second_peer_speaks_to_itself_direct() {
    need!("python3");
    let (acceptor, dialer) = two_peers();
    let said = dialer.dial(acceptor.address(), "hello", &["--to", ECHO, "--expect", B]);
    assert_eq!((said.status.code(), &*said.stdout), (Some(0), "hello"), "{}", said.stderr);
}

#[test]
fn the_second_peer_ends_a_tunnel_for_each_broken_rule_direct() {
    need!("python3");
    let (acceptor, dialer) = two_peers();
    break_each_rule(acceptor.address(), &dialer);
}

#[test]
fn the_second_peer_dials_the_agent() {
    need!("python3");
    let (b, dialer, _echo, _dir) = agent_b();
    for options in [&["--to", ECHO, "--expect", B][..], &["--to", ECHO, "--expect", B, "--streams", "5"]] {
        let said = dialer.dial(&b.inbound(), "hello", options);
        assert_eq!(said.status.code(), Some(0), "{}", said.stderr);
    }
}

#[test]
fn the_agent_dials_the_second_peer() {
    need!("python3");
    let (a, _peer) = agent_a(&["--echo"]);
    storm(&a, 200);
}

#[test]
fn a_dialer_that_breaks_a_rule_loses_its_tunnel_and_no_other() {
    need!("python3");
    let (b, dialer, _echo, _dir) = agent_b();
    break_each_rule(&b.inbound(), &dialer);
    assert!(b.log().contains(A), "the log names no identity:\n{}", b.log());
}

#[test]
fn an_acceptor_that_breaks_a_rule_is_a_reset_to_the_application() {
    need!("python3");
    for (what, step) in BROKEN_ACCEPTORS {
        let script =
            format!(r#"[{{"expect": "OPEN"}}, {step}, {{"expect_end": "any", "ignore": true, "within": 20}}]"#);
        let (a, _peer) = agent_a(&["--script", &script]);
        let mut client = End::connect(&a.listener(ECHO));
        assert_eq!(client.failure_after(b"hello"), Some(ErrorKind::ConnectionReset), "{what}");
    }
}

#[test]
fn an_acceptor_that_stalls_before_its_answer_is_a_reset_in_time() {
    need!("python3");
    for stall in ["handshake", "open", "accept"] {
        let (a, _peer) = agent_a(&["--echo", "--stall-at", stall]);
        let mut client = End::connect(&a.listener(ECHO));
        assert_eq!(client.failure_after(b"hello"), Some(ErrorKind::ConnectionReset), "stalled at {stall}");
    }
}

#[test]
fn a_tunnel_lost_at_open_is_tried_again_only_where_that_is_safe() {
    need!("python3");
    // close_notify under the traffic keys proves that the peer did not take the stream; a bare end proves nothing.
    for (close, is_safe) in [("notify", true), ("bare", false), ("rst", false)] {
        let (a, peer) = agent_a(&["--echo", "--close-after-open", close, "--close-count", "1"]);
        let first = End::try_echo(&a.listener(ECHO));
        assert_eq!(first.is_ok(), is_safe, "{close}: {first:?}\n{}", peer.0.log());
        End::try_echo(&a.listener(ECHO)).unwrap_or_else(|error| panic!("after {close}: {error}"));
    }
}

#[test]
fn tunnels_retired_at_any_moment_lose_no_stream() {
    need!("python3");
    for when in ["idle", "open", "stream"] {
        let (a, _peer) = agent_a(&["--echo", "--retire-after", "3", "--retire-when", when]);
        storm(&a, 60);
    }
    let (a, _peer) = agent_a(&["--echo", "--retire-after", "3", "--retire-when", "open", "--refuse-crossed"]);
    storm(&a, 60);
}

#[test]
fn a_refusal_is_told_by_its_name() {
    need!("python3");
    for (code, name) in [("1", "malformed"), ("3", "denied"), ("6", "overloaded"), ("8", "loop")] {
        let (a, _peer) = agent_a(&["--echo", "--refuse", code, "because the test says so"]);
        assert_eq!(End::connect(&a.listener(ECHO)).failure(), Some(ErrorKind::ConnectionReset));
        a.until_logged(name);
        a.until_logged("because the test says so");
    }
}

/// Each script ends with the tunnel's end, and a good stream afterwards is served as if nothing had been.
fn break_each_rule(door: &Address, dialer: &Papers) {
    for (what, step) in BROKEN_DIALERS {
        let script = format!(r#"[{step}, {{"expect_end": "any", "ignore": true, "within": 20}}]"#);
        let said = dialer.dial(door, "", &["--to", ECHO, "--script", &script]);
        assert_eq!(said.status.code(), Some(0), "{what}: {}", said.stderr);
    }
    let said = dialer.dial(door, "hello", &["--to", ECHO, "--expect", B]);
    assert_eq!((said.status.code(), &*said.stdout), (Some(0), "hello"), "{}", said.stderr);
}

fn two_peers() -> (Acceptor, Papers) {
    let plan = Mesh::plan();
    let acceptor = b_papers(&plan).accept(&["--echo"]);
    (acceptor, a_papers(&plan))
}

/// A real B with an echo service, and papers to dial it with.
fn agent_b() -> (Agent, Papers, Service, TempDir) {
    let echo = Service::start(Wire::Tcp, "echo");
    let plan = Mesh::plan().service(ECHO, echo.address());
    let dialer = a_papers(&plan);
    let (b, dir) = plan.start_b();
    (b, dialer, echo, dir)
}

/// A real A, and a second peer with these options for its B.
fn agent_a(options: &[&str]) -> (Agent, (Acceptor, TempDir)) {
    let plan = Mesh::plan().service(ECHO, &Address::parse(&format!("127.0.0.1:{}", free_port())));
    let acceptor = b_papers(&plan).accept(options);
    let (a, dir) = plan.start_a(acceptor.address().port());
    (a, (acceptor, dir))
}

fn a_papers(plan: &Plan) -> Papers {
    Papers::of(plan.authority(), &plan.authority().issue(&Leaf::dns(&[A])))
}

fn b_papers(plan: &Plan) -> Papers {
    Papers::of(plan.authority(), &plan.authority().issue(&Leaf::dns(&[B])))
}

/// So many connections, one after another, each of one request that is answered.
fn storm(a: &Agent, count: u64) {
    let mut storm = Load::start(&["storm", &a.listener(ECHO).to_string(), &count.to_string(), "1"]);
    let done = storm.until("done", 3 * LIMIT);
    assert_eq!(done["answered"], count, "{done}");
}
