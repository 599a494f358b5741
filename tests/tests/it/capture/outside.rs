//! What the rules must let alone or bring in: the agent's own traffic, connections of containers, hosts without an agent.

use std::{
    fs,
    io::ErrorKind,
    net::IpAddr,
    process::{self, Command},
};

use adit_tests::{
    address::Address,
    agent::adit,
    cgroup::{self, Group},
    end::End,
    field::{self, Field, Mode, Road, Tool},
    load::{Load, Service},
    need_the_field,
    netns::{Family, Host, inside},
    roads,
    wait::{LIMIT, until},
};

roads! {
    the_agents_own_traffic_is_not_captured: captured;
    an_agent_with_one_capability_of_roots_does_all_of_it: captured;
    a_containers_connections_are_captured_on_their_way_out: all;
    the_agents_own_traffic_is_told_by_its_user_where_it_has_no_mark: redirecting;
    with_strict_rules_a_service_is_reached_through_the_agent_only: redirecting;
    hosts_that_are_all_alike_capture_and_serve_each_other: captured;
}

fn echo(field: &Field, host: Host, at: &str) -> Service {
    Service::start_inside(&field.hosts.enter(host), "echo", at)
}

/// So many connections come to so many streams, and no more: one that came back would be a stream each time around.
fn assert_no_loop(field: &Field, calls: u64) {
    for family in Family::BOTH {
        let at = Host::B.at(family, 7000).to_string();
        let mut storm = Load::start_inside(&field.hosts.enter(Host::A), &["storm", &at, &calls.to_string(), "4"]);
        let done = storm.until("done", LIMIT);
        assert_eq!((&done["answered"], &done["failed"]), (&calls.into(), &0.into()), "{done}");
    }
    #[allow(clippy::cast_precision_loss, reason = "a few connections")]
    let expected = 2.0 * calls as f64;
    assert_eq!(streams(field), expected);
    assert_eq!(field.a().metric("adit_not_captured_total{why=\"loop\"}"), 0.0);
}

/// The default includes are every port of B, its tunnel door among them; the agent runs as root.
fn the_agents_own_traffic_is_not_captured(road: Road) {
    let field = road.walk();
    let _echo = echo(&field, Host::B, "[::]:7000");
    assert_no_loop(&field, 50);
    // and so is what it passes on
    let field = Field::plan().table("/svc => /$/inet/10.77.0.2/4143").door("unmatched = \"pass\"\n").start(road);
    let _echo = echo(&field, Host::B, "[::]:7000");
    for family in Family::BOTH {
        field.hosts.on(Host::A, || End::try_echo(&Host::B.at(family, 7000))).unwrap();
    }
    assert_eq!(field.a().metric("adit_streams_opened_total{direction=\"passed\"}"), 2.0);
    // and so is told when somebody asks why
    let socket = field.a().dir().join("admin.sock").display().to_string();
    let told = until("the passed streams to end", LIMIT, || {
        Some(adit(&["why", "--socket", &socket]).expect_success())
            .filter(|told| told.matches("it went well").count() == 2)
    });
    assert_eq!(told.matches("  passed  ").count(), 2, "{told}");
}

fn the_agents_own_traffic_is_told_by_its_user_where_it_has_no_mark(road: Road) {
    let plan = Field::plan().a_also("[netfilter]\nmark = \"off\"\nuser = \"daemon\"\n").a_runs_as("daemon", &[]);
    let field = plan.start(road);
    let _echo = echo(&field, Host::B, "[::]:7000");
    assert_no_loop(&field, 50);
}

/// The mark on its sockets, the transparent door, and whose connections come: as a unit with `AmbientCapabilities=`.
fn an_agent_with_one_capability_of_roots_does_all_of_it(road: Road) {
    let rules = "\n[[outbound.workload]]\nuser = \"root\"\nallow = true\n\n[[outbound.workload]]\ndeny = true\n";
    let field = Field::plan().a_also(rules).a_runs_as("daemon", &["net_admin"]).start(road);
    let _echo = echo(&field, Host::B, "[::]:7000");
    assert_no_loop(&field, 20);
    field.b().until_logged("workload=\"(root)\"");
    // The user of a process, as its status has it: real, effective, saved, of files.
    let status = fs::read_to_string(format!("/proc/{}/status", field.a().pid().as_raw_nonzero())).unwrap();
    assert!(!status.contains("\nUid:\t0"), "{status}");
}

#[test]
fn a_rule_of_others_that_brings_passed_connections_back_is_a_loop_that_ends() {
    need_the_field!();
    // given a rule that knows nothing of the agent's mark
    let plan = Field::plan().table("/svc => /$/inet/10.77.0.2/4143").door("unmatched = \"pass\"\n");
    let field = plan.start(Road::Captured(Tool::Nftables, Mode::Redirect));
    let rule = "add table ip others; add chain ip others o { type nat hook output priority -150; }; \
                add rule ip others o tcp dport 7000 redirect to :4140";
    let _ = field.hosts.say(Host::A, &["nft", rule]).expect_success();
    // when an application connects
    let mut caller = field.hosts.on(Host::A, || End::connect(&Host::B.at(Family::V4, 7000)));
    // then it is reset, once the agent has met itself too often
    assert_eq!(caller.failure(), Some(ErrorKind::ConnectionReset));
    field.a().until_logged("9 hops are more than 8");
    assert_eq!(field.a().metric("adit_streams_opened_total{direction=\"passed\"}"), 9.0);
}

