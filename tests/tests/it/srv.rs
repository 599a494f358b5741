//! Services that are found by SRV records, hosts behind aliases, long answers, and zones with servers of their own.

use std::collections::BTreeMap;

use adit_tests::{
    address::Wire,
    agent::Agent,
    end::End,
    load::Service,
    mesh::{B, Mesh, Plan},
    need,
    wait::{LIMIT, until},
    zone::Zone,
};
use serde_json::Value;

const ECHO: &str = "/svc/echo";
const BY_SRV: &str = "/svc/{service} => /#/srv/_{service}._tcp.mesh.example ;";

/// Streams that have come to this host.
fn streams(agent: &Agent) -> f64 {
    agent.metric("adit_streams_opened_total{direction=\"inbound\"}")
}

fn echo(mesh: &Mesh) {
    End::try_echo(&mesh.front(ECHO)).unwrap();
}

/// Waits until A knows of so many endpoints.
fn until_endpoints(mesh: &Mesh, count: usize) -> BTreeMap<String, String> {
    until("the endpoints to be known", LIMIT, || {
        let _ = End::try_echo(&mesh.front(ECHO));
        Some(mesh.a.endpoints()).filter(|known| known.len() == count)
    })
}

fn plan(echo: &Service, table: &str, dns: &str) -> Plan {
    Mesh::plan().service(ECHO, echo.address()).table(table).a_also(dns)
}

#[test]
fn streams_follow_the_weights_of_the_records() {
    need!("unbound", "unbound-control");
    const STREAMS: usize = 1000;
    let (zone, echo_service) = (Zone::start("mesh.example"), Service::start(Wire::Tcp, "echo"));
    let mesh = plan(&echo_service, BY_SRV, &zone.table()).more_hosts(1).start();
    let record = |weight, agent: &Agent| format!("_echo._tcp 60 IN SRV 0 {weight} {} host", agent.inbound().port());
    zone.publish(&["host 60 IN A 127.0.0.1".to_owned(), record(10, &mesh.b), record(90, &mesh.more[0])]);
    until_endpoints(&mesh, 2);
    let (light, heavy) = (streams(&mesh.b), streams(&mesh.more[0]));
    for _ in 0..STREAMS {
        echo(&mesh);
    }
    let (light, heavy) = (streams(&mesh.b) - light, streams(&mesh.more[0]) - heavy);
    println!("of {STREAMS} streams {light} went to weight 10, {heavy} to weight 90");
    assert!((80.0..=120.0).contains(&light), "{light} and {heavy}");
    assert_eq!(light + heavy, 1000.0);
}

#[test]
fn a_later_priority_serves_only_while_the_first_is_down() {
    need!("unbound", "unbound-control");
    let (zone, echo_service) = (Zone::start("mesh.example"), Service::start(Wire::Tcp, "echo"));
    let mut mesh = plan(&echo_service, BY_SRV, &zone.table()).more_hosts(1).start();
    let record = |priority, agent: &Agent| format!("_echo._tcp 60 IN SRV {priority} 1 {} host", agent.inbound().port());
    zone.publish(&["host 60 IN A 127.0.0.1".to_owned(), record(10, &mesh.b), record(20, &mesh.more[0])]);
    until_endpoints(&mesh, 2);
    for _ in 0..100 {
        echo(&mesh);
    }
    assert_eq!(streams(&mesh.more[0]), 0.0, "the first is up");
    // when the first dies, then the second serves, and no stream fails
    mesh.b.kill();
    for _ in 0..50 {
        echo(&mesh);
    }
    assert!(streams(&mesh.more[0]) >= 50.0);
    // and once the first is back, streams go there again, and to no other
    mesh.b.restart();
    until("the first to be found again", LIMIT, || {
        echo(&mesh);
        (streams(&mesh.b) > 1.0).then_some(())
    });
    let second = streams(&mesh.more[0]);
    for _ in 0..50 {
        echo(&mesh);
    }
    assert_eq!(streams(&mesh.more[0]), second);
}

#[test]
fn a_port_in_the_name_goes_before_the_records_own() {
    need!("unbound", "unbound-control");
    let (zone, echo_service) = (Zone::start("mesh.example"), Service::start(Wire::Tcp, "echo"));
    let table = "/svc/{service} => /#/srv/_{service}._tcp.mesh.example/{port} ;";
    let mesh = plan(&echo_service, table, &zone.table()).start();
    // The record's port is the service's own, where no agent is.
    zone.publish(&["_echo._tcp 60 IN SRV 0 1 6379 host", "host 60 IN A 127.0.0.1"]);
    until("the name to be found", LIMIT, || End::try_echo(&mesh.front(ECHO)).ok());
}

