//! What the agent and a service manager tell each other, and the sockets that go between them, without a systemd: the
//! manager is the rig's, and the agent cannot tell. (What systemd itself makes of the units is in `machines`.)

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::FileTypeExt, net::UnixListener},
    process::Command,
    time::Duration,
};

use adit_tests::{
    address::{Address, Wire, free_port},
    agent::{Agent, adit, binary},
    end::End,
    load::Service,
    manager::Manager,
    mesh::{Mesh, alone},
    need, need_that,
    process::run,
    skip::is_root,
    stopped::Stopped,
    wait::{LIMIT, until, until_still},
};
use rustix::process::Signal;

const ECHO: &str = "/svc/echo";

#[test]
fn ready_is_said_once_every_door_is_open_and_its_socket_is_kept() {
    need!("python3");
    let manager = Manager::start();
    let held = tcp(&manager);
    let (mesh, _echo) = mesh(&manager, &[&held, &Address::any_port(), &unix(&manager, "front")], "");
    // then the doors whose addresses mean something are kept, and all of that was said before READY
    assert_eq!(manager.kept(), [fd_name(&held), fd_name(&unix(&manager, "front"))]);
    let ready = manager.until_said("READY=1");
    assert_eq!(ready, "READY=1\nSTATUS=5 doors, 0 streams, 0 tunnels");
    let at = |text: &str| manager.said().iter().rposition(|said| said.contains(text));
    assert!(at("FDSTORE=1") < at("READY=1"), "{:?}", manager.said());
    // and how it stands is said again when it has changed
    let mut client = End::connect(&held);
    client.send(b"x");
    assert_eq!(client.receive(1), b"x");
    manager.until_said("STATUS=5 doors, 1 stream,");
    drop(mesh);
}

#[test]
fn whoever_comes_while_a_killed_agent_is_away_is_served_by_the_next() {
    need!("python3");
    let manager = Manager::start();
    let doors = [tcp(&manager), unix(&manager, "front")];
    let (mut mesh, _echo) = mesh(&manager, &[&doors[0], &doors[1]], "");
    for _ in 0..2 {
        mesh.a.kill();
        // when the agent is dead, then nobody is refused
        let mut waiting: Vec<_> = doors.iter().map(End::connect).collect();
        for client in &mut waiting {
            client.send(b"x");
        }
        mesh.a.restart();
        for client in &mut waiting {
            assert_eq!(client.receive(1), b"x");
        }
        // and nothing is kept twice
        assert_eq!(manager.kept(), [fd_name(&doors[0]), fd_name(&doors[1])]);
    }
}

#[test]
fn a_door_that_leaves_the_file_is_kept_no_more_and_refuses() {
    need!("python3");
    let manager = Manager::start();
    let (stays, goes) = (tcp(&manager), tcp(&manager));
    let (mesh, _echo) = mesh(&manager, &[&stays, &goes], "");
    let table = format!("\n[[outbound.listener]]\nlisten = \"{goes}\"\nto = \"{ECHO}\"\n");
    mesh.a.edit(|text| text.replace(&table, ""));
    reload(&manager, &mesh.a);
    assert_eq!(manager.kept(), [fd_name(&stays)]);
    assert!(End::try_connect(&goes).is_err(), "the door is closed, and no copy of it is left");
    End::try_echo(&stays).unwrap();
    // and one that comes is kept
    let comes = Address::Tcp(([127, 0, 0, 1], free_port()).into());
    mesh.a.edit(|text| text.replace(&stays.to_string(), &comes.to_string()));
    reload(&manager, &mesh.a);
    assert_eq!(manager.kept(), [fd_name(&comes)]);
    End::try_echo(&comes).unwrap();
}

#[test]
fn a_reload_by_signal_is_told_from_its_beginning_to_its_end_though_the_file_is_bad() {
    need!("python3");
    let manager = Manager::start();
    let (mesh, _echo) = mesh(&manager, &[&Address::any_port()], "");
    for nonsense in ["", "nonsense"] {
        mesh.a.edit(|text| format!("{text}{nonsense}\n"));
        reload(&manager, &mesh.a);
        let reloading = manager.until_said("RELOADING=1");
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    }
    manager.until_said("; the file on disk is not in force");
}

