//! The laws over the committed corpus, which `cargo fuzz` shares and adds to, and over random bytes.

use std::path::Path;

use adit_protocol::laws;
use proptest::prelude::*;

/// What a folder of the corpus holds at the least, lest an emptied one pass.
const SEEDS: usize = 5;

#[test]
fn every_law_holds_over_its_corpus() {
    for (name, law) in laws::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut seen = 0;
        for entry in entries {
            let file = entry.expect("a folder can be read").path();
            law(&std::fs::read(&file).expect("a file of the corpus can be read"));
            seen += 1;
        }
        assert!(seen >= SEEDS, "{} holds {seen} files", folder.display());
    }
}

#[test]
fn every_law_has_a_fuzz_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("protocol/fuzz has a manifest");
    for (name, _) in laws::ALL {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "protocol/fuzz has no target {name}");
        let target = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs")));
        assert!(target.is_ok_and(|text| text.contains(&format!("laws::{name}"))), "{name} runs another law");
    }
}

/// Bytes that look like frames: random ones hardly ever get past a header.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        prop::collection::vec(field(), 0..4).prop_map(|fields| fields.concat()),
    ];
    let frame = (prop_oneof![0..8_u8, Just(0x40), any::<u8>()], payload).prop_map(|(kind, payload)| {
        let length = u32::try_from(payload.len()).unwrap_or_default() | u32::from(kind) << 24;
        [length.to_be_bytes().to_vec(), payload].concat()
    });
    prop::collection::vec(frame, 0..8).prop_map(|frames| frames.concat())
}

/// A field of OPEN or ACCEPT, mostly one that is right.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        "/[a-z.$#]{1,8}(/[a-z]{1,3}){0,3}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..20),
        Just(vec![4, 10, 0, 0, 1, 0, 80]),
        Just(vec![7; 16]),
        Just(vec![2]),
    ];
    (prop_oneof![0..9_u8, Just(0x80), any::<u8>()], value).prop_map(|(tag, value)| {
        let length = u16::try_from(value.len()).unwrap_or_default();
        [&[tag][..], &length.to_be_bytes(), &value].concat()
    })
}

proptest! {
    #[test]
    fn every_law_holds_over_random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        laws::ALL.iter().for_each(|(_, law)| law(&bytes));
    }

    #[test]
    fn names_patterns_and_templates_print_as_they_are_read(
        name in "(/[a-c.$#-]{1,4}){1,4}",
        pattern in "/|(/([a-c-]{1,3}|\\*|[a-c]{0,2}\\{[xy]\\}[-.]?|\\{x\\}-\\{y\\}c?)){1,4}",
        template in "([a-c.]{0,3}(\\{[xy]\\})?){0,4}",
    ) {
        laws::name(format!("{name}\n{pattern}\n{template}").as_bytes());
    }

    #[test]
    fn frames_are_read_alike_however_they_are_cut(cut in any::<u8>(), frames in frames()) {
        laws::frame(&[&[cut], &frames[..]].concat());
    }

    #[test]
    fn fields_are_read_again_from_what_they_encode_to(fields in prop::collection::vec(field(), 0..5)) {
        let payload = fields.concat();
        laws::preamble(&payload);
        laws::answer(&payload);
    }

    #[test]
    fn texts_and_codes_are_read_again_from_what_they_encode_to(code in any::<u16>(), reason in "\\PC{0,40}") {
        laws::refusal(&[&code.to_be_bytes(), reason.as_bytes()].concat());
        laws::reset(&code.to_be_bytes());
    }

    #[test]
    fn a_dialer_and_an_acceptor_never_break_each_others_rules(acts in prop::collection::vec(any::<u8>(), 0..300)) {
        laws::stream(&acts);
    }
}
