//! The law of the decoder: however its input is cut, it says what a reader says that has all of it before it, and a frame
//! is judged by its header before its payload has come.

use crate::frame::{HEADER_LEN, Header, Kind, MAX_EXTENSIONS, put};
use crate::{Answer, Decoder, Item, Preamble, Refusal, ResetCode, Violation};

/// All that was said of an input, DATA of one frame as one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Said {
    headers: Vec<Header>,
    items: Vec<Whole>,
    broken: Option<Violation>,
}

/// An item that owns its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Whole {
    Data(Vec<u8>),
    Open(Result<Preamble, Refusal>),
    Accept(Answer),
    Refuse(Refusal),
    Reset(ResetCode),
    Bare(Kind),
}

/// The first byte chooses how the rest is cut; the rest is a tunnel's plaintext.
pub fn frame(bytes: &[u8]) {
    let Some((cut, stream)) = bytes.split_first() else { return };
    let expected = at_once(stream);
    for size in [usize::MAX, 1, 1 + usize::from(*cut)] {
        assert_eq!(in_pieces(stream, size), expected, "in pieces of {size}");
    }
    encodes_again(stream, &expected);
}

/// A reader that has everything before it: header, payload, header, payload.
fn at_once(mut stream: &[u8]) -> Said {
    let mut said = Said::default();
    let mut extensions = 0;
    while let Some((header, rest)) = stream.split_first_chunk::<HEADER_LEN>() {
        let header = match Header::decode(*header) {
            Ok(header) => header,
            Err(broken) => return Said { broken: Some(broken), ..said },
        };
        let len = header.len as usize;
        extensions = match header.kind {
            Kind::Extension(_) => extensions + HEADER_LEN + len,
            Kind::Retire => extensions,
            _ => 0,
        };
        if extensions > MAX_EXTENSIONS {
            return Said { broken: Some(Violation::Extensions), ..said };
        }
        said.headers.push(header);
        let (payload, rest) = rest.split_at(len.min(rest.len()));
        stream = rest;
        if header.kind == Kind::Data && !payload.is_empty() {
            said.items.push(Whole::Data(payload.to_vec()));
        } else if payload.len() == len {
            match whole(header.kind, payload) {
                Ok(item) => said.items.extend(item),
                Err(broken) => return Said { broken: Some(broken), ..said },
            }
        }
    }
    said
}

fn whole(kind: Kind, payload: &[u8]) -> Result<Option<Whole>, Violation> {
    Ok(Some(match kind {
        Kind::Open => Whole::Open(Preamble::decode(payload)),
        Kind::Accept => Whole::Accept(Answer::decode(payload)?),
        Kind::Refuse => Whole::Refuse(Refusal::decode(payload)?),
        Kind::Reset => Whole::Reset(ResetCode::decode(payload)?),
        Kind::Fin | Kind::Retire | Kind::Done => Whole::Bare(kind),
        Kind::Data | Kind::Extension(_) => return Ok(None),
    }))
}

fn in_pieces(stream: &[u8], size: usize) -> Said {
    let mut said = Said::default();
    let mut decoder = Decoder::new();
    let mut frames = 0;
    for piece in stream.chunks(size.min(stream.len().max(1))) {
        let mut rest = piece;
        loop {
            let headers = &mut said.headers;
            let taken = match decoder.next(rest, |header| {
                headers.push(header);
                Ok(())
            }) {
                Ok(taken) => taken,
                Err(broken) => {
                    assert_eq!(decoder.next(b"more", |_| Ok(())), Err(broken), "there is no way back");
                    assert_eq!(decoder.awaited(), None);
                    return Said { broken: Some(broken), ..said };
                }
            };
            rest = &rest[taken.consumed..];
            let Some(item) = taken.item else { break };
            let continues = said.headers.len() == frames;
            frames = said.headers.len();
            add(&mut said.items, item, continues);
        }
        assert!(rest.is_empty(), "no item means that all was taken");
    }
    said
}

/// `continues`: no header came since the last item, so it is more of the same DATA.
fn add(items: &mut Vec<Whole>, item: Item<'_>, continues: bool) {
    match (item, items.last_mut()) {
        (Item::Data(piece), Some(Whole::Data(before))) if continues => before.extend_from_slice(piece),
        (Item::Data(piece), _) => items.push(Whole::Data(piece.to_vec())),
        (Item::Open(preamble), _) => items.push(Whole::Open(preamble)),
        (Item::Accept(answer), _) => items.push(Whole::Accept(answer)),
        (Item::Refuse(refusal), _) => items.push(Whole::Refuse(refusal)),
        (Item::Reset(code), _) => items.push(Whole::Reset(code)),
        (item @ (Item::Fin | Item::Retire | Item::Done), _) => items.push(Whole::Bare(item.kind())),
    }
}

/// What was decoded encodes to the same bytes: every header, and a whole frame built of its payload.
fn encodes_again(stream: &[u8], said: &Said) {
    let mut rest = stream;
    for header in &said.headers {
        assert_eq!(rest.get(..HEADER_LEN), Some(&header.encode()[..]));
        let end = HEADER_LEN + header.len as usize;
        let Some(frame) = rest.get(..end) else { return };
        let mut built = Vec::new();
        put(header.kind, &frame[HEADER_LEN..], &mut built);
        assert_eq!(built, frame);
        rest = &rest[end..];
    }
}
