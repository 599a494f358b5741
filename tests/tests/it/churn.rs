//! Hosts that come and go under a service's name while streams are opened all the time: no application notices.

use std::time::Instant;

use adit_tests::{
    address::Wire,
    agent::Agent,
    churn::{self, Calls},
    end::End,
    load::Service,
    mesh::Mesh,
    need,
    wait::{LIMIT, until},
    zone::Zone,
};

const ECHO: &str = "/svc/echo";
const ZONE: &str = "mesh.example";

#[test]
fn hosts_are_restarted_one_after_another_and_no_stream_fails() {
    need!("unbound", "unbound-control");
    const ROUNDS: usize = 2;
    let mut world = World::start(2, "");
    let began = Instant::now();
    let calls = world.under_load(|world| {
        for host in (0..3).cycle().take(3 * ROUNDS) {
            // when a host leaves the zone, and ends once nobody is sent there any more
            world.publish(1, |other| other != host);
            world.until_sent_to(|other| other != host);
            world.host(host).stop();
            // and comes back
            world.host(host).restart();
            world.publish(1, |_| true);
            world.until_sent_to(|_| true);
        }
    });
    // then no stream has failed
    println!("{calls:?} in {:?} over {} restarts", began.elapsed(), 3 * ROUNDS);
    assert_eq!(calls.bad, 0, "{calls:?}");
    assert!(calls.good > 100, "{calls:?}");
}

#[test]
fn records_that_live_no_time_and_change_all_the_time_fail_no_stream() {
    need!("unbound", "unbound-control");
    let mut world = World::start(2, "min_ttl = \"100ms\"\n");
    let calls = world.under_load(|world| {
        for change in 0..40 {
            // when each change leaves another host out, and now and then it is waited until that is known
            world.publish(0, |host| host != change % 3);
            if change % 10 == 9 {
                world.until_sent_to(|host| host != change % 3);
            }
        }
    });
    // then no stream has failed
    assert_eq!(calls.bad, 0, "{calls:?}");
}

#[test]
fn a_host_that_dies_costs_no_application_a_failure_and_is_found_again() {
    need!("unbound", "unbound-control");
    let mut world = World::start(1, "");
    // given two hosts of which one dies without a word, and stays in the zone
    world.until_sent_to(|_| true);
    world.host(0).kill();
    // then every stream gets through
    for _ in 0..100 {
        End::try_echo(&world.mesh.front(ECHO)).unwrap();
    }
    // and once it lives again, streams go there
    world.host(0).restart();
    until("the host to be sent streams again", LIMIT, || {
        End::try_echo(&world.mesh.front(ECHO)).unwrap();
        (world.mesh.b.metric("adit_streams_opened_total{direction=\"inbound\"}") > 0.0).then_some(())
    });
}

struct World {
    zone: Zone,
    mesh: Mesh,
    _echo: Service,
}

impl World {
    /// A mesh whose name leads by SRV records to B and so many hosts more, all of them in the zone.
    fn start(more: usize, dns: &str) -> Self {
        let zone = Zone::start(ZONE);
        let echo = Service::start(Wire::Tcp, "echo");
        let mesh = Mesh::plan()
            .service(ECHO, echo.address())
            .table("/svc/{service} => /#/srv/_{service}._tcp.mesh.example ;")
            .a_also(&format!("{}{dns}", zone.table()))
            .more_hosts(more)
            .start();
        let world = Self { zone, mesh, _echo: echo };
        world.publish(1, |_| true);
        world.until_sent_to(|_| true);
        world
    }

    fn hosts(&self) -> impl Iterator<Item = (usize, &Agent)> {
        [&self.mesh.b].into_iter().chain(&self.mesh.more).enumerate()
    }

    fn host(&mut self, number: usize) -> &mut Agent {
        if number == 0 { &mut self.mesh.b } else { &mut self.mesh.more[number - 1] }
    }

    /// The zone has these hosts.
    fn publish(&self, ttl: u32, has: impl Fn(usize) -> bool) {
        let mut records = vec![format!("host {ttl} IN A 127.0.0.1")];
        for (_, agent) in self.hosts().filter(|(number, _)| has(*number)) {
            records.push(format!("_echo._tcp {ttl} IN SRV 0 1 {} host", agent.inbound().port()));
        }
        self.zone.publish(&records);
    }

    /// Waits until A sends streams to these hosts and no others.
    fn until_sent_to(&self, has: impl Fn(usize) -> bool) {
        let mut wanted: Vec<_> =
            self.hosts().filter(|(number, _)| has(*number)).map(|(_, agent)| agent.inbound().to_string()).collect();
        wanted.sort();
        until("the zone's hosts to be known", LIMIT, || {
            // A stream takes what is known over.
            let _ = End::try_echo(&self.mesh.front(ECHO));
            (self.mesh.a.endpoints().into_keys().collect::<Vec<_>>() == wanted).then_some(())
        });
    }

    fn under_load(&mut self, happens: impl FnOnce(&mut Self)) -> Calls {
        let front = self.mesh.front(ECHO);
        churn::under_load(&front, || happens(self))
    }
}
