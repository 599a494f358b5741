//! What an agent may do and what its file asks for: it starts with what the features in use need, and no more; and where
//! anything is missing it says all of it at once, and opens no door.

use std::process::Command;

use adit_tests::{
    agent::{Agent, binary},
    mesh::alone,
    need, need_that,
    process::run,
    skip::is_root,
    wait::LIMIT,
};

const REDIRECT: &str = "[outbound]\n[outbound.redirect]\nlisten = [\"127.0.0.1:0\"]\n";

#[test]
fn all_that_is_missing_is_told_at_once_and_no_door_is_opened() {
    need!("setpriv", "unshare");
    need_that!(is_root(), "only root makes a network of its own, whose low ports are guarded");
    let dir = alone(&format!("{REDIRECT}mode = \"tproxy\"\n[admin]\nlisten = \"127.0.0.1:81\"\n"));
    let mut command = Command::new("unshare");
    command.arg("--net").args(only("")).arg(binary()).args(["run", "--config"]).arg(dir.path().join("adit.toml"));
    command.arg("--redirect").arg("--ready-file").arg(dir.path().join("ready"));
    let ended = run(&mut command, LIMIT);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.all());
    for line in [
        "  CAP_NET_BIND_SERVICE  [admin] listen 127.0.0.1:81: a port below 1024\n",
        "  CAP_NET_ADMIN         [outbound.redirect] mode \"tproxy\"\n",
        "  CAP_NET_ADMIN         [netfilter] mark 0xad17: ",
        "  CAP_NET_ADMIN         adit run --redirect: netfilter's rules\n",
        "  AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE\n",
        "  CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_BIND_SERVICE\n",
    ] {
        assert!(ended.stderr.contains(line), "no `{line}` in {}", ended.stderr);
    }
    assert!(!dir.path().join("ready").exists());
    assert!(!ended.all().contains("listening"), "{}", ended.all());
}

#[test]
fn cap_net_admin_alone_is_enough_to_capture() {
    need!("setpriv");
    need_that!(is_root(), "only root has a capability to keep");
    for mode in ["redirect", "tproxy"] {
        let dir = alone(&format!("{REDIRECT}mode = \"{mode}\"\n"));
        let mut agent = Agent::start_inside("the agent", dir.path(), &only(",+net_admin"));
        assert!(agent.log().contains("listening listener=\"redirect\""), "{}", agent.log());
        agent.stop();
    }
}

#[test]
fn an_agent_that_the_rules_know_by_its_user_needs_no_capability_to_be_redirected_to() {
    need!("setpriv");
    let own = rustix::process::geteuid().as_raw();
    let dir = alone(&format!("{REDIRECT}[netfilter]\nuser = \"{own}\"\n"));
    let inside = if is_root() { only("") } else { Vec::new() };
    let mut agent = Agent::start_inside("the agent", dir.path(), &inside);
    let said = "this process may not mark its sockets (CAP_NET_ADMIN); the rules know it by [netfilter] user";
    assert_eq!(agent.log().matches(said).count(), 1, "{}", agent.log());
    agent.stop();
}

#[test]
fn a_reload_that_asks_for_what_is_missing_changes_nothing_and_says_what_it_is() {
    need!("setpriv");
    let inside = if is_root() { only("") } else { Vec::new() };
    let dir = alone("[admin]\nsocket = \"{dir}/admin.sock\"\n");
    let mut agent = Agent::start_inside("the agent", dir.path(), &inside);
    agent.edit(|text| format!("{text}{REDIRECT}"));
    agent.signal(rustix::process::Signal::HUP);
    agent.until_logged("CAP_NET_ADMIN         [netfilter] mark 0xad17");
    agent.stop();
}

/// Leads to a life without any capability, but for `more` of them; root is then a user like any other.
fn only(more: &str) -> Vec<String> {
    let set = format!("-all{more}");
    ["setpriv", "--inh-caps", "-all", "--bounding-set", &set].map(str::to_owned).to_vec()
}
