//! What a stream must keep of a connection: both directions, their ends apart, every byte, and a reset that is a reset.

use std::{io::ErrorKind, time::Duration};

use adit_tests::{both_ways, pattern::Pattern, wait::until_still, way::Way};

both_ways! {
    half_close_lets_the_answer_through: tcp unix;
    the_service_may_end_first_and_go_on_listening: tcp unix;
    the_server_speaks_first: tcp unix;
    a_client_that_says_nothing_at_all_is_served: tcp unix;
    large_both_ways_at_once: tcp unix;
    a_slow_reader_loses_nothing: tcp unix;
    a_zero_window_holds_the_writer_and_loses_nothing: tcp;
    a_reset_by_the_client_is_a_reset_to_the_service: tcp;
    a_reset_by_the_service_is_a_reset_to_the_client: tcp;
    a_reset_reaches_an_end_that_is_not_reading: tcp;
    a_reset_after_half_close_is_still_a_reset: tcp;
    an_abort_on_a_unix_socket_looks_like_an_end: unix;
    silence_changes_nothing: tcp unix;
    one_byte_at_a_time_arrives_one_byte_at_a_time: tcp unix;
    two_streams_keep_their_bytes_apart: tcp unix;
}

fn half_close_lets_the_answer_through(way: Way) {
    // given a client that ends its request by half-closing
    let stage = way.stage();
    let (mut client, mut service) = stage.ends();
    client.send(b"the whole question");
    client.finish();
    // when the service has read to that end, and only then answers
    assert_eq!(service.receive_rest(), b"the whole question");
    service.send(b"the answer");
    service.finish();
    // then the answer comes, and its end
    assert_eq!(client.receive_rest(), b"the answer");
}

fn the_service_may_end_first_and_go_on_listening(way: Way) {
    // given a service that has said all it will
    let stage = way.stage();
    let (mut client, mut service) = stage.ends();
    service.send(b"go on");
    service.finish();
    assert_eq!(client.receive_rest(), b"go on");
    // when the client speaks only after that end
    client.send(b"and on");
    client.finish();
    // then it is heard
    assert_eq!(service.receive_rest(), b"and on");
}

fn the_server_speaks_first(way: Way) {
    // given a service that greets
    let stage = way.stage();
    let (mut client, mut service) = stage.ends();
    service.send(b"220 ready\r\n");
    // when the client waits for the greeting before its first byte, then it comes
    assert_eq!(client.receive(11), b"220 ready\r\n");
    client.send(b"QUIT\r\n");
    assert_eq!(service.receive(6), b"QUIT\r\n");
}

fn a_client_that_says_nothing_at_all_is_served(way: Way) {
    // given a client that connects and ends without a byte
    let stage = way.stage();
    let (mut client, mut service) = stage.ends();
    client.finish();
    // when the service sees that end and answers nothing either, then both ends are clean
    assert_eq!(service.receive_rest(), b"");
    service.finish();
    assert_eq!(client.receive_rest(), b"");
}

fn large_both_ways_at_once(way: Way) {
    const EACH_WAY: u64 = 64 << 20;
    // given two ends that write and read at the same time
    let stage = way.stage();
    let (mut client, mut service) = stage.ends();
    // then each reads exactly what the other wrote
    assert_eq!(client.exchange(&mut service, EACH_WAY), [EACH_WAY; 2]);
}

fn a_slow_reader_loses_nothing(way: Way) {
    const ALL: u64 = 8 << 20;
    const SIP: usize = 16 << 10;
    // given a writer that fills every buffer on the way, and a reader that only then takes one sip
    let stage = way.stage();
    let (mut client, mut service) = stage.ends();
    let pattern = Pattern::new(3);
    let (mut written, mut read) = (0, 0);
    while read < ALL {
        written += service.fill(&pattern, written, ALL - written);
        let sip = client.try_receive(SIP).unwrap();
        assert!(!sip.is_empty(), "ended after {read} bytes of {written}");
        // then every sip is what comes next
        pattern.check(read, &sip).unwrap();
        read += sip.len() as u64;
    }
    service.finish();
    assert_eq!(client.receive_rest(), b"");
}

fn a_zero_window_holds_the_writer_and_loses_nothing(way: Way) {
    const MORE_THAN_ALL_BUFFERS: u64 = 256 << 20;
    const STILL: Duration = Duration::from_millis(500);
    // given a reader with a small window that reads nothing, and a writer that never stops
    let stage = way.stage();
    let (mut client, mut service) = stage.ends();
    client.shrink_window();
    let pattern = Pattern::new(4);
    let mut written = 0;
    until_still("the writer", STILL, || {
        written += service.fill(&pattern, written, MORE_THAN_ALL_BUFFERS - written);
        written
    });
    // then the writer is held, long before it has written all
    assert!(written < MORE_THAN_ALL_BUFFERS / 2, "{written} bytes are held for a reader that reads none");
    // and when the reader reads after all, everything is there
    service.finish();
    assert_eq!(client.receive_pattern(&pattern), written);
}

