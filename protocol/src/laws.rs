//! The laws of this crate, as plain functions over bytes: the tests run them over a committed corpus and over
//! random bytes, `protocol/fuzz` over what a fuzzer finds. Each panics when its law does not hold; nothing else
//! calls them.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a law that does not hold panics: that is how it is told")]

mod frames;
mod streams;

use std::fmt::{Debug, Display};
use std::str::FromStr;

pub use frames::frame;
pub use streams::stream;

use crate::frame::HEADER_LEN;
use crate::{
    Answer, Code, MAX_CONTROL, MAX_NAME, MAX_PREAMBLE, MAX_REASON, MAX_SEGMENT, MAX_SEGMENTS, Name, Pattern, Preamble,
    Refusal, RefusalCode, ResetCode, Template,
};

/// A law, by the name of its fuzz target and of its folder in the corpus.
pub type Law = (&'static str, fn(&[u8]));

/// Every law.
pub const ALL: [Law; 7] = [
    ("name", name),
    ("frame", frame),
    ("preamble", preamble),
    ("answer", answer),
    ("refusal", refusal),
    ("reset", reset),
    ("stream", stream),
];

/// Lines: a name, a pattern, a template. Each prints as it was read; what a pattern captured of a name fills the
/// pattern's own text to that name again; a name is a pattern that matches itself.
pub fn name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (name, pattern, template) = (line(), line(), line());
    let name = prints_as_read::<Name>(name);
    let pattern = prints_as_read::<Pattern>(pattern);
    let template = prints_as_read::<Template>(template);
    if let Some(name) = &name {
        within_its_rules(name);
    }
    if let (Some(name), Some(pattern)) = (&name, &pattern) {
        a_match_fills_its_pattern(name, pattern);
    }
    if let Some(template) = template.filter(Template::is_literal) {
        assert_eq!(template.expand(&crate::Captures::default()).as_deref(), Ok(template.as_str()));
    }
}

fn prints_as_read<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let read = text.parse::<T>().ok()?;
    assert_eq!(read.to_string(), text);
    assert_eq!(text.parse::<T>().ok().as_ref(), Some(&read));
    Some(read)
}

/// PROTOCOL.md 6, said a second time.
fn within_its_rules(name: &Name) {
    let text = name.as_str();
    assert!(text.len() <= MAX_NAME && name.segments().count() <= MAX_SEGMENTS);
    assert_eq!(name.segments().fold(String::new(), |path, segment| path + "/" + segment), text);
    for segment in name.segments() {
        assert!((1..=MAX_SEGMENT).contains(&segment.len()) && segment != "." && segment != "..");
        assert!(segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:#$%+@-".contains(&byte)));
    }
    let itself = Pattern::parse(text).unwrap_or_else(|error| panic!("{name} is no pattern: {error}"));
    assert!(itself.matches(name).is_some_and(|captures| captures.iter().count() == 0));
}

fn a_match_fills_its_pattern(name: &Name, pattern: &Pattern) {
    let whole = pattern.matches(name);
    let prefix = pattern.matches_prefix(name);
    assert_eq!(whole.is_some(), prefix.as_ref().is_some_and(|(_, taken)| *taken == name.segments().count()));
    let Some((captures, taken)) = prefix else { return };
    assert!(captures.iter().map(|(name, _)| name).eq(pattern.capture_names()));
    assert!(captures.iter().all(|(_, value)| !value.is_empty()));
    if taken > 0 && pattern.as_str().split('/').all(|segment| segment != "*") {
        let filled = Template::parse(pattern.as_str()).unwrap().expand(&captures).unwrap();
        let begins = name.as_str().strip_prefix(&filled);
        assert!(begins.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')), "{filled} begins {name}");
    }
}

/// OPEN's payload: what was read is read again from what it encodes to; what was not is malformed or a loop.
pub fn preamble(bytes: &[u8]) {
    match Preamble::decode(bytes) {
        Ok(read) => {
            let mut frame = Vec::new();
            read.encode(&mut frame);
            let payload = payload(&frame, MAX_PREAMBLE);
            assert_eq!(Preamble::decode(payload).as_ref(), Ok(&read));
            assert!(!read.destination.is_bound() && read.hops > 0);
        }
        Err(refused) => {
            assert!(matches!(refused.code, RefusalCode::Known(Code::Malformed | Code::Loop)), "{refused}");
            let mut frame = Vec::new();
            refused.encode(&mut frame);
            refusal(payload(&frame, 2 + MAX_REASON));
        }
    }
}

/// ACCEPT's payload: what was read is read again from what it encodes to.
pub fn answer(bytes: &[u8]) {
    let Ok(read) = Answer::decode(bytes) else { return };
    let mut frame = Vec::new();
    read.encode(&mut frame);
    assert_eq!(Answer::decode(payload(&frame, MAX_CONTROL)), Ok(read));
}

/// REFUSE's payload: what was read encodes to the same bytes.
pub fn refusal(bytes: &[u8]) {
    let Ok(read) = Refusal::decode(bytes) else { return };
    let mut frame = Vec::new();
    read.encode(&mut frame);
    assert_eq!(payload(&frame, 2 + MAX_REASON), bytes);
}

/// RESET's payload: two bytes, and a known code encodes to the same.
pub fn reset(bytes: &[u8]) {
    let Ok(read) = ResetCode::decode(bytes) else {
        assert_ne!(bytes.len(), 2);
        return;
    };
    let mut frame = Vec::new();
    read.encode_reset(&mut frame);
    let known = ResetCode::ALL.iter().any(|code| code.number().to_be_bytes() == bytes);
    assert_eq!(payload(&frame, 2) == bytes, known);
}

/// What stands behind a frame's header, which must tell its length, within the bound.
fn payload(frame: &[u8], most: usize) -> &[u8] {
    let (header, payload) = frame.split_at_checked(HEADER_LEN).unwrap_or_else(|| panic!("a frame without a header"));
    let [_, high, mid, low] = header.try_into().unwrap_or_else(|_| panic!("a header has four bytes"));
    assert_eq!(u32::from_be_bytes([0, high, mid, low]) as usize, payload.len());
    assert!(payload.len() <= most);
    payload
}
