//! The header that tells a service whose connection it has: the PROXY protocol, versions 1 and 2, of HAProxy's
//! proxy-protocol.txt. Values in, bytes out; that it is the first thing a service reads is the caller's to see to.

use std::net::{IpAddr, SocketAddr};

use adit_config::Identity;
use adit_protocol::{Name, StreamId};

/// The longest header: nginx, of those who read it, takes no longer one (NGX_PROXY_PROTOCOL_MAX_HEADER). All but the
/// identities is far below.
const LONGEST: usize = 4096;

/// What a header of version 2 begins with (section 2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and the command PROXY: the connection is made for somebody else.
const VERSION_AND_PROXY: u8 = 0x21;
/// TCP over IPv4, and over IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The kinds of what follows the addresses (section 2.2).
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CN: u8 = 0x22;
/// The first of those that are everybody's own to give a meaning (PP2_TYPE_MIN_CUSTOM): one of each identity.
const IDENTITY: u8 = 0xe0;
const WORKLOAD: u8 = 0xe1;
const NAME: u8 = 0xe2;

/// PP2_CLIENT_SSL, PP2_CLIENT_CERT_CONN and PP2_CLIENT_CERT_SESS: it came over TLS, with a certificate on this connection,
/// and so in this session.
const TLS_WITH_CERTIFICATE: u8 = 0x01 | 0x02 | 0x04;
/// The certificate was verified.
const VERIFIED: u32 = 0;

/// What a service is told of its client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    /// Its address.
    pub(super) client: SocketAddr,
    /// The address that it was reached at.
    pub(super) reached: SocketAddr,
    /// The stream, as both hosts' logs call it.
    pub(super) stream: StreamId,
    /// The name that was asked for.
    pub(super) name: &'a Name,
    /// Who the dialing agent has proved to be.
    pub(super) identities: &'a [Identity],
    /// The client's process, by the dialing agent's word.
    pub(super) workload: Option<&'a str>,
}

/// Version 1: a line of text, 107 bytes at most (section 2.1). It has room for the addresses only.
pub(super) fn v1(told: &Told<'_>) -> Vec<u8> {
    let (client, reached) = alike(told.client, told.reached);
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (client.ip(), reached.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), reached.port()).into_bytes()
}

/// Version 2 (section 2.2), with as many identities, whole ones, as there is room for.
pub(super) fn v2(told: &Told<'_>) -> Vec<u8> {
    let (client, reached) = alike(told.client, told.reached);
    let mut rest = Vec::with_capacity(512);
    put_ip(client.ip(), &mut rest);
    put_ip(reached.ip(), &mut rest);
    rest.extend(client.port().to_be_bytes());
    rest.extend(reached.port().to_be_bytes());
    put(UNIQUE_ID, told.stream.to_string().as_bytes(), &mut rest);
    put(SSL, &ssl(told.identities.first()), &mut rest);
    put(NAME, told.name.as_str().as_bytes(), &mut rest);
    told.workload.iter().for_each(|workload| put(WORKLOAD, workload.as_bytes(), &mut rest));
    for identity in told.identities {
        let text = identity.to_string();
        if SIGNATURE.len() + 4 + rest.len() + 3 + text.len() <= LONGEST {
            put(IDENTITY, text.as_bytes(), &mut rest);
        }
    }
    let mut header = SIGNATURE.to_vec();
    header.extend([VERSION_AND_PROXY, if client.is_ipv4() { TCP4 } else { TCP6 }]);
    header.extend(length(&rest));
    header.extend(rest);
    header
}

/// Both addresses in one family, as a header has them: as IPv6 where they differ (RFC 4291, 2.5.5.2).
fn alike(one: SocketAddr, other: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (one, other) = (plain(one), plain(other));
    if one.is_ipv4() == other.is_ipv4() { (one, other) } else { (mapped(one), mapped(other)) }
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// The certificate's first identity stands where its common name is looked for: what it says there itself is nobody's proof.
fn ssl(first: Option<&Identity>) -> Vec<u8> {
    let mut value = vec![TLS_WITH_CERTIFICATE];
    value.extend(VERIFIED.to_be_bytes());
    put(SSL_VERSION, b"TLSv1.3", &mut value);
    first.iter().for_each(|identity| put(SSL_CN, identity.to_string().as_bytes(), &mut value));
    value
}

fn put_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => out.extend(ip.octets()),
        IpAddr::V6(ip) => out.extend(ip.octets()),
    }
}

fn put(kind: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend(length(value));
    out.extend(value);
}

