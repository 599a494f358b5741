//! Many streams: a thousand short ones, and nine thousand that do nothing.

use std::time::Duration;

use adit_tests::{
    both_ways,
    load::{Load, Service},
    need_that,
    way::Way,
};
use rustix::process::{Resource, getrlimit};

both_ways! {
    a_thousand_short_connections_are_all_answered: tcp unix;
    nine_thousand_idle_streams_stay_alive: tcp;
}

/// A thousand connections take about a second; a handshake for each, on two busy cores, ten.
const STORM: Duration = Duration::from_secs(60);

fn a_thousand_short_connections_are_all_answered(way: Way) {
    // given an echo service
    let echo = Service::start(way.wire(), "echo");
    let road = way.to(echo.address());
    // when a thousand connections, ten at a time, carry one request each
    let mut storm = Load::start(&["storm", &road.front().to_string(), "1000", "10"]);
    // then each is answered
    let done = storm.until("done", STORM);
    assert_eq!(done["answered"], 1000, "{done}");
    assert_eq!(done["failed"], 0, "{done}");
    assert_eq!(done["hung"], 0, "{done}");
}

fn nine_thousand_idle_streams_stay_alive(way: Way) {
    const STREAMS: u64 = 9000;
    // An agent has two sockets a stream, and some of its own.
    const DESCRIPTORS: u64 = 2 * STREAMS + 500;
    const OPENING: Duration = Duration::from_secs(120);
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    need_that!(allowed >= DESCRIPTORS, &format!("{allowed} descriptors are allowed, {DESCRIPTORS} needed"));
    // given nine thousand streams, each of which was used once
    let echo = Service::start(way.wire(), "echo");
    let road = way.to_for_a_crowd(echo.address());
    let mut crowd = Load::start(&["idle", &road.front().to_string(), &STREAMS.to_string()]);
    crowd.until("open", OPENING);
    // when each is used again after all were open, then each still answers
    crowd.say("are you alive?");
    assert_eq!(crowd.until("alive", OPENING)["count"], STREAMS);
}
