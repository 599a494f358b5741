//! The life of one stream (PROTOCOL.md 4), as a state machine for each side: what may be sent, what may arrive, and
//! how many bytes went each way. Both see every frame before it is written and after it is read, so that a rule is
//! kept in one place; neither does I/O, waits or knows a clock.

mod acceptor;
mod dialer;
#[cfg(test)]
mod tests;

use std::fmt;

pub use acceptor::Acceptor;
pub use dialer::Dialer;

use crate::frame::MAX_EAGER;
use crate::{Kind, Violation};

/// How far the tunnel's stream is, as one side knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Phase {
    /// No stream is on the tunnel: none was, or the last one is over by DONE, or by REFUSE and the dialer's FIN.
    #[default]
    Idle,
    /// OPEN went; no answer yet.
    Opened,
    /// ACCEPT went.
    Accepted,
    /// REFUSE went, and the dialer's FIN is to come.
    Refused,
    /// This side sent RESET: nothing more is sent, and whatever arrives is ignored.
    Reset,
    /// The other side's RESET arrived, on an idle acceptor too: nothing more is sent and nothing more may arrive.
    Aborted,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Idle => "idle",
            Phase::Opened => "opened",
            Phase::Accepted => "accepted",
            Phase::Refused => "refused",
            Phase::Reset => "reset by this side",
            Phase::Aborted => "reset by the peer",
        })
    }
}

/// What to do with an item that may arrive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use]
pub enum Receipt {
    /// It is the stream's: act on it.
    Taken,
    /// Drop it: it came after our own RESET, or is DATA of a refused stream.
    Ignored,
    /// RESET on an idle acceptor: close the tunnel; no stream was hurt.
    CloseQuietly,
}

/// One direction of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Way {
    /// DATA payload bytes so far.
    bytes: u64,
    /// Whether FIN went.
    fin: bool,
}

impl Way {
    /// Counts `len` more bytes; none may follow FIN.
    fn data(&mut self, len: usize) -> Result<(), Violation> {
        if self.fin {
            return Err(Violation::AfterFin(Kind::Data));
        }
        self.bytes = self.bytes.saturating_add(len as u64);
        Ok(())
    }

    /// Counts `len` more bytes that may not take the way over the eager bound.
    fn eager(&mut self, len: usize) -> Result<(), Violation> {
        if len > self.eager_room() {
            return Err(Violation::Eager);
        }
        self.data(len)
    }

    /// How many bytes the eager bound leaves.
    fn eager_room(&self) -> usize {
        MAX_EAGER.saturating_sub(usize::try_from(self.bytes).unwrap_or(usize::MAX))
    }

    /// Ends the way; once.
    fn fin(&mut self) -> Result<(), Violation> {
        if std::mem::replace(&mut self.fin, true) { Err(Violation::AfterFin(Kind::Fin)) } else { Ok(()) }
    }
}
