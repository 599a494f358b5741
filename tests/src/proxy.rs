//! What a service reads of a PROXY header, by HAProxy's proxy-protocol.txt: a decoder of its own, which knows nothing of how
//! the agent writes one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::end::End;

/// What a header of version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of either version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 1 or 2.
    pub version: u8,
    /// The client's address.
    pub source: SocketAddr,
    /// Where it came to.
    pub destination: SocketAddr,
    /// What else version 2 says: kinds and values.
    pub said: Vec<(u8, Vec<u8>)>,
}

impl Header {
    /// Reads the header at the beginning of a connection, and not a byte more.
    #[must_use]
    pub fn read(end: &mut End) -> Self {
        let start = end.receive(SIGNATURE.len());
        if start == SIGNATURE { Self::second(end) } else { Self::first(end, start) }
    }

    /// The values of one kind, as text.
    #[must_use]
    pub fn values(&self, kind: u8) -> Vec<String> {
        let of_kind = self.said.iter().filter(|(found, _)| *found == kind);
        of_kind.map(|(_, value)| String::from_utf8(value.clone()).expect("it is text")).collect()
    }

    /// `PROXY TCP4 10.0.0.1 10.0.0.2 53122 4143` and the end of a line.
    fn first(end: &mut End, mut line: Vec<u8>) -> Self {
        while !line.ends_with(b"\r\n") {
            assert!(line.len() < 107, "a line longer than version 1 has: {}", String::from_utf8_lossy(&line));
            line.extend(end.receive(1));
        }
        let line = String::from_utf8(line).expect("version 1 is text");
        let [proxy, family, source, destination, from, to] =
            line.trim_end().split(' ').collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("{line:?}"));
        assert_eq!(proxy, "PROXY", "{line:?}");
        let ip = |text: &str| -> IpAddr {
            match family {
                "TCP4" => text.parse::<Ipv4Addr>().expect("an IPv4 address").into(),
                "TCP6" => text.parse::<Ipv6Addr>().expect("an IPv6 address").into(),
                _ => panic!("{line:?}"),
            }
        };
        let port = |text: &str| text.parse().expect("a port");
        Self {
            version: 1,
            source: SocketAddr::new(ip(source), port(from)),
            destination: SocketAddr::new(ip(destination), port(to)),
            said: Vec::new(),
        }
    }

    fn second(end: &mut End) -> Self {
        let head = end.receive(4);
        assert_eq!(head[0], 0x21, "version 2, PROXY");
        let mut rest = end.receive(number(&head[2..]));
        let width = match head[1] {
            0x11 => 4,
            0x21 => 16,
            other => panic!("a family of {other:#x}"),
        };
        let mut take = |count| rest.drain(..count).collect::<Vec<u8>>();
        let (source, destination) = (ip(&take(width)), ip(&take(width)));
        let ports = take(4);
        let port = |at: usize| u16::try_from(number(&ports[at..at + 2])).expect("two bytes");
        let mut said = Vec::new();
        while !rest.is_empty() {
            let length = number(&rest[1..3]);
            said.push((rest[0], rest[3..3 + length].to_vec()));
            rest.drain(..3 + length);
        }
        Self {
            version: 2,
            source: SocketAddr::new(source, port(0)),
            destination: SocketAddr::new(destination, port(2)),
            said,
        }
    }
}

fn ip(bytes: &[u8]) -> IpAddr {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).expect("4 or 16 bytes")
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}
