//! An agent that dies or hangs on the machine where it runs: systemd starts it again, and whoever comes meanwhile waits and
//! is served.

use std::time::Duration;

use adit_tests::{
    machine::{self, Machine},
    need, need_that,
    netns::Hosts,
    stopped::Stopped,
    wait::until,
};

use super::furnish::{Redis, boot, furnish, main_pid, property};

/// How long systemd may take to see it and to start another, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Time between an end and the next start, in which nobody is there; the shipped unit waits half a second.
const AWAY: &str = "[Service]\nRestartSec=3s\n";

#[test]
fn whoever_comes_while_a_killed_agent_is_away_is_served_by_the_one_that_systemd_starts() {
    need_that!(machine::missing().is_none(), machine::missing().unwrap());
    let hosts = Hosts::join();
    let (a, b) = pair(&hosts, AWAY);
    // when the agent of either is killed, be it the only one or one that has a predecessor
    for machine in [&a, &b] {
        for upgrades in [false, true] {
            let old = Redis::connect(&hosts);
            if upgrades {
                machine.shell("adit upgrade");
            }
            let (dead, restarts) = (main_pid(machine), restarts(machine));
            machine.shell(&format!("kill -9 {dead}"));
            // then who comes before systemd starts the next is let in, and served by that one
            let mut waiting: Vec<_> = (0..8).map(|_| Redis::connect(&hosts)).collect();
            assert_eq!(property(machine, "SubState"), "auto-restart", "all of them came while nobody was there");
            waiting.iter_mut().for_each(Redis::serves);
            assert_ne!(main_pid(machine), dead);
            assert_eq!(self::restarts(machine), restarts + 1);
            drop(old);
        }
    }
}

#[test]
fn nobody_is_refused_while_an_agent_whose_sockets_systemd_binds_is_stopped_or_restarted() {
    need_that!(machine::missing().is_none(), machine::missing().unwrap());
    let hosts = Hosts::join();
    let (a, _b) = pair(&hosts, "");
    // given A with its one door from adit.socket
    let folder = "/etc/systemd/system/adit.socket.d";
    a.shell(&format!("mkdir {folder}"));
    a.write(&format!("{folder}/here.conf"), "[Socket]\nListenStream=\nListenStream=127.0.0.1:4140\n");
    a.shell("systemctl stop adit.service && systemctl daemon-reload && systemctl enable --now adit.socket");
    // when nobody runs, then who comes has systemd start the agent
    assert_eq!(property(&a, "ActiveState"), "inactive");
    Redis::connect(&hosts).serves();
    assert_eq!(property(&a, "ActiveState"), "active");
    // when it is restarted, with a stream that it waits for, then nobody is refused before, meanwhile or after
    let (before, old) = (main_pid(&a), Redis::connect(&hosts));
    a.shell("systemctl restart --no-block adit.service");
    let mut waiting = vec![Redis::connect(&hosts)];
    drop(old);
    until("the agent to be another one", LIMIT, || {
        waiting.push(Redis::connect(&hosts));
        let now = main_pid(&a);
        (now != before && now != "0").then_some(())
    });
    waiting.iter_mut().for_each(Redis::serves);
    // and one that is killed is started again, with all who came
    a.shell(&format!("kill -9 {}", main_pid(&a)));
    Redis::connect(&hosts).serves();
    assert_eq!(restarts(&a), 1);
}

#[test]
fn an_agent_with_threads_that_hang_is_started_again() {
    need!("python3");
    need_that!(machine::missing().is_none(), machine::missing().unwrap());
    let hosts = Hosts::join();
    let (a, _b) = pair(&hosts, "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n");
    for (count, threads) in ["tokio-rt-worker", "admin"].into_iter().enumerate() {
        let hung = main_pid(&a);
        let _stopped = Stopped::of(&a.pid_outside(&hung), threads);
        until("systemd to start another", LIMIT, || {
            let now = main_pid(&a);
            (now != hung && now != "0" && property(&a, "ActiveState") == "active").then_some(())
        });
        assert_eq!(restarts(&a), count + 1);
        let journal = a.journal("adit.service");
        assert_eq!(journal.matches("Watchdog timeout").count(), count + 1, "{journal}");
        Redis::connect(&hosts).serves();
    }
}

/// Two machines with Redis on B, captured, and a drop-in for both agents' unit.
fn pair<'a>(hosts: &'a Hosts, drop_in: &str) -> (Machine<'a>, Machine<'a>) {
    let (a, b) = boot(hosts);
    for machine in [&a, &b] {
        machine.shell("mkdir --parents /etc/systemd/system/adit.service.d");
        machine.write("/etc/systemd/system/adit.service.d/here.conf", drop_in);
    }
    furnish(&a, &b);
    (a, b)
}

fn restarts(machine: &Machine<'_>) -> usize {
    property(machine, "NRestarts").parse().expect("systemd counts")
}
