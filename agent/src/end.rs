//! Why a stream ended, and by whose doing: one closed list for the access record, the metrics' labels and the status
//! page alike.

use std::fmt;

use adit_protocol::{RefusalCode, ResetCode};

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides finished and all bytes were delivered.
    Closed,
    /// It was refused, by the peer's policy or state or by a rule of this host.
    Refused(RefusalCode),
    /// No endpoint could be reached, or none spoke to us.
    Unreachable,
    /// A socket was reset.
    Reset,
    /// The tunnel ended in the middle of the stream.
    Truncated,
    /// Nothing moved for longer than the idle limit, or the half-closed one.
    Idle,
    /// Bytes waited and their receiver acknowledged nothing for longer than the limit.
    Stalled,
    /// It was older than the greatest life.
    Aged,
    /// The right to it was withdrawn, or a certificate revoked.
    Revoked,
    /// The agent was draining and the deadline came.
    Drained,
    /// The peer broke the protocol.
    Protocol,
    /// A mistake of the agent's own.
    Internal,
}

impl End {
    /// The label in metrics and records.
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Refused(_) => "refused",
            Self::Unreachable => "unreachable",
            Self::Reset => "reset",
            Self::Truncated => "truncated",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Aged => "aged",
            Self::Revoked => "revoked",
            Self::Drained => "drained",
            Self::Protocol => "protocol",
            Self::Internal => "internal",
        }
    }

    /// What the peer is told when we abort for this.
    pub fn reset_code(self) -> ResetCode {
        match self {
            Self::Idle => ResetCode::Idle,
            Self::Stalled => ResetCode::Stalled,
            Self::Aged => ResetCode::TooOld,
            Self::Revoked => ResetCode::Withdrawn,
            Self::Drained => ResetCode::Draining,
            Self::Internal => ResetCode::Internal,
            Self::Closed | Self::Refused(_) | Self::Unreachable | Self::Reset | Self::Truncated | Self::Protocol => {
                ResetCode::Reset
            }
        }
    }
}

impl From<ResetCode> for End {
    fn from(code: ResetCode) -> Self {
        match code {
            ResetCode::Reset => Self::Reset,
            ResetCode::Idle => Self::Idle,
            ResetCode::Stalled => Self::Stalled,
            ResetCode::TooOld => Self::Aged,
            ResetCode::Withdrawn => Self::Revoked,
            ResetCode::Draining => Self::Drained,
            ResetCode::Internal => Self::Internal,
        }
    }
}

/// Whose doing an end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The local application or service.
    Local,
    /// The agent at the other end of the tunnel, or the way to it.
    Peer,
    /// This agent: a limit, a rule, an operator.
    Agent,
}

impl Side {
    /// The label in metrics and records.
    pub fn label(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Peer => "peer",
            Self::Agent => "agent",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => write!(f, "refused ({})", code.label()),
            other => f.write_str(other.label()),
        }
    }
}

/// Everything a record says of how a stream ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Why.
    pub end: End,
    /// By whose doing.
    pub side: Side,
    /// The sentence for a person; empty when the stream simply closed.
    pub detail: String,
}

impl Ending {
    /// An end, its side and its sentence.
    pub fn new(end: End, side: Side, detail: impl Into<String>) -> Self {
        Self { end, side, detail: detail.into() }
    }

    /// Both sides finished.
    pub fn closed() -> Self {
        Self::new(End::Closed, Side::Local, "")
    }
}
