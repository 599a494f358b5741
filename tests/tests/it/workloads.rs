//! Whose a connection is: two users of one host are two identities to another, a rule denies one of them before anything
//! leaves the host, and who cannot be found gets nothing that is meant for somebody.

use std::{fs, path::PathBuf, process::Command};

use adit_tests::{
    address::{Address, Wire},
    agent::{Agent, replace},
    authority::Leaf,
    end::End,
    listener::Listener,
    load::Service,
    mesh::{A, B, Mesh, Plan, alone},
    need, need_that,
    netns::{A as HERE, B as THERE, Host, Hosts},
    process::{Finished, run},
    skip::is_root,
    wait::{LIMIT, until},
};
use rustix::process::{Signal, geteuid};

const ECHO: &str = "/svc/echo";
const WEB: &str = "web.adit.example";

/// Two users that every Debian has (base-passwd).
const WWW_DATA: (&str, &str) = ("www-data", "33");
const BACKUP: (&str, &str) = ("backup", "34");

#[test]
fn two_users_show_two_identities_through_one_listener_and_the_far_policy_admits_one() {
    need!("setpriv", "bash");
    need_that!(is_root(), "only root becomes another user");
    // given a service for the identity that host A shows for www-data alone
    let echo = Service::start(Wire::Tcp, "echo");
    let rule = format!("[[outbound.workload]]\nuser = \"{}\"\ncertificate = \"web\"\n", WWW_DATA.0);
    let mesh = web(Mesh::plan().service(ECHO, echo.address()).only_for(WEB)).a_also(&rule).start();
    // when both use one listener in turn
    assert_eq!(call_as(WWW_DATA.1, &mesh.front(ECHO)).expect_success(), "hello");
    assert!(!call_as(BACKUP.1, &mesh.front(ECHO)).status.success());
    let both_rest = || (mesh.a.metric("adit_tunnels_idle") == 2.0).then_some(());
    until("the tunnels of both to come back", LIMIT, both_rest);
    assert_eq!(call_as(WWW_DATA.1, &mesh.front(ECHO)).expect_success(), "hello");
    // then the far side admitted one, and both sides' records say who it was
    mesh.a.until_logged(&format!("rule 1 does not admit {A}"));
    let tells = |agent: &Agent, user: &str| {
        let user = format!("({user})");
        agent.log().lines().any(|line| line.contains("workload=") && line.contains(&user)).then_some(())
    };
    for agent in [&mesh.a, &mesh.b] {
        for user in [WWW_DATA.0, BACKUP.0] {
            until("the record to say who it was", LIMIT, || tells(agent, user));
        }
    }
    // and no tunnel of one was used for the other
    let used = |kind| mesh.a.metric(&format!("adit_tunnels_used_total{{kind=\"{kind}\"}}"));
    assert_eq!((used("fresh"), used("recycled")), (2.0, 1.0));
}

#[test]
fn a_denied_user_is_refused_and_the_other_host_never_hears_of_it() {
    need!("setpriv", "bash");
    need_that!(is_root(), "only root becomes another user");
    let service = Listener::at(&Address::any_port());
    let rule = format!("[[outbound.workload]]\nuser = \"{}\"\ndeny = true\n", BACKUP.0);
    let mesh = Mesh::plan().service(ECHO, service.address()).a_also(&rule).start();
    assert!(!call_as(BACKUP.1, &mesh.front(ECHO)).status.success());
    mesh.a.until_logged("[[outbound.workload]] 1: it denies user backup");
    mesh.a.until_logged("end=refused (denied) side=\"agent\"");
    assert!(!service.has_caller());
    assert_eq!(mesh.b.metric("adit_handshakes_total{side=\"acceptor\",outcome=\"ok\"}"), 0.0);
    // and others pass
    let mut other = End::connect(&mesh.front(ECHO));
    other.send(b"hello");
    assert_eq!(service.accept().receive(5), b"hello");
}

