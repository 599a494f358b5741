//! What a flight keeps and what it lets go.

use adit_protocol::Code;

use super::{past::GOOD, *};
use crate::end::{End, Side};

#[test]
fn a_thousand_failed_attempts_leave_bounded_marks_and_room_for_what_comes_after() {
    let flight = Flight::since(Instant::now());
    for _ in 0..1000 {
        flight.note(What::Chosen(Address::Tcp(([127, 0, 0, 1], 1).into()), Pick::default()));
        flight.failed(&"é".repeat(10_000));
    }
    flight.note(What::Opened);
    flight.note(What::FirstSent);
    let (marks, left_out) = flight.marks_so_far();
    assert_eq!(marks.len() + left_out as usize, 2002);
    assert!(marks.len() <= MOST_MARKS, "{} marks", marks.len());
    assert_eq!(marks.last().map(|mark| &mark.what), Some(&What::FirstSent));
    let longest =
        marks.iter().filter_map(|mark| if let What::Failed(why) = &mark.what { Some(why.len()) } else { None });
    assert!(longest.max() <= Some(LONGEST_WORDS));
}

#[test]
fn the_first_end_counts() {
    let flight = Flight::since(Instant::now());
    flight.ended(&Ending::new(End::Refused(adit_protocol::RefusalCode::Known(Code::Denied)), Side::Peer, "no"));
    flight.ended(&Ending::closed());
    assert_eq!(flight.end().map(|(_, ending)| ending.detail.as_str()), Some("no"));
}

#[test]
fn good_flights_never_push_out_a_failed_one() {
    let mut past = Past::default();
    past.keep(0, true);
    for good in 1..=GOOD * 3 {
        past.keep(good, false);
    }
    let kept = past.all();
    assert!(kept.contains(&0));
    assert_eq!(kept.len(), GOOD + 1);
    assert!(kept.contains(&(GOOD * 3)) && !kept.contains(&GOOD));
}

#[test]
fn a_socket_is_looked_at_only_while_it_is_lent() {
    let flight = Flight::since(Instant::now());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let one = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let other = listener.accept().unwrap().0;
    assert!(flight.sockets().is_none());
    let lending = flight.lends(&one, &other);
    assert!(flight.sockets().is_some());
    drop(lending);
    assert!(flight.sockets().is_none());
}
