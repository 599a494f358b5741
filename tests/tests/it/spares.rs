//! One destination as the spare of another: `|` for a name that is not there, `||` for one whose hosts are down as well.

use adit_tests::{
    address::Wire,
    end::End,
    load::Service,
    mesh::Mesh,
    need,
    wait::{LIMIT, until},
    zone::Zone,
};

const ECHO: &str = "/svc/echo";

/// Where nobody answers.
const DEAD: &str = "127.0.0.9";

struct World {
    zone: Zone,
    mesh: Mesh,
    _echo: Service,
}

impl World {
    fn start(between: &str) -> Self {
        let (zone, echo) = (Zone::start("mesh.example"), Service::start(Wire::Tcp, "echo"));
        let mesh = Mesh::plan()
            .service(ECHO, echo.address())
            .table(&format!(
                "/svc/echo => /#/dns/first.mesh.example/{{port}} {between} /#/dns/second.mesh.example/{{port}} ;"
            ))
            .a_also(&zone.table())
            .start();
        Self { zone, mesh, _echo: echo }
    }

    fn publish(&self, first: Option<&str>, second: &str) {
        let first = first.map(|at| format!("first 1 IN A {at}"));
        self.zone.publish(&first.into_iter().chain([format!("second 1 IN A {second}")]).collect::<Vec<_>>());
    }

    fn echo(&self) -> std::io::Result<()> {
        End::try_echo(&self.mesh.front(ECHO))
    }

    /// Where the last stream that got through went, by the log.
    fn went_to(&self) -> String {
        self.echo().unwrap();
        let before = self.mesh.a.log().matches("end=closed").count();
        self.echo().unwrap();
        until("the stream to be recorded", LIMIT, || {
            let log = self.mesh.a.log();
            (log.matches("end=closed").count() > before).then_some(())
        });
        let log = self.mesh.a.log();
        let line = log.lines().rev().find(|line| line.contains("end=closed")).unwrap();
        line.split("/#/dns/").nth(1).unwrap().split('.').next().unwrap().to_owned()
    }
}

#[test]
fn a_spare_serves_while_the_first_name_is_not_there() {
    need!("unbound", "unbound-control");
    for between in ["|", "||"] {
        let world = World::start(between);
        world.publish(None, "127.0.0.1");
        until("the spare to be found", LIMIT, || world.echo().ok());
        assert_eq!(world.went_to(), "second");
        world.publish(Some("127.0.0.1"), "127.0.0.1");
        until("the first to be found", LIMIT, || (world.went_to() == "first").then_some(()));
    }
}

#[test]
fn a_dead_first_choice_costs_no_stream_where_the_rule_asks_for_health() {
    need!("unbound", "unbound-control");
    let world = World::start("||");
    world.publish(Some(DEAD), "127.0.0.1");
    until("the names to be known", LIMIT, || world.echo().ok());
    for _ in 0..50 {
        world.echo().unwrap();
    }
    assert_eq!(world.went_to(), "second");
    // and once the first has a host that lives, it is gone back to
    world.publish(Some("127.0.0.1"), "127.0.0.1");
    until("the first to be gone back to", LIMIT, || (world.went_to() == "first").then_some(()));
}

#[test]
fn a_dead_first_choice_is_an_error_where_the_rule_does_not_ask_for_health() {
    need!("unbound", "unbound-control");
    let world = World::start("|");
    world.publish(Some("127.0.0.1"), "127.0.0.1");
    until("the names to be known", LIMIT, || world.echo().ok());
    world.publish(Some(DEAD), "127.0.0.1");
    until("the first's new host to be known", LIMIT, || world.echo().err());
    assert!(world.echo().is_err());
}
