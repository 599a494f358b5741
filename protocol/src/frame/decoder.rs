//! Frames off a byte stream that comes in pieces of any size. DATA is handed on in slices of the input, uncopied, as
//! it arrives; only a control frame that did not come whole is kept, at most 4,096 bytes. It never waits, and what
//! it says does not depend on how the input was cut.

use super::{HEADER_LEN, Header, Kind, MAX_EXTENSIONS};
use crate::{Answer, Preamble, Refusal, ResetCode, Violation};

/// One thing that arrived. Extensions are skipped and make none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// A piece of a DATA payload, never empty; a frame may come in many.
    Data(&'a [u8]),
    /// A stream begins, or is to be refused with what stands here: no violation, for a later version may ask more.
    Open(Result<Preamble, Refusal>),
    /// The answer that the stream is served.
    Accept(Answer),
    /// The answer that it is not.
    Refuse(Refusal),
    /// No more DATA.
    Fin,
    /// The stream is aborted.
    Reset(ResetCode),
    /// No further stream on this tunnel.
    Retire,
    /// The stream is over.
    Done,
}

impl Item<'_> {
    /// The kind of frame it came in.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Item::Data(_) => Kind::Data,
            Item::Open(_) => Kind::Open,
            Item::Accept(_) => Kind::Accept,
            Item::Refuse(_) => Kind::Refuse,
            Item::Fin => Kind::Fin,
            Item::Reset(_) => Kind::Reset,
            Item::Retire => Kind::Retire,
            Item::Done => Kind::Done,
        }
    }
}

/// What one call took off the input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken<'a> {
    /// How many bytes of the input are done with, whether or not an item came of them.
    pub consumed: usize,
    /// What they made; nothing means that all of the input was taken and more is needed.
    pub item: Option<Item<'a>>,
}

/// Reads frames incrementally. Feed it a tunnel's plaintext as it comes.
#[derive(Clone, Default, Debug)]
pub struct Decoder {
    pub(super) state: State,
    /// Bytes of extension frames since the last frame that was neither one nor RETIRE.
    extensions: usize,
    /// How many headers of DATA, and whole frames of the other kinds, have come.
    came: u64,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    /// The first `have` bytes of a header are here.
    Header { bytes: [u8; HEADER_LEN], have: usize },
    /// `left` more bytes of a DATA payload are to come.
    Data { left: usize },
    /// A control frame of `len` bytes of which `payload` is here.
    Control { kind: Kind, len: usize, payload: Vec<u8> },
    /// `left` more bytes of an extension are to be skipped.
    Skip { left: usize },
    /// A rule was broken; there is no way back.
    Broken(Violation),
}

impl Default for State {
    fn default() -> State {
        State::Header { bytes: [0; HEADER_LEN], have: 0 }
    }
}

