//! The agent dies with its rules in place: what they capture fails, and none of it leaves the host in the clear.

use std::{
    io::{self, ErrorKind},
    time::Duration,
};

use adit_tests::{
    end::End,
    field::{Field, Mode, Road, Tool},
    load::{Load, Service},
    netns::{Family, Host},
    roads,
    wait::{LIMIT, until},
};

roads! {
    a_killed_agent_leaves_connections_that_fail_and_no_plaintext: captured;
    a_killed_agent_that_passed_connections_on_does_so_no_more: captured;
    what_is_not_captured_needs_no_agent: captured;
}

/// Long enough for a SYN to have been sent again, which goes the first one's way.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says `secret` to this port of B; how that failed.
fn tell(field: &Field, family: Family, port: u16, secret: &str) -> Option<ErrorKind> {
    match field.hosts.on(Host::A, || End::try_connect_within(&Host::B.at(family, port), PATIENCE)) {
        Ok(mut end) => end.failure_after(secret.as_bytes()),
        Err(error) => Some(error.kind()),
    }
}

/// How a connection fails for which there is no agent: at once, but that the TPROXY target of iptables drops what it finds
/// no socket for, and the application waits as long as it would for a host that is down.
fn no_agent(road: Road) -> ErrorKind {
    match road {
        Road::Captured(Tool::IptablesNft | Tool::IptablesLegacy, Mode::Tproxy) => ErrorKind::TimedOut,
        Road::Captured(..) | Road::Direct => ErrorKind::ConnectionRefused,
    }
}

fn talk(field: &Field, family: Family, port: u16) -> io::Result<()> {
    field.hosts.on(Host::A, || End::try_echo(&Host::B.at(family, port)))
}

fn a_killed_agent_leaves_connections_that_fail_and_no_plaintext(road: Road) {
    // given connections that are captured, one of them open, and others that come all the time
    let mut field = road.walk();
    let _echo = Service::start_inside(&field.hosts.enter(Host::B), "echo", "[::]:7000");
    let service = field.service(7001);
    let (mut open, mut far) = field.ends(Family::V4, &service);
    open.send(b"before");
    assert_eq!(far.receive(6), b"before");
    let at = Host::B.at(Family::V4, 7000).to_string();
    let mut steady = Load::start_inside(&field.hosts.enter(Host::A), &["steady", &at, "4", "1"]);
    let _ = steady.until("begun", LIMIT);
    until("a stream to be open", LIMIT, || (streams(&field) > 8.0).then_some(()));
    field.a_mut().kill();
    let wire = field.hosts.listen();
    // when the agent was killed, then the open connection is reset at both ends
    assert_eq!(open.failure_after(b"after"), Some(ErrorKind::ConnectionReset));
    assert!(far.failure().is_some());
    // and new ones fail, over either family, each time
    for round in 0..3 {
        for family in Family::BOTH {
            let failure = tell(&field, family, 7000, "a secret of the dead");
            assert_eq!(failure, Some(no_agent(road)), "{round} over {family:?}");
        }
    }
    // and nothing of all that has left the host
    assert!(!wire.holds("a secret of the dead"));
    assert!(!wire.holds("sixty-four bytes"));
    assert_eq!(wire.frames("tcp and not port 4143"), Vec::<String>::new());
    // and once it is back, all is well
    field.a_mut().restart();
    for family in Family::BOTH {
        talk(&field, family, 7000).unwrap();
    }
    let done = steady.rest(LIMIT);
    assert!(done.iter().any(|report| report["event"] == "failed"), "the load has met the dead agent: {done:?}");
}

/// Streams that were asked for at A's doors.
fn streams(field: &Field) -> f64 {
    field.a().metric("adit_streams_opened_total{direction=\"outbound\"}")
}

fn a_killed_agent_that_passed_connections_on_does_so_no_more(road: Road) {
    let plan = Field::plan().table("/dst/{ip}/7000 => /$/inet/{ip}/4143 ;").door("unmatched = \"pass\"\n");
    let mut field = plan.start(road);
    let _echo = Service::start_inside(&field.hosts.enter(Host::B), "echo", "[::]:7001");
    for family in Family::BOTH {
        talk(&field, family, 7001).unwrap();
    }
    field.a_mut().kill();
    let wire = field.hosts.listen();
    for family in Family::BOTH {
        let failure = tell(&field, family, 7001, "not even this");
        assert_eq!(failure, Some(no_agent(road)), "{family:?}");
    }
    assert!(!wire.holds("not even this"));
    assert!(wire.frames("tcp port 7001").is_empty());
}

fn what_is_not_captured_needs_no_agent(road: Road) {
    let include =
        "[[outbound.redirect.include]]\nport = [7000]\n\n[[outbound.redirect.exclude]]\nnet = [\"fd77::/64\"]\n";
    let mut field = Field::plan().includes(include).door("unmatched = \"pass\"\n").start(road);
    let _echoes = ["[::]:7000", "[::]:7001"].map(|at| Service::start_inside(&field.hosts.enter(Host::B), "echo", at));
    field.a_mut().kill();
    for (family, port, goes) in
        [(Family::V4, 7000, false), (Family::V4, 7001, true), (Family::V6, 7000, true), (Family::V6, 7001, true)]
    {
        let echoed = field.hosts.on(Host::A, || End::try_connect_within(&Host::B.at(family, port), PATIENCE));
        let failure = echoed.err().map(|error| error.kind());
        assert_eq!(failure, (!goes).then_some(no_agent(road)), "{family:?} {port}");
    }
}
