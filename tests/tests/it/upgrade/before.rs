//! The agents before: seen, asked, and still under the rules.

use std::time::Duration;

use adit_tests::{
    address::Wire,
    agent::{adit, replace},
    authority::Authority,
    live::Live,
    mesh::{A, Plan},
    wait::{LIMIT, until},
};
use rustix::process::Signal;

use super::{ONE, World, until_alone};

#[test]
fn ten_generations_live_beside_one_another_each_with_its_stream() {
    const GENERATIONS: usize = 10;
    let mut world = World::new(Wire::Tcp);
    let mut lives: Vec<Live> = Vec::new();
    for _ in 0..GENERATIONS {
        lives.push(world.open());
        let _ = world.mesh.b.upgrade().expect_success();
    }
    let file = world.mesh.b.file().display().to_string();
    // then each is listed with its stream, the oldest first
    let status = world.mesh.b.status();
    let before: Vec<_> = world.mesh.b.before().iter().map(|one| i64::from(one.pid().as_raw_nonzero().get())).collect();
    let listed = status["predecessors"].as_array().unwrap();
    assert_eq!(listed.iter().map(|one| one["pid"].as_i64().unwrap()).collect::<Vec<_>>(), before);
    for one in listed {
        assert_eq!((one["streams_live"].as_u64(), &one["streams"][0]["name"]), (Some(1), &ONE.into()), "{one}");
        assert_eq!((&one["version"], one["fault"].as_str()), (&status["version"], None));
    }
    assert_eq!(world.mesh.b.metric("adit_predecessor_streams"), 10.0);
    let page = adit(&["status", "--socket", &world.socket("b.sock").display().to_string()]).expect_success();
    assert_eq!(page.matches("streams of predecessor ").count(), GENERATIONS, "{page}");
    assert!(page.lines().all(|line| line == line.trim_end()), "{page}");
    // and whose stream a connection is, whichever agent carries it
    for (at, live) in lives.iter_mut().enumerate() {
        live.speaks();
        let address = live.server.other().to_string();
        let said = adit(&["whois", &address, "--config", &file]).expect_success();
        assert!(said.contains(&format!("\n  carrier   process {}, of before an upgrade\n", before[at])), "{said}");
        assert!(said.contains(A), "{said}");
        let id = said.lines().find_map(|line| line.trim().strip_prefix("stream ")).unwrap().trim();
        let told = adit(&["why", id, "--config", &file]).expect_success();
        assert!(told.contains(&format!("\ncarried by process {}, of before an upgrade\n", before[at])), "{told}");
        assert!(told.contains(&format!("stream {id}\n")), "{told}");
    }
    // and each ends with its stream
    while let Some(live) = lives.pop() {
        live.ends_well();
        let gone = world.mesh.b.before()[lives.len()].wait(LIMIT);
        assert!(gone.success());
        until("it to be listed no more", LIMIT, || {
            (world.mesh.b.status()["predecessors"].as_array()?.len() == lives.len()).then_some(())
        });
    }
}

#[test]
fn a_right_that_the_policy_withdraws_after_an_upgrade_ends_the_streams_of_before() {
    let mut world = World::new(Wire::Tcp);
    let (first, second) = (world.open(), {
        let _ = world.mesh.b.upgrade().expect_success();
        let live = world.open();
        let _ = world.mesh.b.upgrade().expect_success();
        live
    });
    let mine = format!("to = \"{}\"\nallow = [\"{A}\"]", world.one.address());
    world.mesh.b.edit(|text| text.replace(&mine, &mine.replace(A, "c.adit.example")));
    let said = world.mesh.b.reload().expect_success();
    for before in world.mesh.b.before() {
        let line = format!(
            "live streams of predecessor {} ended, for the right they lived by is withdrawn: 1\n",
            before.pid()
        );
        assert!(said.contains(&line), "no `{line}` in {said}");
    }
    first.ends_in_a_reset();
    second.ends_in_a_reset();
    let why = "a reload withdrew the right to /svc/one: denied: rule 2 does not admit a.adit.example";
    until("both records", LIMIT, || (world.mesh.b.log().matches(why).count() == 2).then_some(()));
    world.refuses_another();
    until_alone(&mut world.mesh.b);
}

