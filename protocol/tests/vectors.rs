//! The golden vectors (`protocol/vectors.txt`): bytes, and what a reader says of them. The second peer reads the same
//! file, so two implementations agree on bytes. How to read a line stands at the top of the file.

#![allow(clippy::panic, reason = "a test that fails panics, in its helpers too")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use adit_protocol::{
    Acceptor, Answer, Decoder, Dialer, HEADER_LEN, Header, Kind, Preamble, Refusal, ResetCode, Retry, Violation,
};

const FILE: &str = include_str!("../vectors.txt");

/// Lines of each kind that must be there, lest an emptied file pass.
const LEAST: [(&str, usize); 7] =
    [("header", 30), ("open", 40), ("accept", 8), ("refuse", 12), ("reset", 8), ("acceptor", 40), ("dialer", 40)];

#[test]
fn every_vector_is_read_as_it_says() {
    let mut seen = BTreeMap::new();
    let mut wrong = String::new();
    for (number, line) in (1..).zip(FILE.lines()) {
        let Some((kind, rest)) = line.split_once(' ').filter(|_| !line.starts_with('#')) else { continue };
        *seen.entry(kind).or_insert(0) += 1;
        let (given, expected) = rest.split_once(" -> ").expect("a vector says ` -> `");
        let said = match kind {
            "header" => header(&bytes(given)),
            "open" => open(&bytes(given)),
            "accept" => accept(&bytes(given)),
            "refuse" => refuse(&bytes(given)),
            "reset" => reset(&bytes(given)),
            "acceptor" => tunnel(&mut End::Acceptor(Acceptor::new()), given),
            "dialer" => tunnel(&mut End::Dialer(Dialer::new()), given),
            other => panic!("line {number}: `{other}` is no kind of vector"),
        };
        if said != expected {
            let _ = writeln!(wrong, "line {number}: {kind} {given}\n  says    {said}\n  expects {expected}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    for (kind, least) in LEAST {
        assert!(seen.get(kind).is_some_and(|count| *count >= least), "fewer than {least} vectors of {kind}");
    }
}

/// Hex, `-` for no bytes; `00*5` is five zero bytes.
fn bytes(hex: &str) -> Vec<u8> {
    if hex == "-" {
        return Vec::new();
    }
    hex.split('+').flat_map(piece).collect()
}

fn piece(hex: &str) -> Vec<u8> {
    let (hex, times) = hex.split_once('*').unwrap_or((hex, "1"));
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
    let once: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    once.repeat(times.parse().expect("a count"))
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".to_owned();
    }
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn broken(rule: Violation) -> String {
    format!("error {}", rule.label())
}

fn header(given: &[u8]) -> String {
    match Header::decode(given.try_into().expect("a header has four bytes")) {
        Ok(header) => {
            assert_eq!(header.encode(), given);
            format!("ok {} {}", kind_name(header.kind), header.len)
        }
        Err(rule) => broken(rule),
    }
}

fn kind_name(kind: Kind) -> String {
    match kind {
        Kind::Extension(byte) => format!("{byte:#04x}"),
        known => known.to_string(),
    }
}

/// `same` if the encoder writes these bytes, `reads` if they are only read.
fn way(given: &[u8], frame: &[u8]) -> &'static str {
    if &frame[HEADER_LEN..] == given { "same" } else { "reads" }
}

fn open(given: &[u8]) -> String {
    let read = match Preamble::decode(given) {
        Ok(read) => read,
        Err(refusal) => return format!("refuse {}", refusal.label()),
    };
    let mut frame = Vec::new();
    read.encode(&mut frame);
    let mut said = format!("{} destination={}", way(given, &frame), read.destination);
    let fields = [
        ("source", read.source.map(address)),
        ("original", read.original.map(address)),
        ("id", read.id.map(|id| id.to_string())),
        ("hops", (read.hops > 1).then(|| read.hops.to_string())),
        ("workload", read.workload.map(|text| hex(text.as_bytes()))),
        ("probe", read.probe.then(|| "yes".to_owned())),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            let _ = write!(said, " {name}={value}");
        }
    }
    said
}

