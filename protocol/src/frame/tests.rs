use proptest::prelude::*;

use super::decoder::State;
use super::*;
use crate::Refusal;

fn one(bytes: &[u8]) -> Result<Option<Kind>, Violation> {
    Decoder::new().next(bytes, |_| Ok(())).map(|taken| taken.item.map(|item| item.kind()))
}

#[test]
fn a_kind_is_its_byte_and_no_other() {
    for byte in 0..=u8::MAX {
        if let Ok(kind) = Kind::of(byte) {
            assert_eq!(kind.byte(), byte);
        }
    }
    assert!((0x80..=u8::MAX).all(|byte| (0x40..0x80).contains(&Kind::Extension(byte).byte())));
}

#[test]
fn a_header_that_the_judge_refuses_is_refused_before_its_payload() {
    let header = Header { kind: Kind::Open, len: 9 }.encode();
    let mut decoder = Decoder::new();
    let refused = decoder.next(&header, |header| {
        assert_eq!(header, Header { kind: Kind::Open, len: 9 });
        Err(Violation::OpenAfterRetire)
    });
    assert_eq!(refused, Err(Violation::OpenAfterRetire));
    assert_eq!(decoder.next(&[0; 9], |_| Ok(())), Err(Violation::OpenAfterRetire));
}

#[test]
fn a_frame_is_awaited_from_its_first_byte_and_a_data_payload_is_not() {
    let mut decoder = Decoder::new();
    let mut feed = |mut bytes: &[u8]| {
        while !bytes.is_empty() {
            let consumed = decoder.next(bytes, |_| Ok(())).unwrap().consumed;
            bytes = &bytes[consumed..];
        }
        decoder.awaited()
    };
    assert_eq!(feed(b""), None);
    assert_eq!(feed(&[0x40]), Some(0));
    assert_eq!(feed(&[0, 0, 2, 7]), Some(0));
    assert_eq!(feed(&[7, 0x00]), Some(1), "an extension that is whole and a header that is begun are two frames");
    assert_eq!(feed(&[0, 0, 2]), None);
    assert_eq!(feed(&[7]), None);
    assert_eq!(feed(&[7, 0x05]), Some(2));
    assert_eq!(feed(&[0, 0, 2, 0, 1]), None);
}

#[test]
fn nothing_is_kept_by_a_length_that_was_told() {
    for kind in [Kind::Open, Kind::Accept, Kind::Refuse] {
        let (_, most) = kind.bounds();
        let header = Header { kind, len: u32::try_from(most).unwrap() };
        let mut decoder = Decoder::new();
        decoder.next(&header.encode(), |_| Ok(())).unwrap();
        let State::Control { payload, .. } = &decoder.state else { panic!("{kind} is not begun") };
        assert_eq!(payload.capacity(), 0, "{kind}");
    }
    for kind in [Kind::Data, Kind::Extension(0x40)] {
        let (_, most) = kind.bounds();
        let header = Header { kind, len: u32::try_from(most).unwrap() };
        let mut decoder = Decoder::new();
        decoder.next(&header.encode(), |_| Ok(())).unwrap();
        decoder.next(&[7; 1000], |_| Ok(())).unwrap();
        assert!(matches!(decoder.state, State::Data { .. } | State::Skip { .. }), "{kind} is kept");
    }
}

#[test]
fn data_above_one_frame_becomes_several_and_of_no_bytes_none() {
    let mut frames = Vec::new();
    put(Kind::Data, &vec![7; MAX_DATA + 1], &mut frames);
    assert_eq!(frames.len(), 2 * HEADER_LEN + MAX_DATA + 1);
    put(Kind::Data, &[], &mut frames);
    assert_eq!(frames.len(), 2 * HEADER_LEN + MAX_DATA + 1);
    assert_eq!(Header::data(MAX_DATA + 1).len as usize, MAX_DATA);
}

#[test]
fn a_broken_answer_is_told_by_its_rule() {
    let mut refusal = Vec::new();
    Refusal::new(crate::Code::Denied, "no").encode(&mut refusal);
    assert_eq!(one(&refusal), Ok(Some(Kind::Refuse)));
    let last = refusal.len() - 1;
    refusal[last] = 0xff;
    assert_eq!(one(&refusal), Err(Violation::RefuseText));
}

proptest! {
    #[test]
    fn what_is_put_can_be_read(byte in 0..=u8::MAX, payload in prop::collection::vec(any::<u8>(), 0..6000)) {
        let Ok(kind) = Kind::of(byte) else { return Ok(()) };
        let mut frame = Vec::new();
        put(kind, &payload, &mut frame);
        let header = frame.first_chunk::<HEADER_LEN>().map(|header| Header::decode(*header));
        match header {
            Some(Ok(header)) => prop_assert_eq!(header.len as usize, frame.len() - HEADER_LEN),
            // A payload that is too short for the kind is the caller's to mend; it is never read as another frame.
            Some(Err(broken)) => prop_assert_eq!(broken, Violation::length(kind, payload.len().min(kind.bounds().1))),
            None => prop_assert!(kind == Kind::Data && payload.is_empty()),
        }
    }
}
