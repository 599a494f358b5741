//! The registry of live streams: what each is, how many bytes it moved, and the way to end it. It also knows which
//! local address belongs to a connection we made, so that a stream that comes back to us is known as a loop; and what the
//! right of each stream rests on, so that it can be judged again.
//!
//! A stream's bytes touch only its own entry; the registry's locks are taken when a stream begins and ends.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use adit_config::{Identity, Workload, peers::Verify};
use adit_protocol::{Name, StreamId};
use serde::Serialize;
use tokio::sync::Notify;

use crate::{
    addr::{Address, Ends},
    end::{End, Ending, Side},
};

/// All live streams of this agent.
#[derive(Debug, Default)]
pub struct Streams {
    live: Mutex<HashMap<u64, Arc<Stream>>>,
    /// Our own connections by their local ends: the other end of each, and what it is for. Several may have
    /// one local end, for the kernel gives a port out again for another destination.
    own: Mutex<HashMap<SocketAddr, Vec<(SocketAddr, Purpose)>>>,
    next: AtomicU64,
    /// Bytes of streams that have ended: sent and received, outbound, inbound and passed on.
    ended: [[AtomicU64; 2]; 3],
}

/// A stream that passes through this agent: what a connection from it to ourselves continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The stream's id, kept from agent to agent.
    pub id: StreamId,
    /// How many tunnels it has gone through.
    pub hops: u8,
}

/// A fresh stream id. It joins log lines and is no secret, so it needs no cryptographic randomness.
pub fn new_id() -> StreamId {
    StreamId(fastrand::u128(..).to_be_bytes())
}

/// A random time below `most`: to spread what would otherwise happen at once.
pub fn random_below(most: Duration) -> Duration {
    most.mul_f64(fastrand::f64())
}

/// Which door a stream came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From a local application, to another host.
    Outbound,
    /// From another host, to a local service.
    Inbound,
    /// From a local application, captured and passed on to another host in plaintext, as the file says.
    Passed,
}

impl Direction {
    /// The label in metrics and records.
    pub fn label(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Passed => "passed",
        }
    }

    /// Every one.
    pub const ALL: [Self; 3] = [Self::Outbound, Self::Inbound, Self::Passed];
}

/// Where a stream came from.
#[derive(Clone, Debug, Default)]
pub struct Came {
    /// For people: the application's address, or the dialing agent's with what it says of the application.
    pub from: String,
    /// The application's address, as the agent that it came to saw it; none over a unix socket. Of a stream from another
    /// host it is the word of the agent there.
    pub source: Option<SocketAddr>,
    /// The agent that a stream from another host came from: its own end of the tunnel.
    pub agent: Option<SocketAddr>,
    /// Where the application had connected to, if its connection was captured.
    pub original: Option<SocketAddr>,
    /// Which local process opened it; of a stream from another host by the word of the agent there.
    pub workload: Option<String>,
    /// The same as rules judge it; only of a process of this host.
    pub process: Option<Workload>,
}

/// One live stream.
#[derive(Debug)]
pub struct Stream {
    /// Its id on both hosts.
    pub id: StreamId,
    /// Which door it came in by.
    pub direction: Direction,
    /// The logical name it asks for.
    pub name: Name,
    /// Where it came from.
    pub came: Came,
    /// When it was accepted.
    pub since: Instant,
    /// Stream bytes from the local socket into the tunnel.
    pub sent: AtomicU64,
    /// Stream bytes from the tunnel to the local socket.
    pub received: AtomicU64,
    met: Mutex<Met>,
    right: Mutex<Option<Right>>,
    stop: OnceLock<Ending>,
    stopped: Notify,
}

/// What a stream has met on its way, as far as it is known; another attempt may meet another.
#[derive(Clone, Debug, Default)]
pub struct Met {
    /// Where it went: the endpoint, or the service's address.
    pub to: Option<String>,
    /// Who the other agent proved to be.
    pub peer: Option<String>,
}

/// What the right to a stream rests on, apart from its name: enough to judge it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// A peer's, to a service of ours.
    Inbound {
        /// Who the peer has proved to be.
        peer: Vec<Identity>,
        /// The id of the certificate that it was shown.
        shown: Option<String>,
        /// Where the service was reached, once it was.
        at: Option<Address>,
    },
    /// Ours, to have another agent answer for the name.
    Outbound {
        /// Where the table led.
        bound: Name,
        /// Who had to answer there.
        verify: Verify,
    },
    /// An application's, to go on in plaintext to where its captured connection was meant to go.
    Passed {
        /// There.
        original: SocketAddr,
    },
}

