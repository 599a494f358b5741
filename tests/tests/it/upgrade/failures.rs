//! Upgrades that fail: the agent that runs serves on as if nothing had been, and whoever asked is told why.

use std::{fs, thread};

use adit_tests::{
    address::Wire,
    agent::adit,
    authority::Leaf,
    live::Live,
    mesh::{B, Plan},
    need,
    process::{Finished, run},
    wait::{LIMIT, until},
};
use rustix::process::{Pid, Signal, test_kill_process};

use super::{World, until_alone};

/// A world in which B's program can be replaced.
fn world() -> World {
    World::of(Wire::Tcp, |plan: Plan| plan.own_programs().b_also("[limits]\nupgrade_ready = \"2s\"\n"))
}

/// B is upgraded in vain: it is told with these words, and B serves on as if nothing had been.
fn fails(world: &mut World, live: &mut Live, words: &[&str]) {
    let pid = world.mesh.b.pid();
    let said = world.mesh.b.upgrade();
    assert_eq!(said.status.code(), Some(1), "{}", said.all());
    for word in words {
        assert!(said.stderr.contains(word), "no `{word}` in {}", said.stderr);
    }
    let last = said.stderr.lines().last().unwrap();
    assert_eq!(last, "adit: not upgraded: the new agent did not start, and the one before serves on");
    let status = world.mesh.b.status();
    assert_eq!(status["pid"].as_i64().unwrap(), i64::from(pid.as_raw_nonzero().get()));
    assert_eq!((&status["predecessors"], &status["draining"]), (&serde_json::json!([]), &serde_json::json!(false)));
    live.speaks();
    world.open().ends_well();
}

#[test]
fn a_program_that_cannot_run_ends_hangs_or_dies_leaves_the_agent_serving() {
    let mut world = world();
    let mut live = world.open();
    for (script, words) in [
        ("echo no such option >&2; exit 3", "ended before it served, and said nothing of why"),
        ("kill -9 $$", "ended before it served, and said nothing of why"),
        ("exec sleep 600", "was not ready within 2s (`upgrade_ready` in [limits]), and was killed"),
        // Ready, told to go, and dead.
        ("printf 'ready 9\\n' >&3; read go <&3; exit 1", "ended before it served, and said nothing of why"),
        ("exec cat /dev/zero >&3", "which means nothing"),
        ("echo nonsense >&3", "hearing the successor: it said 'nonsense', which means nothing"),
    ] {
        world.mesh.b.replace_program(script);
        fails(&mut world, &mut live, &[words]);
    }
    let program = world.mesh.b.program_file().display().to_string();
    world.mesh.b.replace_program_by(b"neither a program nor a script", 0o755);
    fails(&mut world, &mut live, &[&program, "Exec format error"]);
    world.mesh.b.replace_program_by(b"", 0o644);
    fails(&mut world, &mut live, &[&program, "Permission denied"]);
    fs::remove_file(&program).unwrap();
    fails(&mut world, &mut live, &[&program, "No such file or directory"]);
    // and once it can run, it is what serves
    fs::write(&program, "").unwrap();
    world.mesh.b.replace_program("exec {adit} \"$@\"");
    let _ = world.mesh.b.upgrade().expect_success();
    live.speaks();
    live.ends_well();
    world.open().ends_well();
    until_alone(&mut world.mesh.b);
}

#[test]
fn a_file_or_a_key_that_is_bad_by_now_leaves_the_agent_serving_and_is_told_in_full() {
    let mut world = world();
    let mut live = world.open();
    let good = world.mesh.b.text();
    world.mesh.b.edit(|text| format!("{text}\n[admin]\nlisten = 7\nwhat = 1\n"));
    fails(&mut world, &mut live, &["adit.toml:", "duplicate key"]);
    world.mesh.b.edit(|_| good.replace("[inbound]", "[inbound]\nconceall = true\nconceal = 1"));
    fails(&mut world, &mut live, &["conceall", "`conceal` is"]);
    world.mesh.b.edit(|_| good.clone());
    let mut broken = world.mesh.authority.issue(&Leaf::dns(&[B]));
    "no key\n".clone_into(&mut broken.key);
    world.mesh.b.swap_credential(&broken);
    fails(&mut world, &mut live, &["key.pem"]);
    world.mesh.b.swap_credential(&world.mesh.authority.issue(&Leaf::dns(&[B])));
    let _ = world.mesh.b.upgrade().expect_success();
    live.ends_well();
}

