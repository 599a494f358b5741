//! The loads: bulk one way, a connection for each small request, small requests on connections that stay.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use adit_tests::{
    address::{Address, Wire},
    load::{Load, Service},
};

use crate::Units;

const BULK_BYTES: u64 = 2 << 30;
const SHORT_CONNECTIONS: u64 = 4000;
const SMALL_CONNECTIONS: u64 = 64;
const SMALL_SECONDS: u64 = 3;
const CHUNK: usize = 256 * 1024;

/// What kind of load.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bulk(u64),
    Short,
    Small,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Bulk(1), Self::Bulk(8), Self::Short, Self::Small];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bulk(_) => "bulk",
            Self::Short => "short",
            Self::Small => "small",
        }
    }

    pub(crate) fn title(self) -> String {
        match self {
            Self::Bulk(streams) => format!("bulk: 2 GiB over {streams} stream(s)"),
            Self::Short => format!("a connection for each 64-byte request: {SHORT_CONNECTIONS}, 16 at a time"),
            Self::Small => format!("64-byte requests on {SMALL_CONNECTIONS} connections, {SMALL_SECONDS} s"),
        }
    }

    pub(crate) fn units(self) -> Units {
        let micros = (1e6, "CPU us each");
        match self {
            Self::Bulk(_) => Units { rate: (1e6, "MB/s"), cpu: (1e9, "CPU ns/byte") },
            Self::Short => Units { rate: (1.0, "connections/s"), cpu: micros },
            Self::Small => Units { rate: (1.0, "requests/s"), cpu: micros },
        }
    }
}

/// The services that the loads are carried to.
pub(crate) struct Services {
    sink: Address,
    echo: Service,
}

impl Services {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let sink = Address::parse(&listener.local_addr().expect("a bound socket has an address").to_string());
        thread::spawn(move || listener.incoming().flatten().for_each(|socket| drop(thread::spawn(|| swallow(socket)))));
        Self { sink, echo: Service::start(Wire::Tcp, "echo") }
    }

    pub(crate) fn address(&self, kind: Kind) -> &Address {
        match kind {
            Kind::Bulk(_) => &self.sink,
            Kind::Short | Kind::Small => self.echo.address(),
        }
    }
}

/// Reads to the end, then says how much it was.
fn swallow(mut socket: TcpStream) {
    let mut room = vec![0; CHUNK];
    let mut count = 0_u64;
    while let Ok(read @ 1..) = socket.read(&mut room) {
        count += read as u64;
    }
    let _ = socket.write_all(&count.to_be_bytes());
}

/// Runs one load; returns the units of work done, and how long they took.
pub(crate) fn run(kind: Kind, front: &Address) -> (f64, Duration) {
    match kind {
        Kind::Bulk(streams) => bulk(streams, front),
        Kind::Short => storm(&[], front),
        Kind::Small => small(front),
    }
}

#[allow(clippy::cast_precision_loss, reason = "a few thousand million")]
fn bulk(streams: u64, front: &Address) -> (f64, Duration) {
    let each = BULK_BYTES / streams;
    let began = Instant::now();
    let workers: Vec<_> = (0..streams)
        .map(|_| {
            let front = front.to_string();
            thread::spawn(move || {
                let mut socket = TcpStream::connect(front).expect("the front answers");
                let chunk = vec![7; CHUNK];
                for _ in 0..each / CHUNK as u64 {
                    socket.write_all(&chunk).expect("the front takes bytes");
                }
                socket.shutdown(std::net::Shutdown::Write).expect("a socket can be half-closed");
                let mut answer = [0; 8];
                socket.read_exact(&mut answer).expect("the sink answers");
                assert_eq!(u64::from_be_bytes(answer), each, "every byte arrived");
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().expect("no worker failed"));
    (BULK_BYTES as f64, began.elapsed())
}

/// A connection for each request, from where `enter` leads.
pub(crate) fn storm(enter: &[String], front: &Address) -> (f64, Duration) {
    let began = Instant::now();
    let words = ["storm", &front.to_string(), &SHORT_CONNECTIONS.to_string(), "16"];
    let mut storm = Load::start_inside(enter, &words);
    let done = storm.until("done", Duration::from_secs(120));
    assert_eq!(done["failed"], 0, "{done}");
    let took = done["seconds"].as_f64().map_or(began.elapsed(), Duration::from_secs_f64);
    (done["answered"].as_f64().expect("a count"), took)
}

#[allow(clippy::cast_precision_loss, reason = "a few million")]
fn small(front: &Address) -> (f64, Duration) {
    let count = Arc::new(AtomicU64::new(0));
    let limit = Duration::from_secs(SMALL_SECONDS);
    let began = Instant::now();
    let workers: Vec<_> = (0..SMALL_CONNECTIONS)
        .map(|_| {
            let (front, count) = (front.to_string(), Arc::clone(&count));
            thread::spawn(move || {
                let mut socket = TcpStream::connect(front).expect("the front answers");
                socket.set_nodelay(true).expect("TCP has TCP_NODELAY");
                let mut line = [7; 64];
                while began.elapsed() < limit {
                    socket.write_all(&line).expect("the front takes bytes");
                    socket.read_exact(&mut line).expect("the echo answers");
                    count.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().expect("no worker failed"));
    (count.load(Relaxed) as f64, began.elapsed())
}