impl Stream {
    /// What it has met so far.
    pub fn met(&self) -> Met {
        lock(&self.met).clone()
    }

    /// It goes to this endpoint now, where nobody has proved anything yet.
    pub fn tries(&self, endpoint: String) {
        *lock(&self.met) = Met { to: Some(endpoint), peer: None };
    }

    /// The agent at the other end has proved to be this.
    pub fn meets(&self, peer: String) {
        lock(&self.met).peer = Some(peer);
    }

    /// Its service is at this address.
    pub fn reaches(&self, service: String) {
        lock(&self.met).to = Some(service);
    }

    /// Its right rests on this now.
    pub fn rests_on(&self, right: Right) {
        *lock(&self.right) = Some(right);
    }

    /// What its right rests on; none before it was judged.
    pub fn right(&self) -> Option<Right> {
        lock(&self.right).clone()
    }

    /// Ends the stream: whoever carries it aborts it with this reason. Only the first call counts.
    pub fn stop(&self, end: End, detail: impl Into<String>) {
        let _ = self.stop.set(Ending::new(end, Side::Agent, detail));
        self.stopped.notify_one();
    }

    /// How somebody has ended the stream, if anybody has.
    pub fn ending(&self) -> Option<Ending> {
        self.stop.get().cloned()
    }

    /// Waits until somebody ends the stream.
    pub async fn stopped(&self) -> Ending {
        loop {
            if let Some(ending) = self.ending() {
                return ending;
            }
            self.stopped.notified().await;
        }
    }
}

/// Keeps a stream in the registry; dropping it takes the stream out.
#[derive(Debug)]
pub struct Registered {
    streams: Arc<Streams>,
    number: u64,
    stream: Arc<Stream>,
}

impl std::ops::Deref for Registered {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut live = lock(&self.streams.live);
        live.remove(&self.number);
        let [sent, received] = self.streams.ended_of(self.direction);
        sent.fetch_add(self.sent.load(Relaxed), Relaxed);
        received.fetch_add(self.received.load(Relaxed), Relaxed);
    }
}

impl Registered {
    /// What its connection to a service is for, where it has gone through `hops` tunnels.
    pub fn carried(&self, hops: u8) -> Purpose {
        Purpose::Carry(Hop { id: self.id, hops }, self.number)
    }
}

/// What a connection of our own is for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// It brings this stream to a service: what comes of it continues the stream. By its number here too, for a peer may give
    /// several streams one id.
    Carry(Hop, u64),
    /// It is to be a tunnel, which no door for applications may take for one of theirs. Set once one of ours has met it.
    Tunnel(Arc<AtomicBool>),
}

/// A tunnel that this agent is about to open has come to one of its own doors for applications: its name leads to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnTunnel;

/// Keeps one of our own connections known; dropping it forgets it.
#[derive(Debug)]
pub struct OwnConnection {
    streams: Arc<Streams>,
    ends: Ends,
}

impl Drop for OwnConnection {
    fn drop(&mut self) {
        let mut own = lock(&self.streams.own);
        if let Some(others) = own.get_mut(&self.ends.from) {
            others.retain(|(to, _)| *to != self.ends.to);
            if others.is_empty() {
                own.remove(&self.ends.from);
            }
        }
    }
}

