//! Whose connection a service has: told in a PROXY header, by where it comes from, or by `adit whois`.

use std::{fs, process::Command};

use adit_tests::{
    address::{Address, Wire},
    agent::adit,
    end::End,
    field::{self, Field, Mode, Road, Tool},
    listener::Listener,
    load::{Load, Service},
    mesh::{A, Mesh, Plan},
    need, need_that, need_the_field,
    netns::{Family, Host},
    process::{Finished, Program, on_a_free_port},
    proxy::Header,
    skip::is_root,
    wait::{LIMIT, until},
};
use serde_json::Value;
use tempfile::TempDir;

const ECHO: &str = "/svc/echo";

/// The kinds of what version 2 says (proxy-protocol.txt, section 2.2), and ours.
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;
const IDENTITY: u8 = 0xe0;
const WORKLOAD: u8 = 0xe1;
const NAME: u8 = 0xe2;

#[test]
fn a_service_reads_its_clients_address_in_either_version_and_on_either_wire() {
    for (version, wire) in [(1, Wire::Tcp), (1, Wire::Unix), (2, Wire::Tcp), (2, Wire::Unix)] {
        let stage = Stage::seen_as(&format!("proxy-v{version}"), wire);
        let (mut client, mut served) = stage.ends();
        client.send(b"the whole question");
        client.finish();
        // what comes first is the header, and after it the stream, with its end
        let header = Header::read(&mut served);
        assert_eq!(header.version, version);
        assert_eq!(Address::Tcp(header.source), client.address());
        assert_eq!(Address::Tcp(header.destination), stage.mesh.b.inbound(), "where this host was reached");
        assert_eq!(served.receive_rest(), b"the whole question");
        served.send(b"the answer");
        drop(served);
        assert_eq!(client.receive_rest(), b"the answer");
        // and the header counts as no byte of the stream
        let counted = || {
            let bytes = stage.mesh.b.metric("adit_stream_bytes_total{direction=\"inbound\",way=\"received\"}");
            (bytes > 0.0).then_some(bytes)
        };
        assert_eq!(until("the stream's bytes to be counted", LIMIT, counted), 18.0);
    }
}

#[test]
fn the_second_version_tells_the_peers_identity_the_name_and_the_stream() {
    let stage = Stage::seen_as("proxy-v2", Wire::Tcp);
    let (mut client, mut served) = stage.ends();
    let header = Header::read(&mut served);
    assert_eq!(header.values(IDENTITY), [A]);
    assert_eq!(header.values(NAME), [ECHO]);
    let [workload] = header.values(WORKLOAD).try_into().unwrap();
    // as any TLS terminator would tell it: over TLS with a certificate, verified, of this version and name
    let ssl = [b"\x07\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x0e".as_slice(), A.as_bytes()].concat();
    assert_eq!(header.said.iter().find(|(kind, _)| *kind == SSL), Some(&(SSL, ssl)));
    // and the stream by the name that both logs have for it
    client.finish();
    drop(served);
    assert_eq!(client.receive_rest(), b"");
    let id = header.values(UNIQUE_ID).remove(0);
    for agent in [&stage.mesh.a, &stage.mesh.b] {
        agent.until_logged(&format!("stream={id}"));
        assert!(agent.log().contains(&format!("workload=\"{workload}\"")), "{workload}: {}", agent.log());
    }
}

#[test]
fn a_service_that_speaks_first_hears_of_a_client_that_says_nothing() {
    for source in ["proxy-v1", "proxy-v2"] {
        let stage = Stage::seen_as(source, Wire::Tcp);
        let (mut client, mut served) = stage.ends();
        let header = Header::read(&mut served);
        served.send(b"220 ready\r\n");
        assert_eq!(client.receive(11), b"220 ready\r\n");
        assert_eq!(Address::Tcp(header.source), client.address());
        client.send(b"QUIT\r\n");
        assert_eq!(served.receive(6), b"QUIT\r\n");
    }
}

#[test]
fn behind_a_header_every_byte_arrives_both_ways_at_once() {
    const EACH_WAY: u64 = 8 << 20;
    let stage = Stage::seen_as("proxy-v2", Wire::Tcp);
    let (mut client, mut served) = stage.ends();
    let _ = Header::read(&mut served);
    assert_eq!(client.exchange(&mut served, EACH_WAY), [EACH_WAY; 2]);
}

