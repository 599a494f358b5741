//! The dialer's side of a stream: it opens, may send eagerly, hears one answer, and learns by DONE, or by REFUSE and
//! its own FIN, that the tunnel is idle again. It keeps no copy of what it sent and never decides to try again.

use super::{Phase, Receipt, Way};
use crate::{Answer, Item, Kind, Violation};

/// The dialer of a tunnel. A call that fails changes nothing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Dialer {
    phase: Phase,
    probe: bool,
    retired: bool,
    out: Way,
    back: Way,
}

impl Dialer {
    /// The dialer of a fresh tunnel.
    #[must_use]
    pub fn new() -> Dialer {
        Dialer::default()
    }

    /// Asks to send OPEN. The byte counts start again at zero.
    ///
    /// # Errors
    /// A stream is on the tunnel, it saw RESET, or the acceptor retired it.
    pub fn open(&mut self, probe: bool) -> Result<(), Violation> {
        if self.phase != Phase::Idle {
            return Err(self.no_place(Kind::Open));
        }
        if self.retired {
            return Err(Violation::OpenAfterRetire);
        }
        *self = Dialer { phase: Phase::Opened, probe, ..Dialer::default() };
        Ok(())
    }

    /// Asks to send a frame other than OPEN with a payload of `len` bytes.
    ///
    /// # Errors
    /// The rule it would break.
    pub fn send(&mut self, kind: Kind, len: usize) -> Result<(), Violation> {
        kind.check(len)?;
        match (self.phase, kind) {
            (Phase::Opened | Phase::Accepted, Kind::Data) if self.probe => Err(Violation::ProbeData),
            (Phase::Opened, Kind::Data) => self.out.eager(len),
            (Phase::Accepted, Kind::Data) => self.out.data(len),
            (Phase::Opened | Phase::Accepted, Kind::Fin) => self.out.fin(),
            // REFUSE stood for the acceptor's FIN and DONE, so our FIN ends the stream.
            (Phase::Refused, Kind::Fin) => self.out.fin().map(|()| self.phase = Phase::Idle),
            (Phase::Opened | Phase::Accepted | Phase::Refused, Kind::Reset) => {
                self.phase = Phase::Reset;
                Ok(())
            }
            (Phase::Idle | Phase::Opened | Phase::Accepted | Phase::Refused, Kind::Extension(_)) => Ok(()),
            _ => Err(self.no_place(kind)),
        }
    }

    /// Shows what arrived.
    ///
    /// # Errors
    /// The rule the acceptor broke.
    pub fn receive(&mut self, item: &Item<'_>) -> Result<Receipt, Violation> {
        match (self.phase, item) {
            (Phase::Reset, _) => return Ok(Receipt::Ignored),
            (Phase::Idle | Phase::Opened | Phase::Accepted | Phase::Refused, Item::Retire) => {
                self.retire()?;
            }
            (Phase::Opened, Item::Accept(answer)) => self.accepted(answer)?,
            (Phase::Opened, Item::Refuse(_)) => {
                self.phase = if self.out.fin { Phase::Idle } else { Phase::Refused };
            }
            (Phase::Accepted, Item::Data(_)) if self.probe => return Err(Violation::ProbeData),
            (Phase::Accepted, Item::Data(piece)) => self.back.data(piece.len())?,
            (Phase::Accepted, Item::Fin) => self.back.fin()?,
            (Phase::Accepted, Item::Done) => self.done()?,
            (Phase::Accepted, Item::Reset(_)) => self.phase = Phase::Aborted,
            _ => return Err(self.no_place(item.kind())),
        }
        Ok(Receipt::Taken)
    }

    /// How far the stream is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the acceptor said RETIRE: no further stream may be opened.
    #[must_use]
    pub fn retired(&self) -> bool {
        self.retired
    }

    /// DATA payload bytes sent in this stream, or the last one.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.out.bytes
    }

    /// DATA payload bytes received in this stream, or the last one, up to our own RESET.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.back.bytes
    }

    /// Whether our FIN was sent.
    #[must_use]
    pub fn fin_sent(&self) -> bool {
        self.out.fin
    }

    /// Whether the acceptor's FIN arrived.
    #[must_use]
    pub fn fin_received(&self) -> bool {
        self.back.fin
    }

    /// How many DATA bytes may be sent now: what the eager bound leaves before the answer, no bound after ACCEPT, and
    /// none where DATA may not be sent at all.
    #[must_use]
    pub fn eager_room(&self) -> usize {
        match self.phase {
            _ if self.probe || self.out.fin => 0,
            Phase::Opened => self.out.eager_room(),
            Phase::Accepted => usize::MAX,
            Phase::Idle | Phase::Refused | Phase::Reset | Phase::Aborted => 0,
        }
    }

    /// Whether another stream may be opened: idle, not retired, and no RESET seen either way.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.phase == Phase::Idle && !self.retired
    }

    fn accepted(&mut self, answer: &Answer) -> Result<(), Violation> {
        if !self.probe && !answer.is_empty() {
            return Err(Violation::AnswerToStream);
        }
        self.phase = Phase::Accepted;
        Ok(())
    }

    fn done(&mut self) -> Result<(), Violation> {
        if !(self.out.fin && self.back.fin) {
            return Err(Violation::DoneEarly);
        }
        self.phase = Phase::Idle;
        Ok(())
    }

    fn retire(&mut self) -> Result<(), Violation> {
        if std::mem::replace(&mut self.retired, true) { Err(Violation::RetireTwice) } else { Ok(()) }
    }

    fn no_place(&self, kind: Kind) -> Violation {
        Violation::Place { phase: self.phase, kind }
    }
}
