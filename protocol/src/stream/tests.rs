use super::*;
use crate::{Answer, Code, Header, Item, MAX_EAGER, Name, Preamble, Receipt, Refusal, ResetCode};

/// What comes of a frame: the phase it leads to, or the rule it breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Goes(Phase),
    Broken(&'static str),
}

const KINDS: [Kind; 9] = [
    Kind::Data,
    Kind::Open,
    Kind::Accept,
    Kind::Refuse,
    Kind::Fin,
    Kind::Reset,
    Kind::Retire,
    Kind::Done,
    Kind::Extension(0x40),
];

fn preamble(probe: bool) -> Item<'static> {
    Item::Open(Ok(Preamble { probe, ..Preamble::to(Name::parse("/a").unwrap()) }))
}

fn item(kind: Kind) -> Option<Item<'static>> {
    Some(match kind {
        Kind::Data => Item::Data(b"x"),
        Kind::Open => preamble(false),
        Kind::Accept => Item::Accept(Answer::default()),
        Kind::Refuse => Item::Refuse(Refusal::new(Code::Denied, "")),
        Kind::Fin => Item::Fin,
        Kind::Reset => Item::Reset(ResetCode::Reset),
        Kind::Retire => Item::Retire,
        Kind::Done => Item::Done,
        Kind::Extension(_) => return None,
    })
}

/// PROTOCOL.md 4, "What may arrive", one row for each phase and what else decides; a column for each kind of frame:
/// `.` nothing changes, `O A R I X` the phase it leads to (opened, accepted, refused, idle, aborted), or the rule that it
/// breaks: `p` place, `f` after_fin, `d` done_early, `b` probe_data, `t` retire_twice.
const COLUMNS: &str = "data open accept refuse fin reset retire done extension";
const DIALER: [(&str, &[Act], &str); 13] = [
    ("idle", &[], "p p p p p p . p ."),
    ("opened", &[Act::Open], "p p A R p p . p ."),
    ("opened, own FIN", &[Act::Open, Act::Fin], "p p A I p p . p ."),
    ("opened, retired", &[Act::Open, Act::Hear(Kind::Retire)], "p p A R p p t p ."),
    ("accepted", &[Act::Open, Act::Hear(Kind::Accept)], ". p p p . X . d ."),
    ("accepted, own FIN", &[Act::Open, Act::Fin, Act::Hear(Kind::Accept)], ". p p p . X . d ."),
    ("accepted, its FIN", &[Act::Open, Act::Hear(Kind::Accept), Act::Hear(Kind::Fin)], "f p p p f X . d ."),
    ("accepted, both FIN", &[Act::Open, Act::Fin, Act::Hear(Kind::Accept), Act::Hear(Kind::Fin)], "f p p p f X . I ."),
    ("probe accepted", &[Act::Probe, Act::Fin, Act::Hear(Kind::Accept)], "b p p p . X . d ."),
    ("refused", &[Act::Open, Act::Hear(Kind::Refuse)], "p p p p p p . p ."),
    ("idle again", &[Act::Open, Act::Hear(Kind::Refuse), Act::Fin], "p p p p p p . p ."),
    ("own RESET", &[Act::Open, Act::Reset], ". . . . . . . . ."),
    ("RESET read", &[Act::Open, Act::Hear(Kind::Accept), Act::Hear(Kind::Reset)], "p p p p p p p p p"),
];
const ACCEPTOR: [(&str, &[Act], &str); 13] = [
    ("idle", &[], "p O p p p X p p ."),
    ("opened", &[Act::Open], ". p p p . X p p ."),
    ("opened, its FIN", &[Act::Open, Act::Hear(Kind::Fin)], "f p p p f X p p ."),
    ("opened by a probe", &[Act::Probe], "b p p p . X p p ."),
    ("accepted", &[Act::Open, Act::Accept], ". p p p . X p p ."),
    ("accepted, own FIN", &[Act::Open, Act::Accept, Act::Fin], ". p p p . X p p ."),
    ("accepted, its FIN", &[Act::Open, Act::Accept, Act::Hear(Kind::Fin)], "f p p p f X p p ."),
    ("probe accepted", &[Act::Probe, Act::Accept, Act::Fin], "b p p p . X p p ."),
    ("refused", &[Act::Open, Act::Refuse], ". p p p I X p p ."),
    ("refused probe", &[Act::Probe, Act::Refuse], "b p p p I X p p ."),
    ("idle again", &[Act::Open, Act::Hear(Kind::Fin), Act::Accept, Act::Fin, Act::Done], "p O p p p X p p ."),
    ("own RESET", &[Act::Open, Act::Accept, Act::Reset], ". . . . . . . . ."),
    ("RESET read", &[Act::Open, Act::Hear(Kind::Reset)], "p p p p p p p p p"),
];

