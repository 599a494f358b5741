//! Real programs that know nothing of the agent: redis-cli, psql and curl, to the real address of the other host.

use std::{
    fs,
    process::{self, Command},
    time::Duration,
};

use adit_tests::{
    address::Address,
    agent::binary,
    end::End,
    field::Road,
    need, need_that, need_the_field,
    netns::{Family, Host, inside},
    postgres::{self, Postgres},
    process::{Program, run},
    redis::Redis,
    roads,
};

roads! {
    redis_cli_sets_and_gets: all;
    psql_asks: main;
    curl_fetches: main;
}

fn redis_cli_sets_and_gets(road: Road) {
    need!("redis-server", "redis-cli");
    // given Redis at B's own addresses
    let field = road.walk();
    let redis = Redis::start_at(&field.hosts.enter(Host::B), "10.77.0.2 fd77::2", 6379).unwrap();
    let wire = field.hosts.listen();
    for family in Family::BOTH {
        // when redis-cli on A speaks to one of them
        let ip = Host::B.ip(family).to_string();
        let secret = format!("kept secret over {family:?}");
        let redis_cli = |words: &[&str]| {
            let mut command = Command::new("redis-cli");
            command.args(["-h", &ip, "-p", "6379"]).args(words);
            field.hosts.run(Host::A, &command).expect_success()
        };
        // then what it sets is there, and comes back
        assert_eq!(redis_cli(&["set", "key", &secret]).trim(), "OK");
        assert_eq!(redis_cli(&["get", "key"]).trim(), secret);
        // and the bystander saw it only where no agent is
        field.assert_unheard(&wire, &secret);
    }
    assert_eq!(redis.calls("set"), 2);
}

fn psql_asks(road: Road) {
    need_that!(postgres::is_installed(), "PostgreSQL is not installed");
    let field = road.walk();
    let _server = Postgres::start_at(&field.hosts.enter(Host::B), "10.77.0.2,fd77::2", 5432).unwrap();
    let wire = field.hosts.listen();
    for family in Family::BOTH {
        let secret = format!("asked in secret over {family:?}");
        let mut psql = postgres::client("psql", &Host::B.at(family, 5432));
        psql.args(["-A", "-t", "-c", &format!("select upper('{secret}')"), "postgres"]);
        let answer = field.hosts.run(Host::A, &psql).expect_success();
        assert_eq!(answer.trim(), secret.to_uppercase());
        field.assert_unheard(&wire, &secret);
        field.assert_unheard(&wire, &secret.to_uppercase());
    }
}

fn curl_fetches(road: Road) {
    need!("curl", "python3");
    let field = road.walk();
    let (dir, secret) = (tempfile::tempdir().unwrap(), "served in secret");
    fs::write(dir.path().join("page"), secret).unwrap();
    let _server = serve(&field, dir.path());
    let wire = field.hosts.listen();
    for family in Family::BOTH {
        let page = format!("http://{}/page", Host::B.at(family, 80));
        let limit = Duration::from_secs(20).as_secs().to_string();
        let answer = field.hosts.say(Host::A, &["curl", "-s", "-S", "-f", "-m", &limit, &page]).expect_success();
        assert_eq!(answer, secret);
    }
    field.assert_unheard(&wire, secret);
}

#[test]
fn the_story_that_the_script_tells_is_true() {
    need_the_field!();
    need!("redis-server", "redis-cli", "bash");
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/netns");
    let mut command = Command::new(script);
    command.args(["-p", &format!("adit-{}", process::id()), "demo"]).env("ADIT_BIN", binary());
    let told = run(&mut command, Duration::from_secs(60));
    assert!(told.status.success(), "{}", told.all());
    let told = told.stdout;
    // It says what the bystander got of each secret, and that the rules are those of the file.
    for (secret, lines) in [("before", 1), ("after", 0), ("dead", 0)] {
        let heard = told.lines().find(|line| line.starts_with("wire: ") && line.contains(secret)).unwrap();
        assert!(heard.ends_with(&format!(": {lines}")), "{heard}");
    }
    assert!(told.contains("\nconfiguration: matches\n"), "{told}");
    assert!(told.trim_end().ends_with("$ nft list ruleset"), "nothing is left at the end: {told}");
}

/// A small HTTP server on B, at port 80 of all its addresses.
fn serve(field: &adit_tests::field::Field, dir: &std::path::Path) -> Program {
    let mut command = Command::new("python3");
    command.args(["-m", "http.server", "--bind", "::", "80", "--directory"]).arg(dir);
    let mut command = inside(&field.hosts.enter(Host::B), &command);
    let mut server = Program::start("http.server", &mut command, &dir.join("log"));
    let door = Address::parse("[::1]:80");
    server.until_ready(|| field.hosts.on(Host::B, || End::try_connect(&door).ok()));
    server
}
