//! Who is slow, by the numbers alone: each case as a kernel would tell it.

use super::*;

const LONG: Duration = Duration::from_secs(12);
const JUST_NOW: Duration = Duration::from_millis(20);
const RTT: Duration = Duration::from_millis(2);

/// A connection on which nothing has moved for long, and nothing waits.
fn quiet() -> Socket {
    let tcp = TcpInfo { last_ack: LONG, last_received: LONG, last_sent: LONG, rtt: RTT, ..TcpInfo::default() };
    Socket { unread: 0, untaken: 0, tcp: Some(tcp) }
}

fn with(socket: Socket, change: impl FnOnce(&mut TcpInfo)) -> Socket {
    let mut tcp = socket.tcp.unwrap();
    change(&mut tcp);
    Socket { tcp: Some(tcp), ..socket }
}

/// Bytes wait behind a closed window; its other end still answers probes.
fn shut_out() -> Socket {
    with(Socket { untaken: 65_536, ..quiet() }, |tcp| {
        (tcp.unsent, tcp.probes, tcp.last_ack) = (65_536, 3, JUST_NOW);
    })
}

#[test]
fn each_case_is_told_by_its_numbers() {
    let both_open = (false, false);
    let asked = with(quiet(), |tcp| tcp.last_sent = LONG / 2);
    let answered = with(quiet(), |tcp| tcp.last_received = LONG / 2);
    let moving = with(quiet(), |tcp| tcp.last_received = JUST_NOW);
    let lost = with(Socket { untaken: 3000, ..quiet() }, |tcp| (tcp.unacked, tcp.retransmits) = (2, 4));
    let late = with(Socket { untaken: 3000, ..quiet() }, |tcp| tcp.unacked = 2);
    let on_its_way = with(Socket { untaken: 3000, ..quiet() }, |tcp| {
        (tcp.unacked, tcp.last_ack, tcp.last_sent) = (2, LONG, JUST_NOW);
    });
    let narrow = with(Socket { untaken: 3000, ..moving }, |tcp| {
        (tcp.unacked, tcp.last_ack, tcp.busy, tcp.held_by_window) = (2, JUST_NOW, LONG, LONG * 9 / 10);
    });
    let lossy = with(Socket { untaken: 3000, ..moving }, |tcp| {
        (tcp.unacked, tcp.last_ack, tcp.retransmitted, tcp.segments) = (2, JUST_NOW, 60, 900);
    });
    let unix = |unread, untaken| Socket { unread, untaken, tcp: None };
    for (case, local, far, finished, expected) in [
        ("the application's window is closed", shut_out(), quiet(), both_open, Who::LocalReads),
        ("and the peer's fills behind it", shut_out(), Socket { unread: 9, ..quiet() }, both_open, Who::LocalReads),
        ("the application's window is mostly closed", narrow, moving, both_open, Who::LocalReads),
        ("a unix socket is full", unix(0, 200_000), quiet(), both_open, Who::LocalReads),
        ("the peer's window is closed", quiet(), shut_out(), both_open, Who::PeerReads),
        (
            "and the application's bytes wait behind it",
            Socket { unread: 9, ..quiet() },
            shut_out(),
            both_open,
            Who::PeerReads,
        ),
        ("the peer's window is mostly closed", moving, narrow, both_open, Who::PeerReads),
        ("a segment is sent again and again", quiet(), lost, both_open, Who::Network),
        ("a segment is long unacknowledged", quiet(), late, both_open, Who::Network),
        ("one in fifteen segments was lost", moving, lossy, both_open, Who::Network),
        ("a segment is on its way", quiet(), on_its_way, both_open, Who::Nobody),
        ("bytes came just now", moving, asked, both_open, Who::Nobody),
        ("bytes came that nobody read", Socket { unread: 9, ..quiet() }, quiet(), both_open, Who::Agent),
        ("the peer was asked and is silent", quiet(), asked, both_open, Who::PeerWrites),
        ("the peer has answered, and nobody asks on", asked, answered, both_open, Who::LocalWrites),
        ("of a unix socket too", unix(0, 0), asked, both_open, Who::PeerWrites),
        ("nobody has said anything", quiet(), quiet(), both_open, Who::LocalWrites),
        ("the local side has ended", quiet(), quiet(), (true, false), Who::PeerWrites),
        ("the far side has ended", quiet(), quiet(), (false, true), Who::LocalWrites),
    ] {
        assert_eq!(who(&local, &far, finished).who, expected, "{case}");
    }
}

#[test]
fn the_words_name_the_numbers() {
    let told = who(&shut_out(), &quiet(), (false, false)).to_string();
    assert_eq!(told, "the local application does not read: 65536 bytes wait for it (for 12.0s)");
    let lost =
        with(Socket { untaken: 3000, ..quiet() }, |tcp| (tcp.unacked, tcp.retransmits, tcp.retransmitted) = (2, 4, 5));
    let told = who(&quiet(), &lost, (false, false)).to_string();
    assert!(
        told.contains("3000 bytes are unacknowledged, 5 segments were sent again, the round trip is 2.00ms"),
        "{told}"
    );
}

#[test]
fn spans_are_told_short() {
    let told = [0, 900, 1500, 15_000, 12_000_000, 600_000_000, 9_000_000_000].map(Duration::from_micros).map(spell);
    assert_eq!(told, ["0us", "900us", "1.50ms", "15ms", "12.0s", "10min", "2.5h"]);
}