/// A step to a row's state.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// OPEN is sent, or heard.
    Open,
    Probe,
    Accept,
    Refuse,
    Fin,
    Done,
    Reset,
    Hear(Kind),
}

fn outcome(cell: &str, phase: Phase) -> Outcome {
    match cell {
        "." => Outcome::Goes(phase),
        "O" => Outcome::Goes(Phase::Opened),
        "A" => Outcome::Goes(Phase::Accepted),
        "R" => Outcome::Goes(Phase::Refused),
        "I" => Outcome::Goes(Phase::Idle),
        "X" => Outcome::Goes(Phase::Aborted),
        "p" => Outcome::Broken("place"),
        "f" => Outcome::Broken("after_fin"),
        "d" => Outcome::Broken("done_early"),
        "b" => Outcome::Broken("probe_data"),
        "t" => Outcome::Broken("retire_twice"),
        other => panic!("`{other}` is no outcome"),
    }
}

fn header(kind: Kind) -> Header {
    Header { kind, len: u32::try_from(kind.bounds().0).unwrap() }
}

#[test]
fn what_may_arrive_at_a_dialer_is_what_the_document_lists() {
    assert_eq!(COLUMNS.split(' ').count(), KINDS.len());
    for (name, acts, row) in DIALER {
        for (kind, cell) in KINDS.into_iter().zip(row.split(' ')) {
            let mut dialer = dialer_after(acts);
            let before = dialer.clone();
            let expected = outcome(cell, dialer.phase());
            let by_header = dialer.expect(header(kind)).err();
            let whole = item(kind).map_or(by_header.map_or(Ok(()), Err), |item| dialer.receive(&item).map(drop));
            let found = match whole {
                Ok(()) => Outcome::Goes(dialer.phase()),
                Err(rule) => Outcome::Broken(rule.label()),
            };
            assert_eq!(found, expected, "{name}: {kind}");
            assert_eq!(by_header.is_none(), whole.is_ok(), "{name}: {kind} is judged by its header");
            assert!(whole.is_ok() || dialer == before, "{name}: {kind} changed something");
        }
    }
}

#[test]
fn what_may_arrive_at_an_acceptor_is_what_the_document_lists() {
    for (name, acts, row) in ACCEPTOR {
        for (kind, cell) in KINDS.into_iter().zip(row.split(' ')) {
            let mut acceptor = acceptor_after(acts);
            let before = acceptor.clone();
            let expected = outcome(cell, acceptor.phase());
            let by_header = acceptor.expect(header(kind)).err();
            let whole = item(kind).map_or(by_header.map_or(Ok(()), Err), |item| acceptor.receive(&item).map(drop));
            let found = match whole {
                Ok(()) => Outcome::Goes(acceptor.phase()),
                Err(rule) => Outcome::Broken(rule.label()),
            };
            assert_eq!(found, expected, "{name}: {kind}");
            assert_eq!(by_header.is_none(), whole.is_ok(), "{name}: {kind} is judged by its header");
            assert!(whole.is_ok() || acceptor == before, "{name}: {kind} changed something");
        }
    }
}

fn dialer_after(acts: &[Act]) -> Dialer {
    let mut dialer = Dialer::new();
    for act in acts {
        match act {
            Act::Open | Act::Probe => dialer.open(matches!(act, Act::Probe)),
            Act::Fin => dialer.send(Kind::Fin, 0),
            Act::Reset => dialer.send(Kind::Reset, 2),
            Act::Hear(kind) => dialer.receive(&item(*kind).unwrap()).map(drop),
            Act::Accept | Act::Refuse | Act::Done => panic!("a dialer does not {act:?}"),
        }
        .unwrap();
    }
    dialer
}