#[test]
fn a_revocation_and_a_bundle_without_the_ca_end_the_streams_of_before() {
    for (file, word) in [("crl.pem", "certificate_revoked"), ("ca.pem", "unknown_ca")] {
        let mut shown = None;
        let mut world = World::of(Wire::Tcp, |plan: Plan| {
            let of_a = plan.authority().issue(&adit_tests::authority::Leaf::dns(&[A]));
            let nobody = plan.authority().revoke(&[]);
            shown = Some(of_a.clone());
            plan.a_shows(of_a).b_revokes(nobody)
        });
        let live = world.open();
        let _ = world.mesh.b.upgrade().expect_success();
        let text = match file {
            "crl.pem" => world.mesh.authority.revoke(&[&shown.unwrap()]),
            _ => Authority::new("another").pem().to_owned(),
        };
        replace(&world.mesh.b.dir().join(file), &text);
        live.ends_in_a_reset();
        world.mesh.b.until_logged("end=revoked");
        world.mesh.b.until_logged(word);
        // The new agent looks at its files in its own time.
        let seen = "adit_tls_reloads_total{outcome=\"ok\"}";
        until("the new agent to see it", LIMIT, || (world.mesh.b.metric(seen) > 0.0).then_some(()));
        world.refuses_another();
        until_alone(&mut world.mesh.b);
    }
}

#[test]
fn an_agent_before_that_cannot_read_the_file_keeps_what_it_has_and_says_so_loudly() {
    let mut world = World::of(Wire::Tcp, Plan::own_programs);
    let mut live = world.open();
    // given a file that only the new agent can read: it stands elsewhere, as one of another version would
    let elsewhere = world.dir.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    replace(&elsewhere.join("ca2.pem"), world.mesh.authority.pem());
    world.mesh.b.replace_program(&format!("cd {}; exec {{adit}} \"$@\"", elsewhere.display()));
    let _ = world.mesh.b.upgrade().expect_success();
    let ca = format!("ca = \"{}\"", world.mesh.b.dir().join("ca.pem").display());
    world.mesh.b.edit(|text| text.replace(&ca, "ca = \"/proc/self/cwd/ca2.pem\""));
    // when it is read
    let said = world.mesh.b.reload();
    // then the answer names who does not follow, and why, and is no success
    let pid = world.mesh.b.before()[0].pid();
    assert_eq!(said.status.code(), Some(1), "{}", said.all());
    assert!(
        said.stderr.contains(&format!("predecessor {pid}: ")) && said.stderr.contains("ca2.pem"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains(&format!("predecessor {pid} goes by what it read before")), "{}", said.stderr);
    world.mesh.b.until_logged("a predecessor goes by an earlier file");
    let status = world.mesh.b.status();
    assert!(status["predecessors"][0]["fault"].as_str().unwrap().contains("ca2.pem"), "{status}");
    assert_eq!(status["config"]["fault"], serde_json::Value::Null);
    // and it serves its stream on, until the operator ends it
    live.speaks();
    world.mesh.b.before()[0].signal(Signal::TERM);
    world.mesh.b.until_logged("draining");
    world.mesh.b.before()[0].signal(Signal::TERM);
    live.ends_in_a_reset();
    until_alone(&mut world.mesh.b);
    assert!(world.mesh.b.reload().status.success());
}

#[test]
fn an_agent_that_is_told_to_end_tells_those_before_it_and_waits_for_them() {
    let mut world = World::of(Wire::Tcp, |plan| plan.b_also("[limits]\ndrain = \"2s\"\n"));
    let (mut kept, live) = (world.open(), world.open());
    let _ = world.mesh.b.upgrade().expect_success();
    world.mesh.b.signal(Signal::TERM);
    until("both to drain", LIMIT, || (world.mesh.b.log().matches("draining").count() >= 2).then_some(()));
    // then streams that end meanwhile end well, and what is left is reset, counted and recorded once the limit is over
    kept.speaks();
    kept.ends_well();
    live.ends_in_a_reset();
    world.mesh.b.until_logged("the drain's deadline came; ending what is left streams=1");
    world.mesh.b.until_logged("end=drained");
    assert!(world.mesh.b.wait(LIMIT).success());
    world.mesh.b.before()[0].wait(LIMIT);
}

#[test]
fn an_agent_before_ends_what_is_left_after_its_own_limit_if_it_has_one() {
    let mut world = World::of(Wire::Tcp, |plan| plan.b_also("[limits]\nupgrade_drain = \"1s\"\n"));
    let live = world.open();
    let _ = world.mesh.b.upgrade().expect_success();
    live.ends_in_a_reset();
    world.mesh.b.until_logged("`upgrade_drain` is over; ending what is left streams=1");
    world.mesh.b.until_logged("end=drained");
    until_alone(&mut world.mesh.b);
}

#[test]
fn an_agent_before_whose_successor_has_died_serves_on_and_ends_at_once_when_it_is_told_to() {
    let mut world = World::new(Wire::Tcp);
    let mut live = world.open();
    let _ = world.mesh.b.upgrade().expect_success();
    world.mesh.b.kill();
    world.mesh.b.until_logged("the agent after this one is gone; its last streams are seen out all the same");
    live.speaks();
    // as a service manager does that starts the agent again, and waits for all of its processes first
    world.mesh.b.before()[0].signal(Signal::TERM);
    live.ends_in_a_reset();
    world.mesh.b.before()[0].wait(Duration::from_secs(10));
}
