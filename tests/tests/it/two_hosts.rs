//! The README's own two hosts: two network namespaces, the files a reader would copy, and real programs between them.

use std::{fs, path::Path, time::Duration};

use adit_tests::{
    address::Address,
    agent::Agent,
    authority::{Authority, Credential, Leaf},
    load::{Load, Service},
    need, need_that,
    netns::{B, Host, Hosts, inside},
    postgres::{self, Postgres},
    process::run,
    readme,
    redis::{Redis, benchmark},
    skip::is_root,
};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);

/// Where the README keeps certificates; a test keeps them in its own folder.
const TLS: &str = "/etc/adit/tls";

#[test]
fn the_two_namespaces_reach_each_other() {
    need!("ip");
    need_that!(is_root(), "only root makes namespaces");
    // given two hosts, and an echo service on B
    let hosts = Hosts::join();
    let echo = Service::start_inside(&hosts.enter(Host::B), "echo", &format!("{B}:0"));
    // when A calls it
    let mut storm = Load::start_inside(&hosts.enter(Host::A), &["storm", &echo.address().to_string(), "100", "4"]);
    // then it answers
    assert_eq!(storm.until("done", LIMIT)["answered"], 100);
}

#[test]
fn redis_and_postgres_run_between_the_readmes_two_hosts() {
    need!("ip", "redis-server", "redis-benchmark", "setpriv");
    need_that!(postgres::is_installed(), "PostgreSQL is not installed");
    need_that!(is_root(), "only root makes namespaces");
    // given the README's two hosts, and on B the services that its file names
    let set = Setting::of_the_readme(A_IDENTITY);
    let (host, port) = set.service("/svc/redis");
    let redis = Redis::start_at(&set.hosts.enter(Host::B), &host, port).unwrap();
    let (host, port) = set.service("/svc/postgres");
    let _postgres = Postgres::start_at(&set.hosts.enter(Host::B), &host, port).unwrap();
    // when redis-benchmark runs on A, pipelined and with a connection per command
    let mut pipelined = benchmark(&set.front("/svc/redis"));
    pipelined.args(["-P", "16", "-c", "20", "-n", "100000"]);
    let mut fresh = benchmark(&set.front("/svc/redis"));
    // A namespace's client ports come back after a minute: far fewer connections than there are ports.
    fresh.args(["-k", "0", "-c", "10", "-n", "3000"]);
    for command in [pipelined, fresh] {
        let _ = run(&mut inside(&set.hosts.enter(Host::A), &command), LIMIT).expect_success();
    }
    // then Redis has run every command
    assert!(redis.calls("set") >= 103_000, "{}", redis.calls("set"));
    // and when pgbench fills a database and uses it, then no transaction is lost
    for options in [&["-i", "-q"][..], &["-c", "4", "-t", "100"], &["-c", "4", "-t", "25", "-C"]] {
        let mut command = postgres::client("pgbench", &set.front("/svc/postgres"));
        command.args(options).arg("postgres");
        let report = run(&mut inside(&set.hosts.enter(Host::A), &command), LIMIT).expect_success();
        assert!(!report.contains("failed transactions: 1"), "{report}");
    }
}

#[test]
fn an_identity_that_the_readmes_file_does_not_list_is_refused() {
    need!("ip", "redis-server", "redis-cli");
    need_that!(is_root(), "only root makes namespaces");
    // given the README's two hosts, where A shows a certificate of the same CA in another name
    let set = Setting::of_the_readme("stranger.prod.internal");
    let (host, port) = set.service("/svc/redis");
    let redis = Redis::start_at(&set.hosts.enter(Host::B), &host, port).unwrap();
    // when an application on A speaks to Redis
    let mut command = std::process::Command::new("redis-cli");
    let front = set.front("/svc/redis");
    command.args(["-h", "127.0.0.1", "-p", &front.port().to_string(), "set", "key", "value"]);
    let answer = run(&mut inside(&set.hosts.enter(Host::A), &command), LIMIT).all();
    // then it is cut off, Redis never hears of it, and A's log says who refused whom
    assert!(!answer.contains("OK"), "{answer}");
    assert_eq!(redis.calls("set"), 0);
    set.a.until_logged("denied");
    assert!(set.a.log().contains("stranger.prod.internal"), "{}", set.a.log());
}

/// The identity that the README issues to host A.
const A_IDENTITY: &str = "a.web.prod.internal";

/// The README's two hosts, running.
struct Setting {
    a: Agent,
    _b: Agent,
    a_file: String,
    b_file: String,
    hosts: Hosts,
    _dir: TempDir,
}

impl Setting {
    fn of_the_readme(a_identity: &str) -> Self {
        let text = readme::text();
        let (a_file, b_file) = (readme::file(&text, "host-a.toml"), readme::file(&text, "host-b.toml"));
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("the README's");
        // One certificate for B, of every identity its dialers expect.
        let expected = values(&a_file, "identity");
        let b_names: Vec<&str> = expected.iter().map(String::as_str).collect();
        let a = settle(dir.path(), "a", &a_file, &authority, &authority.issue(&Leaf::dns(&[a_identity])));
        let b = settle(dir.path(), "b", &b_file, &authority, &authority.issue(&Leaf::dns(&b_names)));
        let hosts = Hosts::join();
        let b = Agent::start_inside("host B", &b, &hosts.enter(Host::B));
        let a = Agent::start_inside("host A", &a, &hosts.enter(Host::A));
        Self { a, _b: b, a_file, b_file, hosts, _dir: dir }
    }

    /// Where A's file listens for the service of this name.
    fn front(&self, name: &str) -> Address {
        Address::parse(&value_beside(&self.a_file, "to", name, "listen"))
    }

    /// Where B's file says that the service of this name runs.
    fn service(&self, name: &str) -> (String, u16) {
        let to = value_beside(&self.b_file, "name", name, "to");
        let (host, port) = to.rsplit_once(':').unwrap();
        (host.to_owned(), port.parse().unwrap())
    }
}

/// Writes a host's folder: the README's file with its certificates where the test keeps them, and nothing else changed.
fn settle(mesh: &Path, host: &str, file: &str, authority: &Authority, credential: &Credential) -> std::path::PathBuf {
    let dir = mesh.join(host);
    fs::create_dir(&dir).unwrap();
    assert!(file.contains(TLS), "the README's {host} keeps its certificates in {TLS}");
    let file = file.replace(TLS, &dir.display().to_string()).replace("/run/adit/", &format!("{}/", dir.display()));
    for (key, text) in [("ca", authority.pem()), ("cert", &credential.cert), ("key", &credential.key)] {
        fs::write(&values(&file, key)[0], text).unwrap();
    }
    fs::write(dir.join("adit.toml"), file).unwrap();
    dir
}

/// Every `key = "value"` of a file, in order.
fn values(file: &str, key: &str) -> Vec<String> {
    let pairs = file.lines().filter_map(|line| line.split_once('='));
    let of_key = pairs.filter(|(name, _)| name.trim() == key);
    of_key.filter_map(|(_, value)| value.split('"').nth(1)).map(str::to_owned).collect()
}

/// The value of `wanted` in the table where `key` is `value`.
fn value_beside(file: &str, key: &str, value: &str, wanted: &str) -> String {
    let mut tables = file.split("\n[");
    let table = tables.find(|table| values(table, key).iter().any(|found| found == value));
    let table = table.unwrap_or_else(|| panic!("the README has no table with {key} = \"{value}\""));
    values(table, wanted).into_iter().next().unwrap_or_else(|| panic!("the table of {value} has no {wanted}"))
}
