//! What naming promises, against a DNS server that answers, refuses, changes and falls silent.

use super::server::{Reply, Server, found};
use super::*;
use adit_protocol::Name;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;

const HOST: &str = "redis.prod.internal";

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
    let status = namers.status().remove(0);
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