#[test]
fn a_probe_tells_a_service_nothing() {
    let stage = Stage::seen_as("proxy-v2", Wire::Tcp);
    let _ = stage.mesh.ping(ECHO).expect_success();
    assert!(!stage.service.has_caller());
}

#[test]
fn haproxy_takes_the_client_from_the_header() {
    need!("haproxy");
    let dir = tempfile::tempdir().unwrap();
    let (_haproxy, port) = on_a_free_port(|port| Ok((haproxy(&dir, port), port)));
    for source in ["proxy-v1", "proxy-v2"] {
        let service = Address::parse(&format!("127.0.0.1:{port}"));
        let mesh = Mesh::plan().service(ECHO, &service).with(&format!("source = \"{source}\"")).start();
        let mut client = End::connect(&mesh.front(ECHO));
        client.send(b"GET / HTTP/1.0\r\n\r\n");
        let answer = String::from_utf8(client.receive_rest()).unwrap();
        client.finish();
        let (_, page) = answer.split_once("\r\n\r\n").unwrap();
        let said: Vec<_> = page.trim_end().split(' ').collect();
        assert_eq!(said[..2].join(":"), client.address().to_string());
        assert_eq!(said[2..4].join(":"), mesh.b.inbound().to_string());
        if source == "proxy-v2" {
            mesh.b.until_logged(&format!("stream={}", said[4]));
        }
    }
}

#[test]
fn a_service_that_can_do_neither_asks_whose_connection_it_has() {
    // given a stream, of which the service sees only where its agent connects from
    let stage = Stage::with_socket(Mesh::plan());
    let (mut client, mut served) = stage.ends();
    client.send(b"hello");
    assert_eq!(served.receive(5), b"hello");
    served.send(b"hi");
    assert_eq!(client.receive(2), b"hi");
    // when it asks about that, then it hears whose it is
    let page = stage.whois(&served.other(), &[]).expect_success();
    let source = format!("source    {} (by that agent's word)", client.address());
    for fact in ["inbound /svc/echo\n", &format!("peer      {A}\n"), &source, "bytes     5 received, 2 sent\n"] {
        assert!(page.contains(fact), "no `{fact}` in:\n{page}");
    }
    let said = stage.whois(&served.other(), &["--json"]).expect_success();
    let whois: Value = serde_json::from_str(&said).unwrap();
    let stream = &whois["streams"][0];
    assert_eq!(whois["streams"].as_array().unwrap().len(), 1);
    assert_eq!(stream["identities"][0], A);
    assert_eq!(stream["name"], ECHO);
    assert_eq!(stream["source"], client.address().to_string());
    assert_eq!(stream["to"], stage.service.address().to_string());
    assert!(stream["agent"].as_str().unwrap().starts_with("127.0.0.1:"), "{said}");
    // and what is over, or was never there, is nobody's
    let other = served.other();
    client.finish();
    drop(served);
    assert_eq!(client.receive_rest(), b"");
    until("the stream to be gone", LIMIT, || (!stage.whois(&other, &[]).status.success()).then_some(()));
    let ended = stage.whois(&other, &[]);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.all());
    assert!(ended.stderr.starts_with(&format!("adit: {other} is neither this agent's end of")), "{}", ended.stderr);
}

#[test]
fn the_agent_of_an_application_tells_by_its_own_end() {
    let service = Listener::at(&Address::any_port());
    let plan = Mesh::plan().service(ECHO, service.address());
    let socket = plan.path("a.sock").display().to_string();
    let mesh = plan.a_also(&format!("socket = \"{socket}\"\n")).start();
    let mut client = End::connect(&mesh.front(ECHO));
    client.send(b"hello");
    assert_eq!(service.accept().receive(5), b"hello");
    let page = adit(&["whois", &client.address().to_string(), "--socket", &socket]).expect_success();
    for fact in ["outbound /svc/echo\n", "peer      b.adit.example\n", &mesh.b.inbound().to_string()] {
        assert!(page.contains(fact), "no `{fact}` in:\n{page}");
    }
}

