//! An agent before that hangs: it keeps nobody waiting, and is not forgotten.

use adit_tests::{
    address::Wire,
    mesh::A,
    wait::{LIMIT, until},
};
use rustix::process::Signal;

use super::{World, until_alone};

#[test]
fn a_withdrawal_waits_for_no_agent_before_that_hangs_and_reaches_that_one_once_it_goes_on() {
    let mut world = World::new(Wire::Tcp);
    let old = world.open();
    let _ = world.mesh.b.upgrade().expect_success();
    let live = world.open();
    // given one that hangs, and a reload that it was told of
    world.mesh.b.before()[0].signal(Signal::STOP);
    world.mesh.b.edit(|text| text.replacen("[admin]", "[limits]\nstreams = 77\n[admin]", 1));
    world.mesh.b.until_logged("configuration reloaded");
    // when a right is withdrawn, then the stream of the agent that serves ends
    withdraw(&world);
    live.ends_in_a_reset();
    world.refuses_another();
    // and the other's, once it can
    world.mesh.b.before()[0].signal(Signal::CONT);
    old.ends_in_a_reset();
    until_alone(&mut world.mesh.b);
}

#[test]
fn an_agent_before_that_hung_through_an_upgrade_is_listed_and_ends_with_the_agent() {
    let mut world = World::new(Wire::Tcp);
    let mut old = world.open();
    let _ = world.mesh.b.upgrade().expect_success();
    // given one that hangs with a question unanswered, while its successor is succeeded
    let pid = world.mesh.b.before()[0].pid();
    world.mesh.b.before()[0].signal(Signal::STOP);
    assert!(fault_of(&world, pid).unwrap().contains("no answer within"));
    let _ = world.mesh.b.upgrade().expect_success();
    world.open().ends_well();
    // then it is still listed, and so once it goes on, with its stream
    assert!(fault_of(&world, pid).is_some());
    world.mesh.b.before()[0].signal(Signal::CONT);
    old.speaks();
    let broken = "the line to it is broken; it follows the files by itself, and SIGTERM drains it";
    until("its answer to come, which was for another", LIMIT, || (fault_of(&world, pid)? == broken).then_some(()));
    assert_eq!(world.mesh.b.metric("adit_predecessors_behind"), 1.0);
    // and hears that the agent ends
    world.mesh.b.signal(Signal::TERM);
    world.mesh.b.until_logged("draining streams=1");
    old.ends_well();
    assert!(world.mesh.b.wait(LIMIT).success());
    assert!(world.mesh.b.before()[0].wait(LIMIT).success());
}

fn withdraw(world: &World) {
    let mine = format!("to = \"{}\"\nallow = [\"{A}\"]", world.one.address());
    world.mesh.b.edit(|text| text.replace(&mine, &mine.replace(A, "c.adit.example")));
}

/// What the agent lists as wrong with one before it.
fn fault_of(world: &World, pid: rustix::process::Pid) -> Option<String> {
    let status = world.mesh.b.status();
    let listed = status["predecessors"].as_array().unwrap().iter();
    let pid = i64::from(pid.as_raw_nonzero().get());
    let one = listed.clone().find(|one| one["pid"] == pid).unwrap_or_else(|| panic!("it is not listed: {status}"));
    one["fault"].as_str().map(str::to_owned)
}
