//! Redis through the mesh: what is stored is what was sent, pipelined or with a connection for each command.

use std::time::Duration;

use adit_tests::{
    both_ways, need,
    pattern::Pattern,
    process::run,
    redis::{Redis, benchmark},
    resp::Resp,
    way::Way,
};

both_ways! {
    redis_keeps_every_value_it_was_sent: tcp unix;
    redis_benchmark_runs_pipelined: tcp unix;
    redis_benchmark_runs_with_a_connection_per_command: tcp unix;
}

const LIMIT: Duration = Duration::from_secs(120);

fn redis_keeps_every_value_it_was_sent(way: Way) {
    need!("redis-server");
    // Around every power of two, where buffers end, and one value larger than any of them.
    const SIZES: [u64; 9] = [0, 1, 255, 4096, 16_383, 16_384, 65_537, 262_143, 8 << 20];
    // given values of all sizes, binary, sent through the way in one pipeline
    let redis = Redis::start();
    let road = way.to(&redis.address(way.wire()));
    let mut through = Resp::connect(road.front());
    for (key, value) in SIZES.map(value).iter().enumerate() {
        through.send(&[b"SET", key.to_string().as_bytes(), value]);
    }
    for _ in SIZES {
        assert_eq!(through.answer(), b"+OK");
    }
    // then the server itself has them as they were sent, and gives them back the same way
    let mut straight = Resp::connect(&redis.address(way.wire()));
    for (key, value) in SIZES.map(value).iter().enumerate() {
        let get: [&[u8]; 2] = [b"GET", &key.to_string().into_bytes()];
        assert!(straight.ask(&get) == *value, "value {key} was not stored as sent");
        assert!(through.ask(&get) == *value, "value {key} did not come back as stored");
    }
}

fn redis_benchmark_runs_pipelined(way: Way) {
    need!("redis-server", "redis-benchmark");
    const COMMANDS: u64 = 200_000;
    let redis = Redis::start();
    let road = way.to(&redis.address(way.wire()));
    // when fifty clients send sixteen commands at a time
    let mut command = benchmark(road.front());
    command.args(["-P", "16", "-c", "50", "-n", &COMMANDS.to_string()]);
    let report = run(&mut command, LIMIT).expect_success();
    // then the server counts every one of them
    assert!(report.contains("\"SET\""), "{report}");
    assert!(redis.calls("set") >= COMMANDS, "{}", redis.calls("set"));
}

fn redis_benchmark_runs_with_a_connection_per_command(way: Way) {
    need!("redis-server", "redis-benchmark");
    const COMMANDS: u64 = 5000;
    let redis = Redis::start();
    let road = way.to(&redis.address(way.wire()));
    // when twenty clients connect anew for each command
    let mut command = benchmark(road.front());
    command.args(["-k", "0", "-c", "20", "-n", &COMMANDS.to_string()]);
    let report = run(&mut command, LIMIT).expect_success();
    // then the server counts every one of them
    assert!(report.contains("\"SET\""), "{report}");
    assert!(redis.calls("set") >= COMMANDS, "{}", redis.calls("set"));
}

/// A value of this size, made of bytes that are text to nobody.
fn value(size: u64) -> Vec<u8> {
    let pattern = Pattern::new(size);
    let mut value = Vec::new();
    while (value.len() as u64) < size {
        value.extend(pattern.piece(value.len() as u64, size - value.len() as u64));
    }
    value
}