#[test]
fn whose_a_connection_is_is_told_on_the_socket_only() {
    let stage = Stage::with_socket(Mesh::plan());
    let answer = stage.mesh.b.admin_answer("GET", "/whois?address=127.0.0.1:1");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n/whois is answered on the admin socket only\n"), "{answer}");
    assert_eq!(adit(&["whois", "localhost"]).status.code(), Some(2));
}

#[test]
fn a_client_of_one_kind_of_address_is_no_transparent_client_of_the_other_and_blames_nobody() {
    need_that!(is_root(), "only root may connect as somebody else");
    // given a service on IPv6 alone, once written as an address and once behind a name
    let service = Listener::at(&Address::parse("[::1]:0"));
    let named = format!(
        "[[inbound.service]]\nname = \"/svc/named\"\nto = \"/local\"\nallow = [\"{A}\"]\nsource = \"transparent\"\n"
    );
    let front = "[[outbound.listener]]\nlisten = \"127.0.0.1:0\"\nto = \"/svc/named\"\n";
    let mesh = Mesh::plan()
        .service_at(ECHO, service.address(), &Address::any_port())
        .with("source = \"transparent\"")
        .b_table(&format!("/local => /$/inet/::1/{} ;", service.address().port()))
        .b_also(&named)
        .a_also(front)
        .start();
    // when a client of IPv4 comes, then it is refused and hears why
    for name in [ECHO, "/svc/named"] {
        assert!(End::connect(&mesh.front(name)).failure().is_some());
        mesh.a.until_logged(&format!(
            "{name} at {}: refused: unavailable: connecting to the service at [::1]:",
            mesh.b.inbound()
        ));
    }
    mesh.a.until_logged("127.0.0.1 cannot be its client, being of another kind of address");
    // and the endpoint is as good as it was for others
    let status: Value = serde_json::from_str(&mesh.b.admin("/status")).unwrap();
    let inbound = status["routes"].as_array().unwrap().iter().find(|route| route["side"] == "inbound").unwrap();
    assert_eq!(inbound["balancers"][0]["endpoints"][0]["health"], "up", "{inbound}");
}

/// A mesh with a service that the test plays.
struct Stage {
    mesh: Mesh,
    service: Listener,
    /// B's admin socket, if it has one.
    socket: String,
    _dir: TempDir,
}

impl Stage {
    fn seen_as(source: &str, wire: Wire) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let service = Listener::bind(wire, dir.path(), "service.sock");
        let plan = Mesh::plan().service_at(ECHO, service.address(), &Address::any_port());
        let mesh = plan.with(&format!("source = \"{source}\"")).start();
        Self { mesh, service, socket: String::new(), _dir: dir }
    }

    fn with_socket(plan: Plan) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let service = Listener::at(&Address::any_port());
        let socket = dir.path().join("b.sock").display().to_string();
        let plan = plan.service(ECHO, service.address()).b_also(&format!("socket = \"{socket}\"\n"));
        Self { mesh: plan.start(), service, socket, _dir: dir }
    }

    fn ends(&self) -> (End, End) {
        let client = End::connect(&self.mesh.front(ECHO));
        (client, self.service.accept())
    }

    fn whois(&self, address: &Address, more: &[&str]) -> Finished {
        adit(&[&["whois", &address.to_string(), "--socket", &self.socket], more].concat())
    }
}

/// An HTTP front that answers with what it has read in a PROXY header.
fn haproxy(dir: &TempDir, port: u16) -> Program {
    let file = dir.path().join("haproxy.cfg");
    let said = "%[src] %[src_port] %[dst] %[dst_port] %[fc_pp_unique_id]";
    let text = format!(
        "defaults\n  mode http\n  timeout client 10s\n  timeout server 10s\n  timeout connect 10s\n\
         frontend test\n  bind 127.0.0.1:{port} accept-proxy\n  \
         http-request return status 200 content-type text/plain lf-string \"{said}\"\n"
    );
    fs::write(&file, text).unwrap();
    let mut command = Command::new(adit_tests::skip::find("haproxy").unwrap());
    let mut program = Program::start("haproxy", command.arg("-db").arg("-f").arg(&file), &dir.path().join("log"));
    let at = Address::parse(&format!("127.0.0.1:{port}"));
    program.until_ready(|| End::try_connect(&at).ok());
    program
}

