//! The acceptor's side of a stream: it hears OPEN, answers once, and says by DONE that the tunnel is idle again.
//! Before ACCEPT it says REFUSE and never RESET, and after REFUSE or DONE it says nothing of the stream any more.

use super::{Phase, Receipt, Way};
use crate::{Header, Item, Kind, Preamble, Refusal, Violation};

/// The acceptor of a tunnel. A call that fails changes nothing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Acceptor {
    phase: Phase,
    probe: bool,
    malformed: bool,
    retire: Retire,
    out: Way,
    back: Way,
}

/// Whether RETIRE was sent, and what may still come of it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Retire {
    #[default]
    No,
    /// Sent after the last frame of a stream, or before the first: one OPEN may have crossed it.
    MayCross,
    /// No OPEN can come any more: one crossed, or the dialer read RETIRE before it learned that the stream is over.
    Last,
}

impl Acceptor {
    /// The acceptor of a fresh tunnel.
    #[must_use]
    pub fn new() -> Acceptor {
        Acceptor::default()
    }

    /// Asks to send a frame with a payload of `len` bytes.
    ///
    /// # Errors
    /// The rule it would break.
    pub fn send(&mut self, kind: Kind, len: usize) -> Result<(), Violation> {
        kind.check(len)?;
        match (self.phase, kind) {
            (Phase::Idle | Phase::Opened | Phase::Accepted | Phase::Refused, Kind::Retire) => self.send_retire(),
            (Phase::Opened, Kind::Accept) => self.send_accept(len),
            (Phase::Opened, Kind::Refuse) => {
                self.phase = if self.back.fin { Phase::Idle } else { Phase::Refused };
                Ok(())
            }
            (Phase::Accepted, Kind::Data) if self.probe => Err(Violation::ProbeData),
            (Phase::Accepted, Kind::Data) => self.out.data(len),
            (Phase::Accepted, Kind::Fin) => self.out.fin(),
            (Phase::Accepted, Kind::Done) => self.send_done(),
            (Phase::Accepted, Kind::Reset) => {
                self.phase = Phase::Reset;
                Ok(())
            }
            (Phase::Idle | Phase::Opened | Phase::Accepted | Phase::Refused, Kind::Extension(_)) => Ok(()),
            _ => Err(self.no_place(kind)),
        }
    }

    /// Whether a frame with this header may arrive now; asked as soon as the header is whole. DATA is judged by what
    /// its header announces.
    ///
    /// # Errors
    /// The rule the dialer broke.
    pub fn expect(&self, header: Header) -> Result<(), Violation> {
        self.judge(header.kind, header.len as usize)
    }

    /// Shows what arrived.
    ///
    /// # Errors
    /// The rule the dialer broke.
    pub fn receive(&mut self, item: &Item<'_>) -> Result<Receipt, Violation> {
        if self.phase == Phase::Reset {
            return Ok(Receipt::Ignored);
        }
        let piece = if let Item::Data(piece) = item { piece.len() } else { 0 };
        self.judge(item.kind(), piece)?;
        match item {
            Item::Open(preamble) => self.opened(preamble),
            Item::Data(piece) => {
                self.back.data(piece.len())?;
                if self.phase == Phase::Refused {
                    return Ok(Receipt::Ignored);
                }
            }
            Item::Fin => {
                self.back.fin()?;
                if self.phase == Phase::Refused {
                    self.phase = Phase::Idle;
                }
            }
            Item::Reset(_) => {
                // On an idle tunnel it crossed our DONE, or our REFUSE when the dialer's FIN was in already.
                let was = std::mem::replace(&mut self.phase, Phase::Aborted);
                return Ok(if was == Phase::Idle { Receipt::CloseQuietly } else { Receipt::Taken });
            }
            Item::Accept(_) | Item::Refuse(_) | Item::Retire | Item::Done => {
                return Err(self.no_place(item.kind()));
            }
        }
        Ok(Receipt::Taken)
    }

    /// How far the stream is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether RETIRE was sent.
    #[must_use]
    pub fn retired(&self) -> bool {
        self.retire != Retire::No
    }

    /// DATA payload bytes sent in this stream, or the last one.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.out.bytes
    }

    /// DATA payload bytes received in this stream, or the last one, those discarded after REFUSE included, up to our
    /// own RESET.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.back.bytes
    }

    /// Whether our FIN was sent.
    #[must_use]
    pub fn fin_sent(&self) -> bool {
        self.out.fin
    }

    /// Whether the dialer's FIN arrived.
    #[must_use]
    pub fn fin_received(&self) -> bool {
        self.back.fin
    }

    /// Whether the stream, or the last one, is a probe.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// Whether DONE may be sent now: both sides' FIN went.
    #[must_use]
    pub fn may_finish(&self) -> bool {
        self.phase == Phase::Accepted && self.out.fin && self.back.fin
    }

    /// What may arrive at an acceptor (PROTOCOL.md 4), DATA of `len` bytes; the one place that says so.
    fn judge(&self, kind: Kind, len: usize) -> Result<(), Violation> {
        let on_stream = matches!(self.phase, Phase::Opened | Phase::Accepted | Phase::Refused);
        match kind {
            _ if self.phase == Phase::Reset => Ok(()),
            _ if self.phase == Phase::Aborted => Err(self.no_place(kind)),
            Kind::Extension(_) => Ok(()),
            Kind::Open if self.phase == Phase::Idle && self.retire == Retire::Last => Err(Violation::OpenAfterRetire),
            Kind::Open | Kind::Reset if self.phase == Phase::Idle => Ok(()),
            Kind::Data if on_stream && self.probe => Err(Violation::ProbeData),
            Kind::Data | Kind::Fin if on_stream && self.back.fin => Err(Violation::AfterFin(kind)),
            // Without ACCEPT all DATA is eager, that of a refused stream too.
            Kind::Data if on_stream && self.phase != Phase::Accepted && len > self.back.eager_room() => {
                Err(Violation::Eager)
            }
            Kind::Data | Kind::Fin | Kind::Reset if on_stream => Ok(()),
            _ => Err(self.no_place(kind)),
        }
    }

    fn opened(&mut self, preamble: &Result<Preamble, Refusal>) {
        let retire = if self.retire == Retire::No { Retire::No } else { Retire::Last };
        let probe = preamble.as_ref().is_ok_and(|preamble| preamble.probe);
        *self = Acceptor { phase: Phase::Opened, probe, malformed: preamble.is_err(), retire, ..Acceptor::default() };
    }

    fn send_accept(&mut self, len: usize) -> Result<(), Violation> {
        if self.malformed {
            return Err(Violation::AcceptMalformed);
        }
        if len > 0 && !self.probe {
            return Err(Violation::AnswerToStream);
        }
        self.phase = Phase::Accepted;
        Ok(())
    }

    fn send_done(&mut self) -> Result<(), Violation> {
        if !self.may_finish() {
            return Err(Violation::DoneEarly);
        }
        self.phase = Phase::Idle;
        Ok(())
    }

    /// With an answer still to come, or DONE, the dialer reads RETIRE before it may open again; only when the last
    /// frame of the stream is sent already can an OPEN be under way.
    fn send_retire(&mut self) -> Result<(), Violation> {
        if self.retired() {
            return Err(Violation::RetireTwice);
        }
        self.retire = match self.phase {
            Phase::Idle | Phase::Refused => Retire::MayCross,
            Phase::Opened | Phase::Accepted | Phase::Reset | Phase::Aborted => Retire::Last,
        };
        Ok(())
    }

    fn no_place(&self, kind: Kind) -> Violation {
        Violation::Place { phase: self.phase, kind }
    }
}