#[test]
fn who_is_gone_is_nobody_and_not_root() {
    // given a rule that knows what to do with root
    let service = Listener::at(&Address::any_port());
    let rule = "[[outbound.workload]]\nuser = \"0\"\nallow = true\n";
    let mesh = Mesh::plan().service(ECHO, service.address()).a_also(rule).start();
    // when an application connects, sends and closes before the agent looks
    mesh.a.signal(Signal::STOP);
    let stat = format!("/proc/{}/stat", mesh.a.pid().as_raw_nonzero());
    until("the agent to stop", LIMIT, || fs::read_to_string(&stat).unwrap().contains(") T ").then_some(()));
    let mut app = End::connect(&mesh.front(ECHO));
    app.send(b"hello");
    drop(app);
    mesh.a.signal(Signal::CONT);
    // then it is refused, for it could be anybody
    mesh.a.until_logged(
        "[[outbound.workload]] 1: it is about user 0, and the process of this connection cannot be found",
    );
    assert!(!service.has_caller());
    assert_eq!(mesh.a.metric("adit_workloads_sought_total{outcome=\"unknown\"}"), 1.0);
}

#[test]
fn a_process_of_another_network_is_nobody_even_where_somebody_here_listens_at_its_port() {
    need!("ip", "python3");
    need_that!(is_root(), "only root makes namespaces");
    // given two hosts on a cable, and on A a socket of root's that listens at the port that B will come from
    let hosts = Hosts::join();
    let dir = alone(&format!(
        "[outbound]\n[[outbound.listener]]\nlisten = \"{HERE}:14140\"\nto = \"{ECHO}\"\nexpose = true\n\
         [[outbound.peer]]\nname = \"{ECHO}\"\nidentity = \"{B}\"\n\
         [[outbound.workload]]\nuser = \"0\"\ndeny = true\n"
    ));
    let agent = Agent::start_inside("host A", dir.path(), &hosts.enter(Host::A));
    let service = Service::start_inside(&hosts.enter(Host::A), "echo", "0.0.0.0:0");
    // when B connects from that port
    let port = service.address().port();
    let script = format!(
        "import socket\ns = socket.socket()\ns.bind(('{THERE}', {port}))\ns.connect(('{HERE}', 14140))\ns.sendall(b'hello')\n\
         s.recv(1)\n"
    );
    let mut call = Command::new(&hosts.enter(Host::B)[0]);
    let _ = run(call.args(&hosts.enter(Host::B)[1..]).args(["python3", "-c", &script]), LIMIT);
    // then it is not taken for root
    agent.until_logged(
        "[[outbound.workload]] 1: it is about user 0, and the process of this connection cannot be found",
    );
}

#[test]
fn a_systemd_unit_is_known_by_its_control_group() {
    need!("unshare", "nsenter", "mount", "umount", "bash");
    need_that!(is_root(), "only root makes namespaces and control groups");
    // given an agent that sees cgroup2, a unit's group in it, and a service for the identity of that unit
    let echo = Service::start(Wire::Tcp, "echo");
    let rules = "[[outbound.workload]]\nunit = \"web.service\"\ncertificate = \"web\"\n";
    let mesh =
        web(Mesh::plan().service(ECHO, echo.address()).only_for(WEB)).a_also(rules).a_inside(&OWN_CGROUPS).start();
    let agent = mesh.a.pid().as_raw_nonzero().to_string();
    let group = Group::make(&agent, "web.service/worker");
    // when a process of that unit calls, and one of none
    let call = |enter: &str| in_mounts_of(&agent, &format!("{enter}{}", calls(&mesh.front(ECHO))));
    let of_unit = call(&format!("echo $$ > {}/cgroup.procs && ", group.path.display()));
    let of_none = call("");
    // then the one was known by its unit, and the other was not
    assert_eq!(of_unit.expect_success(), "hello");
    assert!(!of_none.status.success(), "{}", of_none.all());
    mesh.b.until_logged("workload=\"web.service (");
    mesh.b.until_logged(&format!("rule 1 does not admit {A}"));
}

#[test]
fn a_process_behind_a_unix_socket_is_known_too() {
    let own = geteuid().as_raw();
    let dir = tempfile::tempdir().unwrap();
    let service = Listener::bind(Wire::Unix, dir.path(), "service.sock");
    let rule = format!("[[outbound.workload]]\nuser = \"{own}\"\ncertificate = \"web\"\n");
    let mesh = web(Mesh::plan().service(ECHO, service.address()).only_for(WEB)).a_also(&rule).start();
    let mut app = End::connect(&mesh.front(ECHO));
    app.send(b"hello");
    let mut end = service.accept();
    assert_eq!(end.receive(5), b"hello");
    let streams = mesh.a.status()["streams"].clone();
    assert!(streams[0]["workload"].as_str().is_some_and(|workload| workload.ends_with(')')), "{streams}");
    drop((app, end));
}