#[test]
fn a_service_that_is_decidedly_not_there_is_no_such_name_and_stops_no_other() {
    need!("unbound", "unbound-control");
    let (zone, echo_service) = (Zone::start("mesh.example"), Service::start(Wire::Tcp, "echo"));
    let mesh = plan(&echo_service, BY_SRV, &zone.table()).service("/svc/other", echo_service.address()).start();
    let port = mesh.b.inbound().port();
    let other = format!("_other._tcp 60 IN SRV 0 0 {port} host");
    zone.publish(&["_echo._tcp 60 IN SRV 0 0 0 .", "host 60 IN A 127.0.0.1", &other]);
    // A record of weight nothing, alone, takes every stream.
    until("the other name to be found", LIMIT, || End::try_echo(&mesh.front("/svc/other")).ok());
    assert!(End::connect(&mesh.front(ECHO)).failure().is_some());
    mesh.a.until_logged("nothing answers to '/svc/echo'");
}

#[test]
fn a_host_behind_a_chain_of_aliases_is_found() {
    need!("unbound", "unbound-control");
    let (zone, echo_service) = (Zone::start("mesh.example"), Service::start(Wire::Tcp, "echo"));
    let table = "/svc/{service} => /#/dns/{service}.mesh.example/{port} ;";
    let mesh = plan(&echo_service, table, &zone.table()).start();
    zone.publish(&["echo 60 IN CNAME one", "one 60 IN CNAME two", "two 1 IN CNAME three", "three 60 IN A 127.0.0.1"]);
    until("the name to be found", LIMIT, || End::try_echo(&mesh.front(ECHO)).ok());
}

#[test]
fn an_answer_of_four_thousand_records_comes_by_tcp_and_is_cut_to_its_bound() {
    need!("unbound", "unbound-control");
    let (zone, echo_service) = (Zone::start("mesh.example"), Service::start(Wire::Tcp, "echo"));
    let table = "/svc/{service} => /#/dns/{service}.mesh.example/{port} ;";
    let mesh = plan(&echo_service, table, &zone.table()).b_listens("0.0.0.0:0").start();
    // Every address of 127.0.0.0/8 is this host.
    let records: Vec<_> =
        (0..4000).map(|number| format!("echo 60 IN A 127.0.{}.{}", number / 250, 1 + number % 250)).collect();
    zone.publish(&records);
    until("the name to be found", LIMIT, || End::try_echo(&mesh.front(ECHO)).ok());
    assert_eq!(mesh.a.endpoints().len(), 1024);
}

#[test]
fn a_zone_is_asked_of_its_own_servers_as_consul_has_it() {
    need!("unbound", "unbound-control");
    let (system, consul) = (Zone::start("mesh.example"), Zone::start("consul"));
    let echo_service = Service::start(Wire::Tcp, "echo");
    let zone = format!("\n[[dns.zone]]\nname = \"consul\"\nservers = [\"{}\"]\n", consul.address());
    let table = "/svc/{service} => /#/srv/_{service}._tcp.service.consul ; \
                 /svc/plain => /#/dns/plain.mesh.example/{port} ;";
    let dns = format!("{}{zone}", system.table());
    let mesh = plan(&echo_service, table, &dns).service("/svc/plain", echo_service.address()).start();
    let port = mesh.b.inbound().port();
    consul.publish(&[
        format!("_echo._tcp.service 0 IN SRV 1 1 {port} 7f000001.addr.dc1"),
        "7f000001.addr.dc1 0 IN A 127.0.0.1".to_owned(),
    ]);
    system.publish(&["plain 1 IN A 127.0.0.1"]);
    until("the zone's name to be found", LIMIT, || End::try_echo(&mesh.front(ECHO)).ok());
    until("the other name to be found", LIMIT, || End::try_echo(&mesh.front("/svc/plain")).ok());
}

#[test]
fn a_headless_service_as_kubernetes_has_it_is_all_its_pods() {
    need!("unbound", "unbound-control");
    let cluster = Zone::start("cluster.local");
    let echo_service = Service::start(Wire::Tcp, "echo");
    let table = "/svc/{service} => /#/srv/_adit._tcp.{service}.default.svc.cluster.local ;";
    let mesh = plan(&echo_service, table, &cluster.table()).more_hosts(2).start();
    let hosts = || [&mesh.b].into_iter().chain(&mesh.more);
    // A pod each, named by its address; the service's name has the addresses of all of them.
    let pods: Vec<_> = hosts()
        .enumerate()
        .flat_map(|(number, agent)| {
            let (pod, port) = (format!("127-0-0-{number}.echo.default.svc"), agent.inbound().port());
            [
                format!("_adit._tcp.echo.default.svc 5 IN SRV 0 33 {port} {pod}"),
                format!("{pod} 5 IN A 127.0.0.1"),
                format!("echo.default.svc 5 IN A 127.0.0.{}", number + 1),
            ]
        })
        .collect();
    cluster.publish(&pods);
    until_endpoints(&mesh, 3);
    for _ in 0..60 {
        echo(&mesh);
    }
    assert!(hosts().all(|agent| streams(agent) > 0.0), "each pod has its share");
}

