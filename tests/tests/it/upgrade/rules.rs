//! The kernel's rules through an upgrade of the agent that holds them: they are never away, and stay with the last one.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use adit_tests::{
    agent::{Agent, put_program},
    churn::Over,
    mesh::alone,
    need, need_that,
    netns::{Host, Hosts},
    skip::is_root,
    wait::LIMIT,
};

const FILE: &str = r#"
[outbound]
dtab = "/svc/{service} => /$/inet/127.0.0.1/9 ;"

[[outbound.peer]]
name = "/svc/{service}"
identity = "b.adit.example"

[outbound.redirect]
listen = ["127.0.0.1:4140", "[::1]:4140"]

[[outbound.redirect.include]]
port = [6379]

[admin]
listen = "127.0.0.1:0"
socket = "{dir}/admin.sock"
"#;

#[test]
fn rules_that_an_agent_holds_are_in_place_at_every_moment_of_an_upgrade_and_after_it() {
    need!("ip", "nft", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    let (hosts, dir) = (Hosts::join(), alone(FILE));
    let enter = hosts.enter(Host::A);
    let mut agent = Agent::start_with("the agent", dir.path(), &enter, &["--redirect"]);
    let over = AtomicBool::new(false);
    let rules = || hosts.say(Host::A, &["nft", "list", "table", "inet", "adit"]);
    let is_there = |listed: &str| listed.contains("6379") && listed.contains("redirect to");
    let there = rules().expect_success();
    assert!(is_there(&there), "{there}");
    thread::scope(|scope| {
        // given somebody who looks all the time
        let looks = scope.spawn(|| {
            let mut looks = 0;
            while !over.load(Relaxed) {
                let listed = rules();
                assert!(listed.status.success() && is_there(&listed.stdout), "look {looks}: {}", listed.all());
                looks += 1;
            }
            looks
        });
        let over = Over(&over);
        for _ in 0..3 {
            let _ = agent.upgrade().expect_success();
            let last = agent.before().last_mut().unwrap();
            last.wait(LIMIT);
        }
        drop(over);
        let looks: usize = looks.join().unwrap();
        assert!(looks > 10, "only {looks} looks");
    });
    // then nobody was told of others' rules, the last agent has them, and takes them away at its end
    assert!(!agent.log().contains("others of adit's"), "{}", agent.log());
    assert!(is_there(&rules().expect_success()));
    agent.stop();
    assert!(!rules().status.success());
}

#[test]
fn rules_stay_those_of_the_agent_whose_successor_fails_after_it_has_put_its_own_in_place() {
    need!("ip", "nft", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    let (hosts, dir) = (Hosts::join(), alone(FILE));
    let enter = hosts.enter(Host::A);
    put_program(dir.path());
    let mut agent = Agent::start_with("the agent", dir.path(), &enter, &["--redirect"]);
    let rules = || hosts.say(Host::A, &["nft", "-a", "list", "table", "inet", "adit"]);
    let handle = || rules().expect_success().lines().next().unwrap_or_default().to_owned();
    let before = handle();
    // given a new program that puts rules in place, and then ends
    agent.replace_program(&format!(
        "{{adit}} redirect apply --config {} >/dev/null 2>&1; exit 1",
        agent.file().display()
    ));
    assert_eq!(agent.upgrade().status.code(), Some(1));
    // then the agent has put its own back, and takes them away at its end
    assert_ne!(handle(), before);
    agent.stop();
    assert!(!rules().status.success(), "{}", rules().all());
}