impl Decoder {
    /// A decoder before the first frame.
    #[must_use]
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Takes bytes off the front of `input` up to the end of one item. Call again with the rest until no item comes;
    /// then all of the input was taken. `judge` is shown each header as soon as it is whole, and says whether such a
    /// frame has its place now: nothing of a payload is awaited for one that has none.
    ///
    /// # Errors
    /// The rule of PROTOCOL.md 2 the peer broke, or the judge's; every later call says the same.
    pub fn next<'a>(
        &mut self,
        input: &'a [u8],
        mut judge: impl FnMut(Header) -> Result<(), Violation>,
    ) -> Result<Taken<'a>, Violation> {
        let mut rest = input;
        loop {
            let step = self.step(&mut rest, &mut judge);
            let item = step.inspect_err(|broken| self.state = State::Broken(*broken))?;
            if item.is_some() || rest.is_empty() {
                return Ok(Taken { consumed: input.len() - rest.len(), item });
            }
        }
    }

    /// The number of the frame that was begun and must be whole within the 5 s of PROTOCOL.md 2: a header of which a
    /// part is here, or a frame other than DATA, extensions among them. A DATA payload has no such limit.
    #[must_use]
    pub fn awaited(&self) -> Option<u64> {
        let begun = match self.state {
            State::Header { have, .. } => have > 0,
            State::Control { .. } | State::Skip { .. } => true,
            State::Data { .. } | State::Broken(_) => false,
        };
        begun.then_some(self.came)
    }

    /// One step of the state; takes at least a byte if there is one.
    fn step<'a>(
        &mut self,
        rest: &mut &'a [u8],
        judge: &mut impl FnMut(Header) -> Result<(), Violation>,
    ) -> Result<Option<Item<'a>>, Violation> {
        match &mut self.state {
            State::Header { bytes, have } => match header(bytes, have, rest) {
                None => Ok(None),
                Some(bytes) => {
                    let header = Header::decode(bytes)?;
                    self.count_extension(header)?;
                    judge(header)?;
                    self.begin(header, rest)
                }
            },
            State::Data { left } => {
                let piece = take(rest, *left);
                *left -= piece.len();
                if *left == 0 {
                    self.state = State::default();
                }
                Ok((!piece.is_empty()).then_some(Item::Data(piece)))
            }
            State::Control { kind, len, payload } => {
                payload.extend_from_slice(take(rest, *len - payload.len()));
                if payload.len() < *len {
                    return Ok(None);
                }
                let item = whole(*kind, payload)?;
                self.between_frames();
                Ok(Some(item))
            }
            State::Skip { left } => {
                *left -= take(rest, *left).len();
                if *left == 0 {
                    self.between_frames();
                }
                Ok(None)
            }
            State::Broken(violation) => Err(*violation),
        }
    }

    /// A header is whole: chooses what comes next, and takes what is at hand without keeping it.
    fn begin<'a>(&mut self, header: Header, rest: &mut &'a [u8]) -> Result<Option<Item<'a>>, Violation> {
        let len = header.len as usize;
        match header.kind {
            Kind::Data => {
                self.came += 1;
                let piece = take(rest, len);
                let left = len - piece.len();
                self.state = if left == 0 { State::default() } else { State::Data { left } };
                Ok((!piece.is_empty()).then_some(Item::Data(piece)))
            }
            Kind::Extension(_) if len > 0 => {
                self.state = State::Skip { left: len };
                Ok(None)
            }
            Kind::Extension(_) => {
                self.between_frames();
                Ok(None)
            }
            kind if rest.len() >= len => {
                self.between_frames();
                whole(kind, take(rest, len)).map(Some)
            }
            kind => {
                // Grows as bytes come, not by the length it was told.
                self.state = State::Control { kind, len, payload: Vec::new() };
                Ok(None)
            }
        }
    }

    /// A frame other than DATA is whole.
    fn between_frames(&mut self) {
        self.state = State::default();
        self.came += 1;
    }

    /// More than 64 KiB of extensions, headers included, with no frame but RETIRE between them is a protocol error
    /// (PROTOCOL.md 2).
    fn count_extension(&mut self, header: Header) -> Result<(), Violation> {
        match header.kind {
            Kind::Extension(_) => self.extensions += HEADER_LEN + header.len as usize,
            Kind::Retire => {}
            _ => self.extensions = 0,
        }
        if self.extensions > MAX_EXTENSIONS { Err(Violation::Extensions) } else { Ok(()) }
    }
}

/// At most `n` bytes off the front of `rest`.
fn take<'a>(rest: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (head, tail) = rest.split_at(n.min(rest.len()));
    *rest = tail;
    head
}

/// The header, once whole: at once when four bytes are at hand, else collected.
fn header(bytes: &mut [u8; HEADER_LEN], have: &mut usize, rest: &mut &[u8]) -> Option<[u8; HEADER_LEN]> {
    if *have == 0
        && let Some((whole, tail)) = rest.split_first_chunk::<HEADER_LEN>()
    {
        *rest = tail;
        return Some(*whole);
    }
    for (slot, byte) in bytes.iter_mut().skip(*have).zip(rest.iter()) {
        *slot = *byte;
    }
    *have += take(rest, HEADER_LEN - *have).len();
    (*have == HEADER_LEN).then_some(*bytes)
}

/// The item of a whole frame other than DATA and extensions, which never come here.
fn whole<'a>(kind: Kind, payload: &[u8]) -> Result<Item<'a>, Violation> {
    match kind {
        Kind::Open => Ok(Item::Open(Preamble::decode(payload))),
        Kind::Accept => Answer::decode(payload).map(Item::Accept),
        Kind::Refuse => Refusal::decode(payload).map(Item::Refuse),
        Kind::Reset => ResetCode::decode(payload).map(Item::Reset),
        Kind::Fin => Ok(Item::Fin),
        Kind::Retire => Ok(Item::Retire),
        Kind::Done => Ok(Item::Done),
        Kind::Data | Kind::Extension(_) => Err(Violation::UnknownKind(kind.byte())),
    }
}