#[test]
fn rules_for_a_name_give_it_its_own_times_and_leave_others_alone() {
    need!("unbound", "unbound-control");
    let (zone, echo_service) = (Zone::start("mesh.example"), Service::start(Wire::Tcp, "echo"));
    let table = "/svc/{service} => /#/dns/{service}.mesh.example/{port} ;";
    // given a rule about one name's idle streams, before the one that says who must answer
    let peers = format!(
        "[[outbound.peer]]\nbound = \"/#/dns/echo.mesh.example/*\"\nidle = \"1s\"\n\n\
         [[outbound.peer]]\nname = \"/svc/{{service}}\"\nidentity = \"{B}\"\n"
    );
    let mesh =
        plan(&echo_service, table, &zone.table()).service("/svc/other", echo_service.address()).peers(&peers).start();
    zone.publish(&["echo 60 IN A 127.0.0.1", "other 60 IN A 127.0.0.1"]);
    until("the name to be found", LIMIT, || End::try_echo(&mesh.front("/svc/other")).ok());
    let mut other = End::connect(&mesh.front("/svc/other"));
    let mut quiet = End::connect(&mesh.front(ECHO));
    quiet.send(b"once");
    assert_eq!(quiet.receive(4), b"once");
    // then its idle stream ends, and the other name's lives
    assert!(quiet.failure().is_some());
    mesh.a.until_logged("end=idle");
    other.send(b"still");
    assert_eq!(other.receive(5), b"still");
}

#[test]
fn streams_of_a_host_that_left_go_on_or_end_as_the_rules_say() {
    need!("unbound", "unbound-control");
    let (zone, echo_service) = (Zone::start("mesh.example"), Service::start(Wire::Tcp, "echo"));
    let table = "/svc/{service} => /#/dns/{service}.mesh.example/{port} ;";
    let peers = format!(
        "[[outbound.peer]]\nname = \"/svc/echo\"\non_leave = \"1s\"\n\n\
         [[outbound.peer]]\nname = \"/svc/{{service}}\"\nidentity = \"{B}\"\n"
    );
    let mesh = plan(&echo_service, table, &zone.table())
        .service("/svc/other", echo_service.address())
        .b_listens("0.0.0.0:0")
        .peers(&peers)
        .start();
    zone.publish(&["echo 1 IN A 127.0.0.1", "other 1 IN A 127.0.0.1"]);
    let open = |name| {
        until("the name to be found", LIMIT, || End::try_echo(&mesh.front(name)).ok());
        let mut end = End::connect(&mesh.front(name));
        end.send(b"held");
        assert_eq!(end.receive(4), b"held");
        end
    };
    let (mut moved, mut kept) = (open(ECHO), open("/svc/other"));
    // when both names move to another host
    zone.publish(&["echo 1 IN A 127.0.0.2", "other 1 IN A 127.0.0.2"]);
    until("the new host to be used", LIMIT, || {
        End::try_echo(&mesh.front(ECHO)).unwrap();
        End::try_echo(&mesh.front("/svc/other")).unwrap();
        mesh.a.endpoints().into_keys().all(|at| at.starts_with("127.0.0.2:")).then_some(())
    });
    // then the one stream is ended, which says why, and the other goes on
    assert!(moved.failure().is_some());
    mesh.a.until_logged("on_leave");
    kept.send(b"still");
    assert_eq!(kept.receive(5), b"still");
}

#[test]
fn the_age_of_an_answer_is_shown_while_its_server_is_gone() {
    need!("unbound", "unbound-control");
    let (zone, echo_service) = (Zone::start("mesh.example"), Service::start(Wire::Tcp, "echo"));
    let mesh = plan(&echo_service, "/svc/{service} => /#/dns/{service}.mesh.example/{port} ;", &zone.table()).start();
    zone.publish(&["echo 1 IN A 127.0.0.1"]);
    until("the name to be found", LIMIT, || End::try_echo(&mesh.front(ECHO)).ok());
    drop(zone);
    let name = until("the failure to be shown", LIMIT, || {
        let status: Value = serde_json::from_str(&mesh.a.admin("/status")).unwrap();
        Some(status["names"][0].clone()).filter(|name| name["last_error"].is_string())
    });
    assert_eq!(name["state"], "bound");
    assert!(name["age_ms"].as_u64().is_some_and(|age| age >= 1000), "{name}");
    echo(&mesh);
    until("the age to be counted", LIMIT, || {
        (mesh.a.metric("adit_dns_oldest_answer_age_seconds") >= 1.0
            && mesh.a.metric("adit_dns_answers{state=\"stale\"}") == 1.0)
            .then_some(())
    });
}
