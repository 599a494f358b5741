//! The registry of live streams: what each is, how many bytes it moved, and the way to end it. It also knows which
//! local address belongs to a connection we made, so that a stream that comes back to us is known as a loop; and what the
//! right of each stream rests on, so that it can be judged again.
//!
//! A stream's bytes touch only its own entry; the registry's locks are taken when a stream begins and ends.

mod own;
mod status;
mod stream;
#[cfg(test)]
mod tests;

pub use own::{Hop, OwnConnection, OwnTunnel, Purpose};
pub use status::StreamStatus;
pub use stream::{Came, Direction, Met, Right, Stream};

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use adit_protocol::{Name, StreamId};

use crate::{end::End, flight::Past};

/// All live streams of this agent.
#[derive(Debug, Default)]
pub struct Streams {
    live: Mutex<HashMap<u64, Arc<Stream>>>,
    /// Our own connections by their local ends: the other end of each, and what it is for. Several may have
    /// one local end, for the kernel gives a port out again for another destination.
    own: Mutex<HashMap<SocketAddr, Vec<(SocketAddr, Purpose)>>>,
    next: AtomicU64,
    /// Those that have ended, the last of them.
    past: Mutex<Past<Arc<Stream>>>,
    /// Bytes of streams that have ended: sent and received, outbound, inbound and passed on.
    ended: [[AtomicU64; 2]; 3],
}

/// A fresh stream id. It joins log lines and is no secret, so it needs no cryptographic randomness.
pub fn new_id() -> StreamId {
    StreamId(fastrand::u128(..).to_be_bytes())
}

/// A random time below `most`: to spread what would otherwise happen at once.
pub fn random_below(most: Duration) -> Duration {
    most.mul_f64(fastrand::f64())
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
        let failed = self.flight.end().is_none_or(|(_, ending)| ending.end != End::Closed);
        // Before it leaves the live ones: whoever looks at those first, and then here, finds it.
        let oldest = lock(&self.streams.past).keep(Arc::clone(&self.stream), failed);
        let mut live = lock(&self.streams.live);
        live.remove(&self.number);
        let [sent, received] = self.streams.ended_of(self.direction);
        sent.fetch_add(self.sent.load(Relaxed), Relaxed);
        received.fetch_add(self.received.load(Relaxed), Relaxed);
        drop(live);
        self.stream.rests();
        // Outside the locks, for it may be the last that holds it.
        drop(oldest);
    }
}

impl Registered {
    /// What its connection to a service is for, where it has gone through `hops` tunnels.
    pub fn carried(&self, hops: u8) -> Purpose {
        Purpose::Carry(Hop { id: self.id, hops }, self.number)
    }
}

impl Streams {
    /// An empty registry.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Enters a stream.
    pub fn register(self: &Arc<Self>, direction: Direction, id: StreamId, name: Name, came: Came) -> Registered {
        let stream = Arc::new(Stream::new(direction, id, name, came));
        let number = self.next.fetch_add(1, Relaxed);
        lock(&self.live).insert(number, Arc::clone(&stream));
        Registered { streams: Arc::clone(self), number, stream }
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

    /// The last streams, ended and live, in the order in which they began.
    pub fn flights(&self) -> Vec<Arc<Stream>> {
        // The live ones first: one that ends meanwhile is then in both, and never in neither.
        let mut all = self.all();
        let live: HashSet<_> = all.iter().map(Arc::as_ptr).collect();
        let past = lock(&self.past).all();
        all.extend(past.into_iter().filter(|stream| !live.contains(&Arc::as_ptr(stream))));
        all.sort_by_key(|stream| stream.flight.began());
        all
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

/// An address as [`Ends`](crate::addr::Ends) have it: an IPv4 one written as IPv6 is that one, and a scope says nothing.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A panic while a lock is held leaves plain maps, which are whole between any two calls.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
