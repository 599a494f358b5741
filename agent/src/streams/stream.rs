//! One stream: which door it came in by and from where, what it has met, what its right rests on, and how somebody ends it.

use std::{
    net::SocketAddr,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use adit_config::{Identity, Workload, peers::Verify};
use adit_protocol::{Name, StreamId};
use serde::Serialize;
use tokio::sync::Notify;

use super::lock;
use crate::{
    addr::Address,
    end::{End, Ending, Side},
    flight::{Flight, What},
};

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
    /// When its connection was accepted, where that was before the stream was entered.
    pub accepted: Option<Instant>,
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
    /// What happened to it, and when.
    pub flight: Flight,
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
    /// One that begins now.
    pub(super) fn new(direction: Direction, id: StreamId, name: Name, came: Came) -> Self {
        let now = Instant::now();
        Self {
            id,
            direction,
            name,
            flight: Flight::since(came.accepted.unwrap_or(now)),
            came,
            since: now,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            met: Mutex::default(),
            right: Mutex::default(),
            stop: OnceLock::new(),
            stopped: Notify::new(),
        }
    }

    /// So many more bytes came from the local side.
    pub fn sends(&self, count: usize) {
        if self.sent.fetch_add(count as u64, Relaxed) == 0 && count > 0 {
            self.flight.note(What::FirstSent);
        }
    }

    /// So many more bytes went to the local side.
    pub fn receives(&self, count: usize) {
        if self.received.fetch_add(count as u64, Relaxed) == 0 && count > 0 {
            self.flight.note(What::FirstReceived);
        }
    }

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

    /// It is over: of what it rested on, nothing is needed any more.
    pub(super) fn rests(&self) {
        *lock(&self.right) = None;
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