fn address(of: SocketAddr) -> String {
    match of.ip() {
        IpAddr::V4(ip) => format!("4:{}:{}", hex(&ip.octets()), of.port()),
        IpAddr::V6(ip) => format!("6:{}:{}", hex(&ip.octets()), of.port()),
    }
}

fn accept(given: &[u8]) -> String {
    let read = match Answer::decode(given) {
        Ok(read) => read,
        Err(rule) => return broken(rule),
    };
    let mut frame = Vec::new();
    read.encode(&mut frame);
    let mut said = way(given, &frame).to_owned();
    for (name, value) in [("bound", read.bound), ("rule", read.rule)] {
        if let Some(value) = value {
            let _ = write!(said, " {name}={}", hex(value.as_bytes()));
        }
    }
    said
}

fn refuse(given: &[u8]) -> String {
    let read = match Refusal::decode(given) {
        Ok(read) => read,
        Err(rule) => return broken(rule),
    };
    let mut frame = Vec::new();
    read.encode(&mut frame);
    let retry = match read.retry() {
        Retry::No => "no",
        Retry::Elsewhere => "elsewhere",
        Retry::SameEndpoint => "same",
        Retry::FreshTunnel => "fresh",
    };
    let reason = hex(read.reason.as_bytes());
    format!("{} code={} retry={retry} reason={reason}", way(given, &frame), read.code.number())
}

fn reset(given: &[u8]) -> String {
    match ResetCode::decode(given) {
        Ok(code) => {
            let mut frame = Vec::new();
            code.encode_reset(&mut frame);
            format!("{} code={}", way(given, &frame), code.number())
        }
        Err(rule) => broken(rule),
    }
}

/// One end of a tunnel.
enum End {
    Dialer(Dialer),
    Acceptor(Acceptor),
}

/// Plays `<HEX`, bytes that arrive, and `>KIND` or `>KIND:LENGTH`, frames of this side's own; says how it ended.
fn tunnel(end: &mut End, steps: &str) -> String {
    let mut decoder = Decoder::new();
    for step in steps.split(' ') {
        let outcome = match step.split_at(1) {
            ("<", hex) => end.hear(&mut decoder, &bytes(hex)),
            (">", frame) => {
                end.say(frame).unwrap_or_else(|rule| panic!("`{steps}`: this side may not send {frame}: {rule}"));
                Ok(())
            }
            _ => panic!("`{step}` is no step"),
        };
        if let Err(rule) = outcome {
            return broken(rule);
        }
    }
    format!("ok {}", end.phase())
}

impl End {
    fn phase(&self) -> String {
        let phase = match self {
            End::Dialer(dialer) => dialer.phase(),
            End::Acceptor(acceptor) => acceptor.phase(),
        };
        format!("{phase:?}").to_lowercase()
    }

    fn say(&mut self, frame: &str) -> Result<(), Violation> {
        let (kind, len) = frame.split_once(':').unwrap_or((frame, "0"));
        let len = len.parse().expect("a length");
        let kinds = [Kind::Data, Kind::Accept, Kind::Refuse, Kind::Fin, Kind::Reset, Kind::Retire, Kind::Done];
        let known = kinds.into_iter().find(|known| known.to_string() == kind);
        match (self, known) {
            (End::Dialer(dialer), None) => dialer.open(kind == "PROBE"),
            (End::Dialer(dialer), Some(kind)) => dialer.send(kind, len),
            (End::Acceptor(acceptor), Some(kind)) => acceptor.send(kind, len),
            (End::Acceptor(_), None) => panic!("an acceptor sends no {kind}"),
        }
    }

    fn hear(&mut self, decoder: &mut Decoder, mut bytes: &[u8]) -> Result<(), Violation> {
        loop {
            let taken = decoder.next(bytes, |header| match self {
                End::Dialer(dialer) => dialer.expect(header),
                End::Acceptor(acceptor) => acceptor.expect(header),
            })?;
            let Some(item) = taken.item else { return Ok(()) };
            let _ = match self {
                End::Dialer(dialer) => dialer.receive(&item)?,
                End::Acceptor(acceptor) => acceptor.receive(&item)?,
            };
            bytes = &bytes[taken.consumed..];
        }
    }
}
