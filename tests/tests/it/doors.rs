//! Strangers at the tunnel door, and strangers behind one: other TLS, other protocols, no certificate, no TLS at all.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
    process::{Command, Stdio},
};

use adit_tests::{
    address::{Address, free_port},
    agent::Agent,
    authority::Leaf,
    end::End,
    listener::Listener,
    mesh::{A, B, Mesh, Plan},
    need,
    process::{Finished, Program, on_a_free_port, run},
    wait::{LIMIT, until},
};
use tempfile::TempDir;

const ECHO: &str = "/svc/echo";

#[test]
fn a_dialer_of_tls_1_2_is_turned_away() {
    need!("openssl");
    let said = stranger(&["-tls1_2", "-alpn", "adit/1"]);
    assert!(said.all().contains("alert protocol version"), "{}", said.all());
}

#[test]
fn a_dialer_of_another_protocol_is_turned_away() {
    need!("openssl");
    let said = stranger(&["-tls1_3", "-alpn", "http/1.1"]);
    assert!(said.all().contains("no application protocol"), "{}", said.all());
}

#[test]
fn a_dialer_of_no_protocol_is_turned_away() {
    need!("openssl");
    let said = stranger(&["-tls1_3"]);
    assert!(!said.all().contains("adit/1"), "{}", said.all());
}

#[test]
fn a_dialer_without_a_certificate_is_turned_away() {
    need!("openssl");
    let (b, _dir) = plan().start_b();
    let said = s_client(&b.inbound(), &["-tls1_3", "-alpn", "adit/1", "-servername", B]);
    assert!(said.all().contains("alert certificate required"), "{}", said.all());
}

#[test]
fn a_dialer_that_asks_for_somebody_else_is_told_so() {
    need!("openssl");
    let said = stranger(&["-tls1_3", "-alpn", "adit/1", "-servername", "c.adit.example"]);
    assert!(said.all().contains("unrecognized name"), "{}", said.all());
}

#[test]
fn bytes_that_are_no_tls_are_turned_away_and_the_door_stays_open() {
    // given a door with a caller that speaks something else, and one that says nothing
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().service(ECHO, service.address()).start();
    let mut silent = End::connect(&mesh.b.inbound());
    let mut plain = End::connect(&mesh.b.inbound());
    plain.send(b"PING\r\nPING\r\nPING\r\n");
    // then the first is sent away at once, the second within the handshake's limit, and others are served meanwhile
    let _ = plain.failure();
    let mut client = End::connect(&mesh.front(ECHO));
    client.send(b"hello");
    assert_eq!(service.accept().receive(5), b"hello");
    let _ = silent.failure();
    assert!(mesh.b.metric("adit_limit_reached_total{limit=\"handshake\"}") >= 1.0);
    assert!(mesh.b.metric("adit_handshakes_total{side=\"acceptor\",outcome=\"timeout\"}") >= 1.0);
}

#[test]
fn an_acceptor_of_tls_1_2_is_named() {
    need!("openssl");
    behind(&["-tls1_2"], &["protocol version", "protocolversion", "tls 1.2", "tls12"]);
}

#[test]
fn an_acceptor_of_another_protocol_is_named() {
    need!("openssl");
    behind(&["-tls1_3", "-alpn", "h2"], &["application protocol", "alpn"]);
}

#[test]
fn an_acceptor_that_ignores_our_protocol_is_named() {
    need!("openssl");
    behind(&["-tls1_3"], &["application protocol", "alpn"]);
}

/// A mesh whose other half a stranger plays.
fn plan() -> Plan {
    Mesh::plan().service(ECHO, &Address::parse(&format!("127.0.0.1:{}", free_port())))
}

/// A stranger with a good certificate at B's door.
fn stranger(options: &[&str]) -> Finished {
    let plan = plan();
    let credential = plan.authority().issue(&Leaf::dns(&[A]));
    let (cert, key) = (plan.path("stranger.pem"), plan.path("stranger.key"));
    fs::write(&cert, credential.cert).unwrap();
    fs::write(&key, credential.key).unwrap();
    let (b, _dir) = plan.start_b();
    let identity = ["-cert", cert.to_str().unwrap(), "-key", key.to_str().unwrap()];
    let said = s_client(&b.inbound(), &[&identity, options].concat());
    // Whatever came, the door still answers: a second stranger gets as far as the first.
    assert!(End::try_connect(&b.inbound()).is_ok());
    said
}

fn s_client(door: &Address, options: &[&str]) -> Finished {
    let mut command = Command::new("openssl");
    // In TLS 1.3 the door judges after the client's handshake has ended: without -ign_eof openssl leaves before the alert.
    command.args(["s_client", "-ign_eof", "-connect", &door.to_string()]).args(options).stdin(Stdio::null());
    run(&mut command, LIMIT)
}

/// A's application is reset when this `openssl s_server` plays B, and A's log names one of the causes.
fn behind(options: &[&str], causes: &[&str]) {
    let plan = plan();
    let credential = plan.authority().issue(&Leaf::dns(&[B]));
    fs::write(plan.path("b.pem"), credential.cert + &credential.key).unwrap();
    let (server, port) = on_a_free_port(|port| s_server(&plan.path(""), port, options));
    let (a, _dir): (Agent, TempDir) = plan.start_a(port);
    let mut client = End::connect(&a.listener(ECHO));
    assert_eq!(client.failure_after(b"hello"), Some(ErrorKind::ConnectionReset));
    until("host A's log to name the cause", LIMIT, || {
        let log = a.log().to_lowercase().replace('_', " ");
        causes.iter().any(|cause| log.contains(cause)).then_some(())
    });
    drop(server);
}

fn s_server(dir: &Path, port: u16, options: &[&str]) -> io::Result<(Program, u16)> {
    let mut command = Command::new("openssl");
    command.args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-cert", "b.pem", "-key", "b.pem"]);
    command.args(["-Verify", "1", "-quiet"]).args(options).current_dir(dir);
    let mut program = Program::start("openssl s_server", &mut command, &dir.join("s_server.log"));
    let at = Address::parse(&format!("127.0.0.1:{port}"));
    let up = until("openssl to listen or to end", LIMIT, || {
        let ended = program.has_ended().map(|_| false);
        ended.or(End::try_connect(&at).ok().map(|_| true))
    });
    if up { Ok((program, port)) } else { Err(io::Error::other("openssl s_server ended")) }
}