#[test]
fn a_captured_connection_is_served_at_its_own_address_and_nowhere_else() {
    need_the_field!();
    let listeners =
        listener("10.78.0.1:7100", "/dst/10.77.0.2/7000") + &listener("[fd78::1]:7100", "/dst/fd77::2/7000");
    let own_door = "[outbound]\n[[outbound.listener]]\nlisten = \"127.0.0.1:0\"\nto = \"/svc/x\"\n";
    let field =
        plan().services(&captures("")).a_also(&listeners).b_also(own_door).start_without_rules(road(Tool::Nftables));
    let service = field.service(7000);
    for (family, own) in [(Family::V4, "10.77.0.2"), (Family::V6, "fd77::2")] {
        let mut client = field.hosts.on(Host::Container, || End::connect(&front(family, 7100)));
        client.send(b"question");
        let mut served = service.accept();
        assert_eq!(served.receive(8), b"question");
        // from that address too: should another host have it by then, nothing reaches it
        let from = served.other().to_string();
        assert!(from.contains(own), "{from}");
        assert_eq!(served.address().to_string(), Host::B.at(family, 7000).to_string());
    }
    let door = field.b().listener("/svc/x").port();
    let (v4, v6) = (format!("/dst/10.77.0.2/{door}"), format!("/dst/fd77::2/{door}"));
    for (name, told) in [
        (
            "/dst/10.77.0.3/7000",
            "unknown: capture rule 1 allow 1 (a.adit.example): 10.77.0.3 is no address of this host",
        ),
        (&v4, "is a listener of this agent itself"),
        (&v6, "is a listener of this agent itself"),
        ("/dst/127.0.0.1/7000", "unknown: this agent serves no /dst/127.0.0.1/7000"),
        ("/dst/10.77.0.2/22", "unknown: this agent serves no /dst/10.77.0.2/22"),
    ] {
        let ended = field.a().ping(name);
        assert!(!ended.status.success() && ended.stderr.contains(told), "{name}: {}", ended.all());
    }
    let _ = field.a().ping("/dst/10.77.0.2/7000").expect_success();
}

mod a_transparent_service_is_connected_to_from_the_clients_own_address {
    use super::*;

    #[test]
    fn by_rules_of_nftables() {
        need_the_field!();
        as_the_client(Tool::Nftables);
    }

    #[test]
    fn by_rules_of_iptables_nft() {
        need_the_field!();
        as_the_client(Tool::IptablesNft);
    }

    #[test]
    fn by_rules_of_iptables_legacy() {
        need_the_field!();
        as_the_client(Tool::IptablesLegacy);
    }
}

#[test]
fn a_storm_of_clients_is_served_in_their_names() {
    const CALLS: u64 = 2000;
    need_the_field!();
    // given an echo service that sees its clients
    let door = listener("10.78.0.1:7100", "/dst/10.77.0.2/7000");
    let field = plan().services(&captures("source = \"transparent\"\n")).a_also(&door);
    let field = field.start_without_rules(road(Tool::Nftables));
    let _ = field.rules_on(Host::B, &["apply"]).expect_success();
    let _echo = Service::start_inside(&field.hosts.enter(Host::B), "echo", "10.77.0.2:7000");
    // when they storm it, then each is answered
    let words = ["storm", "10.78.0.1:7100", &CALLS.to_string(), "8"];
    let mut storm = Load::start_inside(&field.hosts.enter(Host::Container), &words);
    assert_eq!(storm.until("done", LIMIT)["answered"], CALLS);
}

