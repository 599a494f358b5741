//! An agent that is upgraded on the machines where it runs, under the unit that the package brings, while applications work:
//! none of them may notice.

use std::{path::Path, time::Duration};

use adit_tests::{
    machine::{self, Machine, package},
    need_that,
    netns::{B, Hosts},
    process::Program,
    wait::until,
};
use serde_json::Value;

use super::furnish::{Redis, VERSIONS, boot, furnish, main_pid, property, serve_postgres};

/// How long a round may take, or an agent's last stream to be seen as gone, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The file that ends the applications' rounds, and what they write after each.
const OVER: &str = "/run/over";
const ROUND: &str = "round done";

/// Redis: many commands over a few streams, and a stream for each command.
const REDIS: &str = "redis-benchmark -h 10.77.0.2 -q -c 10 -n 4000 -t set,get && \
    redis-benchmark -h 10.77.0.2 -q -c 4 -n 200 -k 0 -t set";

/// PostgreSQL: the same, in transactions.
const POSTGRES: &str = "pgbench -h 10.77.0.2 -U postgres -n -c 4 -t 100 postgres && \
    pgbench -h 10.77.0.2 -U postgres -n -c 2 -t 20 -C postgres";

#[test]
fn upgrades_of_the_package_are_noticed_by_no_client_of_redis_and_postgres() {
    need_that!(machine::missing().is_none(), machine::missing().unwrap());
    // given two machines, and on A applications that use Redis and PostgreSQL on B all the time, one over a stream of old
    let hosts = Hosts::join();
    let (a, b) = boot(&hosts);
    serve_postgres(&b);
    furnish(&a, &b);
    a.shell(&format!("pgbench -h {B} -U postgres -i -q postgres"));
    let mut old = Redis::connect(&hosts);
    old.serves();
    let dir = tempfile::tempdir().unwrap();
    let mut work = [Work::start(&a, "redis", REDIS, dir.path()), Work::start(&a, "postgres", POSTGRES, dir.path())];
    // when each machine gets the package's next version, and hands over several times more
    for machine in [&b, &a] {
        upgraded(machine, &mut work, || drop(machine.install(&package(VERSIONS[1]))));
        assert_eq!(machine.shell("dpkg-query --show --showformat '${Version}' adit"), VERSIONS[1]);
        for _ in 0..3 {
            upgraded(machine, &mut work, || drop(machine.shell("adit upgrade && systemctl reload adit.service")));
        }
        // then the stream of old is still that of the agent before
        let status: Value = serde_json::from_str(&machine.shell("adit status --json")).unwrap();
        let live: u64 =
            status["predecessors"].as_array().unwrap().iter().filter_map(|one| one["streams_live"].as_u64()).sum();
        assert_eq!(live, 1, "{status}");
        let told = property(machine, "StatusText");
        assert!(told.contains("1 predecessor"), "{told}");
        old.serves();
    }
    // then no application has met an error
    for work in work {
        work.end(&a);
    }
    // and the agents before leave with their streams, which fails nothing
    drop(old);
    for machine in [&a, &b] {
        until("the agents before to leave", LIMIT, || (agents(machine) == [main_pid(machine)]).then_some(()));
        assert_eq!(property(machine, "NRestarts"), "0");
        assert_eq!(property(machine, "Result"), "success");
        assert_eq!(machine.shell("systemctl --failed --no-legend"), "");
    }
}

/// Hands over to another process, which is to run what the package's file holds now, and waits until each application has
/// worked a whole round after it.
fn upgraded(machine: &Machine<'_>, work: &mut [Work], hand_over: impl FnOnce()) {
    let before = main_pid(machine);
    hand_over();
    let after = main_pid(machine);
    assert_ne!(after, before, "{}", machine.journal("adit.service"));
    assert_eq!(machine.shell(&format!("readlink /proc/{after}/exe")), "/usr/bin/adit");
    assert_eq!(property(machine, "ActiveState"), "active");
    for work in work {
        work.until_more_rounds(2);
    }
}

/// The processes of the agent that run.
fn agents(machine: &Machine<'_>) -> Vec<String> {
    machine.shell("pgrep --exact adit").lines().map(str::to_owned).collect()
}

/// An application on a machine: rounds of commands, until it is told to end or one fails.
struct Work {
    name: &'static str,
    program: Program,
}

impl Work {
    fn start(machine: &Machine<'_>, name: &'static str, round: &str, dir: &Path) -> Self {
        let line = format!("until [ -e {OVER} ]; do {round} || exit 1; echo {ROUND}; done");
        let program = machine.start(name, &["sh", "-c", &line], &dir.join(name));
        let mut work = Self { name, program };
        work.until_more_rounds(1);
        work
    }

    fn rounds(&self) -> usize {
        self.program.log().lines().filter(|line| *line == ROUND).count()
    }

    fn until_more_rounds(&mut self, more: usize) {
        let enough = self.rounds() + more;
        until("an application's next round", LIMIT, || {
            assert!(self.program.has_ended().is_none(), "{} failed:\n{}", self.name, self.program.log());
            (self.rounds() >= enough).then_some(())
        });
    }

    fn end(mut self, machine: &Machine<'_>) {
        machine.write(OVER, "");
        let status = self.program.wait(LIMIT);
        let said = self.program.log();
        assert!(status.success(), "{}: {status}\n{said}", self.name);
        let failed = said.lines().filter(|line| line.contains("failed transactions") && !line.contains(": 0 ("));
        assert_eq!(failed.collect::<Vec<_>>(), [""; 0]);
        println!("{}: {} rounds, none failed", self.name, self.rounds());
    }
}