/// Two bytes; nothing here comes near to what they hold.
fn length(value: &[u8]) -> [u8; 2] {
    u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use ppp::v2::{Header, Protocol};

    use super::*;

    const ID: StreamId = StreamId([0xab; 16]);

    fn told<'a>(client: &str, reached: &str, name: &'a Name, identities: &'a [Identity]) -> Told<'a> {
        let (client, reached) = (client.parse().unwrap(), reached.parse().unwrap());
        Told { client, reached, stream: ID, name, identities, workload: Some("web.service") }
    }

    fn identities(names: &[&str]) -> Vec<Identity> {
        names.iter().map(|name| Identity::parse(name).unwrap()).collect()
    }

    /// A client, where it came to, the two as a header has them, and the line of version 1.
    const ADDRESSES: [(&str, &str, &str, &str, &str); 4] = [
        (
            "10.0.0.1:53122",
            "10.0.0.2:4143",
            "10.0.0.1:53122",
            "10.0.0.2:4143",
            "PROXY TCP4 10.0.0.1 10.0.0.2 53122 4143\r\n",
        ),
        ("[fd00::1]:1", "[fd00::2]:65535", "[fd00::1]:1", "[fd00::2]:65535", "PROXY TCP6 fd00::1 fd00::2 1 65535\r\n"),
        (
            "10.0.0.1:0",
            "[fd00::2]:6379",
            "[::ffff:10.0.0.1]:0",
            "[fd00::2]:6379",
            "PROXY TCP6 ::ffff:10.0.0.1 fd00::2 0 6379\r\n",
        ),
        (
            "[::ffff:10.0.0.1]:7",
            "10.0.0.2:6379",
            "10.0.0.1:7",
            "10.0.0.2:6379",
            "PROXY TCP4 10.0.0.1 10.0.0.2 7 6379\r\n",
        ),
    ];

    #[test]
    fn the_first_version_is_a_line_of_both_addresses() {
        let name = Name::parse("/svc/redis").unwrap();
        for (client, reached, _, _, line) in ADDRESSES {
            assert_eq!(String::from_utf8(v1(&told(client, reached, &name, &[]))).unwrap(), line);
        }
    }

    #[test]
    fn another_decoder_reads_the_second_version() {
        let name = Name::parse("/svc/redis").unwrap();
        let peer = identities(&["a.example", "spiffe://example/web", "10.0.0.1"]);
        for (client, reached, shown, at, _) in ADDRESSES {
            let header = v2(&told(client, reached, &name, &peer));
            let header = Header::try_from(header.as_slice()).unwrap();
            assert_eq!(header.protocol, Protocol::Stream);
            assert_eq!(addresses(&header), (shown.parse().unwrap(), at.parse().unwrap()));
            let found: Vec<_> =
                header.tlvs().map(|tlv| tlv.unwrap()).map(|tlv| (tlv.kind, tlv.value.to_vec())).collect();
            let ssl = [b"\x07\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x09".as_slice(), b"a.example"].concat();
            let id = "ab".repeat(16);
            let expected: [(u8, &[u8]); 7] = [
                (0x05, id.as_bytes()),
                (0x20, &ssl),
                (0xe2, b"/svc/redis"),
                (0xe1, b"web.service"),
                (0xe0, b"a.example"),
                (0xe0, b"spiffe://example/web"),
                (0xe0, b"10.0.0.1"),
            ];
            let found: Vec<_> = found.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_bytes_of_the_second_version_are_those_of_the_document() {
        let name = Name::parse("/a").unwrap();
        let told = Told { workload: None, ..told("10.0.0.1:258", "10.0.0.2:4143", &name, &[]) };
        let expected: &[&[u8]] = &[
            b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x11\0\x46",
            b"\x0a\0\0\x01\x0a\0\0\x02\x01\x02\x10\x2f",
            b"\x05\0\x20abababababababababababababababab",
            b"\x20\0\x0f\x07\0\0\0\0\x21\0\x07TLSv1.3",
            b"\xe2\0\x02/a",
        ];
        assert_eq!(v2(&told), expected.concat());
    }

    #[test]
    fn a_certificate_of_many_names_makes_no_header_that_is_too_long() {
        let name = Name::parse(&format!("/svc{}", format!("/{}", "x".repeat(200)).repeat(5))).unwrap();
        let names: Vec<_> = (0..200).map(|number| format!("{number}.{}.example", "y".repeat(50))).collect();
        let peer = identities(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let header = v2(&told("10.0.0.1:1", "10.0.0.2:1", &name, &peer));
        assert!((LONGEST - 70..=LONGEST).contains(&header.len()), "{}", header.len());
        let header = Header::try_from(header.as_slice()).unwrap();
        assert!(header.tlvs().all(|tlv| tlv.is_ok()));
    }

    fn addresses(header: &Header<'_>) -> (SocketAddr, SocketAddr) {
        use ppp::v2::Addresses;
        match header.addresses {
            Addresses::IPv4(both) => (
                SocketAddr::new(both.source_address.into(), both.source_port),
                SocketAddr::new(both.destination_address.into(), both.destination_port),
            ),
            Addresses::IPv6(both) => (
                SocketAddr::new(both.source_address.into(), both.source_port),
                SocketAddr::new(both.destination_address.into(), both.destination_port),
            ),
            other => panic!("{other:?}"),
        }
    }
}
