//! Why a stream was refused: the table of codes of PROTOCOL.md 4, written once. A refusal is a value
//! and no error; what to do about one is in its [`Retry`], and nothing here does it.

use std::fmt;

use crate::cursor::Cursor;
use crate::frame::{Kind, MAX_REASON, put};
use crate::{Violation, text};

/// Where a refused stream may be tried again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use]
pub enum Retry {
    /// Nowhere: the refusal is final.
    No,
    /// At another endpoint.
    Elsewhere,
    /// On a fresh tunnel to the same endpoint first, then elsewhere.
    SameEndpoint,
    /// On a fresh tunnel: this one's certificate is not the service's.
    FreshTunnel,
}

/// The reasons an acceptor may refuse for.
#[repr(u16)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Code {
    /// The preamble broke a rule.
    Malformed = 1,
    /// The agent serves no such destination.
    Unknown,
    /// The policy does not let this identity reach it.
    Denied,
    /// The service refused or could not be reached.
    Unavailable,
    /// Connecting to the service took too long.
    Timeout,
    /// A limit is reached.
    Overloaded,
    /// The tunnel or the agent is going away.
    Draining,
    /// Too many hops, or a target that is a listener of the agent itself.
    Loop,
    /// The service is bound to a certificate other than this tunnel's.
    Misdirected,
}

impl Code {
    /// Every code, in the order of their numbers.
    pub const ALL: [Code; 9] = [
        Code::Malformed,
        Code::Unknown,
        Code::Denied,
        Code::Unavailable,
        Code::Timeout,
        Code::Overloaded,
        Code::Draining,
        Code::Loop,
        Code::Misdirected,
    ];

    /// The table of PROTOCOL.md 4: what each code is called, and where the stream is tried again.
    const fn row(self) -> (&'static str, Retry) {
        match self {
            Code::Malformed => ("malformed", Retry::No),
            Code::Unknown => ("unknown", Retry::Elsewhere),
            Code::Denied => ("denied", Retry::No),
            Code::Unavailable => ("unavailable", Retry::Elsewhere),
            Code::Timeout => ("timeout", Retry::Elsewhere),
            Code::Overloaded => ("overloaded", Retry::Elsewhere),
            Code::Draining => ("draining", Retry::SameEndpoint),
            Code::Loop => ("loop", Retry::No),
            Code::Misdirected => ("misdirected", Retry::FreshTunnel),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// One word for a log or a metric.
    #[must_use]
    pub const fn label(self) -> &'static str {
        self.row().0
    }

    /// Where a stream so refused may be tried again.
    pub const fn retry(self) -> Retry {
        self.row().1
    }
}

/// A code as it came: one of the table, or a number that a later version may know.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RefusalCode {
    /// A code of the table.
    Known(Code),
    /// A number outside it: final.
    Unknown(u16),
}

impl RefusalCode {
    /// The code of this number.
    #[must_use]
    pub fn of(number: u16) -> RefusalCode {
        let known = Code::ALL.into_iter().find(|code| code.number() == number);
        known.map_or(RefusalCode::Unknown(number), RefusalCode::Known)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            RefusalCode::Known(code) => code.number(),
            RefusalCode::Unknown(number) => number,
        }
    }

    /// One word for a log or a metric; all numbers outside the table share `unrecognized`, so a peer cannot make
    /// labels up.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            RefusalCode::Known(code) => code.label(),
            RefusalCode::Unknown(_) => "unrecognized",
        }
    }

    /// Where a stream so refused may be tried again; an unknown code is final.
    pub const fn retry(self) -> Retry {
        match self {
            RefusalCode::Known(code) => code.retry(),
            RefusalCode::Unknown(_) => Retry::No,
        }
    }
}

/// What a REFUSE frame says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Refusal {
    /// Why, as one of a table.
    pub code: RefusalCode,
    /// Why, for a human: at most 512 bytes without control characters.
    pub reason: String,
}

impl Refusal {
    /// A refusal whose reason is made to fit: cut to 512 bytes on a character's boundary, control characters
    /// replaced by spaces.
    #[must_use]
    pub fn new(code: Code, reason: impl Into<String>) -> Refusal {
        Refusal { code: RefusalCode::Known(code), reason: text::fit(&reason.into(), MAX_REASON) }
    }

    /// Appends the REFUSE frame. A reason that was set past [`Refusal::new`] is made to fit here.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut payload = self.code.number().to_be_bytes().to_vec();
        payload.extend_from_slice(text::fit(&self.reason, MAX_REASON).as_bytes());
        put(Kind::Refuse, &payload, out);
    }

    /// Reads a REFUSE frame's payload.
    ///
    /// # Errors
    /// [`Violation::RefuseText`] if there is no code, or the reason is no text or above 512 bytes.
    pub fn decode(payload: &[u8]) -> Result<Refusal, Violation> {
        let mut cursor = Cursor::new(payload);
        let number = cursor.u16().ok_or(Violation::RefuseText)?;
        let reason = cursor.rest();
        let fits = reason.len() <= MAX_REASON;
        let reason = text::check(reason).filter(|_| fits).ok_or(Violation::RefuseText)?;
        Ok(Refusal { code: RefusalCode::of(number), reason: reason.to_owned() })
    }

    /// One word for a log or a metric.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        self.code.label()
    }

    /// Where the stream may be tried again.
    pub const fn retry(&self) -> Retry {
        self.code.retry()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            RefusalCode::Known(code) => f.write_str(code.label())?,
            RefusalCode::Unknown(number) => write!(f, "code {number}")?,
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_document() {
        for (number, code) in (1..).zip(Code::ALL) {
            assert_eq!(code.number(), number);
            assert_eq!(RefusalCode::of(number), RefusalCode::Known(code));
        }
    }

    #[test]
    fn an_unknown_code_is_final() {
        for number in [0, 10, u16::MAX] {
            assert_eq!(RefusalCode::of(number), RefusalCode::Unknown(number));
            assert_eq!(RefusalCode::of(number).retry(), Retry::No);
        }
    }

    #[test]
    fn a_reason_is_made_to_fit() {
        let long = Refusal::new(Code::Denied, "é".repeat(300));
        assert_eq!(long.reason.len(), 512);
        assert_eq!(Refusal::new(Code::Denied, "a\nb").reason, "a b");
    }

    #[test]
    fn a_reason_set_by_hand_still_leaves_within_bounds() {
        let by_hand = Refusal { code: RefusalCode::Unknown(77), reason: "\n".repeat(600) };
        let mut frame = Vec::new();
        by_hand.encode(&mut frame);
        let read = Refusal::decode(&frame[4..]).unwrap();
        assert_eq!((read.code, read.reason.len()), (by_hand.code, 512));
    }

    #[test]
    fn a_refusal_without_code_or_with_broken_text_is_a_violation() {
        for bad in [&b""[..], b"\0", b"\0\x01\xff", b"\0\x01\n", &[0; 3]] {
            assert_eq!(Refusal::decode(bad), Err(Violation::RefuseText), "{bad:?}");
        }
    }
}
