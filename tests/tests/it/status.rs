//! `adit status`: what a person sees of a running agent, and what of one that is not there.

use adit_tests::{
    address::Address,
    agent::{Agent, adit},
    authority::Leaf,
    end::End,
    listener::Listener,
    mesh::{A, B, Mesh},
    wait::{LIMIT, until},
};
use serde_json::Value;

const ECHO: &str = "/svc/echo";

#[test]
fn it_shows_services_names_endpoints_tunnels_certificates_streams_and_limits() {
    // given a live stream between two hosts
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().service(ECHO, service.address()).start();
    let mut client = End::connect(&mesh.front(ECHO));
    client.send(b"hello");
    assert_eq!(service.accept().receive(5), b"hello");
    // then both hosts' pages show it, and all it lives by
    let (a, b) = (page(&mesh.a), page(&mesh.b));
    let door = mesh.b.inbound().to_string();
    let bound = format!("/$/inet/{}", door.replace(':', "/"));
    for (page, facts) in [
        (&a, &["outbound", ECHO, A, B, &door, &bound, "names, outbound", "endpoints", "up", "1 live", "limits"][..]),
        (&b, &["inbound", ECHO, A, B, &door, &service.address().to_string(), "tunnels from", "1 live", "allow"][..]),
    ] {
        for fact in facts {
            assert!(page.contains(fact), "no `{fact}` in:\n{page}");
        }
    }
    // and once it is over, its tunnel is idle
    drop(client);
    let idle = || page(&mesh.a).contains("idle tunnels to").then_some(());
    until("the tunnel to be idle or closed", LIMIT, || idle().or(page(&mesh.a).contains("0 live").then_some(())));
}

#[test]
fn it_shows_an_endpoint_that_failed_and_why() {
    let gone = Listener::at(&Address::any_port()).address().clone();
    let service = Listener::at(&Address::any_port());
    let (a, _dir) = Mesh::plan().service(ECHO, service.address()).start_a(gone.port());
    let _ = End::connect(&a.listener(ECHO)).failure();
    let page = page(&a);
    assert!(page.contains("down, tried again in") && page.contains("Connection refused"), "{page}");
}

#[test]
fn it_shows_a_tls_fault_at_the_top() {
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().service(ECHO, service.address()).start();
    let mut broken = mesh.authority.issue(&Leaf::dns(&[A]));
    "not a key\n".clone_into(&mut broken.key);
    mesh.a.swap_credential(&broken);
    until("the fault to be shown", LIMIT, || page(&mesh.a).lines().nth(1)?.starts_with("TLS fault: ").then_some(()));
    assert!(page(&mesh.a).contains("key.pem"));
}

#[test]
fn the_json_is_the_agents_own() {
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().service(ECHO, service.address()).start();
    let said = adit(&["status", "--json", "--config", &with_door(&mesh.b)]).expect_success();
    let status: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(status["services"][0]["name"][0], ECHO);
    assert_eq!(status["services"][0]["allow"][0], A);
    assert_eq!(status["certificates"][0]["names"][0], B);
    assert_eq!(status["limits"]["handshake"], 10.0);
    assert!(status["limits"]["tunnels"].as_u64().unwrap() > 0);
    assert_eq!(status["draining"], false);
}

#[test]
fn a_missing_agent_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock").display().to_string();
    one_line(&["status", "--socket", &socket], &["no agent answers at unix:", "none.sock"]);
    let file = dir.path().join("none.toml").display().to_string();
    one_line(&["status", "--config", &file], &["none.toml", "No such file"]);
}

#[test]
fn a_file_without_an_admin_door_says_what_to_add() {
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().service(ECHO, service.address()).start();
    let file = mesh.a.dir().join("adit.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let without = mesh.a.dir().join("without.toml");
    std::fs::write(&without, text.replace("[admin]\nlisten = \"127.0.0.1:0\"\n", "")).unwrap();
    one_line(&["status", "--config", without.to_str().unwrap()], &["opens no admin door", "socket = "]);
}

#[test]
fn what_is_no_agent_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("other.sock");
    let other = Listener::at(&Address::Unix(socket.clone()));
    let stranger = std::thread::spawn(move || {
        let mut caller = other.accept();
        caller.send(b"-ERR unknown command\r\n");
    });
    one_line(&["status", "--socket", socket.to_str().unwrap()], &["not as an adit agent does"]);
    stranger.join().unwrap();
}

/// `adit status` of a running agent, which must be clean text: aligned, and nothing at a line's end.
fn page(agent: &Agent) -> String {
    let page = adit(&["status", "--config", &with_door(agent)]).expect_success();
    assert!(page.lines().all(|line| line == line.trim_end()), "{page}");
    page
}

/// A copy of the agent's file that names the admin door it got, for port 0 says nothing to another process.
fn with_door(agent: &Agent) -> String {
    let text = std::fs::read_to_string(agent.dir().join("adit.toml")).unwrap();
    let door = format!("[admin]\nlisten = \"{}\"\n", agent.admin_address());
    let file = agent.dir().join("door.toml");
    std::fs::write(&file, text.replace("[admin]\nlisten = \"127.0.0.1:0\"\n", &door)).unwrap();
    file.display().to_string()
}

fn one_line(arguments: &[&str], words: &[&str]) {
    let ended = adit(arguments);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.all());
    assert_eq!(ended.all().lines().count(), 1, "{}", ended.all());
    for word in words {
        assert!(ended.stderr.contains(word), "no `{word}` in {}", ended.stderr);
    }
}
