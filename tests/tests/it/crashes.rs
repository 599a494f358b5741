//! Agents that die, drain, change their certificates or run out of descriptors, under load.

use std::{
    io::ErrorKind,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use adit_tests::{
    address::{Address, Wire},
    authority::Leaf,
    end::End,
    listener::Listener,
    load::{Load, Service},
    mesh::{A, B, Mesh},
    need,
    process::run,
    wait::{LIMIT, until, within},
};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::Value;

const ECHO: &str = "/svc/echo";

/// What may fail after an agent is back, may fail for this long.
const SETTLED: Duration = Duration::from_secs(1);

#[test]
fn an_inbound_agent_killed_under_load_resets_its_streams_and_is_soon_as_good_as_new() {
    // given streams that stay and streams that come and go
    let echo = Service::start(Wire::Tcp, "echo");
    let mut mesh = Mesh::plan().service(ECHO, echo.address()).start();
    let front = mesh.front(ECHO);
    let mut loads = [steady(&front, 8, 0), steady(&front, 8, 1)];
    let mut idle = End::connect(&front);
    idle.send(b"x");
    assert_eq!(idle.receive(1), b"x");
    // when B is killed, then a live stream is reset at once
    mesh.b.kill();
    assert_eq!(idle.failure(), Some(ErrorKind::ConnectionReset));
    // and when it is back, then from one second later none fails, and none ever hung
    mesh.b.restart();
    let settled = unix_millis() + millis(SETTLED);
    let _ = within(2 * SETTLED, || None::<()>);
    for load in &mut loads {
        let (late, done) = end(load, settled);
        assert_eq!(late, Vec::<Value>::new(), "failed more than a second after the restart");
        assert_eq!(done["hung"], 0, "{done}");
        assert!(done["failed"].as_u64() > Some(0), "the kill was not felt: {done}");
    }
}

#[test]
fn an_outbound_agent_that_is_killed_resets_both_ends() {
    let service = Listener::at(&Address::any_port());
    let mut mesh = Mesh::plan().service(ECHO, service.address()).start();
    let mut client = End::connect(&mesh.front(ECHO));
    client.send(b"half of it");
    let mut served = service.accept();
    assert_eq!(served.receive(10), b"half of it");
    mesh.a.kill();
    assert_eq!(client.failure(), Some(ErrorKind::ConnectionReset));
    assert_eq!(served.failure(), Some(ErrorKind::ConnectionReset));
}

#[test]
fn certificates_swapped_under_load_lose_no_stream() {
    need!("openssl");
    const SWAPS: usize = 3;
    // given load of both kinds
    let echo = Service::start(Wire::Tcp, "echo");
    let mesh = Mesh::plan().service(ECHO, echo.address()).start();
    let front = mesh.front(ECHO);
    let mut loads = [steady(&front, 4, 0), steady(&front, 4, 1), steady(&front, 4, 100)];
    // when both hosts get new certificates, several times
    for _ in 0..SWAPS {
        let new = mesh.authority.issue(&Leaf::dns(&[B]));
        mesh.b.swap_credential(&new);
        mesh.a.swap_credential(&mesh.authority.issue(&Leaf::dns(&[A])));
        until("B to show its new certificate", LIMIT, || {
            let base64: String = new.cert.lines().nth(1).unwrap().to_owned();
            shown(&mesh).contains(&base64).then_some(())
        });
    }
    // then no request was lost
    for load in &mut loads {
        load.finish();
        let done = load.until("done", LIMIT);
        assert_eq!(done["failed"], 0, "{done}");
        assert_eq!(done["hung"], 0, "{done}");
        assert!(done["answered"].as_u64() > Some(0), "{done}");
    }
}

#[test]
fn an_agent_at_its_descriptor_limit_recovers_when_it_may_have_more() {
    // given a stream, and then not one descriptor more for B
    let echo = Service::start(Wire::Tcp, "echo");
    let mesh = Mesh::plan().service(ECHO, echo.address()).start();
    let front = mesh.front(ECHO);
    let mut old = End::connect(&front);
    old.send(b"before");
    assert_eq!(old.receive(6), b"before");
    let allowed = getrlimit(Resource::Nofile);
    limit_descriptors(&mesh, Rlimit { current: Some(0), ..allowed });
    // when many connect, then none hangs, and the old stream goes on
    let mut storm = Load::start(&["storm", &front.to_string(), "40", "20"]);
    let done = storm.until("done", 3 * LIMIT);
    assert_eq!(done["hung"], 0, "{done}");
    old.send(b"during");
    assert_eq!(old.receive(6), b"during");
    // and when the limit is lifted, then all is well
    limit_descriptors(&mesh, allowed);
    until("a stream to get through", LIMIT, || End::try_echo(&front).ok());
    let mut storm = Load::start(&["storm", &front.to_string(), "200", "20"]);
    let done = storm.until("done", LIMIT);
    assert_eq!(done["answered"], 200, "{done}");
}

#[test]
fn a_shutdown_signal_lets_live_streams_end() {
    // given a stream
    const PROBE: &str = "/svc/probe";
    let (service, echo) = (Listener::at(&Address::any_port()), Service::start(Wire::Tcp, "echo"));
    let plan = Mesh::plan().service(ECHO, service.address()).service(PROBE, echo.address());
    let mut mesh = plan.start();
    let mut client = End::connect(&mesh.front(ECHO));
    client.send(b"before");
    let mut served = service.accept();
    assert_eq!(served.receive(6), b"before");
    // when B is asked to end
    mesh.b.signal(Signal::TERM);
    until("new streams to be refused", LIMIT, || End::try_echo(&mesh.front(PROBE)).err());
    // then the stream still carries both ways, to its own end
    client.send(b"after");
    client.finish();
    assert_eq!(served.receive_rest(), b"after");
    served.send(b"goodbye");
    served.finish();
    assert_eq!(client.receive_rest(), b"goodbye");
    // and B ends with success
    mesh.b.stop();
}

fn steady(front: &Address, workers: u32, requests: u32) -> Load {
    let (front, workers, requests) = (front.to_string(), workers.to_string(), requests.to_string());
    let mut load = Load::start(&["steady", &front, &workers, &requests]);
    load.until("begun", LIMIT);
    load
}

/// The failures later than this, and the last report.
fn end(load: &mut Load, settled: u64) -> (Vec<Value>, Value) {
    let reports = load.rest(LIMIT);
    let done = reports.iter().find(|report| report["event"] == "done");
    let done = done.expect("the load comes to its end").clone();
    let is_late = |report: &Value| report["event"] == "failed" && report["at"].as_u64() > Some(settled);
    (reports.into_iter().filter(is_late).collect(), done)
}

/// What B's door shows to a dialer, certificate included.
fn shown(mesh: &Mesh) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-showcerts", "-alpn", "adit/1", "-servername", B]);
    command.args(["-connect", &mesh.b.inbound().to_string()]).stdin(std::process::Stdio::null());
    run(&mut command, LIMIT).all()
}

fn limit_descriptors(mesh: &Mesh, limit: Rlimit) {
    prlimit(Some(mesh.b.pid()), Resource::Nofile, limit).unwrap();
}

fn unix_millis() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap()
}
