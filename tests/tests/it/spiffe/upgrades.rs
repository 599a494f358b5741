//! Agents that are upgraded while a Workload API gives their credentials.

use std::{io::ErrorKind, thread};

use adit_tests::{
    agent::adit,
    authority::Authority,
    end::End,
    wait::{LIMIT, until},
    workload_api::Set,
};

use super::{ECHO, REDIS, WEB, World, set, svid};

/// How often each agent is upgraded.
const UPGRADES: usize = 4;

/// Both agents can be upgraded.
fn world() -> World {
    World::with(|plan| {
        let socket = |name: &str| format!("socket = \"{}\"\n", plan.path(name).display());
        let (a, b) = (socket("a-admin.sock"), socket("b-admin.sock"));
        plan.a_also(&a).b_also(&b)
    })
}

#[test]
fn upgrades_and_rotations_under_load_fail_no_stream() {
    let mut world = world();
    let front = world.mesh.front(ECHO);
    let calls = adit_tests::churn::under_load(&front, || {
        for _ in 0..UPGRADES {
            for agent in [&mut world.mesh.a, &mut world.mesh.b] {
                let _ = agent.upgrade().expect_success();
            }
            // then each new agent hears of what comes next
            let before = [World::serial_of(&world.mesh.a), World::serial_of(&world.mesh.b)];
            world.a.give(set(WEB, &world.one));
            world.b.give(set(REDIS, &world.one));
            until("both to show another certificate", LIMIT, || {
                let now = [World::serial_of(&world.mesh.a), World::serial_of(&world.mesh.b)];
                (now[0] != before[0] && now[1] != before[1]).then_some(())
            });
        }
    });
    println!("{} streams over {UPGRADES} upgrades of both, {} failed", calls.good, calls.bad);
    assert_eq!(calls.bad, 0);
    assert!(calls.good > UPGRADES);
}

#[test]
fn an_authority_that_leaves_the_bundle_after_an_upgrade_ends_the_streams_of_before() {
    let mut world = world();
    let mut live = End::connect(&world.mesh.front(ECHO));
    live.send(b"one");
    assert_eq!(live.receive(3), b"one");
    let _ = world.mesh.b.upgrade().expect_success();
    live.send(b"two");
    assert_eq!(live.receive(3), b"two");
    // when what vouched for A vouches for nobody any more, then the agent before hears it too
    let next = Authority::new("one, next");
    world.b.give(Set::of(REDIS, &svid(REDIS, &world.one), &[&next]));
    assert_eq!(live.failure(), Some(ErrorKind::ConnectionReset));
    world.mesh.b.until_logged("revoked");
    until("the agent before to have ended", LIMIT, || {
        world.mesh.b.status()["predecessors"].as_array()?.is_empty().then_some(())
    });
    until("nothing new to begin", LIMIT, || world.echoes().err());
}

#[test]
fn a_file_that_changes_while_the_new_agent_starts_is_told_and_the_agent_before_serves_on() {
    let mut world = world();
    let (before, file) = (world.mesh.b.pid(), world.mesh.b.file().display().to_string());
    // given a new agent that has read the file, and waits for its first certificate
    world.b.lets_wait(true);
    let callers = world.b.callers();
    let said = thread::scope(|scope| {
        let upgrade = scope.spawn(|| adit(&["upgrade", "--config", &file]));
        until("the new agent to ask", LIMIT, || (world.b.callers() > callers).then_some(()));
        // when a right is withdrawn
        world.mesh.b.edit(|text| text.replace(WEB, "spiffe://one.example/nobody"));
        world.b.give(set(REDIS, &world.one));
        upgrade.join().unwrap()
    });
    // then no agent serves that knows of the right and not of its withdrawal
    assert_eq!(said.status.code(), Some(1), "{}", said.all());
    assert!(said.stderr.contains("was changed while the new agent started; upgrade again"), "{}", said.stderr);
    assert_eq!(world.mesh.b.status()["pid"].as_i64().unwrap(), i64::from(before.as_raw_nonzero().get()));
    until("the right to be withdrawn", LIMIT, || world.echoes().is_err().then_some(()));
    // and once it stands still, the upgrade is made
    world.b.lets_wait(false);
    world.mesh.b.edit(|text| text.replace("spiffe://one.example/nobody", WEB));
    let _ = world.mesh.b.upgrade().expect_success();
    world.echoes().unwrap();
}
