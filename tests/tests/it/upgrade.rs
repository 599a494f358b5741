//! An agent hands its place to another process: nobody who connects meanwhile is refused, no stream is cut, and a new agent
//! that does not start changes nothing.

mod before;
mod failures;
mod hanging;
mod rules;

use std::io::ErrorKind;

use adit_tests::{
    address::Wire,
    agent::Agent,
    churn::{self, Calls},
    end::End,
    listener::Listener,
    live::Live,
    load::Service,
    mesh::{Mesh, Plan},
    wait::{LIMIT, until},
};

const ECHO: &str = "/svc/echo";
const ONE: &str = "/svc/one";

#[test]
fn both_hosts_are_upgraded_under_load_and_no_connection_is_refused_or_cut() {
    const ROUNDS: usize = 5;
    for wire in [Wire::Tcp, Wire::Unix] {
        let mut world = World::new(wire);
        // given a stream from before
        let mut live = world.open();
        // when both agents are upgraded again and again, while streams are opened all the time
        let calls = world.under_load(|mesh| {
            for _ in 0..ROUNDS {
                let _ = mesh.a.upgrade().expect_success();
                let _ = mesh.b.upgrade().expect_success();
            }
        });
        // then none has failed
        assert_eq!(calls.bad, 0, "{calls:?}");
        assert!(calls.good > 20, "{calls:?}");
        // and the one from before goes on, both ways, each to its own end
        live.speaks();
        live.ends_well();
        // and then nobody of before is left
        for agent in [&mut world.mesh.a, &mut world.mesh.b] {
            until_alone(agent);
        }
    }
}

#[test]
fn reloads_and_upgrades_follow_one_another_under_load_and_no_connection_is_refused_or_cut() {
    let mut world = World::new(Wire::Tcp);
    let calls = world.under_load(|mesh| {
        for round in 0..5 {
            for agent in [&mut mesh.a, &mut mesh.b] {
                agent.edit(|text| format!("{text}\n# round {round}\n"));
                let _ = agent.reload().expect_success();
                let _ = agent.upgrade().expect_success();
            }
        }
    });
    assert_eq!(calls.bad, 0, "{calls:?}");
    assert!(calls.good > 20, "{calls:?}");
}

#[test]
fn an_upgraded_agent_keeps_its_doors_its_ready_file_and_its_socket_files_until_the_last_one_ends() {
    let mut world = World::new(Wire::Unix);
    let socket = world.socket("a.sock");
    let front = world.mesh.front(ONE);
    let ready = std::fs::read_to_string(world.mesh.a.dir().join("ready")).unwrap();
    std::fs::remove_file(world.mesh.a.dir().join("ready")).unwrap();
    let live = world.open();
    let said = world.mesh.a.upgrade().expect_success();
    // then it is said who serves now, and who does not any more
    let (now, before) = (world.mesh.a.pid(), world.mesh.a.before()[0].pid());
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        said,
        format!(
            "adit {version} serves as process {now}; process {before}, adit {version}, ends with its last stream, of 1\n"
        )
    );
    assert_eq!(world.mesh.a.status()["pid"].as_i64().unwrap(), i64::from(now.as_raw_nonzero().get()));
    until("the ready file to be the new one's", LIMIT, || {
        (std::fs::read_to_string(world.mesh.a.dir().join("ready")).ok()? == ready).then_some(())
    });
    // and the one before takes no file away with it
    live.ends_well();
    until_alone(&mut world.mesh.a);
    assert!(socket.exists() && front.path().exists());
    world.open().ends_well();
    // but the last one does
    world.mesh.a.stop();
    assert!(!socket.exists() && !front.path().exists());
}

#[test]
fn the_agent_before_is_not_ready_and_is_heard_of_by_nobody_who_kept_a_connection_to_it() {
    let mut world = World::new(Wire::Tcp);
    let live = world.open();
    // given a connection for many questions, as Prometheus keeps one
    let mut scraper = End::connect(&world.mesh.a.admin_address());
    let ask = |scraper: &mut End| scraper.try_send(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n");
    ask(&mut scraper).unwrap();
    assert!(scraper.receive(15).starts_with(b"HTTP/1.1 200 OK"));
    let _ = world.mesh.a.upgrade().expect_success();
    // then it ends, and the next one is to the new agent
    let _ = scraper.receive_rest();
    assert!(world.mesh.a.admin_answer("GET", "/readyz").starts_with("HTTP/1.1 200"));
    assert_eq!(world.mesh.a.metric("adit_predecessors"), 1.0);
    assert_eq!(world.mesh.a.metric("adit_predecessor_streams"), 1.0);
    assert_eq!(world.mesh.a.metric("adit_draining"), 0.0);
    live.ends_well();
}

/// Two hosts whose agents can be upgraded, an echo service, and one whose end the test holds.
struct World {
    mesh: Mesh,
    one: Listener,
    _echo: Service,
    dir: std::path::PathBuf,
}

impl World {
    fn new(wire: Wire) -> Self {
        Self::of(wire, |plan| plan)
    }

    fn of(wire: Wire, more: impl FnOnce(Plan) -> Plan) -> Self {
        let (echo, plan) = (Service::start(wire, "echo"), Mesh::plan());
        let dir = plan.path("");
        let one = Listener::bind(wire, &dir, "one.sock");
        let socket = |name: &str| format!("socket = \"{}\"\n", dir.join(name).display());
        let plan = plan.a_also(&socket("a.sock")).b_also(&socket("b.sock"));
        let mesh = more(plan.service(ECHO, echo.address()).service(ONE, one.address())).start();
        Self { mesh, one, _echo: echo, dir }
    }

    fn socket(&self, name: &str) -> std::path::PathBuf {
        self.dir.join(name)
    }

    fn open(&self) -> Live {
        Live::open(&self.mesh.front(ONE), &self.one)
    }

    fn refuses_another(&self) {
        let mut client = End::connect(&self.mesh.front(ONE));
        assert_eq!(client.failure_after(b"hello"), Some(ErrorKind::ConnectionReset));
        assert!(!self.one.has_caller());
    }

    fn under_load(&mut self, happens: impl FnOnce(&mut Mesh)) -> Calls {
        let front = self.mesh.front(ECHO);
        churn::under_load(&front, || happens(&mut self.mesh))
    }
}

/// Waits until every agent before this one has ended, and this one knows.
fn until_alone(agent: &mut Agent) {
    for before in agent.before() {
        before.wait(LIMIT);
    }
    until("no predecessor to be listed", LIMIT, || agent.status()["predecessors"].as_array()?.is_empty().then_some(()));
}