fn a_reset_by_the_client_is_a_reset_to_the_service(way: Way) {
    let stage = way.stage();
    let (mut client, mut service) = stage.ends();
    client.send(b"half of it");
    assert_eq!(service.receive(10), b"half of it");
    client.reset();
    assert_eq!(service.failure(), Some(ErrorKind::ConnectionReset));
}

fn a_reset_by_the_service_is_a_reset_to_the_client(way: Way) {
    let stage = way.stage();
    let (mut client, mut service) = stage.ends();
    service.send(b"half of it");
    assert_eq!(client.receive(10), b"half of it");
    service.reset();
    assert_eq!(client.failure(), Some(ErrorKind::ConnectionReset));
}

fn a_reset_reaches_an_end_that_is_not_reading(way: Way) {
    // given a client that only writes, to a service that never reads: every buffer is full
    let stage = way.stage();
    let (mut client, service) = stage.ends();
    let pattern = Pattern::new(5);
    let mut written = 0;
    until_still("the writer", Duration::from_millis(200), || {
        written += client.fill(&pattern, written, 256 << 20);
        written
    });
    // when the service goes away, then the writer is told although nothing of it can be delivered
    service.reset();
    assert_eq!(client.failure(), Some(ErrorKind::ConnectionReset));
}

fn a_reset_after_half_close_is_still_a_reset(way: Way) {
    // given a client that has ended its own direction and waits for the answer
    let stage = way.stage();
    let (mut client, mut service) = stage.ends();
    client.send(b"question");
    client.finish();
    assert_eq!(service.receive_rest(), b"question");
    service.send(b"half an ans");
    assert_eq!(client.receive(11), b"half an ans");
    // when the service aborts, then the client cannot take the half for the whole
    service.reset();
    assert_eq!(client.failure(), Some(ErrorKind::ConnectionReset));
}

fn an_abort_on_a_unix_socket_looks_like_an_end(way: Way) {
    let stage = way.stage();
    // given a client that has read all there was: an abort and an end are the same to it
    let (mut client, mut service) = stage.ends();
    service.send(b"all");
    assert_eq!(client.receive(3), b"all");
    service.reset();
    assert_eq!(client.failure(), None);
    // and when bytes of its own were never read, then the kernel says so, unless an agent took them off its hands
    let (mut client, service) = stage.ends();
    client.send(b"unread");
    if way == Way::Direct(way.wire()) {
        service.reset();
        assert_eq!(client.failure(), Some(ErrorKind::ConnectionReset));
    } else {
        service.reset();
        assert!(matches!(client.failure(), None | Some(ErrorKind::ConnectionReset)));
    }
}

fn silence_changes_nothing(way: Way) {
    // Longer than the agent's limits for a frame (5 s), a handshake (10 s) and the opening of a stream (15 s).
    const LONG: Duration = Duration::from_secs(16);
    // given a stream on which nothing has been said
    let stage = way.stage();
    let (mut client, mut service) = stage.ends();
    // when it stays so for long
    assert!(client.is_silent_for(LONG / 2));
    assert!(service.is_silent_for(LONG / 2));
    // then it is as good as new
    client.send(b"still there?");
    assert_eq!(service.receive(12), b"still there?");
    service.send(b"yes");
    assert_eq!(client.receive(3), b"yes");
}

fn one_byte_at_a_time_arrives_one_byte_at_a_time(way: Way) {
    const BYTES: u32 = 10_000;
    // given a conversation of single bytes, each sent only after the last one's echo
    let stage = way.stage();
    let (mut client, mut service) = stage.ends();
    for byte in (0..BYTES).map(|n| n.to_le_bytes()[0]) {
        client.send(&[byte]);
        // then none waits for company on its way
        assert_eq!(service.receive(1), [byte]);
        service.send(&[byte]);
        assert_eq!(client.receive(1), [byte]);
    }
}

fn two_streams_keep_their_bytes_apart(way: Way) {
    // given two streams at once, and a third that follows the first on what may be the same tunnel
    let stage = way.stage();
    let (mut first, mut first_served) = stage.ends();
    let (mut second, mut second_served) = stage.ends();
    first.send(b"first");
    second.send(b"second");
    first.finish();
    assert_eq!(first_served.receive_rest(), b"first");
    first_served.finish();
    assert_eq!(first.receive_rest(), b"");
    let (mut third, mut third_served) = stage.ends();
    third.send(b"third");
    // then each carries its own bytes
    third.finish();
    second.finish();
    assert_eq!(third_served.receive_rest(), b"third");
    assert_eq!(second_served.receive_rest(), b"second");
}