#[test]
fn a_connection_to_the_door_itself_is_refused_as_a_loop() {
    need_the_field!();
    for mode in [Mode::Redirect, Mode::Tproxy] {
        let field = Road::Captured(Tool::Nftables, mode).walk();
        for (door, so_far) in [("127.0.0.1:4140", 1.0), ("[::1]:4140", 2.0)] {
            let mut caller = field.hosts.on(Host::A, || End::connect(&Address::parse(door)));
            assert_eq!(caller.failure(), Some(ErrorKind::ConnectionReset), "{mode:?} {door}");
            assert_eq!(field.a().metric("adit_not_captured_total{why=\"loop\"}"), so_far, "{mode:?} {door}");
        }
    }
}

fn a_containers_connections_are_captured_on_their_way_out(road: Road) {
    // given rules about what comes in by docker0; with REDIRECT it comes to that interface's own address
    let include = "[[outbound.redirect.include]]\nfrom = \"forwarded\"\ninterface = [\"docker0\"]\nport = [7000]\n";
    let door = match road {
        Road::Captured(_, Mode::Redirect) => "listen = [\"0.0.0.0:4140\", \"[::]:4140\"]\nexpose = true\n",
        Road::Captured(_, Mode::Tproxy) | Road::Direct => "",
    };
    let field = Field::plan().includes(include).door(door).start(road);
    let service = field.service(7000);
    let wire = field.hosts.listen();
    for family in Family::BOTH {
        // when a container behind A connects to B
        let mut client = field.hosts.on(Host::Container, || End::connect(&Host::B.at(family, 7000)));
        let mut server = service.accept();
        let secret = format!("a container's secret over {family:?}");
        client.send(secret.as_bytes());
        assert_eq!(server.receive(secret.len()), secret.as_bytes());
        server.send(b"understood");
        server.finish();
        assert_eq!(client.receive_rest(), b"understood");
        // then what it says crosses the wire in a tunnel, and the record has the container's own address
        field.assert_unheard(&wire, &secret);
        if road.is_captured() {
            let from = client.address().to_string();
            drop((client, server));
            field.a().until_logged(&format!("from={from}"));
        }
    }
    if road.is_captured() {
        // and what is not included goes on to be forwarded
        let plain = field.service(7001);
        let mut client = field.hosts.on(Host::Container, || End::connect(&Host::B.at(Family::V4, 7001)));
        client.send(b"plain");
        assert_eq!(plain.accept().receive(5), b"plain");
        assert!(wire.holds("plain"));
    }
}

fn with_strict_rules_a_service_is_reached_through_the_agent_only(road: Road) {
    // given an echo service on B, and rules there that are strict about the ports it captures
    let services = "[[inbound.capture]]\nports = [7000]\nallow = [\"a.adit.example\"]\n";
    let field = Field::plan().services(&format!("strict = true\n\n{services}")).start(road);
    let _echo = echo(&field, Host::B, "[::]:7000");
    let _other = echo(&field, Host::B, "[::]:7001");
    let talk = |from: Host, family, port| {
        let echoed = field.hosts.on(from, || End::try_echo(&Host::B.at(family, port)));
        echoed.map_err(|error| error.kind())
    };
    for family in Family::BOTH {
        assert_eq!(talk(Host::C, family, 7000), Ok(()), "the rules are not there yet");
    }
    let _ = field.rules_on(Host::B, &["apply"]).expect_success();
    for family in Family::BOTH {
        // when a host without an agent connects, then it is refused, and at once
        assert_eq!(talk(Host::C, family, 7000), Err(ErrorKind::ConnectionRefused), "{family:?}");
        // and through the agent, or from the host itself, or to another port, all is well
        assert_eq!(talk(Host::A, family, 7000), Ok(()), "{family:?}");
        assert_eq!(talk(Host::B, family, 7000), Ok(()), "{family:?}");
        assert_eq!(talk(Host::C, family, 7001), Ok(()), "{family:?}");
    }
    let _ = field.rules_on(Host::B, &["remove"]).expect_success();
    for family in Family::BOTH {
        assert_eq!(talk(Host::C, family, 7000), Ok(()), "the rules are gone");
    }
}

