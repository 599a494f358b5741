//! Packets of captured connections that netfilter or routing would lead astray: nothing of them leaves the host in the clear.

use std::{
    io::{self, ErrorKind},
    time::Duration,
};

use adit_tests::{
    end::End,
    field::{Field, Mode, Road, Tool},
    need, need_the_field,
    netns::{Family, Host, Recording},
    roads,
    wait::{LIMIT, until},
};

roads! {
    what_is_bound_to_an_interface_fails_and_does_not_leave: captured;
    a_captured_connection_that_connection_tracking_forgets_does_not_leave: captured;
    a_port_that_an_earlier_connection_had_makes_no_way_past_the_rules: captured;
}

/// Long enough for a SYN to have been sent again, which goes the first one's way.
const PATIENCE: Duration = Duration::from_secs(2);

const TPROXY: [Road; 3] = [
    Road::Captured(Tool::Nftables, Mode::Tproxy),
    Road::Captured(Tool::IptablesNft, Mode::Tproxy),
    Road::Captured(Tool::IptablesLegacy, Mode::Tproxy),
];

fn assert_nothing_left(wire: &Recording<'_>, what: &str) {
    assert_eq!(wire.frames("tcp and not port 4143"), Vec::<String>::new(), "{what}");
}

/// A connection on which both sides have spoken.
fn open(field: &Field, family: Family, port: u16) -> (End, End) {
    let service = field.service(port);
    let (mut client, mut server) = field.ends(family, &service);
    client.send(b"ask");
    assert_eq!(server.receive(3), b"ask");
    server.send(b"answer");
    assert_eq!(client.receive(6), b"answer");
    (client, server)
}

fn shell(field: &Field, host: Host, words: &str) {
    let _ = field.hosts.say(host, &["sh", "-ec", words]).expect_success();
}

/// The kernel routes what is bound to an interface by that interface, whatever has become of its destination or its mark.
fn what_is_bound_to_an_interface_fails_and_does_not_leave(road: Road) {
    let field = road.walk();
    let service = field.service(7000);
    shell(&field, Host::A, "ip route add default via 10.77.0.3; ip -6 route add default via fd77::3");
    let wire = field.hosts.listen();
    for family in Family::BOTH {
        let at = Host::B.at(family, 7000);
        let bound: io::Result<End> = field.hosts.on(Host::A, || End::try_connect_by("eth0", &at, PATIENCE));
        assert_eq!(bound.err().map(|error| error.kind()), Some(ErrorKind::TimedOut), "{family:?}");
    }
    assert_nothing_left(&wire, "bound to eth0");
    assert!(!service.has_caller());
}

/// With `nf_conntrack_tcp_loose` it takes the connection up again, by whoever speaks next; without, it knows nothing of it.
fn a_captured_connection_that_connection_tracking_forgets_does_not_leave(road: Road) {
    need!("conntrack");
    let field = road.walk();
    let in_place = matches!(road, Road::Captured(_, Mode::Tproxy));
    let received = || field.a().metric("adit_stream_bytes_total{direction=\"outbound\",way=\"received\"}");
    let mut port = 7000;
    for loose in [1, 0] {
        for app_first in [true, false] {
            for family in Family::BOTH {
                let case = format!("loose {loose}, the application first: {app_first}, {family:?}");
                let (mut client, mut server) = open(&field, family, port);
                port += 1;
                let wire = field.hosts.listen();
                let so_far = received();
                shell(
                    &field,
                    Host::A,
                    &format!("sysctl -qw net.netfilter.nf_conntrack_tcp_loose={loose}; conntrack -F 2>&1"),
                );
                if !app_first {
                    server.send(b"news");
                    until("the agent to have passed it on", LIMIT, || (received() > so_far).then_some(()));
                }
                let secret = format!("a secret: {case}");
                // where only the destination was rewritten it may go on, and else it fails
                if in_place || (loose == 1 && app_first) {
                    client.send(secret.as_bytes());
                    assert_eq!(server.receive(secret.len()), secret.as_bytes(), "{case}");
                    if !app_first {
                        assert_eq!(client.receive(4), b"news", "{case}");
                    }
                } else {
                    assert!(client.failure_after(secret.as_bytes()).is_some(), "{case}");
                }
                assert!(!wire.holds(&secret), "{case}");
                assert_nothing_left(&wire, &case);
                shell(&field, Host::A, "sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1");
            }
        }
    }
}

