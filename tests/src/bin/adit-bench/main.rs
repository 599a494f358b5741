//! Side by side: adit against a HAProxy pair and a stunnel pair (plain, mutual TLS 1.3, plain; ECDSA P-256; loopback),
//! interleaved, medians; the CPU of both processes of a pair is counted, that of the load is not.
//!
//! `adit-bench [ROUNDS] [bulk|short|small]` prints a table for each kind of load, or for one; `adit-bench programs
//! [ROUNDS]` those of redis-benchmark and pgbench, direct and through; `adit-bench capture [ROUNDS]` sets connections that
//! netfilter captures beside those to a listener, between two network namespaces; `adit-bench idle [STREAMS]` prints what idle
//! streams cost in memory; `adit-bench upgrade [ROUNDS]` counts what upgrades and reloads cost under load, which is to be
//! nothing. Nothing else should run meanwhile.

mod capture;
mod load;
mod pairs;
mod programs;
mod upgrade;

use std::{collections::BTreeMap, env, fs, process::ExitCode, time::Duration};

use adit_tests::{
    load::{Load, Service},
    wait::until_still,
};
use load::Kind;
use pairs::{Pair, Setup};

/// Every pair does each load so often, unless told.
const ROUNDS: usize = 5;
/// Rounds of upgrades and reloads, unless told.
const UPGRADES: usize = 50;
/// Idle streams, unless told.
const IDLE: usize = 9000;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["idle"] => idle(IDLE),
        ["idle", streams] => idle(streams.parse().expect("a number of streams")),
        ["upgrade"] => return upgrades(UPGRADES),
        ["upgrade", rounds] => return upgrades(rounds.parse().expect("a number of rounds")),
        [] => compare(ROUNDS, ""),
        ["programs"] => programs(ROUNDS),
        ["programs", rounds] => programs(rounds.parse().expect("a number of rounds")),
        ["capture"] => capture::compare(ROUNDS),
        ["capture", rounds] => capture::compare(rounds.parse().expect("a number of rounds")),
        [rounds] => compare(rounds.parse().expect("a number of rounds"), ""),
        [rounds, kind] => compare(rounds.parse().expect("a number of rounds"), kind),
        _ => {
            eprintln!(
                "adit-bench [ROUNDS] [bulk|short|small] | programs [ROUNDS] | capture [ROUNDS] | idle [STREAMS] | upgrade [ROUNDS]"
            );
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn upgrades(rounds: usize) -> ExitCode {
    if upgrade::run(rounds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One run of one load over one pair.
#[derive(Clone, Copy)]
struct Figures {
    /// Units of work a second of wall time.
    rate: f64,
    /// CPU of both processes for each unit, in seconds.
    cpu: f64,
    /// The same of the whole machine: of the load, the service, and what the kernel does for all of them.
    machine: f64,
}

/// Every load whose name holds `which`, over every pair.
fn compare(rounds: usize, which: &str) {
    let services = load::Services::start();
    let setup = Setup::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.name().contains(which)) {
        let pairs = setup.pairs(services.address(kind));
        interleave(&kind.title(), kind.units(), &pairs, rounds, |pair| load::run(kind, pair.front()));
    }
}

/// Real programs against real servers, direct and through adit.
fn programs(rounds: usize) {
    let servers = programs::Servers::start();
    let setup = Setup::new();
    for program in programs::Program::ALL {
        let pairs = setup.direct_and_adit(&servers.address(program));
        interleave(program.title(), program.units(), &pairs, rounds, |pair| program.run(pair.front()));
    }
}

/// What the figures of one kind of load are told in.
#[derive(Clone, Copy)]
struct Units {
    /// The rate is divided by this, and is then this.
    rate: (f64, &'static str),
    /// The CPU seconds of one unit of work are multiplied by this, and are then this.
    cpu: (f64, &'static str),
}

/// Does one kind of load over each pair in turn, round by round, and prints the table. `run` returns the units of work
/// done, and how long they took.
fn interleave(title: &str, units: Units, pairs: &[Pair], rounds: usize, mut run: impl FnMut(&Pair) -> (f64, Duration)) {
    let mut all: BTreeMap<usize, Vec<Figures>> = BTreeMap::new();
    for round in 0..=rounds {
        for (index, pair) in pairs.iter().enumerate() {
            let before = (pair.cpu(), pairs::machine());
            let (done, took) = run(pair);
            let (cpu, machine) = (pair.cpu().saturating_sub(before.0), pairs::machine().saturating_sub(before.1));
            // The first round warms up, and is not counted.
            if round > 0 {
                let (cpu, machine) = (cpu.as_secs_f64() / done, machine.as_secs_f64() / done);
                let figures = Figures { rate: done / took.as_secs_f64(), cpu, machine };
                all.entry(index).or_default().push(figures);
            }
        }
    }
    print_table(title, units, pairs, &all);
}

fn print_table(title: &str, units: Units, pairs: &[Pair], all: &BTreeMap<usize, Vec<Figures>>) {
    let Units { rate: (rate, rate_unit), cpu: (cpu, cpu_unit) } = units;
    println!("\n{title}");
    println!("  {:<22} {:>14} {:>22} {:>16} {:>16}", "", rate_unit, "(least to most)", cpu_unit, "of the machine");
    for (index, pair) in pairs.iter().enumerate() {
        let rates = sorted(all[&index].iter().map(|figures| figures.rate / rate));
        let cpus = sorted(all[&index].iter().map(|figures| figures.cpu * cpu));
        let machines = sorted(all[&index].iter().map(|figures| figures.machine * cpu));
        let spread = format!("({:.0} to {:.0})", rates[0], rates[rates.len() - 1]);
        let middle = rates.len() / 2;
        let (rate, cpu, machine) = (rates[middle], cpus[middle], machines[middle]);
        println!("  {:<22} {rate:>14.0} {spread:>22} {cpu:>16.2} {machine:>16.2}", pair.name());
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// What idle streams cost: Pss of each agent before, with the streams idle after a burst on each, and after their end.
fn idle(streams: usize) {
    let echo = Service::start(adit_tests::address::Wire::Tcp, "echo");
    let setup = Setup::new();
    // Tunnels idle for a second only, so that the end shows what comes back when nothing is left.
    let limits = format!("tunnels_per_peer = {}\ntunnel_idle_dialer = \"1s\"\n", streams + 100);
    let pair = setup.adit("adit", echo.address(), "", &limits);
    let before = pss(&pair);
    let mut crowd = Load::start(&["idle", &pair.front().to_string(), &streams.to_string()]);
    crowd.until("open", Duration::from_secs(300));
    crowd.say("a burst on each");
    crowd.until("alive", Duration::from_secs(300));
    let with = pss(&pair);
    drop(crowd);
    let after = until_still("their memory", Duration::from_secs(7), || pss(&pair));
    println!("idle streams: {streams}");
    for (((name, before), (_, with)), (_, after)) in before.iter().zip(&with).zip(&after) {
        #[allow(clippy::cast_precision_loss, reason = "kibibytes of a process")]
        let each = (with - before) as f64 / streams as f64;
        println!(
            "  {name:<10} Pss {before:>8} KiB before, {with:>8} KiB with them, {after:>8} KiB after: {each:.2} KiB a stream"
        );
    }
}

fn pss(pair: &Pair) -> Vec<(String, i64)> {
    pair.processes()
        .map(|(name, pid)| {
            let smaps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process lives");
            let line = smaps.lines().find(|line| line.starts_with("Pss:")).expect("smaps_rollup has Pss");
            let number = line.split_whitespace().nth(1).and_then(|text| text.parse().ok());
            (name.to_owned(), number.expect("Pss is a number"))
        })
        .collect()
}
