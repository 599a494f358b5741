//! `adit why`: what a person learns of a stream that failed, of one that is slow, and of one that went well.

use std::{fs, path::Path};

use adit_tests::{
    address::Address,
    agent::{Agent, adit, replace},
    authority::{Authority, Leaf},
    end::End,
    listener::Listener,
    mesh::{A, B, Mesh},
    need, need_that,
    netns::{self, Family, Host, Hosts},
    pattern::Pattern,
    process::Finished,
    skip::is_root,
    wait::{LIMIT, until, until_still},
};
use serde_json::Value;
use tempfile::TempDir;

const ECHO: &str = "/svc/echo";

#[test]
fn a_stream_that_went_well_is_told_step_by_step_on_both_hosts() {
    // given a stream that has ended
    let stage = Stage::new();
    let (mut client, mut service) = stage.ends();
    client.send(b"ask");
    client.finish();
    assert_eq!(service.receive_rest(), b"ask");
    service.send(b"answer");
    service.finish();
    assert_eq!(client.receive_rest(), b"answer");
    let ended =
        until("A to end the stream", LIMIT, || stage.flights(&stage.a, &[]).pop().filter(|one| one["live"] == false));
    // when somebody asks for it by the beginning of its id, then each host tells what it knows, in order
    let id = ended["id"].as_str().unwrap();
    let told = stage.why(&stage.a, &[&id[..10]]).expect_success();
    let from = client.address().to_string();
    let steps = [
        &*format!("stream {id}"),
        &*format!("accepted    from {from}"),
        "named       /svc/echo by [[outbound.listener]] 127.0.0.1:0",
        "by the table: rule 1 `/svc/{service}",
        "the only endpoint (0 streams)",
        "tunnel      a fresh one: connected in",
        &*format!("it is {B}"),
        "the other agent accepted the stream",
        "first byte  from the application",
        "half-close  the application has sent all it had",
        "first byte  to the application",
        "half-close  the side of the other agent has sent all it had",
        "ended       closed",
        "3 bytes sent, 6 received",
        "why: it went well",
    ];
    in_this_order(&told, &steps);
    let told = until("B to end the stream", LIMIT, || {
        Some(stage.why(&stage.b, &[id]).expect_success()).filter(|told| told.contains("ended  "))
    });
    let reached = format!("connected   {}", stage.service.address());
    let steps = [
        &*format!("for {from}"),
        "by the OPEN of the agent it came from",
        "verdict     admitted by rule 1 allow 1 of this host",
        &*reached,
        "first byte  to the service",
        "first byte  from the service",
        "ended       closed",
        "why: it went well",
    ];
    in_this_order(&told, &steps);
    // and a second stream came by the first one's tunnel
    drop(stage.ends());
    let told = stage.flights(&stage.a, &[]);
    let events = told[1]["events"].as_array().unwrap();
    assert!(events.iter().any(|event| event["text"] == "one from the pool, with no handshake"), "{events:?}");
}

#[test]
fn a_refused_stream_says_which_rule_of_whom_and_failed_ones_are_listed_alone() {
    // given a service that admits somebody else, and one that admits A
    let (good, barred) = (Listener::at(&Address::any_port()), Listener::at(&Address::any_port()));
    let plan = Mesh::plan().service(ECHO, good.address()).service("/svc/barred", barred.address());
    let stage = Stage::of(plan.only_for("somebody.else"), good);
    assert!(End::connect(&stage.mesh.front("/svc/barred")).failure().is_some());
    let (client, service) = stage.ends();
    drop((client, service));
    // when the failed ones are listed
    let failed = until("the refusal to be known", LIMIT, || {
        Some(stage.flights(&stage.a, &["--failed"])).filter(|all| !all.is_empty())
    });
    let refused: Vec<_> = failed.iter().filter(|one| one["name"] == "/svc/barred").collect();
    // then it is there with the rule that refused, and both hosts call it by one id
    assert_eq!(refused.len(), 1);
    let why = refused[0]["why"].as_str().unwrap();
    assert!(why.starts_with("it failed (refused (denied))") && why.contains("the other host"), "{why}");
    assert!(why.contains("rule 2 does not admit"), "{why}");
    let id = refused[0]["id"].as_str().unwrap();
    let told = stage.why(&stage.b, &[id]).expect_success();
    assert!(told.contains("because of this agent, by a rule, a limit or an operator: "), "{told}");
    assert!(told.contains("rule 2 does not admit"), "{told}");
    // and the list is a line for each, of a name if one is asked for
    let list = stage.why(&stage.a, &["--failed", "--name", "/svc/bar", "-n", "5"]).expect_success();
    assert!(list.contains(&id[..12]) && !list.contains(ECHO), "{list}");
}