fn hosts_that_are_all_alike_capture_and_serve_each_other(road: Road) {
    // given two hosts that capture all there is, serve one port, and are strict about it
    let serves = |allow| format!("strict = true\n\n[[inbound.capture]]\nports = [7000]\nallow = [\"{allow}\"]\n");
    let plan = Field::plan().services(&serves(field::A));
    let (outbound, door) = (plan.outbound(road), "\n[inbound]\nlisten = [\"0.0.0.0:4143\", \"[::]:4143\"]\n");
    let field = plan.a_also(door).a_also(&serves(field::B)).b_also(&outbound).start(road);
    let _ = field.rules_on(Host::B, &["apply"]).expect_success();
    let _echoes = [echo(&field, Host::A, "[::]:7000"), echo(&field, Host::B, "[::]:7000")];
    let wire = field.hosts.listen();
    for family in Family::BOTH {
        let talk = |from, to: Host| field.hosts.on(from, || End::try_echo(&to.at(family, 7000)));
        // when each calls the other, then that is one stream at each end, and none that goes round
        talk(Host::A, Host::B).unwrap();
        talk(Host::B, Host::A).unwrap();
        // and a host that calls itself is let alone, and one that has no agent is refused
        for host in [Host::A, Host::B] {
            talk(host, host).unwrap();
            assert_eq!(talk(Host::C, host).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
    }
    for agent in [field.a(), field.b()] {
        for direction in ["outbound", "inbound"] {
            let streams = format!("adit_streams_opened_total{{direction=\"{direction}\"}}");
            assert_eq!(agent.metric(&streams), 2.0, "{direction}");
        }
    }
    assert_eq!(wire.frames("tcp and not port 4143 and not host 10.77.0.3 and not host fd77::3"), Vec::<String>::new());
}

#[test]
fn only_the_users_and_groups_that_are_included_are_captured() {
    need_the_field!();
    for tool in [Tool::Nftables, Tool::IptablesNft, Tool::IptablesLegacy] {
        // given rules about the port 7000 of one user, the port 7001 of one group, and none of a third
        let includes = "[[outbound.redirect.include]]\nport = [7000]\nuser = [\"daemon\"]\n\n\
                        [[outbound.redirect.include]]\nport = [7001]\ngroup = [\"www-data\"]\n\n\
                        [[outbound.redirect.exclude]]\nnet = [\"fd77::/64\"]\n";
        let field = Field::plan().includes(includes).start(Road::Captured(tool, Mode::Redirect));
        let _echoes = [echo(&field, Host::B, "[::]:7000"), echo(&field, Host::B, "[::]:7001")];
        let mut expected = 0.0;
        for (user, port, family, is_captured) in [
            ("daemon", 7000, Family::V4, true),
            ("daemon", 7001, Family::V4, false),
            ("www-data", 7000, Family::V4, false),
            ("www-data", 7001, Family::V4, true),
            ("nobody", 7000, Family::V4, false),
            ("daemon", 7000, Family::V6, false),
        ] {
            // when somebody connects, then only what is included comes to the agent
            let mut command = Command::new("setpriv");
            let group = if user == "nobody" { "nogroup" } else { user };
            command.args(["--reuid", user, "--regid", group, "--clear-groups", "bash", "-c"]);
            command.arg(conversation(Host::B.ip(family), port));
            assert_eq!(field.hosts.run(Host::A, &command).expect_success(), "hello\n", "{user} to {port}");
            expected += f64::from(u8::from(is_captured));
            assert_eq!(streams(&field), expected, "{tool:?}: {user} to {port} over {family:?}");
        }
    }
}

#[test]
fn only_the_control_groups_that_are_included_are_captured() {
    need_the_field!();
    for (number, tool) in [Tool::Nftables, Tool::IptablesNft, Tool::IptablesLegacy].into_iter().enumerate() {
        // given rules about the connections of one control group; the tool looks it up where it is mounted
        let outer = Group::make(&format!("adit-{}-{number}", process::id()));
        let group = Group::make(&format!("{}/within", outer.path()));
        let include = format!("[[outbound.redirect.include]]\nport = [7000]\ncgroup = [\"{}\"]\n", group.path());
        let road = Road::Captured(tool, Mode::Redirect);
        let field = Field::plan().includes(&include).start_without_rules(road);
        let _ = field.rules_within(Host::A, &cgroup::MOUNT, &["apply"]).expect_success();
        let _echo = echo(&field, Host::B, "[::]:7000");
        let mut outside = Command::new("bash");
        outside.args(["-c", &conversation(Host::B.ip(Family::V4), 7000)]);
        let within = inside(&group.enter(), &outside);
        // when a process outside of it connects, then it is not captured; within it is
        for (command, expected) in [(outside, 0.0), (within, 1.0)] {
            assert_eq!(field.hosts.run(Host::A, &command).expect_success(), "hello\n");
            assert_eq!(streams(&field), expected, "{tool:?}");
        }
    }
}

/// What bash does to say a line and hear it.
fn conversation(ip: IpAddr, port: u16) -> String {
    format!("exec 3<>/dev/tcp/{ip}/{port} && echo hello >&3 && head -n 1 <&3")
}

/// Streams that were asked for at A's doors.
fn streams(field: &Field) -> f64 {
    field.a().metric("adit_streams_opened_total{direction=\"outbound\"}")
}
