//! What a captured connection carries: all of it, both ways, with each end when it comes and each reset as one.

use std::{io::ErrorKind, time::Duration};

use adit_tests::{
    end::End,
    field::Road,
    load::{Load, Service},
    netns::{Family, Host},
    roads,
};

const LIMIT: Duration = Duration::from_secs(120);

roads! {
    a_conversation_is_whole_over_both_families: all;
    half_close_lets_the_answer_through: main;
    a_reset_of_either_end_is_one_at_the_other: main;
    a_big_transfer_is_intact_both_ways: main;
    a_thousand_short_connections_lose_none: main;
    a_port_where_nobody_listens_fails: main;
}

fn a_conversation_is_whole_over_both_families(road: Road) {
    let field = road.walk();
    let service = field.service(7000);
    let wire = field.hosts.listen();
    for family in Family::BOTH {
        let (question, answer) = (format!("asked over {family:?}"), format!("answered over {family:?}"));
        let (mut client, mut server) = field.ends(family, &service);
        // The application sees its real peer, and so does getpeername.
        assert_eq!(client.other(), Host::B.at(family, 7000));
        client.send(question.as_bytes());
        assert_eq!(server.receive(question.len()), question.as_bytes());
        server.send(answer.as_bytes());
        assert_eq!(client.receive(answer.len()), answer.as_bytes());
        client.finish();
        assert_eq!(server.receive_rest(), b"");
        server.finish();
        assert_eq!(client.receive_rest(), b"");
        field.assert_unheard(&wire, &question);
        field.assert_unheard(&wire, &answer);
    }
}

fn half_close_lets_the_answer_through(road: Road) {
    let field = road.walk();
    let service = field.service(7000);
    for family in Family::BOTH {
        let (mut client, mut server) = field.ends(family, &service);
        // when the application ends its direction first
        client.send(b"the whole question");
        client.finish();
        assert_eq!(server.receive_rest(), b"the whole question");
        // then the answer still comes, and its end after it
        server.send(b"the whole answer");
        server.finish();
        assert_eq!(client.receive_rest(), b"the whole answer");
        // and the other way round
        let (mut client, mut server) = field.ends(family, &service);
        client.send(b"hello");
        assert_eq!(server.receive(5), b"hello");
        server.finish();
        assert_eq!(client.receive_rest(), b"");
        client.send(b"still here");
        client.finish();
        assert_eq!(server.receive_rest(), b"still here");
    }
}

fn a_reset_of_either_end_is_one_at_the_other(road: Road) {
    let field = road.walk();
    let service = field.service(7000);
    for family in Family::BOTH {
        let talk = || {
            let (mut client, mut server) = field.ends(family, &service);
            client.send(b"hello");
            assert_eq!(server.receive(5), b"hello");
            (client, server)
        };
        let (client, mut server) = talk();
        client.reset();
        assert_eq!(server.failure(), Some(ErrorKind::ConnectionReset));
        let (mut client, server) = talk();
        server.reset();
        assert_eq!(client.failure(), Some(ErrorKind::ConnectionReset));
    }
}

fn a_big_transfer_is_intact_both_ways(road: Road) {
    const SIZE: u64 = 64 << 20;
    let field = road.walk();
    let service = field.service(7000);
    for family in Family::BOTH {
        let (mut client, mut server) = field.ends(family, &service);
        // when both ends send at once, then each receives all of the other's
        assert_eq!(client.exchange(&mut server, SIZE), [SIZE; 2]);
    }
}

fn a_thousand_short_connections_lose_none(road: Road) {
    let field = road.walk();
    let _echo = Service::start_inside(&field.hosts.enter(Host::B), "echo", "[::]:7000");
    for family in Family::BOTH {
        let at = Host::B.at(family, 7000).to_string();
        let mut storm = Load::start_inside(&field.hosts.enter(Host::A), &["storm", &at, "1000", "16"]);
        let done = storm.until("done", LIMIT);
        assert_eq!((&done["answered"], &done["failed"], &done["hung"]), (&1000.into(), &0.into(), &0.into()), "{done}");
    }
}

fn a_port_where_nobody_listens_fails(road: Road) {
    let field = road.walk();
    for family in Family::BOTH {
        let address = Host::B.at(family, 7001);
        // Captured, connect() succeeds before the service is known to be up; then a reset comes, and never an end.
        let failure = match field.hosts.on(Host::A, || End::try_connect(&address)) {
            Ok(mut end) => end.failure(),
            Err(error) => Some(error.kind()),
        };
        let expected = if road.is_captured() { ErrorKind::ConnectionReset } else { ErrorKind::ConnectionRefused };
        assert_eq!(failure, Some(expected));
    }
}