/// As a network manager leaves it that takes away what it did not put there.
#[test]
fn without_its_routing_rules_nothing_leaves_and_all_goes_on_once_they_are_back() {
    need_the_field!();
    for road in TPROXY {
        let field = road.walk();
        let mut pairs = [(Family::V4, 7000), (Family::V6, 7001)].map(|(family, port)| open(&field, family, port));
        let wire = field.hosts.listen();
        shell(&field, Host::A, "ip rule del pref 173; ip -6 rule del pref 173");
        for (client, _) in &mut pairs {
            client.send(b"a secret under way");
        }
        for (family, port) in [(Family::V4, 7000), (Family::V6, 7001)] {
            let new = field.hosts.on(Host::A, || End::try_connect_within(&Host::B.at(family, port), PATIENCE));
            assert_eq!(new.err().map(|error| error.kind()), Some(ErrorKind::TimedOut), "{road:?} {family:?}");
        }
        assert!(!wire.holds("a secret under way"), "{road:?}");
        assert_nothing_left(&wire, &format!("{road:?}"));
        let _ = field.rules("apply");
        for (_, server) in &mut pairs {
            assert_eq!(server.receive(18), b"a secret under way", "{road:?}");
        }
    }
}

#[test]
fn what_a_service_answers_a_client_that_the_agent_stands_for_does_not_leave() {
    need_the_field!();
    need!("conntrack");
    let services =
        "[[inbound.capture]]\nports = [\"7000-7020\"]\nallow = [\"a.adit.example\"]\nsource = \"transparent\"\n";
    let lost = [
        "sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1; conntrack -F 2>&1",
        "sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0; conntrack -F 2>&1",
        "ip rule del pref 173; ip -6 rule del pref 173",
    ];
    for road in TPROXY {
        let field = Field::plan().services(services).start(road);
        let mut port = 7000;
        for how in lost {
            for family in Family::BOTH {
                let _ = field.rules_on(Host::B, &["apply"]).expect_success();
                shell(&field, Host::B, "sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1");
                let (_client, mut server) = open(&field, family, port);
                port += 1;
                let wire = field.hosts.listen();
                shell(&field, Host::B, how);
                // when the service speaks next, then its client hears nothing, and nobody else does
                server.send(b"a service's secret");
                let sent =
                    || field.hosts.say(Host::B, &["ss", "-Htn", "sport", &format!(":{}", port - 1)]).expect_success();
                until("the answer to be sent again", LIMIT, || sent().contains("18").then_some(()));
                assert!(!wire.holds("a service's secret"), "{road:?} {family:?}: {how}");
                assert_nothing_left(&wire, how);
            }
        }
    }
}

/// Connection tracking keeps an entry for a while, or for days where an end was lost, and NAT never looks at it again.
fn a_port_that_an_earlier_connection_had_makes_no_way_past_the_rules(road: Road) {
    let field = Field::plan().start_without_rules(road);
    let service = field.service(7000);
    shell(
        &field,
        Host::A,
        "nft 'add table inet tracks; add chain inet tracks first { type filter hook output priority 0; }; \
         add rule inet tracks first ct state new counter'",
    );
    let call = |family, port| {
        let from = Host::A.at(family, port);
        field.hosts.on(Host::A, || End::try_connect_from(&from, &Host::B.at(family, 7000)))
    };
    // given a connection that was reset by the service before there were rules
    for (family, port) in [(Family::V4, 20_000), (Family::V6, 20_001)] {
        let mut before = call(family, port).unwrap();
        before.send(b"ask");
        let mut server = service.accept();
        assert_eq!(server.receive(3), b"ask");
        server.reset();
        assert!(before.failure().is_some());
    }
    let _ = field.rules("apply");
    let wire = field.hosts.listen();
    for (family, port) in [(Family::V4, 20_000), (Family::V6, 20_001)] {
        // when an application connects from the same port again, then it is captured, or refused where NAT cannot
        let mode_is = |mode| matches!(road, Road::Captured(_, of) if of == mode);
        match call(family, port) {
            Ok(mut again) => {
                again.send(b"a secret of later");
                assert_eq!(service.accept().receive(17), b"a secret of later");
            }
            Err(error) => {
                assert!(mode_is(Mode::Redirect), "{error}");
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            }
        }
        assert_nothing_left(&wire, &format!("{family:?}"));
    }
}
