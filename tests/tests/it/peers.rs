//! Another reading of the protocol, on either side of the agent: it keeps every rule, or breaks one at a chosen point.
//!
//! What breaks a rule is tried on the second peer itself as well, as the data scenarios are tried without a tunnel.

use std::{io::ErrorKind, process::Command};

use adit_tests::{
    address::{Address, Wire, free_port},
    agent::Agent,
    authority::Leaf,
    end::End,
    listener::Listener,
    load::{Load, Service},
    mesh::{A, B, Mesh, Plan},
    need,
    peer::{self, Acceptor, Papers},
    process::run,
    wait::{LIMIT, until},
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
    (
        "an open on a stream, by its header alone",
        r#"{"together": [{"send": "OPEN", "to": "/svc/echo"}, {"header": ["OPEN", 9]}]}"#,
    ),
    (
        "more eager data than the bound, refused or not",
        r#"{"together": [{"send": "OPEN", "to": "/svc/none"}, {"send": "DATA", "zeros": 65536}, {"header": ["DATA", 1]}]}"#,
    ),
    (
        "data on a probe",
        r#"{"together": [{"send": "OPEN", "to": "/svc/echo", "probe": true}, {"header": ["DATA", 1]}]}"#,
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
    ("a header without its frame", r#"{"header": ["REFUSE", 9]}"#),
    ("a reset before accept, by its header alone", r#"{"header": ["RESET", 2]}"#),
    ("a reason that is no text", r#"{"send": "REFUSE", "hex": "000707"}"#),
    ("two retires", r#"{"together": [{"send": "RETIRE"}, {"send": "RETIRE"}]}"#),
    ("a probe's answer to a stream", r#"{"send": "ACCEPT", "hex": "01000161"}"#),
];

/// How a dialer leaves the agent at one point of a tunnel, and which end it sees there.
const ENDS: &[(&str, &str)] = &[
    ("RESET on an idle tunnel", r#"{"send": "RESET", "code": 1}, {"expect_end": "tcp", "within": 4}"#),
    (
        "RESET instead of FIN behind a refusal",
        r#"{"send": "OPEN", "to": "/svc/none"}, {"expect": "REFUSE", "code": 2}, {"send": "RESET", "code": 1},
           {"expect_end": "tcp", "within": 4}"#,
    ),
    (
        "RESET on a stream",
        r#"{"send": "OPEN", "to": "/svc/echo"}, {"expect": "ACCEPT"}, {"send": "RESET", "code": 1},
           {"expect_end": "tcp", "within": 4}"#,
    ),
    ("a bare end between streams", r#"{"close": "half"}, {"expect_end": "notify", "within": 4}"#),
    (
        "a bare end behind a refusal",
        r#"{"send": "OPEN", "to": "/svc/none"}, {"expect": "REFUSE"}, {"close": "half"},
           {"expect_end": "notify", "within": 4}"#,
    ),
    (
        "a bare end on a stream is answered by no alert",
        r#"{"send": "OPEN", "to": "/svc/echo"}, {"expect": "ACCEPT"}, {"close": "half"},
           {"expect_end": "tcp", "within": 4}"#,
    ),
    (
        "close_notify on a stream",
        r#"{"send": "OPEN", "to": "/svc/echo"}, {"expect": "ACCEPT"}, {"close": "notify"},
           {"expect_end": "tcp", "within": 4}"#,
    ),
    (
        "no FIN behind a refusal",
        r#"{"send": "OPEN", "to": "/svc/none"}, {"expect": "REFUSE"}, {"expect_end": "notify", "within": 9}"#,
    ),
    (
        "no FIN behind a probe",
        r#"{"send": "OPEN", "to": "/svc/echo", "probe": true}, {"expect": "ACCEPT"}, {"expect": "FIN"},
           {"expect": "RESET", "code": 3, "within": 9}, {"expect_end": "bare"}"#,
    ),
];

#[test]
fn the_second_peer_passes_its_own_tests_golden_vectors_among_them() {
    need!("python3", "openssl");
    let mut tests = Command::new("python3");
    let said = run(tests.args(["-m", "unittest"]).current_dir(peer::folder()), 3 * LIMIT);
    assert!(said.status.success() && said.stderr.contains("\nOK"), "{}", said.stderr);
}

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
fn a_dialer_that_leaves_sees_the_end_that_the_protocol_names() {
    need!("python3");
    let (b, dialer, _echo, _dir) = agent_b();
    for (what, steps) in ENDS {
        let said = dialer.dial(&b.inbound(), "", &["--to", ECHO, "--script", &format!("[{steps}]")]);
        assert_eq!(said.status.code(), Some(0), "{what}: {}", said.stderr);
    }
}

#[test]
fn a_drip_does_not_put_the_clock_of_a_frame_back() {
    need!("python3");
    let (b, dialer, _echo, _dir) = agent_b();
    // A byte each second would keep a clock alive that begins anew; this one ends the tunnel before the frame is whole.
    let bytes = "00".repeat(30);
    let script = format!(r#"[{{"drip": "0100001e{bytes}", "every": 1}}, {{"expect_end": "tcp", "within": 1}}]"#);
    let said = dialer.dial(&b.inbound(), "", &["--to", ECHO, "--script", &script]);
    assert_eq!(said.status.code(), Some(0), "{}", said.stderr);
    b.until_logged("a frame was begun and not finished in time");
}

#[test]
fn slow_frames_one_after_another_have_the_whole_time_each() {
    need!("python3");
    let (b, dialer, _echo, _dir) = agent_b();
    // Two extensions of four seconds, the second begun by the write that ends the first; then a body that takes longer
    // than a frame may, for DATA has no clock of its own.
    let script = r#"[
        {"raw": "40000002"}, {"expect_silence": 4}, {"raw": "000040000002"}, {"expect_silence": 4}, {"raw": "0000"},
        {"send": "OPEN", "to": "/svc/echo"}, {"expect": "ACCEPT"},
        {"header": ["DATA", 2], "cut": 2}, {"expect_silence": 2}, {"raw": "0002"}, {"expect_silence": 6},
        {"raw": "6869"}, {"expect_data": true, "text": "hi"}]"#;
    let said = dialer.dial(&b.inbound(), "", &["--to", ECHO, "--script", script]);
    assert_eq!(said.status.code(), Some(0), "{}", said.stderr);
}

#[test]
fn a_service_that_answers_and_closes_is_heard_out_before_the_abort() {
    need!("python3");
    let service = Listener::bind(Wire::Tcp, std::path::Path::new(""), "");
    let plan = Mesh::plan().service(ECHO, service.address());
    let dialer = a_papers(&plan);
    let (b, _dir) = plan.start_b();
    let answers = std::thread::spawn(move || {
        let mut socket = service.accept();
        // It read one byte of a long request, says no, and leaves: closing with bytes unread resets the connection.
        assert_eq!(socket.receive(1), b"\0");
        socket.send(b"too long");
    });
    let script = r#"[{"send": "OPEN", "to": "/svc/echo"}, {"expect": "ACCEPT"},
        {"repeat": 4, "steps": [{"send": "DATA", "zeros": 1048576}]},
        {"expect_data": true, "text": "too long"}, {"expect": "RESET", "code": 1}, {"expect_end": "bare"}]"#;
    let said = dialer.dial(&b.inbound(), "", &["--to", ECHO, "--script", script]);
    answers.join().expect("the service did its part");
    assert_eq!(said.status.code(), Some(0), "{}", said.stderr);
}

#[test]
fn what_follows_done_costs_the_tunnel_and_not_the_stream() {
    need!("python3");
    // The application ends first, so the stream is over with the acceptor's FIN and DONE.
    let script = r#"[{"expect": "OPEN"}, {"expect_data": true, "text": "hello"}, {"expect": "FIN"},
        {"together": [{"send": "ACCEPT"}, {"send": "DATA", "text": "whole"}, {"send": "FIN"}, {"send": "DONE"},
                      {"send": "FIN"}]}, {"expect_end": "tcp", "within": 4}]"#;
    let (a, _peer) = agent_a(&["--script", script]);
    let mut client = End::connect(&a.listener(ECHO));
    client.send(b"hello");
    client.finish();
    assert_eq!(client.receive_rest(), b"whole");
    a.until_logged("the peer broke the protocol");
}

#[test]
fn an_open_that_is_not_answered_is_given_up_as_stalled() {
    need!("python3");
    let script = r#"[{"expect": "OPEN"}, {"expect_data": true, "text": "hello"},
        {"expect": "RESET", "code": 3, "within": 20}, {"expect_end": "bare"}]"#;
    let (a, peer) = agent_a(&["--script", script]);
    let mut client = End::connect(&a.listener(ECHO));
    client.send(b"hello");
    assert_eq!(client.failure(), Some(ErrorKind::ConnectionReset));
    until("the second peer's report", LIMIT, || peer.0.log().contains("expect_end").then_some(()));
    assert!(!peer.0.log().contains(r#""ok": false"#), "{}", peer.0.log());
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
    let acceptor = b_papers(&plan).accept(&["--echo", "--serve", ECHO]);
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
