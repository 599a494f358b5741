//! Real programs with benchmarks of their own: redis-benchmark against Redis, pgbench against PostgreSQL.

use std::time::{Duration, Instant};

use adit_tests::{
    address::{Address, Wire},
    postgres::{self, Postgres},
    process,
    redis::{Redis, benchmark},
};

use crate::Units;

const LIMIT: Duration = Duration::from_secs(120);

/// A program and how it is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    RedisPipelined,
    RedisFresh,
    PgbenchKept,
    PgbenchFresh,
}

/// The servers they are used on.
pub(crate) struct Servers {
    redis: Redis,
    postgres: Postgres,
}

impl Servers {
    pub(crate) fn start() -> Self {
        let servers = Self { redis: Redis::start(), postgres: Postgres::start() };
        let mut fill = postgres::client("pgbench", &servers.postgres.address(Wire::Tcp));
        let _ = process::run(fill.args(["-i", "-q", "-s", "10", "postgres"]), LIMIT).expect_success();
        servers
    }

    pub(crate) fn address(&self, program: Program) -> Address {
        match program {
            Program::RedisPipelined | Program::RedisFresh => self.redis.address(Wire::Tcp),
            Program::PgbenchKept | Program::PgbenchFresh => self.postgres.address(Wire::Tcp),
        }
    }
}

impl Program {
    pub(crate) const ALL: [Self; 4] = [Self::RedisPipelined, Self::RedisFresh, Self::PgbenchKept, Self::PgbenchFresh];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::RedisPipelined => "redis-benchmark -t set -c 50 -P 16 -n 1000000",
            Self::RedisFresh => "redis-benchmark -t set -c 20 -k 0 -n 10000: a connection per command",
            Self::PgbenchKept => "pgbench -S -c 8 -T 4",
            Self::PgbenchFresh => "pgbench -S -c 8 -C -T 4: a connection per transaction",
        }
    }

    pub(crate) fn units(self) -> Units {
        let rate = match self {
            Self::RedisPipelined | Self::RedisFresh => "commands/s",
            Self::PgbenchKept | Self::PgbenchFresh => "transactions/s",
        };
        Units { rate: (1.0, rate), cpu: (1e6, "CPU us each") }
    }

    /// Runs it; how much it did by its own count, in the time that its own rate makes of it.
    pub(crate) fn run(self, front: &Address) -> (f64, Duration) {
        match self {
            Self::RedisPipelined => redis(front, &["-c", "50", "-P", "16"], 1_000_000),
            Self::RedisFresh => redis(front, &["-c", "20", "-k", "0"], 10_000),
            Self::PgbenchKept => pgbench(front, &["-S", "-c", "8", "-T", "4"]),
            Self::PgbenchFresh => pgbench(front, &["-S", "-c", "8", "-C", "-T", "4"]),
        }
    }
}

fn redis(front: &Address, options: &[&str], count: u32) -> (f64, Duration) {
    let mut command = benchmark(front);
    command.args(options).args(["-n", &count.to_string()]);
    let report = process::run(&mut command, LIMIT).expect_success();
    let line = report.lines().find_map(|line| line.strip_prefix("\"SET\",\"")).expect("it reports its SETs");
    let rate: f64 = line.split('"').next().and_then(|rate| rate.parse().ok()).expect("a rate is a number");
    (f64::from(count), Duration::from_secs_f64(f64::from(count) / rate))
}

fn pgbench(front: &Address, options: &[&str]) -> (f64, Duration) {
    let mut command = postgres::client("pgbench", front);
    let began = Instant::now();
    let report = process::run(command.arg("-n").args(options).arg("postgres"), LIMIT).expect_success();
    let done = report
        .lines()
        .find_map(|line| line.strip_prefix("number of transactions actually processed: ")?.trim().parse::<f64>().ok())
        .expect("pgbench tells how many transactions it processed");
    (done, began.elapsed())
}
