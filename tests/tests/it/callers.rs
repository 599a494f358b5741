//! Callers that crowd, say nothing, or are gone before they are met: what one of them costs the others.

use adit_tests::{
    address::{Address, Wire},
    end::End,
    listener::Listener,
    load::Service,
    mesh::Mesh,
    wait::{LIMIT, until},
};
use rustix::process::Signal;
use socket2::{Domain, SockAddr, Socket, Type};

const ECHO: &str = "/svc/echo";
const FRESH: &str = "adit_tunnels_used_total{kind=\"fresh\"}";

#[test]
fn a_door_that_waits_for_a_caller_holds_no_place() {
    // given two listeners and one place
    let echo = Service::start(Wire::Tcp, "echo");
    let plan = Mesh::plan().service(ECHO, echo.address()).service("/svc/other", echo.address());
    let mesh = plan.a_also("[limits]\nstreams = 1\n").start();
    // when streams come one after another to the same listener, then each has the place
    for _ in 0..3 {
        End::try_echo(&mesh.front(ECHO)).unwrap();
    }
    End::try_echo(&mesh.front("/svc/other")).unwrap();
}

#[test]
fn a_unix_service_that_accepts_late_gets_every_stream() {
    const STREAMS: usize = 8;
    // given a service whose queue has room for one, and more streams than that
    let plan = Mesh::plan();
    let path = plan.path("late.sock");
    let service = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    service.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    service.listen(0).unwrap();
    service.set_read_timeout(Some(LIMIT)).unwrap();
    let mesh = plan.service(ECHO, &Address::Unix(path)).start();
    let mut clients: Vec<End> = (0..STREAMS).map(|_| End::connect(&mesh.front(ECHO))).collect();
    until("all streams to wait for the service", LIMIT, || {
        (mesh.b.metric("adit_streams_active{direction=\"inbound\"}") >= 1.0).then_some(())
    });
    // when it accepts after all, then each is served, as it would be without an agent between
    for _ in 0..STREAMS {
        let (served, _) = service.accept().unwrap();
        assert_eq!(served.send(b"hello").unwrap(), 5);
    }
    for client in &mut clients {
        assert_eq!(client.receive_rest(), b"hello");
    }
}

#[test]
fn an_application_that_reset_before_it_was_met_opens_no_stream() {
    // given an agent that is busy while an application connects and gives up
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().service(ECHO, service.address()).start();
    mesh.a.signal(Signal::STOP);
    End::connect(&mesh.front(ECHO)).reset();
    // when the agent comes to it
    mesh.a.signal(Signal::CONT);
    mesh.a.until_logged("the application went away");
    // then nothing was opened for it: the service would have seen a stream without a byte that ends as a whole one does
    assert_eq!(mesh.a.metric(FRESH), 0.0);
    assert!(!service.has_caller());
}