#[test]
fn a_second_upgrade_is_refused_while_one_is_under_way_and_a_reload_is_not() {
    need!("mkfifo");
    let mut world = World::of(Wire::Tcp, Plan::own_programs);
    let (gate, release) = gate(&world);
    world.mesh.b.replace_program(&format!("read go <{gate}; exec {{adit}} \"$@\""));
    let file = world.mesh.b.file().display().to_string();
    let mut live = world.open();
    let said = thread::scope(|scope| {
        let first = scope.spawn(|| ask(&file));
        world.mesh.b.until_logged("starting a successor");
        // A process that was started, and waits.
        let second = until("the second to be refused", LIMIT, || {
            let said = ask(&file);
            said.stderr.contains("an upgrade is under way: the new process is ").then_some(said)
        });
        assert_eq!(second.status.code(), Some(1));
        // when the file changes meanwhile, and is read
        world.mesh.b.edit(|text| text.replacen("[admin]", "[limits]\nstreams = 77\n[admin]", 1));
        let said = adit(&["reload", "--config", &file]);
        assert!(said.all().contains("streams"), "{}", said.all());
        release();
        first.join().unwrap()
    });
    world.mesh.b.adopt(&said);
    // then the new agent goes by it
    assert_eq!(world.mesh.b.status()["limits"]["streams"], 77);
    live.speaks();
    live.ends_well();
}

#[test]
fn who_is_told_to_end_in_the_middle_of_an_upgrade_ends_and_takes_the_new_process_along() {
    need!("mkfifo");
    let mut world = World::of(Wire::Tcp, Plan::own_programs);
    let (gate, _release) = gate(&world);
    let log = world.dir.join("pid");
    world.mesh.b.replace_program(&format!("echo $$ >{}; read go <{gate}", log.display()));
    let file = world.mesh.b.file().display().to_string();
    let said = thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&file));
        let pid = until("the new process", LIMIT, || fs::read_to_string(&log).ok()?.trim().parse::<i32>().ok());
        world.mesh.b.signal(Signal::TERM);
        let said = asked.join().unwrap();
        let pid = Pid::from_raw(pid).unwrap();
        until("the new process to be gone", LIMIT, || test_kill_process(pid).is_err().then_some(()));
        said
    });
    assert_eq!(said.status.code(), Some(1));
    assert!(said.stderr.contains("the agent was told to end"), "{}", said.stderr);
    assert!(world.mesh.b.wait(LIMIT).success());
}

#[test]
fn an_agent_that_drains_is_not_upgraded() {
    let mut world = World::new(Wire::Tcp);
    let live = world.open();
    world.mesh.b.signal(Signal::TERM);
    world.mesh.b.until_logged("draining");
    let said = world.mesh.b.upgrade();
    assert_eq!(said.status.code(), Some(1));
    assert!(said.stderr.contains("the agent is ending, and is not upgraded any more"), "{}", said.stderr);
    live.ends_well();
    assert!(world.mesh.b.wait(LIMIT).success());
}

/// A pipe that a script reads, and what lets it go on.
fn gate(world: &World) -> (String, impl FnOnce() + use<>) {
    let gate = world.dir.join("gate");
    let _ = run(std::process::Command::new("mkfifo").arg(&gate), LIMIT).expect_success();
    (gate.display().to_string(), move || fs::write(gate, "go\n").unwrap())
}

fn ask(file: &str) -> Finished {
    adit(&["upgrade", "--config", file])
}
