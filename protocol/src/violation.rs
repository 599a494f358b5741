//! The rules of PROTOCOL.md that a peer can break, one variant per rule, for the log and the metric. A violation
//! closes the tunnel; it never carries bytes the peer sent.

use std::fmt;

use crate::{Kind, Phase};

/// A broken rule of the protocol. From `receive` and the decoder it is the peer's fault, from `send` our own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Violation {
    /// A kind that is neither a frame's nor an extension's.
    UnknownKind(u8),
    /// A kind kept for durable streams.
    ReservedKind(u8),
    /// A payload length out of the kind's bound.
    Length {
        /// The frame's kind.
        kind: Kind,
        /// The length its header told.
        len: u32,
    },
    /// More than 64 KiB of extension frames with no frame but RETIRE between them.
    Extensions,
    /// A REFUSE whose reason is no text.
    RefuseText,
    /// An ACCEPT whose fields are truncated, repeated or no text.
    AnswerFields,
    /// An ACCEPT that tells a bound path or a rule though the stream is no probe.
    AnswerToStream,
    /// A header, or a frame other than DATA, that was begun and not whole in time.
    Unfinished,
    /// A frame out of its place.
    Place {
        /// How far the stream was.
        phase: Phase,
        /// The frame that has no place there.
        kind: Kind,
    },
    /// DATA or FIN after the same side's FIN.
    AfterFin(Kind),
    /// More than 65,536 bytes of DATA before an answer, or in all on a refused stream.
    Eager,
    /// DATA on a probe.
    ProbeData,
    /// DONE before both sides' FIN.
    DoneEarly,
    /// ACCEPT to an OPEN that was malformed.
    AcceptMalformed,
    /// A second RETIRE.
    RetireTwice,
    /// An OPEN after RETIRE that cannot have crossed it.
    OpenAfterRetire,
}

impl Violation {
    /// A length out of bound; one that does not fit the header's field is told as the field's greatest.
    pub(crate) fn length(kind: Kind, len: usize) -> Violation {
        Violation::Length { kind, len: u32::try_from(len).unwrap_or(u32::MAX) }
    }

    /// One word for a metric.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Violation::UnknownKind(_) => "unknown_kind",
            Violation::ReservedKind(_) => "reserved_kind",
            Violation::Length { .. } => "length",
            Violation::Extensions => "extensions",
            Violation::RefuseText => "refuse_text",
            Violation::AnswerFields => "answer_fields",
            Violation::AnswerToStream => "answer_to_stream",
            Violation::Unfinished => "unfinished",
            Violation::Place { .. } => "place",
            Violation::AfterFin(_) => "after_fin",
            Violation::Eager => "eager",
            Violation::ProbeData => "probe_data",
            Violation::DoneEarly => "done_early",
            Violation::AcceptMalformed => "accept_malformed",
            Violation::RetireTwice => "retire_twice",
            Violation::OpenAfterRetire => "open_after_retire",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::UnknownKind(kind) => {
                write!(f, "frame kind {kind:#04x} is none of adit/1 (section 2)")
            }
            Violation::ReservedKind(kind) => {
                write!(f, "frame kind {kind:#04x} is reserved (section 2)")
            }
            Violation::Length { kind, len } => {
                write!(f, "{kind} of {len} bytes is out of its bound (section 2)")
            }
            Violation::Extensions => {
                f.write_str("more than 64 KiB of extensions with no frame but RETIRE between (section 2)")
            }
            Violation::RefuseText => f.write_str("REFUSE has no code or its reason is no text (section 2)"),
            Violation::AnswerFields => f.write_str("ACCEPT has a truncated, repeated or ill-formed field (section 3)"),
            Violation::AnswerToStream => f.write_str("ACCEPT tells a route though the stream is no probe (section 3)"),
            Violation::Unfinished => f.write_str("a frame was begun and not finished in time (section 2)"),
            Violation::Place { phase, kind } => {
                write!(f, "{kind} has no place while {phase} (section 4)")
            }
            Violation::AfterFin(kind) => write!(f, "{kind} after FIN of the same side (section 4)"),
            Violation::Eager => f.write_str("more than 65,536 bytes of DATA without ACCEPT (section 4)"),
            Violation::ProbeData => f.write_str("DATA on a probe (section 4)"),
            Violation::DoneEarly => f.write_str("DONE before both sides' FIN (section 4)"),
            Violation::AcceptMalformed => f.write_str("ACCEPT to a malformed OPEN (section 3)"),
            Violation::RetireTwice => f.write_str("a second RETIRE (section 5)"),
            Violation::OpenAfterRetire => f.write_str("OPEN after RETIRE, which it cannot have crossed (section 5)"),
        }
    }
}

impl std::error::Error for Violation {}