#[test]
fn an_endpoint_that_is_gone_is_told_with_each_attempt() {
    // given a name of two endpoints, where nobody listens
    let gone: Vec<_> = (0..2).map(|_| Listener::at(&Address::any_port()).address().port()).collect();
    let service = Listener::at(&Address::any_port());
    let plan = Mesh::plan().service(ECHO, service.address());
    let socket = plan.path("a.sock").display().to_string();
    let table = format!("/svc/{{s}} => /$/inet/127.0.0.1/{} & /$/inet/127.0.0.1/{} ;", gone[0], gone[1]);
    let (a, _dir) = plan.table(&table).a_also(&format!("socket = \"{socket}\"\n")).start_a(gone[0]);
    assert!(End::connect(&a.listener(ECHO)).failure().is_some());
    // then the last stream's events name what was tried, and why it failed
    let said = adit(&["why", "--json", "--failed", "--socket", &socket]).expect_success();
    let events = flights(&said).pop().unwrap()["events"].to_string();
    assert!(events.contains("Connection refused") && events.contains("\"what\":\"failed\""), "{events}");
}

#[test]
fn an_id_that_nobody_knows_or_several_share_is_an_error_that_says_what_to_do() {
    let stage = Stage::new();
    let unknown = stage.why(&stage.a, &["0123456789abcdef"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(unknown.stderr.contains("no stream that is remembered here"), "{}", unknown.stderr);
    let wrong = stage.why(&stage.a, &["no-id"]);
    assert!(wrong.stderr.contains("'no-id' is no stream's id"), "{}", wrong.stderr);
    // given more streams than there are first digits
    let ends: Vec<_> = (0..17).map(|_| stage.ends()).collect();
    let ids: Vec<_> = stage.flights(&stage.a, &[]).iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), ends.len());
    let shared = ids.iter().find(|id| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1).unwrap();
    let several = stage.why(&stage.a, &[&shared[..1]]);
    assert!(several.stderr.contains("give more digits"), "{}", several.stderr);
}

#[test]
fn it_is_answered_on_the_socket_only() {
    let stage = Stage::new();
    let answer = stage.mesh.a.admin_answer("GET", "/why");
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("on the admin socket only"), "{answer}");
}

#[test]
fn an_application_that_does_not_read_is_told_from_a_peer_that_does_not() {
    // given a client that reads nothing, and a service that writes until every buffer is full
    let stage = Stage::new();
    let (mut client, mut service) = stage.ends();
    client.shrink_window();
    flood(&mut service);
    // then A blames its own application, and B the other host
    stage.until_it_waits_for(&stage.a, "local_reads");
    stage.until_it_waits_for(&stage.b, "peer_reads");
    let told = stage.why(&stage.a, &[]).expect_success();
    assert!(told.contains("live: the local application does not read"), "{told}");
}

#[test]
fn a_service_that_does_not_read_is_told_on_both_hosts() {
    let stage = Stage::new();
    let (mut client, service) = stage.ends();
    flood(&mut client);
    stage.until_it_waits_for(&stage.b, "local_reads");
    stage.until_it_waits_for(&stage.a, "peer_reads");
    drop(service);
}

#[test]
fn who_has_to_speak_next_is_told_on_both_hosts() {
    // given a question that the service has read and does not answer
    let stage = Stage::new();
    let (mut client, mut service) = stage.ends();
    client.send(b"question");
    assert_eq!(service.receive(8), b"question");
    stage.until_it_waits_for(&stage.a, "peer_writes");
    stage.until_it_waits_for(&stage.b, "local_writes");
    // when it answers, then the client has to speak
    service.send(b"answer");
    assert_eq!(client.receive(6), b"answer");
    stage.until_it_waits_for(&stage.a, "local_writes");
    stage.until_it_waits_for(&stage.b, "peer_writes");
}

