//! What naming promises, against a DNS server that answers, refuses, changes and falls silent.

use super::server::{Reply, Server, alias, found, services};
use super::*;
use adit_protocol::Name;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;

const HOST: &str = "redis.prod.internal";
const SERVICE: &str = "_redis._tcp.prod.internal";

/// No wait of a test is longer; only a broken one comes near.
const PATIENCE: Duration = Duration::from_secs(20);

/// Quick enough for a test to see several refreshes.
fn settings(server: &Server) -> Settings {
    Settings {
        servers: vec![server.address],
        min_ttl: Duration::from_millis(50),
        negative_ttl: Duration::from_millis(50),
        timeout: Duration::from_secs(1),
        linger: Duration::from_secs(60),
        ..Settings::default()
    }
}

fn namers(settings: Settings) -> Namers {
    Namers::new(settings, TaskTracker::new(), CancellationToken::new())
}

fn bound(path: &str) -> Bound {
    Bound::parse(&Name::parse(path).unwrap()).unwrap()
}

fn redis() -> Bound {
    bound("/#/dns/redis.prod.internal/4143")
}

fn addresses(all: &[&str]) -> Addrs {
    Addrs::Bound(all.iter().map(|at| Weighted::plain(Address::Tcp(at.parse().unwrap()))).collect())
}

/// Waits until the watched value is so.
async fn until(watched: &mut watch::Receiver<Addrs>, what: impl Fn(&Addrs) -> bool) -> Addrs {
    let waited = timeout(PATIENCE, watched.wait_for(what)).await;
    waited.expect("within patience").expect("a keeper").clone()
}

async fn first(watched: &mut watch::Receiver<Addrs>) -> Addrs {
    until(watched, |addrs| *addrs != Addrs::Pending).await
}

/// Waits until `check` holds, looking again at each turn of the runtime.
async fn eventually(check: impl Fn() -> bool) {
    let turns = async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, turns).await.expect("within patience");
}

#[tokio::test]
async fn a_host_is_all_its_addresses_of_both_families() {
    let server = Server::start().await;
    server.set(HOST, found(60, &["10.0.0.2", "10.0.0.1", "2001:db8::1"]));
    let mut watched = namers(settings(&server)).watch(&redis());
    let expected = addresses(&["10.0.0.1:4143", "10.0.0.2:4143", "[2001:db8::1]:4143"]);
    assert_eq!(first(&mut watched).await, expected);
}

