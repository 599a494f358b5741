//! The README's first command: it must do what it says on any machine, and leave nothing behind however it ends.

use std::{fs, path::Path, process::Command};

use adit_tests::{
    agent::binary,
    process::{Program, run},
    wait::{LIMIT, until},
};
use rustix::process::Signal;

/// As wide as a mail or an issue shows without breaking a line.
const WIDTH: usize = 76;

/// A report is short enough to be read.
const LINES: usize = 70;

/// What the demo claims. Each is printed only after it was seen to hold.
const CLAIMS: [&str; 15] = [
    "heard the server's answer",
    "each agent proved to the other who it is",
    "one stream id joins the records of both hosts",
    "it begins with the header of a TLS handshake record",
    "every byte of it is in one of",
    "what was agreed on could be read there",
    "the reference occurs nowhere in it",
    "the same recorder reads it at once when there is no adit",
    "agent B refused, and agent A's log says whom",
    "the application was reset",
    "the server never heard of it",
    "200 connections in a row, on recycled tunnels: no handshake",
    "bytes of it arrived, and the end after them",
    "both agents drained and exited with 0",
    "nothing is left of it on this host",
];

#[test]
fn the_demo_shows_what_it_claims_and_leaves_nothing() {
    // when it runs, with no program to be found but itself
    let dir = tempfile::tempdir().unwrap();
    let report = run(demo(dir.path()).env("PATH", ""), LIMIT).expect_success();
    // then every claim is in its report, once
    for claim in CLAIMS {
        assert_eq!(report.matches(claim).count(), 1, "`{claim}` in:\n{report}");
    }
    let held = report.lines().filter(|line| line.starts_with("   ok  ")).count();
    assert!(report.contains(&format!("All {held} claims held")), "{report}");
    // and so are the identities of both, the refusal's words, the agreed cipher, and numbers
    for fact in [
        "agent A met  db.demo.internal",
        "agent B met  web.demo.internal",
        "denied: rule 1 does",
        "Connection reset by peer",
        "TLS13_AES_256_GCM_SHA384, X25519MLKEM768",
        "16 03 01",
        " ms",
        "B/s",
    ] {
        assert!(report.contains(fact), "no `{fact}` in:\n{report}");
    }
    // and it is a page to be read
    assert!(report.lines().count() <= LINES, "{report}");
    assert!(report.lines().all(|line| line.chars().count() <= WIDTH), "{report}");
    assert_nothing_left(dir.path());
}

#[test]
fn a_demo_that_is_told_to_end_ends_its_agents_and_removes_its_folder() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (dir, mut demo, out) = running();
        demo.signal(signal);
        assert_eq!(demo.wait(LIMIT).code(), Some(1), "{}", out());
        assert!(out().contains("adit: demo: told to end"), "{}", out());
        assert_nothing_left(dir.path());
    }
}

#[test]
fn a_demo_that_is_killed_takes_its_agents_with_it() {
    let (dir, mut demo, _out) = running();
    demo.kill();
    until("its agents to be gone", LIMIT, || processes_of(dir.path()).is_empty().then_some(()));
}

#[test]
fn a_demo_without_a_folder_says_so_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(&mut demo(&dir.path().join("missing")), LIMIT);
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.starts_with("adit: demo: making a folder: "), "{}", ended.stderr);
}

/// A demo whose agents both run.
fn running() -> (tempfile::TempDir, Program, impl Fn() -> String) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let temp = dir.path().join("temp");
    fs::create_dir(&temp).unwrap();
    let mut demo = Program::start("adit demo", &mut demo(&temp), &log);
    let out = move || fs::read_to_string(&log).unwrap_or_default();
    demo.until_ready(|| (processes_of(dir.path()).len() == 2 && out().contains("4. ")).then_some(()));
    (dir, demo, out)
}

fn demo(temp: &Path) -> Command {
    let mut command = Command::new(binary());
    command.arg("demo").env("TMPDIR", temp);
    command
}

fn assert_nothing_left(dir: &Path) {
    let temp = if dir.join("temp").exists() { dir.join("temp") } else { dir.to_owned() };
    let left: Vec<_> = fs::read_dir(&temp).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?} is left");
    until("its agents to be gone", LIMIT, || processes_of(dir).is_empty().then_some(()));
}

/// The processes whose command line names a file in `dir`: the agents of the demo that works there.
fn processes_of(dir: &Path) -> Vec<u32> {
    let named = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&dir.display().to_string())
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(named).collect()
}
