//! Two machines with the package, credentials and rules: an application on one reaches a service on the other at the
//! address it always had, and a machine that boots anew does what it did.

use std::{collections::BTreeSet, time::Duration};

use adit_tests::{
    machine::{self, Machine},
    need_that,
    netns::{B, Host, Hosts},
    wait::{LIMIT, until},
};
use serde_json::Value;

use super::furnish::{boot, furnish};

/// How long it may take until a unit that tries every ten seconds has tried, on a busy machine.
const AGAIN: Duration = Duration::from_secs(60);

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
    let (a, mut b) = boot(&hosts);
    // when there is no agent, then it works, for anybody, and a bystander reads along
    assert!(pinged(&hosts).contains("PONG"));
    redis_works(&hosts, &a, &b, Road::Direct);
    // when both have the package, their credentials and their rules, then it works, unaware, and nobody reads along
    furnish(&a, &b);
    redis_works(&hosts, &a, &b, Road::Captured);
    // when B boots anew, then all of it is there again
    b.reboot();
    for unit in ["adit.service", "adit-redirect.service", "redis-server.service"] {
        assert_eq!(b.shell(&format!("systemctl is-active {unit}")), "active");
    }
    redis_works(&hosts, &a, &b, Road::Captured);
    // when B's file is wrong by the next boot, then its rules are those of before, and the unit says why
    b.shell("cp -a /etc/adit/adit.toml /root && echo nonsense >>/etc/adit/adit.toml");
    b.reboot();
    let state = || b.say(&["systemctl", "is-active", "adit-redirect.service"]).stdout.trim().to_owned();
    assert_eq!(state(), "activating");
    let why = || b.journal("adit-redirect.service");
    assert!(why().contains("installed instead are the rules of the last file that could be used"), "{}", why());
    // and B lets nobody else at Redis
    assert_eq!(b.shell("systemctl is-active redis-server.service"), "active");
    let around = || pinged(&hosts);
    assert!(around().contains("Connection refused"), "{}", around());
    // also after a firewall that begins anew, and once the file is right again by that one
    b.shell("nft flush ruleset");
    until("the rules to be there again", AGAIN, || around().contains("Connection refused").then_some(()));
    b.shell("cp -a /root/adit.toml /etc/adit");
    until("the unit to be content", AGAIN, || (state() == "active").then_some(()));
    redis_works(&hosts, &a, &b, Road::Captured);
}

/// What a host that has no agent hears from Redis on B.
fn pinged(hosts: &Hosts) -> String {
    hosts.say(Host::C, &["timeout", "5", "redis-cli", "-h", B, "ping"]).all()
}

/// Writes and reads a key at B's plain address, and looks which way it went.
fn redis_works(hosts: &Hosts, a: &Machine<'_>, b: &Machine<'_>, road: Road) {
    let secret = format!("what {road:?} carries");
    let heard = hosts.listen();
    let before = records(a);
    assert_eq!(a.shell(&format!("redis-cli -h {B} set account '{secret}'")), "OK");
    assert_eq!(a.shell(&format!("redis-cli -h {B} get account")), secret);
    assert_eq!(heard.holds(&secret), road == Road::Direct);
    if road == Road::Captured {
        // Each stream has a record on both hosts, and they have one id.
        let new = until("the records of both streams", LIMIT, || {
            let new = &records(a) - &before;
            (new.len() == 2).then_some(new)
        });
        until("B's records of the same", LIMIT, || records(b).is_superset(&new).then_some(()));
    }
}

/// The ids of the streams to Redis that are recorded in a machine's journal.
fn records(machine: &Machine<'_>) -> BTreeSet<String> {
    let fields = ["MESSAGE=stream closed", "ADIT_NAME=/dst/10.77.0.2/6379"];
    let journal =
        machine.say(&[&["journalctl", "--no-pager", "--output=json", "--unit=adit.service"], &fields[..]].concat());
    let entries = journal.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("an entry is JSON"));
    entries.map(|entry| entry["ADIT_STREAM"].as_str().expect("a record has its stream").to_owned()).collect()
}
