//! Gigabytes one way while the other direction is already closed, the two ends in processes of their own.

use std::time::Duration;

use adit_tests::{
    both_ways,
    load::{Load, Service},
    way::Way,
};

both_ways! {
    two_gibibytes_go_up_while_the_way_down_is_closed: tcp unix;
    two_gibibytes_come_down_while_the_way_up_is_closed: tcp unix;
}

/// More than any 32-bit count of bytes can hold with a sign.
const BYTES: u64 = 2 << 30;

/// Ten times what a debug build needs on two busy cores.
const LIMIT: Duration = Duration::from_secs(240);

fn two_gibibytes_go_up_while_the_way_down_is_closed(way: Way) {
    // given a service that ends its own direction at once
    let mut sink = Service::start(way.wire(), "sink");
    let road = way.to(sink.address());
    // when a client waits for that end and then sends
    let mut push = Load::start(&["push", &road.front().to_string(), &BYTES.to_string()]);
    push.until("sent", LIMIT);
    // then all of it arrives, each byte in its place
    assert_eq!(sink.load.until("received", LIMIT)["bytes"], BYTES);
}

fn two_gibibytes_come_down_while_the_way_up_is_closed(way: Way) {
    // given a service that sends only after its caller's end
    let source = Service::start(way.wire(), &format!("source:{BYTES}"));
    let road = way.to(source.address());
    // when a client ends its own direction at once and reads
    let mut pull = Load::start(&["pull", &road.front().to_string()]);
    // then all of it arrives, each byte in its place
    assert_eq!(pull.until("received", LIMIT)["bytes"], BYTES);
}
