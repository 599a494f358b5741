//! What OPEN carries (PROTOCOL.md 3): the fields as values, and their encoding. A field's rule stands at
//! the line that reads it; nothing here judges what a field claims.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::cursor::{Cursor, Fields, put_field};
use crate::frame::{Kind, put};
use crate::{Code, Name, Refusal, text};

/// The greatest number of hops; one more is refused as a loop.
pub const MAX_HOPS: u8 = 8;
/// The longest workload, in bytes.
pub const MAX_WORKLOAD: usize = 256;

const DESTINATION: u8 = 0x01;
const SOURCE: u8 = 0x02;
const ORIGINAL: u8 = 0x03;
const STREAM_ID: u8 = 0x04;
const HOPS: u8 = 0x05;
const WORKLOAD: u8 = 0x06;
const PROBE: u8 = 0x07;
/// The first tag that is skipped when unknown.
const SKIPPABLE: u8 = 0x80;

/// Sixteen random bytes that both agents log. Shown as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(pub [u8; 16]);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What OPEN says of a stream.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Preamble {
    /// The logical name asked for; never a bound one once decoded.
    pub destination: Name,
    /// The application's own address, by the word of the dialing agent.
    pub source: Option<SocketAddr>,
    /// Where a captured connection was going.
    pub original: Option<SocketAddr>,
    /// The id both agents log.
    pub id: Option<StreamId>,
    /// How many tunnels the stream has passed, this one counted: 1 to 8.
    pub hops: u8,
    /// What the dialing agent knows of the local process: at most 256 bytes without control characters.
    pub workload: Option<String>,
    /// Whether this only asks where a stream would go.
    pub probe: bool,
}

impl Preamble {
    /// The preamble of a first hop to `destination`, with nothing else told.
    #[must_use]
    pub fn to(destination: Name) -> Preamble {
        Preamble { destination, source: None, original: None, id: None, hops: 1, workload: None, probe: false }
    }

    /// Appends the OPEN frame, header included. It is never above its bound: all fields at their longest take less
    /// than 1.5 KiB, and a workload is made to fit. No IPv6 scope or flow goes over the wire. Hops of 0, which no
    /// stream has, go as 1.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(64 + self.destination.as_str().len());
        put_field(DESTINATION, self.destination.as_str().as_bytes(), &mut payload);
        put_address(SOURCE, self.source, &mut payload);
        put_address(ORIGINAL, self.original, &mut payload);
        if let Some(StreamId(id)) = self.id {
            put_field(STREAM_ID, &id, &mut payload);
        }
        if self.hops > 1 {
            put_field(HOPS, &[self.hops], &mut payload);
        }
        if let Some(workload) = &self.workload {
            put_field(WORKLOAD, fit_workload(workload).as_bytes(), &mut payload);
        }
        if self.probe {
            put_field(PROBE, &[], &mut payload);
        }
        put(Kind::Open, &payload, out);
    }

    /// Reads an OPEN frame's payload.
    ///
    /// # Errors
    /// The refusal to answer with: malformed, or, if nothing is malformed and the hops are above 8, loop.
    pub fn decode(payload: &[u8]) -> Result<Preamble, Refusal> {
        let mut draft = Draft::default();
        for field in Fields::new(payload) {
            let (tag, value) = field.map_err(|_| malformed("a field is truncated"))?;
            draft.take(tag, value)?;
        }
        draft.finish()
    }
}

/// The fields seen so far; `None` is a field not seen.
#[derive(Default)]
struct Draft {
    destination: Option<Name>,
    source: Option<SocketAddr>,
    original: Option<SocketAddr>,
    id: Option<StreamId>,
    hops: Option<u8>,
    workload: Option<String>,
    probe: Option<()>,
}

