//! Callers that crowd, say nothing, or are gone before they are met: what one of them costs the others.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    thread,
};

use adit_tests::{
    address::{Address, Wire},
    authority::Leaf,
    end::End,
    listener::Listener,
    load::Service,
    mesh::Mesh,
    need,
    peer::Papers,
    wait::{LIMIT, until},
};
use rustix::process::{Pid, Signal};
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
    until("A to stand still", LIMIT, || is_stopped(mesh.a.pid()).then_some(()));
    End::connect(&mesh.front(ECHO)).reset();
    // when the agent comes to it
    mesh.a.signal(Signal::CONT);
    mesh.a.until_logged("the application went away");
    // then nothing was opened for it: the service would have seen a stream without a byte that ends as a whole one does
    assert_eq!(mesh.a.metric(FRESH), 0.0);
    assert!(!service.has_caller());
}

#[test]
fn urgent_data_is_left_out_and_holds_up_nothing_behind_it() {
    // given a stream, and an agent that finds bytes, an urgent one and bytes again when it next looks
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().service(ECHO, service.address()).start();
    let mut client = End::connect(&mesh.front(ECHO));
    client.send(b"0");
    let mut served = service.accept();
    assert_eq!(served.receive(1), b"0");
    mesh.a.signal(Signal::STOP);
    until("A to stand still", LIMIT, || is_stopped(mesh.a.pid()).then_some(()));
    client.send(b"abc");
    client.send_urgent(b'X');
    client.send(b"def");
    // when it looks, then all of the stream is passed on, as it is without an agent between
    mesh.a.signal(Signal::CONT);
    assert_eq!(served.receive(6), b"abcdef");
}

#[test]
fn an_address_that_says_nothing_keeps_no_other_out() {
    const TUNNELS: usize = 20;
    // given a host that opens more connections than B has places, and says nothing on any
    let echo = Service::start(Wire::Tcp, "echo");
    let plan = Mesh::plan().service(ECHO, echo.address());
    let mesh = plan.b_also(&format!("[limits]\ntunnels = {TUNNELS}\n")).start();
    let door = SocketAddr::from((Ipv4Addr::LOCALHOST, mesh.b.inbound().port()));
    let silent: Vec<Socket> = (0..2 * TUNNELS).map(|_| connect_from(Ipv4Addr::new(127, 0, 0, 2), door)).collect();
    // when another host comes, then it is served at once
    End::try_echo(&mesh.front(ECHO)).unwrap();
    drop(silent);
}

#[test]
fn a_peer_with_too_many_tunnels_keeps_no_other_out() {
    need!("python3");
    const TUNNELS: u16 = 6;
    // given a peer that holds every tunnel B has places for, three times its share, and asks for nothing
    let echo = Service::start(Wire::Tcp, "echo");
    let plan = Mesh::plan().service(ECHO, echo.address());
    let wild = Papers::of(plan.authority(), &plan.authority().issue(&Leaf::dns(&["wild.adit.example"])));
    let mesh = plan.b_also(&format!("[limits]\ntunnels = {TUNNELS}\ntunnels_per_peer = 2\n")).start();
    thread::scope(|scope| {
        for held in 1..=TUNNELS {
            scope.spawn(|| wild.dial(&mesh.b.inbound(), "", &["--to", ECHO, "--script", r#"[{"stall": 40}]"#]));
            until("B to accept its tunnel", LIMIT, || {
                (mesh.b.metric("adit_tunnels_accepted") >= f64::from(held)).then_some(())
            });
        }
        // when another peer comes, then it is served long before those tunnels have idled their time (120 s)
        until("the other peer to be served", LIMIT, || End::try_echo(&mesh.front(ECHO)).ok());
    });
}

/// Whether every thread of a process is stopped: the signal takes effect in each at its own time (proc_pid_stat(5)).
fn is_stopped(process: Pid) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).unwrap()).all(|stat| {
        let (_, state) = stat.rsplit_once(") ").unwrap();
        state.starts_with('T')
    })
}

/// A connection from another address of loopback.
fn connect_from(source: Ipv4Addr, door: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&door.into()).unwrap();
    socket
}