#[test]
fn a_network_that_loses_is_told() {
    need!("ip", "nft");
    need_that!(is_root(), "only root makes namespaces");
    // given a stream between two hosts on a cable, and a cable that then carries nothing to B's door
    let (hosts, dir, authority) = (Hosts::join(), tempfile::tempdir().unwrap(), Authority::new("two hosts"));
    let service = hosts.on(Host::B, || Listener::at(&Host::B.at(Family::V4, 0)));
    let b_part = format!(
        "[inbound]\nlisten = [\"{}:4143\"]\n[[inbound.service]]\nname = \"{ECHO}\"\nto = \"{}\"\nallow = [\"{A}\"]\n",
        netns::B,
        service.address()
    );
    let a_part = format!(
        "[outbound]\ndtab = \"/svc/{{s}} => /$/inet/{}/4143\"\n[[outbound.peer]]\nname = \"/svc/{{s}}\"\nidentity = \"{B}\"\n\
         [[outbound.listener]]\nlisten = \"127.0.0.1:0\"\nto = \"{ECHO}\"\n",
        netns::B
    );
    let _b = Agent::start_inside("host B", &settle(dir.path(), B, &b_part, &authority), &hosts.enter(Host::B));
    let a_dir = settle(dir.path(), A, &a_part, &authority);
    let a = Agent::start_inside("host A", &a_dir, &hosts.enter(Host::A));
    let mut client = hosts.on(Host::A, || End::connect(&a.listener(ECHO)));
    client.send(b"hello");
    let mut served = service.accept();
    assert_eq!(served.receive(5), b"hello");
    for words in [
        &["add", "table", "ip", "cut"][..],
        &["add", "chain", "ip", "cut", "in", "{ type filter hook prerouting priority -300 ; }"],
        &["add", "rule", "ip", "cut", "in", "tcp", "dport", "4143", "drop"],
    ] {
        let _ = hosts.say(Host::B, &[&["nft"], words].concat()).expect_success();
    }
    // when more is sent
    client.send(b"lost on its way");
    // then the network is blamed
    let socket = a_dir.join("admin.sock").display().to_string();
    until("the network to be blamed", LIMIT, || {
        let said = adit(&["why", "--json", "--socket", &socket]).expect_success();
        flights(&said).pop().filter(|one| one["waits_for"] == "network")
    });
}

/// Two hosts with admin sockets, and a service that the test plays.
struct Stage {
    mesh: Mesh,
    service: Listener,
    a: String,
    b: String,
    _dir: TempDir,
}

impl Stage {
    fn new() -> Self {
        let service = Listener::at(&Address::any_port());
        Self::of(Mesh::plan().service(ECHO, service.address()), service)
    }

    fn of(plan: adit_tests::mesh::Plan, service: Listener) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a.sock", "b.sock"].map(|name| dir.path().join(name).display().to_string());
        let socket = |path: &str| format!("socket = \"{path}\"\n");
        let mesh = plan.a_also(&socket(&a)).b_also(&socket(&b)).start();
        Self { mesh, service, a, b, _dir: dir }
    }

    /// A stream that is open.
    fn ends(&self) -> (End, End) {
        let client = End::connect(&self.mesh.front(ECHO));
        (client, self.service.accept())
    }

    fn why(&self, socket: &str, more: &[&str]) -> Finished {
        adit(&[&["why", "--socket", socket], more].concat())
    }

    fn flights(&self, socket: &str, more: &[&str]) -> Vec<Value> {
        flights(&self.why(socket, &[more, &["--json"]].concat()).expect_success())
    }

    /// Waits until a host says so of its last stream.
    fn until_it_waits_for(&self, socket: &str, who: &str) {
        let last = || self.flights(socket, &[]).pop();
        until(&format!("{socket} to say that it waits for {who}"), LIMIT, || {
            last().filter(|one| one["waits_for"] == who)
        });
    }
}

fn flights(said: &str) -> Vec<Value> {
    let said: Value = serde_json::from_str(said).unwrap();
    said["flights"].as_array().unwrap().clone()
}

/// Writes until nothing more is taken for a while.
fn flood(end: &mut End) {
    let pattern = Pattern::new(9);
    let mut written = 0;
    until_still("the writer", std::time::Duration::from_millis(300), || {
        written += end.fill(&pattern, written, 256 << 20);
        written
    });
}

fn in_this_order(text: &str, steps: &[&str]) {
    let mut rest = text;
    for step in steps {
        let Some((_, after)) = rest.split_once(step) else {
            panic!("no `{step}` after what comes before it in:\n{text}")
        };
        rest = after;
    }
}

fn settle(mesh: &Path, identity: &str, part: &str, authority: &Authority) -> std::path::PathBuf {
    let dir = mesh.join(identity);
    fs::create_dir(&dir).unwrap();
    let credential = authority.issue(&Leaf::dns(&[identity]));
    for (file, text) in [("ca.pem", authority.pem()), ("cert.pem", &credential.cert), ("key.pem", &credential.key)] {
        replace(&dir.join(file), text);
    }
    let at = dir.display();
    let tls = format!("[tls]\nca = \"{at}/ca.pem\"\ncert = \"{at}/cert.pem\"\nkey = \"{at}/key.pem\"\n");
    replace(&dir.join("adit.toml"), &format!("{tls}{part}[admin]\nsocket = \"{at}/admin.sock\"\n"));
    dir
}
