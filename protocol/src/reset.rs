//! Why a stream was aborted: the RESET codes of PROTOCOL.md 4, written once. A code is for the log of the other side;
//! what an abort does to a socket is not known here.

use crate::Violation;
use crate::cursor::Cursor;
use crate::frame::{Kind, put};

/// Why a stream was aborted, as a RESET frame says it.
#[repr(u16)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ResetCode {
    /// The socket was reset.
    Reset = 1,
    /// Nothing moved for too long.
    Idle,
    /// The reader did not read.
    Stalled,
    /// The stream or its tunnel was too old.
    TooOld,
    /// A right was withdrawn or a certificate revoked.
    Withdrawn,
    /// The agent is going away.
    Draining,
    /// The agent failed.
    Internal,
}

impl ResetCode {
    /// Every code, in the order of their numbers.
    pub const ALL: [ResetCode; 7] = [
        ResetCode::Reset,
        ResetCode::Idle,
        ResetCode::Stalled,
        ResetCode::TooOld,
        ResetCode::Withdrawn,
        ResetCode::Draining,
        ResetCode::Internal,
    ];

    /// The code of this number; an unknown number is 1 (PROTOCOL.md 4).
    #[must_use]
    pub fn of(number: u16) -> ResetCode {
        let known = ResetCode::ALL.into_iter().find(|code| code.number() == number);
        known.unwrap_or(ResetCode::Reset)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// One word for a log or a metric.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            ResetCode::Reset => "reset",
            ResetCode::Idle => "idle",
            ResetCode::Stalled => "stalled",
            ResetCode::TooOld => "too_old",
            ResetCode::Withdrawn => "withdrawn",
            ResetCode::Draining => "draining",
            ResetCode::Internal => "internal",
        }
    }

    /// Appends the RESET frame.
    pub fn encode_reset(self, out: &mut Vec<u8>) {
        put(Kind::Reset, &self.number().to_be_bytes(), out);
    }

    /// Reads a RESET frame's payload.
    ///
    /// # Errors
    /// [`Violation::Length`] if it is not two bytes.
    pub fn decode(payload: &[u8]) -> Result<ResetCode, Violation> {
        let mut cursor = Cursor::new(payload);
        let number = cursor.u16().and_then(|number| cursor.end(number));
        number.map(ResetCode::of).ok_or_else(|| Violation::length(Kind::Reset, payload.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_document() {
        for (number, code) in (1..).zip(ResetCode::ALL) {
            assert_eq!(code.number(), number);
            assert_eq!(ResetCode::of(number), code);
        }
    }

    #[test]
    fn an_unknown_number_is_the_first() {
        for number in [0, 8, u16::MAX] {
            assert_eq!(ResetCode::of(number), ResetCode::Reset);
        }
    }

    #[test]
    fn a_payload_of_another_length_is_a_violation() {
        for bad in [&[][..], &[0], &[0, 1, 0]] {
            assert_eq!(ResetCode::decode(bad), Err(Violation::length(Kind::Reset, bad.len())));
        }
    }
}
