//! The dialer's side of a stream: it opens, may send eagerly, hears one answer, and learns by DONE, or by REFUSE and
//! its own FIN, that the tunnel is idle again. It keeps no copy of what it sent and never decides to try again.

use super::{Phase, Receipt, Way};
use crate::{Answer, Header, Item, Kind, Violation};

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

    /// Whether a frame with this header may arrive now; asked as soon as the header is whole.
    ///
    /// # Errors
    /// The rule the acceptor broke.
    pub fn expect(&self, header: Header) -> Result<(), Violation> {
        self.judge(header.kind)
    }

    /// Shows what arrived.
    ///
    /// # Errors
    /// The rule the acceptor broke.
    pub fn receive(&mut self, item: &Item<'_>) -> Result<Receipt, Violation> {
        if self.phase == Phase::Reset {
            return Ok(Receipt::Ignored);
        }
        self.judge(item.kind())?;
        match item {
            Item::Accept(answer) => self.accepted(answer)?,
            Item::Refuse(_) => self.phase = if self.out.fin { Phase::Idle } else { Phase::Refused },
            Item::Data(piece) => self.back.data(piece.len())?,
            Item::Fin => self.back.fin()?,
            Item::Reset(_) => self.phase = Phase::Aborted,
            Item::Retire => self.retired = true,
            Item::Done => self.phase = Phase::Idle,
            Item::Open(_) => return Err(self.no_place(Kind::Open)),
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

    /// What may arrive at a dialer (PROTOCOL.md 4); the one place that says so.
    fn judge(&self, kind: Kind) -> Result<(), Violation> {
        match (self.phase, kind) {
            (Phase::Reset, _) => Ok(()),
            (Phase::Aborted, _) => Err(self.no_place(kind)),
            (_, Kind::Extension(_)) => Ok(()),
            (_, Kind::Retire) if self.retired => Err(Violation::RetireTwice),
            (_, Kind::Retire) | (Phase::Opened, Kind::Accept | Kind::Refuse) => Ok(()),
            (Phase::Accepted, Kind::Data) if self.probe => Err(Violation::ProbeData),
            (Phase::Accepted, Kind::Data | Kind::Fin) if self.back.fin => Err(Violation::AfterFin(kind)),
            (Phase::Accepted, Kind::Done) if !(self.out.fin && self.back.fin) => Err(Violation::DoneEarly),
            (Phase::Accepted, Kind::Data | Kind::Fin | Kind::Reset | Kind::Done) => Ok(()),
            _ => Err(self.no_place(kind)),
        }
    }

    fn accepted(&mut self, answer: &Answer) -> Result<(), Violation> {
        if !self.probe && !answer.is_empty() {
            return Err(Violation::AnswerToStream);
        }
        self.phase = Phase::Accepted;
        Ok(())
    }

    fn no_place(&self, kind: Kind) -> Violation {
        Violation::Place { phase: self.phase, kind }
    }
}
