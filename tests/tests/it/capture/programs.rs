//! Real programs that know nothing of the agent: redis-cli, psql and curl, to the real address of the other host.

use std::{fs, process::Command, time::Duration};

use adit_tests::{
    address::Address,
    end::End,
    field::Road,
    need, need_that,
    netns::{Family, Host, inside},
    postgres::{self, Postgres},
    process::Program,
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
