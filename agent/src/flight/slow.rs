//! Who is slow in a live stream: a judgement over plain numbers of its two sockets. Pure; the kernel is asked by
//! [`Socket::of`] alone, and nobody is blamed for whom the numbers do not speak.
//!
//! What waits to be taken points at who must take it: a socket's send queue at whoever is at its other end, or at the network
//! between; its receive queue at this agent. Where nothing waits, somebody has to say something: the one who was spoken to
//! last.

use std::{fmt, os::fd::RawFd, time::Duration};

use serde::Serialize;

use crate::sys::tcp_info::{TcpInfo, queued};

/// Bytes that move are news of this age at most: a quiet spell of a second is nothing that anybody calls slow.
const MOVES: Duration = Duration::from_secs(1);

/// A segment that waits for its acknowledgement longer than this, and than some round trips, waits for the network: the
/// kernel sends it again after 200 ms at least (TCP_RTO_MIN, linux/net/tcp.h).
const ACKNOWLEDGED_LATE: Duration = Duration::from_millis(500);

/// One in so many segments that had to be sent again is a network that loses.
const LOSSY: u32 = 50;

/// What the kernel says of one socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// Bytes that came and were not read by this agent.
    pub unread: u32,
    /// Bytes that this agent has written and the other end has not acknowledged.
    pub untaken: u32,
    /// What TCP knows; none of a unix socket.
    pub tcp: Option<TcpInfo>,
}

/// Whom a stream waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Nobody: bytes move.
    Nobody,
    /// The local application or service does not read.
    LocalReads,
    /// It does not write.
    LocalWrites,
    /// The other agent takes nothing: who is behind it does not read.
    PeerReads,
    /// The other side does not write.
    PeerWrites,
    /// The network between the agents.
    Network,
    /// This agent does not read what is there.
    Agent,
}

/// The judgement, with the numbers that it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// Whom it waits for.
    pub who: Who,
    /// The socket that says so.
    socket: Socket,
    /// For how long, as far as the kernel tells.
    pub since: Option<Duration>,
}

impl Socket {
    /// Asks the kernel.
    pub fn of(socket: RawFd) -> Self {
        let (unread, untaken) = queued(socket);
        Self { unread, untaken, tcp: TcpInfo::of_descriptor(socket).ok() }
    }

    /// Its other end has closed its window, or keeps it too small for what is there.
    fn is_shut_out(&self) -> bool {
        self.tcp.is_none_or(|tcp| tcp.unacked == 0 && tcp.retransmits == 0)
    }

    /// What was sent is not acknowledged in its time.
    fn is_lost(&self) -> bool {
        self.tcp.is_some_and(|tcp| {
            let late = ACKNOWLEDGED_LATE.max(tcp.rtt * 4);
            tcp.unacked > 0 && (tcp.retransmits > 0 || tcp.last_ack > late && tcp.last_sent > late)
        })
    }

    fn moved_within(&self, span: Duration) -> bool {
        self.tcp.is_some_and(|tcp| tcp.last_received < span || tcp.last_sent < span)
    }

    fn has_held_us_back(&self) -> bool {
        self.tcp.is_some_and(|tcp| tcp.busy > Duration::ZERO && tcp.held_by_window * 2 > tcp.busy)
    }

    fn is_lossy(&self) -> bool {
        self.tcp.is_some_and(|tcp| tcp.retransmitted > 3 && tcp.retransmitted > tcp.segments / LOSSY)
    }
}

/// Judges a live stream by its two sockets, the local side's and the far one's; `finished` says which of them have said all
/// they had to.
#[must_use]
pub fn who(local: &Socket, far: &Socket, finished: (bool, bool)) -> Slow {
    let slow = |who, socket: &Socket, since: Option<Duration>| Slow { who, socket: *socket, since };
    let since_sent = |socket: &Socket| socket.tcp.map(|tcp| tcp.last_sent);
    let since_received = |socket: &Socket| socket.tcp.map(|tcp| tcp.last_received);
    if far.untaken > 0 && far.is_lost() {
        return slow(Who::Network, far, far.tcp.map(|tcp| tcp.last_ack));
    }
    if local.untaken > 0 && (local.is_shut_out() || local.is_lost()) {
        return slow(Who::LocalReads, local, since_sent(local));
    }
    if far.untaken > 0 && far.is_shut_out() {
        return slow(Who::PeerReads, far, since_sent(far));
    }
    if local.untaken > 0 && local.has_held_us_back() {
        return slow(Who::LocalReads, local, None);
    }
    if far.untaken > 0 && far.has_held_us_back() {
        return slow(Who::PeerReads, far, None);
    }
    if far.untaken > 0 && far.is_lossy() {
        return slow(Who::Network, far, None);
    }
    if local.moved_within(MOVES) || far.moved_within(MOVES) {
        return slow(Who::Nobody, far, None);
    }
    if local.unread > 0 || far.unread > 0 {
        let socket = if local.unread > 0 { local } else { far };
        return slow(Who::Agent, socket, since_received(socket));
    }
    match finished {
        (true, false) => return slow(Who::PeerWrites, far, since_received(far)),
        (false, true) => return slow(Who::LocalWrites, local, since_received(local)),
        (true, true) | (false, false) => {}
    }
    // Whoever was spoken to last has to answer. Over a unix socket nobody says when; the far one's own times do.
    let spoken_to_peer = match (local.tcp, far.tcp) {
        (_, Some(far)) if far.last_sent != far.last_received => far.last_sent < far.last_received,
        (Some(local), _) => local.last_received < local.last_sent,
        (None, _) => false,
    };
    if spoken_to_peer {
        slow(Who::PeerWrites, far, since_sent(far))
    } else {
        slow(Who::LocalWrites, local, since_received(far))
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Socket { unread, untaken, tcp } = self.socket;
        let rtt = tcp.map_or(Duration::ZERO, |tcp| tcp.rtt);
        match self.who {
            Who::Nobody => write!(f, "nobody is slow: bytes moved within the last {}", spell(MOVES))?,
            Who::LocalReads => write!(f, "the local application does not read: {untaken} bytes wait for it")?,
            Who::LocalWrites => write!(f, "the local application does not write, and nothing waits anywhere here")?,
            Who::PeerReads => {
                write!(f, "the other host takes nothing: {untaken} bytes wait here behind its closed window")?;
            }
            Who::PeerWrites => write!(f, "the other host has not answered, and it has taken all that was sent")?,
            Who::Network => {
                let again = tcp.map_or(0, |tcp| tcp.retransmitted);
                write!(f, "the network: {untaken} bytes are unacknowledged, {again} segments were sent again, ")?;
                write!(f, "the round trip is {}", spell(rtt))?;
            }
            Who::Agent => write!(f, "this agent: {unread} bytes have come that it has not read")?,
        }
        match self.since {
            Some(since) if self.who != Who::Nobody => write!(f, " (for {})", spell(since)),
            Some(_) | None => Ok(()),
        }
    }
}

/// A span as a person says it, with three digits that count.
#[must_use]
pub fn spell(span: Duration) -> String {
    let micros = span.as_secs_f64() * 1e6;
    match micros {
        under if under < 1000.0 => format!("{under:.0}us"),
        under if under < 10_000.0 => format!("{:.2}ms", under / 1e3),
        under if under < 1e6 => format!("{:.0}ms", under / 1e3),
        under if under < 120e6 => format!("{:.1}s", under / 1e6),
        under if under < 7200e6 => format!("{:.0}min", under / 60e6),
        under => format!("{:.1}h", under / 3600e6),
    }
}

#[cfg(test)]
mod tests;
