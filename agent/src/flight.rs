//! The flight recorder: what a stream has met on its way and when, so that somebody can ask afterwards, or while it is slow.
//!
//! It holds moments and small values, never a byte of a stream, and makes no text: who asks makes it. What one stream may
//! leave is bounded, and so are the ended ones that are kept ([`Past`]).

mod past;
pub mod slow;
#[cfg(test)]
mod tests;

pub use past::Past;

use std::{
    os::fd::AsRawFd,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use adit_config::policy::Admission;
use adit_protocol::Name;

use crate::{
    addr::Address,
    end::Ending,
    sys::lent::{Lending, Lent},
};

/// Marks of one stream: a stream that opens at once leaves about ten, and each further attempt three.
const MOST_MARKS: usize = 48;

/// Of them, those that are kept for what comes after the attempts.
const KEPT_FREE: usize = 8;

/// Room for the marks of a stream that opens at the first attempt, taken at once.
const USUAL_MARKS: usize = 10;

/// Bytes of the words that an attempt leaves which failed.
const LONGEST_WORDS: usize = 400;

/// One stream's record.
#[derive(Debug)]
pub struct Flight {
    began: Instant,
    marks: Mutex<Marks>,
    /// The sockets of both its sides, while it is relayed.
    sockets: Lent<2>,
    end: OnceLock<(Duration, Ending)>,
}

#[derive(Debug)]
struct Marks {
    all: Vec<Mark>,
    left_out: u32,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// How long after the stream's first moment.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What can happen to a stream before its end.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// It has its name, by this.
    Named(By),
    /// Its name leads here, by an answer of this age; none where nobody had to be asked.
    Routed(Name, Option<Duration>),
    /// An endpoint, and why this one.
    Chosen(Address, Pick),
    /// A tunnel that had waited in the pool.
    Recycled,
    /// A fresh tunnel.
    Dialled {
        /// TCP.
        connect: Duration,
        /// TLS.
        handshake: Duration,
    },
    /// The other agent said ACCEPT.
    Opened,
    /// The attempt failed.
    Failed(Box<str>),
    /// This host's policy admits it.
    Admitted(Admission),
    /// The service has it.
    Connected(Address),
    /// The first byte from the local side.
    FirstSent,
    /// The first byte to the local side.
    FirstReceived,
    /// The local side has said all it had to.
    LocalFinished,
    /// The other side has.
    PeerFinished,
}

/// What gave a stream its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The listener that has this address in the file.
    Listener(Arc<str>),
    /// The `[[outbound.capture]]` of this number, from 1.
    Capture(usize),
    /// Where a captured connection was meant to go, for want of a rule about it.
    Destination,
    /// The agent that it came from.
    Peer,
    /// An operator who probes.
    Operator,
}

/// Why a balancer gave this endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pick {
    /// Of how many.
    pub of: u32,
    /// How it chooses.
    pub how: &'static str,
    /// Streams that it had.
    pub open: u32,
    /// Streams that the other one had which was drawn, if another was.
    pub other: Option<u32>,
    /// It was down, and this was the one stream to try it.
    pub probe: bool,
    /// It was down, and so was every other that could be had.
    pub down: bool,
    /// Endpoints that had refused the name lately.
    pub refused: u32,
}

impl Flight {
    /// Of a stream whose first moment was this.
    pub fn since(began: Instant) -> Self {
        let marks = Marks { all: Vec::with_capacity(USUAL_MARKS), left_out: 0 };
        Self { began, marks: Mutex::new(marks), sockets: Lent::default(), end: OnceLock::new() }
    }

    /// Its first moment.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Notes what happens now.
    pub fn note(&self, what: What) {
        let at = self.began.elapsed();
        let room = match what {
            What::Routed(..) | What::Chosen(..) | What::Recycled | What::Dialled { .. } | What::Failed(_) => KEPT_FREE,
            _ => 0,
        };
        let mut marks = self.marks();
        if marks.all.len() + room < MOST_MARKS {
            marks.all.push(Mark { at, what });
        } else {
            marks.left_out += 1;
        }
    }

    /// Notes that an attempt failed.
    pub fn failed(&self, why: &str) {
        self.note(What::Failed(why[..why.floor_char_boundary(LONGEST_WORDS)].into()));
    }

    /// Notes its end; only the first counts.
    pub fn ended(&self, ending: &Ending) {
        let _ = self.end.set((self.began.elapsed(), ending.clone()));
    }

    /// When and how it ended, if it has.
    pub fn end(&self) -> Option<&(Duration, Ending)> {
        self.end.get()
    }

    /// Its marks in their order, and how many more there were.
    pub fn marks_so_far(&self) -> (Vec<Mark>, u32) {
        let marks = self.marks();
        (marks.all.clone(), marks.left_out)
    }

    /// Lets the sockets of its two sides be looked at for as long as the answer lives, which must be dropped before they are
    /// closed.
    #[must_use]
    pub fn lends(&self, local: &impl AsRawFd, far: &impl AsRawFd) -> Lending<'_, 2> {
        self.sockets.lend([local.as_raw_fd(), far.as_raw_fd()])
    }

    /// What the kernel says of its two sides' sockets, local and far; none while it has none.
    pub fn sockets(&self) -> Option<[slow::Socket; 2]> {
        self.sockets.look(slow::Socket::of)
    }

    /// A list that is pushed to is whole between any two calls, so a panic elsewhere does not spoil it.
    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl By {
    /// The listener at an address of the file.
    pub fn listener(address: &impl ToString) -> Self {
        Self::Listener(address.to_string().into())
    }
}
