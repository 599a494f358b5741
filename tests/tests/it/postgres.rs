//! PostgreSQL through the mesh: transactions, and a whole database out and in again.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use adit_tests::{
    address::{Address, Wire},
    both_ways, need_that,
    postgres::{Postgres, client, is_installed, socket_in},
    process::run,
    way::{Road, Way},
};

both_ways! {
    pgbench_finishes_every_transaction: tcp unix;
    a_dump_restored_is_the_same_dump: tcp unix;
}

const LIMIT: Duration = Duration::from_secs(120);

fn pgbench_finishes_every_transaction(way: Way) {
    need_that!(is_installed(), "PostgreSQL is not installed");
    // given a database that pgbench has filled
    let (_server, road) = database(way);
    // when four clients run two hundred transactions each, a quarter of them on connections of their own
    let kept = pgbench(&road, &["-c", "4", "-t", "150"]);
    let fresh = pgbench(&road, &["-c", "4", "-t", "50", "-C"]);
    // then none is lost, by pgbench's count and by the database's
    assert!(kept.contains("transactions actually processed: 600/600"), "{kept}");
    assert!(fresh.contains("transactions actually processed: 200/200"), "{fresh}");
    assert_eq!(ask(&road, "select count(*) from pgbench_history"), "800");
}

fn a_dump_restored_is_the_same_dump(way: Way) {
    need_that!(is_installed(), "PostgreSQL is not installed");
    // given a database with a hundred thousand rows
    let (_server, road) = database(way);
    let _ = ask(&road, "create database copy");
    // when it is dumped and restored in one pipe, both through the way
    let mut dump = client("pg_dump", road.front()).arg("postgres").stdout(Stdio::piped()).spawn().unwrap();
    let mut restore = client("psql", road.front());
    restore.args(["-q", "-v", "ON_ERROR_STOP=1", "copy"]).stdin(dump.stdout.take().unwrap());
    let _ = run(&mut restore, LIMIT).expect_success();
    assert!(dump.wait().unwrap().success());
    // then a dump of the copy is the dump of the original
    let (original, copy) = (dumped(&road, "postgres"), dumped(&road, "copy"));
    assert!(original.len() > 5_000_000, "a dump of {} bytes has no hundred thousand rows", original.len());
    assert!(original == copy, "the copy differs from the original");
}

/// A server with pgbench's tables, filled through the road that leads to it.
fn database(way: Way) -> (Postgres, Road) {
    let server = Postgres::start();
    let service = server.address(way.wire());
    let road = match way.wire() {
        Wire::Tcp => way.to(&service),
        // A client derives the socket's name from a port, which on a unix socket may be any.
        Wire::Unix => way.to_with_front_at(&service, &beside(&service)),
    };
    let _ = pgbench(&road, &["-i", "-q", "-s", "1"]);
    (server, road)
}

/// Another PostgreSQL socket in the same folder.
fn beside(service: &Address) -> Address {
    socket_in(service.path().parent().unwrap(), 1)
}

fn pgbench(road: &Road, options: &[&str]) -> String {
    let mut command = client("pgbench", road.front());
    if !options.contains(&"-i") {
        // Else each run empties the history that the last one wrote.
        command.arg("-n");
    }
    run(command.args(options).arg("postgres"), LIMIT).expect_success()
}

fn ask(road: &Road, statement: &str) -> String {
    let mut command: Command = client("psql", road.front());
    command.args(["-A", "-t", "-c", statement, "postgres"]);
    run(&mut command, LIMIT).expect_success().trim().to_owned()
}

fn dumped(road: &Road, database: &str) -> String {
    let dump = run(client("pg_dump", road.front()).arg(database), LIMIT).expect_success();
    // Newer versions fence a dump with a random word.
    let random = |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
    dump.lines().filter(random).collect::<Vec<_>>().join("\n")
}