impl Streams {
    /// An empty registry.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Enters a stream.
    pub fn register(self: &Arc<Self>, direction: Direction, id: StreamId, name: Name, came: Came) -> Registered {
        let stream = Arc::new(Stream {
            id,
            direction,
            name,
            came,
            since: Instant::now(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            met: Mutex::default(),
            right: Mutex::default(),
            stop: OnceLock::new(),
            stopped: Notify::new(),
        });
        let number = self.next.fetch_add(1, Relaxed);
        lock(&self.live).insert(number, Arc::clone(&stream));
        Registered { streams: Arc::clone(self), number, stream }
    }

    /// Remembers what the connection is for which `begin` begins, and whose ends it returns. Nobody learns meanwhile what a
    /// connection continues: one of our own doors may accept it before `begin` has returned. So `begin` must not wait.
    ///
    /// # Errors
    /// Those of `begin`.
    pub fn own<T>(
        self: &Arc<Self>,
        purpose: Purpose,
        begin: impl FnOnce() -> io::Result<(T, Option<Ends>)>,
    ) -> io::Result<(T, Option<OwnConnection>)> {
        let mut own = lock(&self.own);
        let (begun, ends) = begin()?;
        let known = ends.map(|ends| {
            own.entry(ends.from).or_default().push((ends.to, purpose));
            OwnConnection { streams: Arc::clone(self), ends }
        });
        Ok((begun, known))
    }

    /// The stream that a connection from `from` continues, if it is one of our own (PROTOCOL.md section 3, hops). Where it
    /// was meant to go, `to`, is asked only when it may be one: somebody else's may well have the local end of ours.
    ///
    /// # Errors
    /// It is no application's: this agent dials a tunnel, and who dials is told.
    pub fn continued_by<T>(&self, from: SocketAddr, to: impl FnOnce() -> T) -> Result<Option<Hop>, OwnTunnel>
    where
        T: IntoIterator<Item = SocketAddr>,
    {
        let Some(ours) = lock(&self.own).get(&from).cloned() else { return Ok(None) };
        let found = to().into_iter().find_map(|to| ours.iter().find(|(other, _)| *other == to));
        match found.map(|(_, purpose)| purpose) {
            None => Ok(None),
            Some(Purpose::Carry(hop, _)) => Ok(Some(*hop)),
            Some(Purpose::Tunnel(came_back)) => {
                came_back.store(true, Relaxed);
                Err(OwnTunnel)
            }
        }
    }

    /// The live streams that a local connection belongs to, as whoever sees `peer` at its other end asks: by our own end of a
    /// connection to a service, or by an application's end of one to us. Several may have one, to different destinations.
    pub fn whose(&self, peer: SocketAddr) -> Vec<Arc<Stream>> {
        let peer = plain(peer);
        let carried = lock(&self.own).get(&peer).cloned().unwrap_or_default();
        let live = lock(&self.live);
        let of_application = |stream: &&Arc<Stream>| {
            stream.direction != Direction::Inbound && stream.came.source.map(plain) == Some(peer)
        };
        let to_services = carried.iter().filter_map(|(_, purpose)| match purpose {
            Purpose::Carry(_, number) => live.get(number),
            Purpose::Tunnel(_) => None,
        });
        to_services.chain(live.values().filter(of_application)).cloned().collect()
    }

    /// Stream bytes so far, of ended streams and live ones: sent into tunnels, and received from them.
    pub fn bytes(&self, direction: Direction) -> (u64, u64) {
        let live = lock(&self.live);
        let [sent, received] = self.ended_of(direction).each_ref().map(|count| count.load(Relaxed));
        live.values()
            .filter(|stream| stream.direction == direction)
            .fold((sent, received), |(sent, received), stream| {
                (sent + stream.sent.load(Relaxed), received + stream.received.load(Relaxed))
            })
    }

    fn ended_of(&self, direction: Direction) -> &[AtomicU64; 2] {
        let [outbound, inbound, passed] = &self.ended;
        match direction {
            Direction::Outbound => outbound,
            Direction::Inbound => inbound,
            Direction::Passed => passed,
        }
    }

    /// How many streams are live.
    pub fn count(&self) -> usize {
        lock(&self.live).len()
    }

    /// All live streams, at this moment.
    pub fn all(&self) -> Vec<Arc<Stream>> {
        lock(&self.live).values().cloned().collect()
    }

    /// Ends every live stream.
    pub fn stop_all(&self, end: End, detail: &str) {
        for stream in self.all() {
            stream.stop(end, detail);
        }
    }

    /// The live streams for the status page, oldest first, at most `most` of them.
    pub fn status(&self, most: usize) -> Vec<StreamStatus> {
        let mut all = self.all();
        all.sort_by_key(|stream| stream.since);
        all.iter().take(most).map(|stream| StreamStatus::of(stream)).collect()
    }
}

/// One stream, as the status page shows it.
#[derive(Debug, Serialize)]
pub struct StreamStatus {
    id: String,
    direction: Direction,
    name: String,
    from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<String>,
    to: Option<String>,
    peer: Option<String>,
    age_seconds: f64,
    bytes_sent: u64,
    bytes_received: u64,
}

impl StreamStatus {
    /// As it is at this moment.
    pub fn of(stream: &Stream) -> Self {
        let Met { to, peer } = stream.met();
        Self {
            id: stream.id.to_string(),
            direction: stream.direction,
            name: stream.name.to_string(),
            from: stream.came.from.clone(),
            original: stream.came.original.map(|original| original.to_string()),
            workload: stream.came.workload.clone(),
            to,
            peer,
            age_seconds: stream.since.elapsed().max(Duration::ZERO).as_secs_f64(),
            bytes_sent: stream.sent.load(Relaxed),
            bytes_received: stream.received.load(Relaxed),
        }
    }
}

/// An address as [`Ends`] have it: an IPv4 one written as IPv6 is that one, and a scope says nothing.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A panic while a lock is held leaves plain maps, which are whole between any two calls.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        sync::mpsc,
        thread,
    };

    use super::*;

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
}