impl Draft {
    fn take(&mut self, tag: u8, value: &[u8]) -> Result<(), Refusal> {
        match tag {
            DESTINATION => once(&mut self.destination, read_destination(value)?, "destination"),
            SOURCE => once(&mut self.source, read_address(value, "source")?, "source"),
            ORIGINAL => once(&mut self.original, read_address(value, "original destination")?, "original destination"),
            STREAM_ID => once(&mut self.id, read_id(value)?, "stream id"),
            HOPS => once(&mut self.hops, read_hops(value)?, "hops"),
            WORKLOAD => once(&mut self.workload, read_workload(value)?, "workload"),
            PROBE => once(&mut self.probe, read_probe(value)?, "probe"),
            // A later version's field that an older agent may pass over, however often it comes.
            SKIPPABLE.. => Ok(()),
            _ => Err(malformed(format!("field {tag:#04x} is unknown and may not be skipped"))),
        }
    }

    fn finish(self) -> Result<Preamble, Refusal> {
        let destination = self.destination.ok_or_else(|| malformed("the destination is missing"))?;
        let hops = self.hops.unwrap_or(1);
        if hops > MAX_HOPS {
            return Err(Refusal::new(Code::Loop, format!("{hops} hops are more than {MAX_HOPS}")));
        }
        let Draft { source, original, id, workload, probe, .. } = self;
        Ok(Preamble { destination, source, original, id, hops, workload, probe: probe.is_some() })
    }
}

fn malformed(reason: impl Into<String>) -> Refusal {
    Refusal::new(Code::Malformed, reason)
}

fn once<T>(slot: &mut Option<T>, value: T, field: &str) -> Result<(), Refusal> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed(format!("the {field} is repeated"))),
    }
}

fn read_destination(value: &[u8]) -> Result<Name, Refusal> {
    let text = std::str::from_utf8(value).map_err(|_| malformed("the destination is not UTF-8"))?;
    let name = Name::parse(text).map_err(|error| malformed(format!("the destination is no name: {error}")))?;
    if name.is_bound() {
        // The wire selects a target, it never supplies one (PROTOCOL.md 6).
        return Err(malformed("the destination is a bound name"));
    }
    Ok(name)
}

fn read_address(value: &[u8], field: &str) -> Result<SocketAddr, Refusal> {
    let mut cursor = Cursor::new(value);
    let address = match cursor.u8() {
        Some(4) => cursor.array().map(|octets: [u8; 4]| IpAddr::from(octets)),
        Some(6) => cursor.array().map(|octets: [u8; 16]| IpAddr::from(octets)),
        _ => None,
    };
    let address = address.zip(cursor.u16()).and_then(|(ip, port)| cursor.end(SocketAddr::new(ip, port)));
    address.ok_or_else(|| malformed(format!("the {field} is no address")))
}

fn read_id(value: &[u8]) -> Result<StreamId, Refusal> {
    value.try_into().map(StreamId).map_err(|_| malformed("the stream id is not 16 bytes"))
}

fn read_hops(value: &[u8]) -> Result<u8, Refusal> {
    match *value {
        [0] | [] | [_, _, ..] => Err(malformed("the hops are not one byte of 1 or more")),
        [hops] => Ok(hops),
    }
}

/// A workload as a preamble carries it: without control characters, cut at a character's boundary to [`MAX_WORKLOAD`] bytes.
#[must_use]
pub fn fit_workload(workload: &str) -> String {
    text::fit(workload, MAX_WORKLOAD)
}

fn read_workload(value: &[u8]) -> Result<String, Refusal> {
    let text = text::check(value).filter(|text| text.len() <= MAX_WORKLOAD);
    text.map(str::to_owned).ok_or_else(|| malformed("the workload is no text of at most 256 bytes"))
}

fn read_probe(value: &[u8]) -> Result<(), Refusal> {
    if value.is_empty() { Ok(()) } else { Err(malformed("the probe field is not empty")) }
}

fn put_address(tag: u8, address: Option<SocketAddr>, out: &mut Vec<u8>) {
    let Some(address) = address else { return };
    let mut value = Vec::with_capacity(19);
    match address.ip() {
        IpAddr::V4(ip) => {
            value.push(4);
            value.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            value.push(6);
            value.extend(ip.octets());
        }
    }
    value.extend(address.port().to_be_bytes());
    put_field(tag, &value, out);
}
