//! An agent hands its place to another process: nobody who connects meanwhile is refused, no stream is cut, and a new agent
//! that does not start changes nothing.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

use adit_tests::{
    address::{Address, Wire},
    end::End,
    listener::Listener,
    load::Service,
    mesh::{Mesh, Plan},
    wait::{LIMIT, until},
};

const ECHO: &str = "/svc/echo";
const ONE: &str = "/svc/one";
/// Applications that open one stream after another.
const CALLERS: usize = 4;

/// A mesh whose agents can be upgraded.
fn plan() -> Plan {
    let plan = Mesh::plan();
    let socket = |name: &str| format!("socket = \"{}\"\n", plan.path(name).display());
    let (a, b) = (socket("a.sock"), socket("b.sock"));
    plan.a_also(&a).b_also(&b)
}

#[test]
fn both_hosts_are_upgraded_under_load_and_no_connection_is_refused_or_cut() {
    const ROUNDS: usize = 5;
    let (echo, one) = (Service::start(Wire::Tcp, "echo"), Listener::at(&Address::any_port()));
    let mut mesh = plan().service(ECHO, echo.address()).service(ONE, one.address()).start();
    // given a stream from before
    let mut client = End::connect(&mesh.front(ONE));
    client.send(b"before");
    let mut service = one.accept();
    assert_eq!(service.receive(6), b"before");
    // when both agents are upgraded again and again, while streams are opened all the time
    let front = mesh.front(ECHO);
    let (good, bad) = under_load(&front, || {
        for _ in 0..ROUNDS {
            let _ = mesh.a.upgrade().expect_success();
            let _ = mesh.b.upgrade().expect_success();
        }
    });
    // then none has failed
    assert_eq!(bad, 0, "of {good} streams some failed");
    assert!(good > 20, "only {good} streams");
    // and the one from before goes on, both ways, each to its own end
    client.send(b"after");
    assert_eq!(service.receive(5), b"after");
    client.finish();
    assert_eq!(service.receive_rest(), b"");
    service.send(b"the answer");
    service.finish();
    assert_eq!(client.receive_rest(), b"the answer");
    // and then nobody of before is left
    for agent in [&mut mesh.a, &mut mesh.b] {
        for before in agent.before() {
            before.wait(LIMIT);
        }
        until("no predecessor to be listed", LIMIT, || {
            agent.status()["predecessors"].as_array()?.is_empty().then_some(())
        });
    }
}

/// While streams are opened all the time, `happens`; how many got through, and how many did not.
fn under_load(front: &Address, happens: impl FnOnce()) -> (usize, usize) {
    let (good, bad, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    let call = End::try_echo(front);
                    if let Err(error) = &call {
                        println!("a stream failed: {error}");
                    }
                    if call.is_ok() { &good } else { &bad }.fetch_add(1, Relaxed);
                }
            });
        }
        let _over = Over(&over);
        happens();
    });
    (good.load(Relaxed), bad.load(Relaxed))
}

/// Ends the load, also where the test fails meanwhile.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
