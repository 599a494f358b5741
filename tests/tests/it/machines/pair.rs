//! Two machines with the package, credentials and rules: an application on one reaches a service on the other at the
//! address it always had, and a machine that boots anew does what it did.

use std::{fs, path::Path};

use adit_tests::{
    agent::adit,
    machine::{self, Debian, Machine, package},
    need_that,
    netns::{A, B, Host, Hosts},
};

/// What both machines' files begin with.
const FILE: &str = r#"
[tls]
ca = "/etc/adit/tls/ca.pem"
cert = "/etc/adit/tls/host.pem"
key = "/etc/adit/tls/host.key"

[admin]
socket = "/run/adit/admin.sock"

[netfilter]
user = "adit"
"#;

/// The machine of the applications.
const FILE_OF_A: &str = r#"
[outbound]
dtab = "/dst/{ip}/{port} => /$/inet/{ip}/4143"

[[outbound.peer]]
name = "/dst/{ip}/{port}"
identity = "ip:{ip}"

[outbound.redirect]
listen = "127.0.0.1:4140"

[[outbound.redirect.include]]
net = "10.77.0.0/24"
port = [5432, 6379]
"#;

/// The machine of the services, which nobody reaches around the agent.
const FILE_OF_B: &str = r#"
[inbound]
listen = "10.77.0.2:4143"
strict = true

[[inbound.capture]]
ports = [5432, 6379]
allow = ["ip:10.77.0.1"]
"#;

/// How an application gets to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Road {
    Direct,
    Captured,
}

#[test]
fn redis_runs_between_two_machines_and_after_a_reboot() {
    need_that!(machine::missing().is_none(), machine::missing().unwrap());
    // given two machines, and Redis on B, which starts when B does
    let hosts = Hosts::join();
    let a = Machine::boot(Debian::Bookworm, &hosts, Host::A);
    let mut b = Machine::boot(Debian::Bookworm, &hosts, Host::B);
    b.shell("printf 'bind 10.77.0.2\\nprotected-mode no\\n' >>/etc/redis/redis.conf");
    b.shell("systemctl enable --now redis-server.service");
    // when there is no agent, then it works, and a bystander reads along
    redis_works(&hosts, &a, Road::Direct);
    // when both have the package, their credentials and their rules, then it works, unaware, and nobody reads along
    furnish(&a, &b);
    redis_works(&hosts, &a, Road::Captured);
    // when B boots anew, then all of it is there again
    b.reboot();
    for unit in ["adit.service", "adit-redirect.service", "redis-server.service"] {
        assert_eq!(b.shell(&format!("systemctl is-active {unit}")), "active");
    }
    redis_works(&hosts, &a, Road::Captured);
    // and B lets nobody else at Redis
    let around = hosts.say(Host::C, &["redis-cli", "-h", B, "-t", "2", "ping"]);
    assert!(!around.all().contains("PONG"), "{}", around.all());
}

/// Installs the package on both, and what an operator brings: credentials made elsewhere, a file, the rules.
fn furnish(a: &Machine<'_>, b: &Machine<'_>) {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca");
    let ca = ca.to_str().unwrap();
    let _ = adit(&["ca", "init", "--dir", ca]).expect_success();
    let package = package("0.1.0-1");
    for (machine, name, ip, file) in [(a, "a", A, FILE_OF_A), (b, "b", B, FILE_OF_B)] {
        let pair = dir.path().join(name);
        let issue = ["ca", "issue", "--dir", ca, "--dns", &format!("{name}.prod.internal"), "--ip", ip, "--out"];
        let _ = adit(&[&issue[..], &[pair.to_str().unwrap()]].concat()).expect_success();
        machine.install(&package);
        for (from, to) in [
            ("ca/ca.pem".to_owned(), "ca.pem"),
            (format!("{name}.pem"), "host.pem"),
            (format!("{name}.key"), "host.key"),
        ] {
            bring(machine, &dir.path().join(from), &format!("/etc/adit/tls/{to}"));
        }
        machine.write("/etc/adit/adit.toml", format!("{FILE}{file}"));
        machine.shell("systemctl restart adit.service && systemctl enable --now adit-redirect.service");
    }
}

fn bring(machine: &Machine<'_>, file: &Path, to: &str) {
    machine.write(to, fs::read(file).unwrap());
}

/// Writes and reads a key at B's plain address, and looks which way it went.
fn redis_works(hosts: &Hosts, a: &Machine<'_>, road: Road) {
    let secret = format!("what {road:?} carries");
    let heard = hosts.listen();
    let streams = carried(a);
    assert_eq!(a.shell(&format!("redis-cli -h {B} set account '{secret}'")), "OK");
    assert_eq!(a.shell(&format!("redis-cli -h {B} get account")), secret);
    assert_eq!(heard.holds(&secret), road == Road::Direct);
    let expected = if road == Road::Captured { streams + 2 } else { streams };
    assert_eq!(carried(a), expected, "{}", a.journal("adit.service"));
}

/// How many streams to Redis the agent has recorded.
fn carried(a: &Machine<'_>) -> usize {
    let journal = a.journal("adit.service");
    journal.lines().filter(|line| line.contains("stream closed") && line.contains("name=/dst/10.77.0.2/6379")).count()
}
