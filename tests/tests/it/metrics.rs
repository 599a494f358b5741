//! The README's metrics reference against what live agents say.

use std::collections::BTreeSet;

use adit_tests::{
    address::Address,
    authority::Leaf,
    end::End,
    listener::Listener,
    mesh::{A, Mesh},
    readme::Reference,
    wait::{LIMIT, until},
};

const ECHO: &str = "/svc/echo";
const SECRET: &str = "/svc/secret";
const NARROW: &str = "/svc/narrow";

#[test]
fn the_readmes_reference_is_what_agents_say_and_all_they_say() {
    // given two agents that have carried, refused, looked up, reached a limit, and reloaded
    let service = Listener::at(&Address::any_port());
    let plan = Mesh::plan().service(ECHO, service.address()).service(SECRET, service.address());
    let plan = plan.only_for("b.web.example").b_also(&limited(&service)).a_also(&front());
    let list = plan.authority().revoke(&[]);
    let mesh = plan.b_revokes(list).start();
    for _ in 0..2 {
        converse(&mesh, &service);
    }
    assert!(End::connect(&mesh.front(SECRET)).failure().is_some());
    let mut first = End::connect(&mesh.front(NARROW));
    first.send(b"hello");
    let _served = service.accept();
    assert!(End::connect(&mesh.front(NARROW)).failure().is_some());
    mesh.a.swap_credential(&mesh.authority.issue(&Leaf::dns(&[A])));
    mesh.a.until_logged("TLS files reloaded");
    // then the reference holds every metric they tell, with its kind and its labels, and they tell every one it holds
    let reference = Reference::read();
    let mut told = BTreeSet::new();
    for agent in [&mesh.a, &mesh.b] {
        let page = agent.admin("/metrics");
        for series in series(&page) {
            let known = reference.find(&series.name);
            let (name, labels) = known.unwrap_or_else(|| panic!("{} is not in the README", series.name));
            assert_eq!(&series.labels, labels, "the labels of {name}");
            told.insert(name.clone());
        }
        for (name, kind) in kinds(&page) {
            assert_eq!(reference.kinds[&name], kind, "the kind of {name}");
        }
    }
    let silent: Vec<_> = reference.labels.keys().filter(|name| !told.contains(*name)).collect();
    assert!(silent.is_empty(), "no agent tells {silent:?}");
}

#[test]
fn what_happened_is_counted_under_its_cause() {
    let service = Listener::at(&Address::any_port());
    let plan = Mesh::plan().service(ECHO, service.address()).service(SECRET, service.address());
    let mesh = plan.only_for("b.web.example").start();
    converse(&mesh, &service);
    converse(&mesh, &service);
    assert!(End::connect(&mesh.front(SECRET)).failure().is_some());
    for (agent, series) in [
        (&mesh.a, "adit_streams_opened_total{direction=\"outbound\"} 3"),
        (&mesh.a, "adit_streams_ended_total{direction=\"outbound\",end=\"closed\",side=\"local\"} 2"),
        (&mesh.a, "adit_streams_ended_total{direction=\"outbound\",end=\"refused\",side=\"peer\"} 1"),
        (&mesh.a, "adit_refusals_total{direction=\"outbound\",code=\"denied\"} 1"),
        (&mesh.a, "adit_stream_bytes_total{direction=\"outbound\",way=\"sent\"} 10"),
        (&mesh.a, "adit_stream_bytes_total{direction=\"outbound\",way=\"received\"} 10"),
        (&mesh.a, "adit_tunnels_used_total{kind=\"fresh\"} 1"),
        (&mesh.a, "adit_tunnels_used_total{kind=\"recycled\"} 2"),
        (&mesh.a, "adit_tunnels_idle 1"),
        (&mesh.a, "adit_handshakes_total{side=\"dialer\",outcome=\"ok\"} 1"),
        (&mesh.b, "adit_handshakes_total{side=\"acceptor\",outcome=\"ok\"} 1"),
        (&mesh.b, "adit_refusals_total{direction=\"inbound\",code=\"denied\"} 1"),
        (&mesh.b, "adit_tunnels_accepted 1"),
        (&mesh.b, "adit_streams_active{direction=\"inbound\"} 0"),
    ] {
        until(series, LIMIT, || agent.admin("/metrics").lines().any(|line| line == series).then_some(()));
    }
}

#[test]
fn a_service_at_its_limit_is_counted_under_it() {
    // given a service for one stream at once, and one stream
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().b_also(&limited(&service)).a_also(&front()).start();
    let mut first = End::connect(&mesh.front(NARROW));
    first.send(b"hello");
    let _served = service.accept();
    // when another is asked for
    assert!(End::connect(&mesh.front(NARROW)).failure().is_some());
    // then the limit's own counter, and the refusal's, say so
    let page = mesh.b.admin("/metrics");
    assert!(page.contains("adit_limit_reached_total{limit=\"service_streams\"} 1"), "{page}");
    assert!(page.contains("adit_refusals_total{direction=\"inbound\",code=\"overloaded\"} "), "{page}");
}

#[test]
fn an_agent_at_its_limit_of_streams_lets_others_wait_and_counts_it() {
    // given an agent for one stream at once, and one stream
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().service(ECHO, service.address()).a_also("[limits]\nstreams = 1\n").start();
    let mut first = End::connect(&mesh.front(ECHO));
    first.send(b"hello");
    let mut served = service.accept();
    assert_eq!(served.receive(5), b"hello");
    // when another connects, then it is counted, and served once the first is over
    let mut second = End::connect(&mesh.front(ECHO));
    second.send(b"again");
    let counted = "adit_limit_reached_total{limit=\"streams\"} 1";
    until(counted, LIMIT, || mesh.a.admin("/metrics").contains(counted).then_some(()));
    first.finish();
    assert_eq!(served.receive_rest(), b"");
    drop(served);
    assert_eq!(service.accept().receive(5), b"again");
}

/// One whole stream: a word each way, and both ends.
fn converse(mesh: &Mesh, service: &Listener) {
    let mut client = End::connect(&mesh.front(ECHO));
    client.send(b"hello");
    let mut served = service.accept();
    assert_eq!(served.receive(5), b"hello");
    served.send(b"hello");
    assert_eq!(client.receive(5), b"hello");
    client.finish();
    assert_eq!(served.receive_rest(), b"");
    drop(served);
    assert_eq!(client.receive_rest(), b"");
    until("the tunnel to be idle", LIMIT, || mesh.a.admin("/metrics").contains("adit_tunnels_idle 1").then_some(()));
}

fn limited(service: &Listener) -> String {
    let to = service.address();
    format!("[[inbound.service]]\nname = \"{NARROW}\"\nto = \"{to}\"\nallow = [\"{A}\"]\nmax_streams = 1\n")
}

fn front() -> String {
    format!("[[outbound.listener]]\nlisten = \"127.0.0.1:0\"\nto = \"{NARROW}\"\n")
}

struct Series {
    name: String,
    labels: BTreeSet<String>,
}

/// Every series of a page, without the bound of a bucket among its labels.
fn series(page: &str) -> Vec<Series> {
    let of = |line: &str| {
        let (series, _) = line.rsplit_once(' ').expect("a series has a value");
        let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
        let labels = labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
        Series { name: name.to_owned(), labels: labels.filter(|label| label != "le").collect() }
    };
    page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(of).collect()
}

/// What `# TYPE` says of each metric.
fn kinds(page: &str) -> Vec<(String, String)> {
    let of = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name.to_owned(), kind.to_owned()))
    };
    page.lines().filter_map(of).collect()
}