#[test]
fn who_connects_while_an_agent_drains_is_refused_and_not_left_to_wait() {
    need!("python3");
    let manager = Manager::start();
    let held = tcp(&manager);
    let (mut mesh, _echo) = mesh(&manager, &[&held], "");
    let mut live = End::connect(&held);
    live.send(b"x");
    assert_eq!(live.receive(1), b"x");
    // when it is told to end, while a stream is live
    mesh.a.signal(Signal::TERM);
    // then it asks for time as long as there is a stream, and nobody keeps its socket
    manager.until_said("STOPPING=1");
    assert!(mesh.a.admin_answer("GET", "/readyz").starts_with("HTTP/1.1 503 "));
    manager.until_said("STATUS=draining: 1 stream left");
    manager.until_said("EXTEND_TIMEOUT_USEC=30000000");
    assert_eq!(manager.kept(), Vec::<String>::new());
    until("the door to close", LIMIT, || End::try_connect(&held).is_err().then_some(()));
    live.send(b"y");
    assert_eq!(live.receive(1), b"y");
    drop(live);
    assert!(mesh.a.wait(LIMIT).success());
}

#[test]
fn an_agent_without_a_manager_refuses_as_well_while_it_drains() {
    let echo = Service::start(Wire::Tcp, "echo");
    let mut mesh = Mesh::plan().service(ECHO, echo.address()).start();
    let front = mesh.front(ECHO);
    let mut live = End::connect(&front);
    live.send(b"x");
    assert_eq!(live.receive(1), b"x");
    mesh.a.signal(Signal::TERM);
    until("the door to close", LIMIT, || End::try_connect(&front).is_err().then_some(()));
    live.send(b"y");
    assert_eq!(live.receive(1), b"y");
    drop(live);
    assert!(mesh.a.wait(LIMIT).success());
}

#[test]
fn the_watchdog_is_told_nothing_once_the_threads_that_carry_streams_hang_or_the_admins_does() {
    need!("python3");
    need_that!(is_root(), "only root may stop single threads of another process (ptrace(2))");
    for threads in ["tokio-rt-worker", "admin"] {
        let manager = Manager::start();
        let (mesh, _echo) = mesh(&manager, &[&Address::any_port()], "WATCHDOG_USEC=400000");
        let told = || manager.said().iter().filter(|said| *said == "WATCHDOG=1").count();
        let before = told();
        until("signs of life", LIMIT, || (told() >= before + 3).then_some(()));
        // when these threads stand still, and no other
        let _stopped = Stopped::of(&mesh.a.pid().as_raw_nonzero().to_string(), threads);
        // then there is no sign of life for more than twice the limit
        until_still("the signs of life", Duration::from_secs(1), told);
        if threads == "admin" {
            mesh.a.until_logged("the admin's thread has not answered within 100ms; the watchdog is told nothing");
        }
    }
}

#[test]
fn a_listener_takes_the_socket_that_has_its_name_in_a_socket_unit_at_each_start() {
    need!("python3");
    let manager = Manager::start();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = Address::Tcp(socket.local_addr().unwrap());
    manager.binds("redis", socket);
    let (mut mesh, _echo) = mesh_with(&manager, &[], &listener("systemd:redis", ""), "");
    End::try_echo(&at).unwrap();
    assert_eq!(manager.kept(), Vec::<String>::new(), "systemd has it anyway");
    // and while the agent drains and is away, who connects waits for the next one
    mesh.a.stop();
    let mut waiting = End::connect(&at);
    waiting.send(b"x");
    mesh.a.restart();
    assert_eq!(waiting.receive(1), b"x");
    // and a reload leaves it alone, and cannot give it another name
    mesh.a.edit(|text| text.replace("systemd:redis", "systemd:other"));
    reload(&manager, &mesh.a);
    mesh.a.until_logged("listening on systemd:other: no socket of this name was given to the agent");
    End::try_echo(&at).unwrap();
}

#[test]
fn sockets_of_a_unit_are_found_by_their_address_and_their_files_stay() {
    need!("python3");
    let manager = Manager::start();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let doors = [Address::Tcp(socket.local_addr().unwrap()), unix(&manager, "front")];
    manager.binds("adit.socket", socket);
    manager.binds("adit.socket", UnixListener::bind(manager.path("front")).unwrap());
    let (mut mesh, _echo) = mesh(&manager, &[&doors[0], &doors[1]], "");
    doors.iter().for_each(|door| End::try_echo(door).unwrap());
    assert_eq!(manager.kept(), Vec::<String>::new());
    mesh.a.stop();
    assert!(fs::symlink_metadata(manager.path("front")).unwrap().file_type().is_socket(), "it is not the agent's");
    let mut waiting: Vec<_> = doors.iter().map(End::connect).collect();
    mesh.a.restart();
    for client in &mut waiting {
        client.send(b"x");
        assert_eq!(client.receive(1), b"x");
    }
}

