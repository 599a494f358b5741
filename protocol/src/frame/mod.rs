//! Frames (PROTOCOL.md 2): kinds, bounds, the four bytes of a header, and the encoding of one frame. Which frame may
//! stand where is the `stream` module's; reading them off a byte stream is the [`Decoder`]'s.

mod clock;
mod decoder;
#[cfg(test)]
mod tests;

use std::fmt;

pub use clock::FrameClock;
pub use decoder::{Decoder, Item, Taken};

use crate::Violation;

/// The bytes of a header.
pub const HEADER_LEN: usize = 4;
/// The longest DATA payload.
pub const MAX_DATA: usize = 1_048_576;
/// The longest payload of OPEN.
pub const MAX_PREAMBLE: usize = 4096;
/// The longest payload of any frame but DATA: what a decoder holds at most.
pub const MAX_CONTROL: usize = 4096;
/// The longest reason of REFUSE, without its code.
pub const MAX_REASON: usize = 512;
/// The DATA payload bytes a dialer may send before the answer.
pub const MAX_EAGER: usize = 65_536;
/// The bytes of extension frames, headers included, with no frame but RETIRE between them.
pub const MAX_EXTENSIONS: usize = 65_536;

const EXTENSION_FIRST: u8 = 0x40;
const EXTENSION_LAST: u8 = 0x7f;

/// A frame's kind.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Bytes of the stream.
    Data,
    /// The preamble: a stream begins.
    Open,
    /// The service is connected, or a probe's answer.
    Accept,
    /// The stream is not served.
    Refuse,
    /// No more DATA from this side.
    Fin,
    /// The stream is aborted.
    Reset,
    /// No further stream on this tunnel.
    Retire,
    /// The stream is over.
    Done,
    /// An extension, by its whole kind byte (0x40 to 0x7f): skipped.
    Extension(u8),
}

impl Kind {
    /// The kind of this byte.
    ///
    /// # Errors
    /// [`Violation::ReservedKind`] or [`Violation::UnknownKind`].
    pub const fn of(byte: u8) -> Result<Kind, Violation> {
        match byte {
            0x00 => Ok(Kind::Data),
            0x01 => Ok(Kind::Open),
            0x02 => Ok(Kind::Accept),
            0x03 => Ok(Kind::Refuse),
            0x04 => Ok(Kind::Fin),
            0x05 => Ok(Kind::Reset),
            0x06 => Ok(Kind::Retire),
            0x07 => Ok(Kind::Done),
            0x08..=0x0f => Err(Violation::ReservedKind(byte)),
            EXTENSION_FIRST..=EXTENSION_LAST => Ok(Kind::Extension(byte)),
            _ => Err(Violation::UnknownKind(byte)),
        }
    }

    /// The byte on the wire. An extension's is brought into its range, so that no value can pass for another kind.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Kind::Data => 0x00,
            Kind::Open => 0x01,
            Kind::Accept => 0x02,
            Kind::Refuse => 0x03,
            Kind::Fin => 0x04,
            Kind::Reset => 0x05,
            Kind::Retire => 0x06,
            Kind::Done => 0x07,
            Kind::Extension(byte) => EXTENSION_FIRST | (byte & 0x3f),
        }
    }

    /// The least and the greatest payload length.
    #[must_use]
    pub const fn bounds(self) -> (usize, usize) {
        match self {
            Kind::Data => (1, MAX_DATA),
            Kind::Open => (0, MAX_PREAMBLE),
            Kind::Accept | Kind::Extension(_) => (0, MAX_CONTROL),
            Kind::Refuse => (2, 2 + MAX_REASON),
            Kind::Reset => (2, 2),
            Kind::Fin | Kind::Retire | Kind::Done => (0, 0),
        }
    }

    /// Whether a payload of `len` bytes is within the bounds.
    ///
    /// # Errors
    /// [`Violation::Length`] if not.
    pub(crate) fn check(self, len: usize) -> Result<(), Violation> {
        let (least, greatest) = self.bounds();
        if (least..=greatest).contains(&len) { Ok(()) } else { Err(Violation::length(self, len)) }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Data => "DATA",
            Kind::Open => "OPEN",
            Kind::Accept => "ACCEPT",
            Kind::Refuse => "REFUSE",
            Kind::Fin => "FIN",
            Kind::Reset => "RESET",
            Kind::Retire => "RETIRE",
            Kind::Done => "DONE",
            Kind::Extension(byte) => return write!(f, "extension {byte:#04x}"),
        })
    }
}

/// The four bytes before every payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// The frame's kind.
    pub kind: Kind,
    /// The payload's length, of which the wire has 24 bits.
    pub len: u32,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// A kind that is none, or a length out of the kind's bound.
    pub fn decode(bytes: [u8; HEADER_LEN]) -> Result<Header, Violation> {
        let [kind, high, mid, low] = bytes;
        let kind = Kind::of(kind)?;
        let len = u32::from_be_bytes([0, high, mid, low]);
        kind.check(len as usize)?;
        Ok(Header { kind, len })
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let [_, high, mid, low] = self.len.to_be_bytes();
        [self.kind.byte(), high, mid, low]
    }

    /// The header of one DATA frame over as many of the `len` bytes at hand as a frame takes: the caller sends
    /// `header.len` of them after it. Not to be asked without bytes, for DATA is never empty.
    #[must_use]
    pub fn data(len: usize) -> Header {
        Header::sized(Kind::Data, len)
    }

    /// A header over at most the kind's greatest length.
    fn sized(kind: Kind, len: usize) -> Header {
        let (_, greatest) = kind.bounds();
        Header { kind, len: u32::try_from(len.min(greatest)).unwrap_or(0) }
    }
}

/// Appends `payload` as a frame. DATA beyond one frame's bound becomes several frames, and none if it is empty; the
/// payload of another kind is cut at its bound, so that what is appended can always be read.
pub fn put(kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    match kind {
        Kind::Data => payload.chunks(MAX_DATA).for_each(|piece| put_one(kind, piece, out)),
        _ => put_one(kind, payload, out),
    }
}

fn put_one(kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    let header = Header::sized(kind, payload.len());
    let payload = payload.get(..header.len as usize).unwrap_or_default();
    out.reserve(HEADER_LEN + payload.len());
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(payload);
}