fn as_the_client(tool: Tool) {
    // given services on loopback, and on addresses of the host, and rules that bring their answers home
    let doors = [(7100, "/dst/{}/7000"), (7200, "/svc/local-{}"), (7300, "/dst/{}/7000")];
    let door = |family, (port, to): (u16, &str)| {
        let (kind, own) = match family {
            Family::V4 => ("v4", "10.77.0.2"),
            Family::V6 => ("v6", "fd77::2"),
        };
        let to = to.replace("{}", if to.starts_with("/dst") { own } else { kind });
        listener(&front(family, port).to_string(), &to)
    };
    let listeners: String = Family::BOTH.iter().flat_map(|family| doors.map(|at| door(*family, at))).collect();
    let local = |kind: &str, ip: &str| {
        format!(
            "[[inbound.service]]\nname = \"/svc/local-{kind}\"\nto = \"{ip}:7001\"\nallow = [\"{A}\"]\n\
             source = \"transparent\"\n"
        )
    };
    let services = captures("source = \"transparent\"\n") + &local("v4", "127.0.0.1") + &local("v6", "[::1]");
    let field = plan().services(&services).a_also(&listeners).start_without_rules(road(tool));
    let _ = field.rules_on(Host::B, &["apply"]).expect_success();
    let (captured, loopback) = (field.service(7000), field.hosts.on(Host::B, || service_on_loopback(7001)));
    for family in Family::BOTH {
        let call = |port| field.hosts.on(Host::Container, || End::connect(&front(family, port)));
        for (port, service) in [(7100, &captured), (7200, &loopback[usize::from(family == Family::V6)])] {
            // when a container behind A connects
            let mut client = call(port);
            client.send(b"question");
            client.finish();
            // then its service sees it there, and the stream is whole
            let mut served = service.accept();
            assert_eq!(served.other(), client.address());
            assert_eq!(served.receive_rest(), b"question");
            served.send(b"answer");
            // and B's agent knows it by that
            let socket = field.b().dir().join("admin.sock").display().to_string();
            let page = adit(&["whois", &served.other().to_string(), "--socket", &socket]).expect_success();
            assert!(page.contains(&format!("peer      {A}, 10.77.0.1, fd77::1\n")), "{page}");
            drop(served);
            assert_eq!(client.receive_rest(), b"answer");
        }
        // and where another of its connections has the port already, it is seen with one that is free
        let call_from = |from: &Address, port| {
            field.hosts.on(Host::Container, || End::try_connect_from(from, &front(family, port)).unwrap())
        };
        let first = call_from(&Host::Container.at(family, 0), 7100);
        let from = first.address();
        let first_served = captured.accept();
        let mut second = call_from(&from, 7300);
        let mut second_served = captured.accept();
        assert_eq!(first_served.other(), from);
        assert_eq!(ip_of(&second_served.other()), ip_of(&from));
        assert_ne!(second_served.other(), from);
        second.send(b"x");
        assert_eq!(second_served.receive(1), b"x");
    }
}

/// The road of such rules, of which A has none here.
fn road(tool: Tool) -> Road {
    Road::Captured(tool, Mode::Redirect)
}

/// A's agent asks B's for every name.
fn plan() -> field::Plan {
    let peers = format!("[[outbound.peer]]\nbound = \"/$/inet/10.77.0.2/4143\"\nidentity = \"{}\"\n", field::B);
    let table = "/dst => /$/inet/10.77.0.2/4143 ; /svc => /$/inet/10.77.0.2/4143 ;";
    Field::plan().table(table).peers(&peers)
}

fn captures(more: &str) -> String {
    format!("[[inbound.capture]]\nports = \"7000-65535\"\nallow = [\"{A}\"]\n{more}\n")
}

fn listener(at: &str, to: &str) -> String {
    format!("\n[[outbound.listener]]\nlisten = \"{at}\"\nto = \"{to}\"\nexpose = true\n")
}

/// Where a container reaches a listener of A's.
fn front(family: Family, port: u16) -> Address {
    Address::parse(&match family {
        Family::V4 => format!("10.78.0.1:{port}"),
        Family::V6 => format!("[fd78::1]:{port}"),
    })
}

/// One of each family.
fn service_on_loopback(port: u16) -> [Listener; 2] {
    ["127.0.0.1", "[::1]"].map(|ip| Listener::at(&Address::parse(&format!("{ip}:{port}"))))
}

fn ip_of(address: &Address) -> std::net::IpAddr {
    match address {
        Address::Tcp(address) => address.ip(),
        Address::Unix(path) => panic!("{} is no address", path.display()),
    }
}
