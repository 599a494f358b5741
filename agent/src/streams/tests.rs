//! What the registry knows of connections of our own, and of the streams that they belong to.

use std::{
    net::{TcpListener, TcpStream},
    sync::atomic::AtomicBool,
    sync::mpsc,
    thread,
};

use super::*;
use crate::addr::Ends;

#[test]
fn a_connection_of_our_own_is_known_to_whoever_accepts_it_at_once() {
    let (streams, listener) = (Streams::new(), TcpListener::bind("127.0.0.1:0").unwrap());
    let hop = Hop { id: new_id(), hops: 3 };
    let (accepted, is_accepted) = mpsc::channel();
    thread::scope(|scope| {
        // given a door of ours that accepts, and asks whose it is, while the connection is still being made
        let door = scope.spawn(|| {
            let (socket, from) = listener.accept().unwrap();
            accepted.send(()).unwrap();
            streams.continued_by(from, || socket.local_addr())
        });
        let made = streams.own(Purpose::Carry(hop, 0), || {
            let socket = TcpStream::connect(listener.local_addr().unwrap())?;
            is_accepted.recv().unwrap();
            let ends = Ends::new(socket.local_addr()?, socket.peer_addr()?);
            Ok((socket, Some(ends)))
        });
        // then it hears that it continues the stream, and no longer once the connection is over
        let (socket, known) = made.unwrap();
        assert_eq!(door.join().unwrap(), Ok(Some(hop)));
        drop(known);
        assert_eq!(streams.continued_by(socket.local_addr().unwrap(), || socket.peer_addr()), Ok(None));
    });
}

#[test]
fn only_a_connection_between_both_ends_of_our_own_continues_its_stream() {
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let streams = Streams::new();
    let hop = |hops| Hop { id: new_id(), hops };
    let (first, second) = (hop(1), hop(2));
    let own =
        |to, hop| streams.own(Purpose::Carry(hop, 0), || Ok(((), Some(Ends::new(at(40_000), at(to)))))).unwrap().1;
    let one = own(1, first);
    let _other = own(2, second);
    let continued =
        |from, to: &[u16]| streams.continued_by(at(from), || to.iter().copied().map(at).collect::<Vec<_>>());
    assert_eq!(continued(40_000, &[1]), Ok(Some(first)));
    assert_eq!(continued(40_000, &[9, 2]), Ok(Some(second)), "as netfilter tells what it has rewritten");
    assert_eq!(continued(40_000, &[9]), Ok(None), "somebody else's, from the same port");
    assert_eq!(continued(40_001, &[1]), Ok(None));
    drop(one);
    assert_eq!((continued(40_000, &[1]), continued(40_000, &[2])), (Ok(None), Ok(Some(second))));
}

#[test]
fn a_local_connection_is_known_by_the_end_that_the_other_side_sees() {
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let streams = Streams::new();
    let name = |text| Name::parse(text).unwrap();
    let same_id = new_id();
    let inbound = |to| streams.register(Direction::Inbound, same_id, name(to), Came::default());
    // given two connections to services from one port, an application's from it too, and one whose agent has it
    let (one, other) = (inbound("/svc/one"), inbound("/svc/other"));
    let own = |stream: &Registered, to| {
        streams.own(stream.carried(1), || Ok(((), Some(Ends::new(at(40_000), at(to)))))).unwrap().1
    };
    let _one = own(&one, 1);
    let known = own(&other, 2);
    let from = |direction, came| streams.register(direction, new_id(), name("/svc/app"), came);
    let source = Some(SocketAddr::from(([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1], 40_000)));
    let app = from(Direction::Outbound, Came { source, ..Came::default() });
    let _far = from(Direction::Inbound, Came { source, agent: Some(at(40_000)), ..Came::default() });
    // then all that have it are told, each by itself though a peer gave both one id, and no other
    let whose = |address| {
        let mut names: Vec<_> = streams.whose(address).iter().map(|stream| stream.name.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(whose(at(40_000)), ["/svc/app", "/svc/one", "/svc/other"]);
    assert_eq!(whose("[::ffff:127.0.0.1]:40000".parse().unwrap()).len(), 3);
    assert!(whose(at(40_001)).is_empty());
    // and what is over is not
    drop((known, app));
    assert_eq!(whose(at(40_000)), ["/svc/one"]);
}

#[test]
fn a_tunnel_that_comes_back_to_a_door_for_applications_is_known_on_both_sides() {
    let (streams, came_back) = (Streams::new(), Arc::new(AtomicBool::new(false)));
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let begin = || Ok(((), Some(Ends::new(at(40_000), at(1)))));
    let _own = streams.own(Purpose::Tunnel(Arc::clone(&came_back)), begin).unwrap();
    assert_eq!(streams.continued_by(at(40_000), || [at(2)]), Ok(None));
    assert!(!came_back.load(Relaxed));
    assert_eq!(streams.continued_by(at(40_000), || [at(1)]), Err(OwnTunnel));
    assert!(came_back.load(Relaxed));
}