#[tokio::test]
async fn an_address_or_a_socket_as_written_needs_no_look_up() {
    let namers = namers(Settings::default());
    assert_eq!(*namers.watch(&bound("/$/inet/10.0.0.1/80")).borrow(), addresses(&["10.0.0.1:80"]));
    let socket = Addrs::Bound([Weighted::plain(Address::Unix("/run/redis.sock".into()))].into());
    assert_eq!(*namers.watch(&bound("/$/unix/run/redis.sock")).borrow(), socket);
    assert!(namers.status().is_empty());
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_negative_until_it_does() {
    let server = Server::start().await;
    let namers = namers(settings(&server));
    let mut watched = namers.watch(&redis());
    assert_eq!(first(&mut watched).await, Addrs::Neg);
    server.set(HOST, found(60, &["10.0.0.1"]));
    assert_eq!(until(&mut watched, |addrs| *addrs != Addrs::Neg).await, addresses(&["10.0.0.1:4143"]));
}

#[tokio::test]
async fn a_name_without_addresses_is_negative() {
    let server = Server::start().await;
    server.set(HOST, found(60, &[]));
    let mut watched = namers(settings(&server)).watch(&redis());
    assert_eq!(first(&mut watched).await, Addrs::Neg);
}

#[tokio::test]
async fn a_change_is_found_in_the_background() {
    let server = Server::start().await;
    server.set(HOST, found(0, &["10.0.0.1"]));
    let mut watched = namers(settings(&server)).watch(&redis());
    let before = first(&mut watched).await;
    server.set(HOST, found(0, &["10.0.0.2"]));
    assert_eq!(until(&mut watched, |addrs| *addrs != before).await, addresses(&["10.0.0.2:4143"]));
}

/// What was known stays in use while the server answers with `fault`, and recovers after.
async fn keeps_the_last_known_good_through(fault: Reply, why: &str) {
    let server = Server::start().await;
    server.set(HOST, found(0, &["10.0.0.1"]));
    let namers = namers(Settings { timeout: Duration::from_millis(100), ..settings(&server) });
    let mut watched = namers.watch(&redis());
    let good = first(&mut watched).await;
    server.set(HOST, fault);
    eventually(|| namers.status()[0].last_error.is_some()).await;
    let status = namers.known(redis().path()).expect("a name that is followed");
    assert_eq!((*watched.borrow()).clone(), good);
    assert_eq!((status.state, status.addresses), ("bound", vec!["10.0.0.1:4143".to_owned()]));
    assert!(status.last_error.is_some_and(|error| error.contains(why)), "the reason is shown");
    assert!(status.age_ms.is_some(), "the age is shown");
    server.set(HOST, found(0, &["10.0.0.2"]));
    until(&mut watched, |addrs| *addrs == addresses(&["10.0.0.2:4143"])).await;
}

#[tokio::test]
async fn a_servfail_keeps_the_last_known_good() {
    keeps_the_last_known_good_through(Reply::Code(ResponseCode::ServFail), "Server Failure").await;
}

#[tokio::test]
async fn silence_keeps_the_last_known_good() {
    keeps_the_last_known_good_through(Reply::Silence, "answered").await;
}

#[tokio::test]
async fn an_alias_of_itself_keeps_the_last_known_good() {
    keeps_the_last_known_good_through(alias(HOST), "circle").await;
}

#[tokio::test]
async fn aliases_in_a_circle_or_without_end_are_a_failure_and_no_absence() {
    let server = Server::start().await;
    server.set("a.test", alias("b.test"));
    server.set("b.test", alias("a.test"));
    (0..20).for_each(|at| server.set(&format!("c{at}.test"), alias(&format!("c{}.test", at + 1))));
    server.set("c20.test", found(60, &["10.0.0.1"]));
    let namers = namers(settings(&server));
    for name in ["a.test", "c0.test"] {
        let Addrs::Failed(why) = first(&mut namers.watch(&bound(&format!("/#/dns/{name}/1")))).await else {
            panic!("{name} did not fail")
        };
        assert!(why.contains("led in a circle, or through too many aliases"), "{why}");
    }
    // and a chain that ends is followed, and one that ends at nothing is an absence
    assert_eq!(first(&mut namers.watch(&bound("/#/dns/c15.test/1"))).await, addresses(&["10.0.0.1:1"]));
    server.set("c20.test", found(60, &[]));
    assert_eq!(first(&mut namers.watch(&bound("/#/dns/c16.test/1"))).await, Addrs::Neg);
}

#[tokio::test]
async fn a_thousand_names_of_a_silent_zone_stop_no_other_name() {
    let server = Server::start().await;
    let silent = Server::start().await;
    server.set(HOST, found(60, &["10.0.0.1"]));
    let zone = Zone { name: "silent.test".to_owned(), servers: vec![silent.address] };
    let namers = namers(Settings { zones: vec![zone], timeout: 2 * PATIENCE, ..settings(&server) });
    for at in 0..1000 {
        silent.set(&format!("n{at}.silent.test"), Reply::Silence);
        drop(namers.watch(&bound(&format!("/#/dns/n{at}.silent.test/1"))));
    }
    eventually(|| silent.asked("n0.silent.test", RecordType::A) > 0).await;
    assert_eq!(first(&mut namers.watch(&redis())).await, addresses(&["10.0.0.1:4143"]));
}

#[tokio::test]
async fn new_targets_that_cannot_be_found_out_leave_the_old_in_use() {
    let server = Server::start().await;
    server.set(SERVICE, services(0, &[(0, 1, 1, "old.test.")]));
    server.set("old.test", found(60, &["10.0.0.1"]));
    server.set("new.test", Reply::Code(ResponseCode::ServFail));
    let namers = namers(settings(&server));
    let mut watched = namers.watch(&bound("/#/srv/_redis._tcp.prod.internal"));
    let old = first(&mut watched).await;
    assert_eq!(old, addresses(&["10.0.0.1:1"]));
    server.set(SERVICE, services(0, &[(0, 1, 1, "new.test.")]));
    eventually(|| server.asked("new.test", RecordType::A) > 1).await;
    assert_eq!(*watched.borrow(), old);
    assert!(namers.status()[0].last_error.is_some(), "the reason is shown");
    server.set("new.test", found(60, &["10.0.0.2"]));
    until(&mut watched, |addrs| *addrs == addresses(&["10.0.0.2:1"])).await;
}

#[tokio::test]
async fn a_first_look_up_that_fails_says_why_and_is_tried_again() {
    let server = Server::start().await;
    server.set(HOST, Reply::Code(ResponseCode::Refused));
    let namers = namers(settings(&server));
    let mut watched = namers.watch(&redis());
    let Addrs::Failed(why) = first(&mut watched).await else { panic!("it did not fail") };
    assert!(why.contains("Refused"), "{why}");
    server.set(HOST, found(60, &["10.0.0.1"]));
    until(&mut watched, |addrs| *addrs == addresses(&["10.0.0.1:4143"])).await;
}

#[tokio::test]
async fn a_name_is_looked_up_once_however_many_wait() {
    let server = Server::start().await;
    server.set(HOST, found(60, &["10.0.0.1"]));
    let namers = namers(settings(&server));
    let mut all: Vec<_> = (0..100).map(|_| namers.watch(&redis())).collect();
    for watched in &mut all {
        first(watched).await;
    }
    assert_eq!(server.asked(HOST, RecordType::A), 1);
    assert_eq!(server.asked(HOST, RecordType::AAAA), 1);
}

#[tokio::test]
async fn an_answer_too_long_for_udp_comes_by_tcp_and_is_cut() {
    let server = Server::start().await;
    let ips = (1..=1500_u32).map(|n| IpAddr::V4((0x0a00_0000 + n).into())).collect();
    server.set(HOST, Reply::Found(60, ips));
    let mut watched = namers(settings(&server)).watch(&redis());
    let Addrs::Bound(all) = first(&mut watched).await else { panic!("not bound") };
    assert_eq!(all.len(), 1024);
    assert!(server.asked_by_tcp() > 0);
}

#[tokio::test]
async fn a_name_that_nobody_watches_is_forgotten() {
    let server = Server::start().await;
    server.set(HOST, found(0, &["10.0.0.1"]));
    let namers = namers(Settings { linger: Duration::from_millis(100), ..settings(&server) });
    let mut watched = namers.watch(&redis());
    first(&mut watched).await;
    assert_eq!(namers.status().len(), 1);
    drop(watched);
    eventually(|| namers.status().is_empty()).await;
}

#[tokio::test]
async fn no_task_outlives_its_token_and_nobody_is_left_waiting() {
    let server = Server::start().await;
    server.set(HOST, Reply::Silence);
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let namers = Namers::new(settings(&server), tasks.clone(), stop.clone());
    let mut watched = namers.watch(&redis());
    stop.cancel();
    tasks.close();
    timeout(PATIENCE, tasks.wait()).await.expect("the tasks end");
    assert_eq!(first(&mut watched).await, Addrs::Failed("the agent is stopping".into()));
    assert!(matches!(first(&mut namers.watch(&redis())).await, Addrs::Failed(_)));
}

fn srv() -> Bound {
    bound("/#/srv/_redis._tcp.prod.internal")
}

/// What a bound name leads to, as people see it, once it is so.
async fn shown(namers: &Namers, watched: &mut watch::Receiver<Addrs>, bound: &Bound, expected: &[&str]) {
    let is_so = || namers.known(bound.path()).is_some_and(|status| status.addresses == expected);
    let waited = timeout(PATIENCE, async {
        while !is_so() {
            watched.changed().await.expect("a lead");
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{expected:?} is not {:?}", namers.known(bound.path())));
}

#[tokio::test]
async fn a_service_is_its_records_with_the_addresses_of_their_targets() {
    let server = Server::start().await;
    server
        .set(SERVICE, services(60, &[(10, 3, 6379, "A.prod."), (20, 0, 6380, "b.prod."), (10, 1, 6379, "gone.prod.")]));
    server.set("a.prod", found(60, &["10.0.0.1", "2001:db8::1"]));
    server.set("b.prod", found(60, &["10.0.0.2"]));
    let namers = namers(settings(&server));
    let mut watched = namers.watch(&srv());
    let expected =
        ["10.0.0.1:6379 * 1.5 (tier 10)", "[2001:db8::1]:6379 * 1.5 (tier 10)", "10.0.0.2:6380 * 0.001 (tier 20)"];
    shown(&namers, &mut watched, &srv(), &expected).await;
    // and with a port in the name the records' own does not count
    let overridden = bound("/#/srv/_redis._tcp.prod.internal/4143");
    let mut watched = namers.watch(&overridden);
    let expected =
        ["10.0.0.1:4143 * 1.5 (tier 10)", "[2001:db8::1]:4143 * 1.5 (tier 10)", "10.0.0.2:4143 * 0.001 (tier 20)"];
    shown(&namers, &mut watched, &overridden, &expected).await;
    assert_eq!(server.asked(SERVICE, RecordType::SRV), 1, "both names rest on one question");
    assert_eq!(server.asked("a.prod", RecordType::A), 1);
}

#[tokio::test]
async fn a_service_of_a_dot_is_decidedly_not_there() {
    let server = Server::start().await;
    server.set(SERVICE, services(60, &[(0, 0, 0, ".")]));
    let mut watched = namers(settings(&server)).watch(&srv());
    assert_eq!(first(&mut watched).await, Addrs::Neg);
}

#[tokio::test]
async fn a_target_that_fails_takes_nothing_from_the_others_and_all_that_fail_say_why() {
    let server = Server::start().await;
    server.set(SERVICE, services(60, &[(0, 1, 1, "a.prod."), (0, 1, 1, "b.prod.")]));
    server.set("a.prod", Reply::Code(ResponseCode::ServFail));
    server.set("b.prod", found(60, &["10.0.0.2"]));
    let mut watched = namers(settings(&server)).watch(&srv());
    assert_eq!(first(&mut watched).await, addresses(&["10.0.0.2:1"]));

    server.set("b.prod", Reply::Code(ResponseCode::ServFail));
    let mut watched = namers(settings(&server)).watch(&srv());
    let Addrs::Failed(why) = first(&mut watched).await else { panic!("it did not fail") };
    assert!(why.contains("Server Failure"), "{why}");
}

#[tokio::test]
async fn a_target_that_falls_silent_keeps_its_last_known_good() {
    let server = Server::start().await;
    server.set(SERVICE, services(0, &[(0, 1, 1, "a.prod."), (0, 1, 1, "b.prod.")]));
    server.set("a.prod", found(0, &["10.0.0.1"]));
    server.set("b.prod", found(0, &["10.0.0.2"]));
    let namers = namers(Settings { timeout: Duration::from_millis(100), ..settings(&server) });
    let mut watched = namers.watch(&srv());
    assert_eq!(first(&mut watched).await, addresses(&["10.0.0.1:1", "10.0.0.2:1"]));
    server.set("a.prod", Reply::Silence);
    eventually(|| namers.known(srv().path()).is_some_and(|status| status.last_error.is_some())).await;
    assert_eq!(*watched.borrow(), addresses(&["10.0.0.1:1", "10.0.0.2:1"]));
    eventually(|| namers.answers().stale == 1 && namers.answers().fresh == 2).await;
    assert!(namers.answers().oldest > Duration::ZERO);
    // while its records and the other target go on changing
    server.set("b.prod", found(0, &["10.0.0.3"]));
    until(&mut watched, |addrs| *addrs == addresses(&["10.0.0.1:1", "10.0.0.3:1"])).await;
    server.set(SERVICE, services(0, &[(0, 1, 1, "b.prod.")]));
    until(&mut watched, |addrs| *addrs == addresses(&["10.0.0.3:1"])).await;
}

#[tokio::test]
async fn nothing_is_said_of_a_service_before_each_target_has_answered() {
    let server = Server::start().await;
    server.set(SERVICE, services(60, &[(0, 1, 1, "a.prod."), (1, 1, 1, "b.prod.")]));
    server.set("a.prod", Reply::Silence);
    server.set("b.prod", found(60, &["10.0.0.2"]));
    // A query is sent again after half of this.
    let namers = namers(Settings { timeout: Duration::from_secs(4), ..settings(&server) });
    let mut watched = namers.watch(&srv());
    eventually(|| namers.answers().fresh == 2).await;
    assert_eq!(*watched.borrow(), Addrs::Pending, "the second tier does not serve alone for a moment");
    server.set("a.prod", found(60, &["10.0.0.1"]));
    first(&mut watched).await;
    shown(&namers, &mut watched, &srv(), &["10.0.0.1:1", "10.0.0.2:1 (tier 1)"]).await;
}

#[tokio::test]
async fn records_of_no_weight_share_alike() {
    let server = Server::start().await;
    server.set(SERVICE, services(60, &[(0, 0, 1, "a.prod."), (0, 0, 1, "b.prod.")]));
    server.set("a.prod", found(60, &["10.0.0.1"]));
    server.set("b.prod", found(60, &["10.0.0.2"]));
    let mut watched = namers(settings(&server)).watch(&srv());
    let Addrs::Bound(all) = first(&mut watched).await else { panic!("not bound") };
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].weight, all[1].weight);
}

#[tokio::test]
async fn a_service_as_consul_has_it_follows_its_nodes() {
    let server = Server::start().await;
    for (node, ip) in [("0a000001", "10.0.0.1"), ("0a000002", "10.0.0.2"), ("0a000003", "10.0.0.3")] {
        server.set(&format!("{node}.addr.dc1.consul"), found(0, &[ip]));
    }
    let (name, redis) = ("_redis._tcp.service.consul", bound("/#/srv/_redis._tcp.service.consul"));
    let old = [(1, 1, 6379, "0a000001.addr.dc1.consul."), (1, 1, 6380, "0a000002.addr.dc1.consul.")];
    server.set(name, services(0, &old));
    let namers = namers(settings(&server));
    let mut watched = namers.watch(&redis);
    shown(&namers, &mut watched, &redis, &["10.0.0.1:6379 (tier 1)", "10.0.0.2:6380 (tier 1)"]).await;
    let new = [(1, 1, 6380, "0a000002.addr.dc1.consul."), (1, 1, 6381, "0a000003.addr.dc1.consul.")];
    server.set(name, services(0, &new));
    shown(&namers, &mut watched, &redis, &["10.0.0.2:6380 (tier 1)", "10.0.0.3:6381 (tier 1)"]).await;
}

#[tokio::test]
async fn a_headless_service_as_kubernetes_has_it_is_its_pods_by_srv_and_by_address() {
    let server = Server::start().await;
    let pods = [
        (0, 50, 4143, "3963343.echo.default.svc.cluster.local."),
        (0, 50, 4143, "6135.echo.default.svc.cluster.local."),
    ];
    server.set("_adit._tcp.echo.default.svc.cluster.local", services(5, &pods));
    server.set("3963343.echo.default.svc.cluster.local", found(5, &["10.1.0.1"]));
    server.set("6135.echo.default.svc.cluster.local", found(5, &["10.1.0.2"]));
    server.set("echo.default.svc.cluster.local", found(5, &["10.1.0.2", "10.1.0.1"]));
    let namers = namers(settings(&server));
    let by_srv = bound("/#/srv/_adit._tcp.echo.default.svc.cluster.local");
    let mut watched = namers.watch(&by_srv);
    shown(&namers, &mut watched, &by_srv, &["10.1.0.1:4143 * 50", "10.1.0.2:4143 * 50"]).await;
    let mut watched = namers.watch(&bound("/#/dns/echo.default.svc.cluster.local/4143"));
    assert_eq!(first(&mut watched).await, addresses(&["10.1.0.1:4143", "10.1.0.2:4143"]));
}

#[tokio::test]
async fn two_ports_of_one_host_rest_on_one_question() {
    let server = Server::start().await;
    server.set(HOST, found(60, &["10.0.0.1"]));
    let namers = namers(settings(&server));
    for port in 1..=50 {
        let mut watched = namers.watch(&bound(&format!("/#/dns/{HOST}/{port}")));
        assert_eq!(first(&mut watched).await, addresses(&[&format!("10.0.0.1:{port}")]));
    }
    assert_eq!(server.asked(HOST, RecordType::A), 1);
}

#[tokio::test]
async fn a_service_of_thousands_of_records_is_cut_and_says_so() {
    let server = Server::start().await;
    let records: Vec<_> = (1..=1300).map(|port| (0, 1, port, "a.")).collect();
    server.set(SERVICE, services(60, &records));
    server.set("a", found(60, &["10.0.0.1"]));
    let namers = namers(settings(&server));
    let mut watched = namers.watch(&srv());
    let all = match first(&mut watched).await {
        Addrs::Bound(all) => all,
        other => panic!("{other:?}"),
    };
    assert_eq!(all.len(), 1024);
    assert!(server.asked_by_tcp() > 0);
    assert_eq!(namers.known(srv().path()).map(|status| status.left_out), Some(276));
}

#[tokio::test]
async fn no_such_name_is_believed_for_as_long_as_the_soa_says() {
    let server = Server::start().await;
    server.set(HOST, Reply::Gone(3));
    let namers = namers(Settings { negative_ttl: Duration::from_secs(300), ..settings(&server) });
    let mut watched = namers.watch(&redis());
    assert_eq!(first(&mut watched).await, Addrs::Neg);
    let next = namers.known(redis().path()).and_then(|status| status.next_ms).expect("a look-up to come");
    assert!((1..=2_700).contains(&next), "{next} ms");
}

#[tokio::test]
async fn a_zone_is_asked_of_its_own_servers_and_other_settings_ask_anew() {
    let (general, consul, other) = (Server::start().await, Server::start().await, Server::start().await);
    let zone = |name: &str, server: &Server| Zone { name: name.into(), servers: vec![server.address] };
    let zones = vec![zone("consul", &other), zone("service.consul", &consul)];
    general.set(HOST, found(60, &["10.0.0.1"]));
    consul.set("redis.service.consul", found(60, &["10.0.0.2"]));
    let namers = namers(Settings { zones, ..settings(&general) });
    let (mut one, mut two) = (namers.watch(&redis()), namers.watch(&bound("/#/dns/redis.service.consul/1")));
    assert_eq!(first(&mut one).await, addresses(&["10.0.0.1:4143"]));
    assert_eq!(first(&mut two).await, addresses(&["10.0.0.2:1"]));
    // when other servers are set, then what was known stays until they have answered
    other.set("redis.service.consul", found(60, &["10.0.0.3"]));
    namers.reload(Settings { zones: vec![zone("consul", &other)], ..settings(&general) });
    assert_eq!(*two.borrow_and_update(), addresses(&["10.0.0.2:1"]));
    until(&mut two, |addrs| *addrs == addresses(&["10.0.0.3:1"])).await;
}

/// Namers with files, quick to see a change.
fn with_files(server: &Server, folder: &std::path::Path) -> Namers {
    namers(Settings { folder: folder.to_owned(), look: Duration::from_millis(20), ..settings(server) })
}

#[tokio::test]
async fn a_file_says_where_a_name_leads_until_it_is_gone() {
    let (server, folder) = (Server::start().await, tempfile::tempdir().unwrap());
    server.set(HOST, found(60, &["10.0.0.9"]));
    let (namers, web) = (with_files(&server, folder.path()), bound("/#/fs/web"));
    let mut watched = namers.watch(&web);
    assert_eq!(first(&mut watched).await, Addrs::Neg);
    let write = |text: &str| {
        std::fs::write(folder.path().join("new"), text).unwrap();
        std::fs::rename(folder.path().join("new"), folder.path().join("web")).unwrap();
    };
    write(&format!(
        "10.0.0.1 1
{HOST} 4143 * 9
"
    ));
    shown(&namers, &mut watched, &web, &["10.0.0.1:1", "10.0.0.9:4143 * 9"]).await;
    write(
        "10.0.0.1 one
10.0.0.2 2
10.0.0.3",
    );
    shown(&namers, &mut watched, &web, &["10.0.0.2:2"]).await;
    let bad = namers.known(web.path()).unwrap().bad_lines;
    assert!(bad.len() == 2 && bad[0].starts_with("line 1: 'one'") && bad[1].starts_with("line 3: "), "{bad:?}");
    assert_eq!(namers.answers().bad_lines, 2);
    // a file that cannot be understood at all keeps what it said, and says why
    write("half a li");
    eventually(|| namers.known(web.path()).unwrap().last_error.is_some()).await;
    shown(&namers, &mut watched, &web, &["10.0.0.2:2"]).await;
    std::fs::remove_file(folder.path().join("web")).unwrap();
    until(&mut watched, |addrs| *addrs == Addrs::Neg).await;
}