#[test]
fn a_socket_that_is_not_given_or_open_to_other_hosts_is_an_error_at_the_start() {
    need!("python3");
    let manager = Manager::start();
    manager.binds("far", TcpListener::bind("0.0.0.0:0").unwrap());
    for (name, expose, words) in [
        (
            "near",
            "",
            "listening on systemd:near: no socket of this name was given to the agent; let FileDescriptorName=",
        ),
        ("far", "", "listening on systemd:far: its socket listens on 0.0.0.0:"),
        (
            "far",
            "expose = false",
            "open to other hosts; let ListenStream= of its .socket unit name 127.0.0.1 or [::1], or",
        ),
    ] {
        let dir = alone(&format!("[outbound]\n{}", listener(&format!("systemd:{name}"), expose)));
        let file = dir.path().join("adit.toml").display().to_string();
        let mut command = leading(&manager);
        let ended = run(command.args(["run", "--config", &file]), LIMIT);
        assert_eq!(ended.status.code(), Some(1));
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
        assert!(!manager.said().iter().any(|said| said.contains("READY=1")));
        // and a check says that it cannot know
        let checked = adit(&["check", &file]);
        assert!(checked.status.success(), "{}", checked.all());
        assert!(checked.stderr.contains(&format!("not checked: whether systemd gives the socket systemd:{name} of")));
    }
}

#[test]
fn credentials_are_read_from_the_folder_that_the_manager_names() {
    let dir = alone("[admin]\nlisten = \"127.0.0.1:0\"\n");
    let file = dir.path().join("adit.toml");
    let whole = fs::read_to_string(&file).unwrap();
    let folder = dir.path().display().to_string();
    fs::write(&file, whole.replace(&format!("\"{folder}/"), "\"credential:")).unwrap();
    let named = format!("CREDENTIALS_DIRECTORY={folder}");
    let mut agent = Agent::start_inside("the agent", dir.path(), &["env".to_owned(), named]);
    agent.stop();
    // and without it
    let refused = Agent::fail_to_start(dir.path());
    let words = "credential:ca.pem: cannot be found: CREDENTIALS_DIRECTORY is not set; let LoadCredential= of";
    assert!(refused.stderr.contains(words), "{}", refused.stderr);
    let checked = adit(&["check", &file.display().to_string()]);
    assert!(
        checked.status.success() && checked.stderr.contains("not checked: the files of [tls]"),
        "{}",
        checked.all()
    );
}

/// Two hosts, of which A is under `manager`, which has heard that A is ready: B's echo, at each of these doors of A.
fn mesh(manager: &Manager, doors: &[&Address], variable: &str) -> (Mesh, Service) {
    mesh_with(manager, doors, "", variable)
}

fn mesh_with(manager: &Manager, doors: &[&Address], more: &str, variable: &str) -> (Mesh, Service) {
    let echo = Service::start(Wire::Tcp, "echo");
    let variables: Vec<_> = [variable].into_iter().filter(|variable| !variable.is_empty()).collect();
    let leads = manager.leads(&variables);
    let leads: Vec<_> = leads.iter().map(String::as_str).collect();
    let more: String = doors.iter().map(|door| listener(&door.to_string(), "")).collect::<String>() + more;
    let plan = Mesh::plan().service(ECHO, echo.address()).a_inside(&leads).a_also(&more);
    let mesh = plan.start();
    // a manager hears in its own time: a test that looks at what it keeps waits for the last word of the start
    manager.until_said("READY=1");
    (mesh, echo)
}

fn listener(listen: &str, more: &str) -> String {
    format!("\n[[outbound.listener]]\nlisten = \"{listen}\"\nto = \"{ECHO}\"\n{more}")
}

/// A TCP door of loopback, which nobody else can take: an agent before this one has left its socket with `manager`.
fn tcp(manager: &Manager) -> Address {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = Address::Tcp(socket.local_addr().unwrap());
    manager.keeps(&fd_name(&at), socket);
    at
}

fn unix(manager: &Manager, name: &str) -> Address {
    Address::Unix(manager.path(name))
}

/// What a door's socket is called among those that are kept.
fn fd_name(door: &Address) -> String {
    door.to_string().replace(':', ",")
}

/// Lets the agent read its file again, and waits until it says that it has.
fn reload(manager: &Manager, agent: &Agent) {
    manager.forget();
    agent.signal(Signal::HUP);
    manager.until_said("READY=1");
}

/// `adit` under this manager.
fn leading(manager: &Manager) -> Command {
    let leads = manager.leads(&[]);
    let mut command = Command::new(&leads[0]);
    command.args(&leads[1..]).arg(binary());
    command
}