fn acceptor_after(acts: &[Act]) -> Acceptor {
    let mut acceptor = Acceptor::new();
    for act in acts {
        match act {
            Act::Open | Act::Probe => acceptor.receive(&preamble(matches!(act, Act::Probe))).map(drop),
            Act::Accept => acceptor.send(Kind::Accept, 0),
            Act::Refuse => acceptor.send(Kind::Refuse, 2),
            Act::Fin => acceptor.send(Kind::Fin, 0),
            Act::Done => acceptor.send(Kind::Done, 0),
            Act::Reset => acceptor.send(Kind::Reset, 2),
            Act::Hear(kind) => acceptor.receive(&item(*kind).unwrap()).map(drop),
        }
        .unwrap();
    }
    acceptor
}

#[test]
fn what_each_side_may_not_send_is_told_as_a_mistake_of_its_own() {
    let mut acceptor = acceptor_after(&[Act::Open]);
    for (kind, len, rule) in [
        (Kind::Reset, 2, "place"),
        (Kind::Data, 1, "place"),
        (Kind::Done, 0, "place"),
        (Kind::Accept, 5, "answer_to_stream"),
        (Kind::Reset, 3, "length"),
    ] {
        assert_eq!(acceptor.send(kind, len).map_err(Violation::label), Err(rule), "{kind}");
    }
    let mut dialer = dialer_after(&[Act::Open]);
    assert_eq!(dialer.send(Kind::Data, MAX_EAGER + 1), Err(Violation::Eager));
    assert_eq!(dialer.send(Kind::Retire, 0).map_err(Violation::label), Err("place"));
    assert_eq!(dialer.open(false).map_err(Violation::label), Err("place"));
    let mut retired = dialer_after(&[Act::Hear(Kind::Retire)]);
    assert_eq!(retired.open(false), Err(Violation::OpenAfterRetire));
}

#[test]
fn a_malformed_open_can_only_be_refused() {
    let mut acceptor = Acceptor::new();
    let malformed = Item::Open(Err(Refusal::new(Code::Malformed, "")));
    assert_eq!(acceptor.receive(&malformed), Ok(Receipt::Taken));
    assert_eq!(acceptor.send(Kind::Accept, 0), Err(Violation::AcceptMalformed));
    assert_eq!(acceptor.send(Kind::Refuse, 2), Ok(()));
}

#[test]
fn the_eager_bound_holds_until_accept_and_by_what_a_header_announces() {
    let announced = |len: usize| Header { kind: Kind::Data, len: u32::try_from(len).unwrap() };
    let mut acceptor = acceptor_after(&[Act::Open]);
    assert_eq!(acceptor.expect(announced(MAX_EAGER)), Ok(()));
    assert_eq!(acceptor.expect(announced(MAX_EAGER + 1)), Err(Violation::Eager));
    assert_eq!(acceptor.receive(&Item::Data(&[7; 1000])), Ok(Receipt::Taken));
    assert_eq!(acceptor.expect(announced(MAX_EAGER - 999)), Err(Violation::Eager));
    acceptor.send(Kind::Accept, 0).unwrap();
    assert_eq!(acceptor.expect(announced(crate::MAX_DATA)), Ok(()));
}

#[test]
fn reset_on_an_idle_acceptor_hurts_no_stream() {
    let mut acceptor = Acceptor::new();
    assert_eq!(acceptor.receive(&Item::Reset(ResetCode::Reset)), Ok(Receipt::CloseQuietly));
    let mut acceptor = acceptor_after(&[Act::Open]);
    assert_eq!(acceptor.receive(&Item::Reset(ResetCode::Reset)), Ok(Receipt::Taken));
}

#[test]
fn counts_begin_anew_with_each_stream() {
    let mut dialer = dialer_after(&[Act::Open]);
    dialer.send(Kind::Data, 10).unwrap();
    assert_eq!((dialer.sent(), dialer.eager_room()), (10, MAX_EAGER - 10));
    let _ = dialer.receive(&item(Kind::Refuse).unwrap()).unwrap();
    assert!(!dialer.is_reusable());
    dialer.send(Kind::Fin, 0).unwrap();
    assert!(dialer.is_reusable());
    dialer.open(false).unwrap();
    assert_eq!((dialer.sent(), dialer.fin_sent(), dialer.eager_room()), (0, false, MAX_EAGER));
}
