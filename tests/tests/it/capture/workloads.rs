//! Whose a captured connection is: two users of one host have two identities, a unit has its own, and what no rule is about
//! is refused.

use std::process::{self, Command};

use adit_tests::{
    authority::Leaf,
    cgroup::{self, Group},
    field::{Field, Mode, Road, Tool},
    load::Service,
    need_the_field,
    netns::{Family, Host, inside},
    process::Finished,
};

/// A line to this port of B and back, by bash as this user.
fn call(field: &Field, enter: &[String], user: &str, family: Family, port: u16) -> Finished {
    let ip = Host::B.ip(family);
    let mut command = Command::new("setpriv");
    let group = if user == "nobody" { "nogroup" } else { user };
    command.args(["--reuid", user, "--regid", group, "--clear-groups", "bash", "-c"]);
    command.arg(format!("exec 3<>/dev/tcp/{ip}/{port} && echo hello >&3 && head -n 1 <&3 | grep hello"));
    let command = if enter.is_empty() { command } else { inside(enter, &command) };
    field.hosts.run(Host::A, &command)
}

/// Ports of B, and who may come there.
const SERVICES: &str = "[[inbound.capture]]\nports = [7000]\nallow = [\"web.adit.example\"]\n\n\
                        [[inbound.capture]]\nports = [7001]\nallow = [\"jobs.adit.example\"]\n";

fn plan() -> adit_tests::field::Plan {
    let plan = Field::plan().services(SERVICES);
    let plan = plan.certificate("web", &Leaf::dns(&["web.adit.example"]));
    plan.certificate("jobs", &Leaf::dns(&["jobs.adit.example"]))
}

#[test]
fn two_users_of_a_host_have_two_identities() {
    need_the_field!();
    for mode in [Mode::Redirect, Mode::Tproxy] {
        // given a certificate for each of two users, and none for others
        let rules = "\n[[outbound.workload]]\nuser = \"www-data\"\ncertificate = \"web\"\n\n\
                     [[outbound.workload]]\nuser = \"daemon\"\ncertificate = \"jobs\"\n\n\
                     [[outbound.workload]]\ndeny = true\n";
        let field = plan().a_also(rules).start(Road::Captured(Tool::Nftables, mode));
        let _echoes =
            ["[::]:7000", "[::]:7001"].map(|at| Service::start_inside(&field.hosts.enter(Host::B), "echo", at));
        for family in Family::BOTH {
            for (user, port, goes) in [
                ("www-data", 7000, true),
                ("www-data", 7001, false),
                ("daemon", 7000, false),
                ("daemon", 7001, true),
                ("nobody", 7000, false),
                ("nobody", 7001, false),
            ] {
                // when each connects, then only its own port lets it in
                let said = call(&field, &[], user, family, port);
                assert_eq!(said.status.success(), goes, "{mode:?} {user} {port} {family:?}: {}", said.all());
            }
        }
        // and both hosts' records say who it was
        for (user, identity) in [("www-data", "web.adit.example"), ("daemon", "jobs.adit.example")] {
            field.b().until_logged(identity);
            for agent in [field.a(), field.b()] {
                let log = agent.log();
                assert!(log.lines().any(|line| line.contains("workload=") && line.contains(user)), "{log}");
            }
        }
        field.a().until_logged("[[outbound.workload]] 3");
        assert!(!field.b().log().contains("nobody"), "the refused never came to B");
    }
}

#[test]
fn a_unit_has_an_identity_of_its_own_and_others_of_the_same_user_do_not() {
    need_the_field!();
    // given a unit, as systemd would make it, and a rule about units of that name
    let unit = Group::make(&format!("system.slice/adit-web-{}.service", process::id()));
    let rules = "\n[[outbound.workload]]\nunit = \"adit-web-*\"\ncertificate = \"web\"\n";
    let field = plan().a_also(rules).a_enters(&cgroup::MOUNT).start(Road::Captured(Tool::Nftables, Mode::Redirect));
    let _echo = Service::start_inside(&field.hosts.enter(Host::B), "echo", "[::]:7000");
    // when a process of it connects, it is let in; another of the same user is not
    let within = call(&field, &unit.enter(), "daemon", Family::V4, 7000);
    assert!(within.status.success(), "{}", within.all());
    assert!(!call(&field, &[], "daemon", Family::V4, 7000).status.success());
    let name = unit.path().rsplit('/').next().unwrap();
    for agent in [field.a(), field.b()] {
        agent.until_logged(name);
    }
}