#[test]
fn a_reload_that_denies_a_process_ends_its_live_streams() {
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().service(ECHO, service.address()).start();
    let mut app = End::connect(&mesh.front(ECHO));
    app.send(b"hello");
    let mut end = service.accept();
    assert_eq!(end.receive(5), b"hello");
    let rule = format!("\n[[outbound.workload]]\nuser = \"{}\"\ndeny = true\n", geteuid().as_raw());
    mesh.a.edit(|text| text.to_owned() + &rule);
    mesh.a.signal(Signal::HUP);
    assert!(app.failure().is_some(), "the application sees a reset");
    assert!(end.failure().is_some(), "and so does the service");
    mesh.a.until_logged("a reload withdrew the right to /svc/echo: [[outbound.workload]] 1: it denies user");
}

#[test]
fn processes_are_not_looked_for_where_the_file_says_so_and_no_rule_asks() {
    let echo = Listener::at(&Address::any_port());
    let table = "/svc/{service} => /$/inet/127.0.0.1/{port} ;\"\nfind_workloads = false #";
    let mesh = Mesh::plan().service(ECHO, echo.address()).table(table).start();
    let mut app = End::connect(&mesh.front(ECHO));
    app.send(b"hello");
    let mut end = echo.accept();
    assert_eq!(end.receive(5), b"hello");
    assert!(mesh.a.status()["streams"][0]["workload"].is_null());
    let sought = |outcome| mesh.a.metric(&format!("adit_workloads_sought_total{{outcome=\"{outcome}\"}}"));
    assert_eq!((sought("found"), sought("unknown")), (0.0, 0.0));
}

/// A has a second certificate, `web`.
fn web(plan: Plan) -> Plan {
    let credential = plan.authority().issue(&Leaf::dns(&[WEB]));
    let write = |file: &str, text: &str| -> PathBuf {
        let path = plan.path(file);
        replace(&path, text);
        path
    };
    let (cert, key) = (write("web.pem", &credential.cert), write("web.key", &credential.key));
    let table =
        format!("[[tls.certificate]]\nid = \"web\"\ncert = \"{}\"\nkey = \"{}\"\n", cert.display(), key.display());
    plan.a_also(&table)
}

/// A shell that says hello, and shows the answer if one comes.
fn calls(at: &Address) -> String {
    format!("exec 3<>/dev/tcp/127.0.0.1/{} && printf hello >&3 && head -c 5 <&3", at.port())
}

/// The same by another user.
fn call_as(uid: &str, at: &Address) -> Finished {
    let words = ["--reuid", uid, "--regid", uid, "--clear-groups", "bash", "-c", &calls(at)];
    run(Command::new("setpriv").args(words), LIMIT)
}

/// Leads into a mount namespace of its own, with cgroup2 where every newer system has it.
const OWN_CGROUPS: [&str; 5] = [
    "unshare",
    "--mount",
    "bash",
    "-c",
    "umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec \"$0\" \"$@\"",
];

/// Runs a script within the mounts of another process.
fn in_mounts_of(pid: &str, script: &str) -> Finished {
    run(Command::new("nsenter").args(["--target", pid, "--mount", "bash", "-c", script]), LIMIT)
}

/// A control group in a slice of this test's own, gone with it.
struct Group {
    seen_by: String,
    slice: PathBuf,
    path: PathBuf,
}

impl Group {
    fn make(seen_by: &str, name: &str) -> Self {
        let slice = PathBuf::from(format!("/sys/fs/cgroup/adit{seen_by}.slice"));
        let path = slice.join(name);
        let _ = in_mounts_of(seen_by, &format!("mkdir -p {}", path.display())).expect_success();
        Self { seen_by: seen_by.to_owned(), slice, path }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = in_mounts_of(&self.seen_by, &format!("find {} -depth -type d -delete", self.slice.display()));
    }
}
