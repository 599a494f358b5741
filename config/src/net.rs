//! Networks and ports as rules name them: plain values that are parsed once.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

/// A network: an address and how many of its leading bits count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Net {
    address: IpAddr,
    prefix: u8,
}

impl Net {
    /// Reads `10.0.0.0/8`, `10.1.2.3`, `fd00::/8` or `fd00::1`.
    ///
    /// # Errors
    /// It is none of these, has bits set after the prefix, or holds v4-mapped addresses only: wherever addresses are
    /// compared, those are IPv4.
    pub fn parse(text: &str) -> Result<Net, NetError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| NetError::Shape)?;
        let width = width(address);
        let prefix = match prefix {
            None => width,
            Some(text) => number(text).filter(|p| *p <= width).ok_or(NetError::Prefix)?,
        };
        if address.is_ipv6() && address.to_canonical().is_ipv4() && prefix >= MAPPED {
            return Err(NetError::Mapped);
        }
        if masked(address, prefix) == bits(address) { Ok(Net { address, prefix }) } else { Err(NetError::HostBits) }
    }

    /// The network of one address.
    #[must_use]
    pub fn one(address: IpAddr) -> Net {
        let address = address.to_canonical();
        Net { address, prefix: width(address) }
    }

    /// Whether the address lies in it; a v4-mapped one as the IPv4 one it stands for.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let ip = address.to_canonical();
        ip.is_ipv4() == self.address.is_ipv4() && masked(ip, self.prefix) == bits(self.address)
    }

    /// Whether every address of the other one lies in it.
    #[must_use]
    pub fn covers(&self, other: &Net) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// Its first address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits count.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

/// How many bits of a v4-mapped address say that it is one (RFC 4291 section 2.5.5.2).
const MAPPED: u8 = 96;

/// Digits and nothing else: `from_str` would take a sign.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn masked(address: IpAddr, prefix: u8) -> u128 {
    let dropped = u32::from(width(address).saturating_sub(prefix));
    bits(address).checked_shr(dropped).and_then(|kept| kept.checked_shl(dropped)).unwrap_or(0)
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Why a text is no network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetError {
    /// Not an address at all.
    Shape,
    /// The prefix length is none, or longer than the address.
    Prefix,
    /// Bits are set after the prefix, so it is unclear what was meant.
    HostBits,
    /// It holds v4-mapped addresses only, which are IPv4 wherever they are compared.
    Mapped,
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NetError::Shape => "it is not a network",
            NetError::Prefix => "its prefix length does not fit the address",
            NetError::HostBits => "it has bits set after the prefix",
            NetError::Mapped => "its addresses are v4-mapped ones, which are written as IPv4",
        })
    }
}

impl Error for NetError {}

/// Ports from the first to the last, both included; never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ports {
    /// The least.
    pub first: u16,
    /// The greatest.
    pub last: u16,
}

impl Ports {
    /// One port.
    #[must_use]
    pub fn one(port: u16) -> Ports {
        Ports { first: port, last: port }
    }

    /// Reads `6379` or `6000-6100`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Ports> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| number(text).filter(|port: &u16| *port > 0);
        let (first, last) = (port(first)?, port(last)?);
        (first <= last).then_some(Ports { first, last })
    }

    /// Whether it holds the port.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Whether the ports of `later` are all among those of `earlier`; an empty list is every port.
pub(crate) fn covers(earlier: &[Ports], later: &[Ports]) -> bool {
    const ALL: Ports = Ports { first: 1, last: u16::MAX };
    let later = if later.is_empty() { &[ALL][..] } else { later };
    let mut sorted = earlier.to_vec();
    sorted.sort_unstable();
    earlier.is_empty() || later.iter().all(|ports| is_in(&sorted, *ports))
}

/// Whether the ranges, in order, leave no gap in these ports.
fn is_in(sorted: &[Ports], ports: Ports) -> bool {
    let mut next = u32::from(ports.first);
    for range in sorted {
        if u32::from(range.first) <= next {
            next = next.max(u32::from(range.last) + 1);
        }
    }
    next > u32::from(ports.last)
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        Net::parse(text).unwrap()
    }

    #[test]
    fn a_network_is_read_and_holds_its_addresses_and_no_other() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("::/0", "2001:db8::1", "::ffff:10.0.0.1"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
        ] {
            assert!(net(text).contains(inside.parse().unwrap()), "{inside} in {text}");
            assert!(!net(text).contains(outside.parse().unwrap()), "{outside} in {text}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_for_its_reason() {
        for (text, why) in [
            ("", NetError::Shape),
            ("10.0.0", NetError::Shape),
            ("010.0.0.1", NetError::Shape),
            ("fe80::1%eth0", NetError::Shape),
            ("10.0.0.0/33", NetError::Prefix),
            ("10.0.0.0/+8", NetError::Prefix),
            ("10.0.0.0/", NetError::Prefix),
            ("10.0.0.1/8", NetError::HostBits),
            ("::ffff:10.0.0.0/104", NetError::Mapped),
            ("::ffff:10.0.0.1", NetError::Mapped),
        ] {
            assert_eq!(Net::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_network_covers_the_same_and_narrower_ones_of_its_family() {
        for (wide, narrow, covers) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.0/8", "11.0.0.0/16", false),
            ("0.0.0.0/0", "::/0", false),
            ("::/0", "10.0.0.0/8", false),
        ] {
            assert_eq!(net(wide).covers(&net(narrow)), covers, "{wide} over {narrow}");
        }
    }

    #[test]
    fn ports_are_read_from_1_on() {
        assert_eq!(Ports::parse("1-65535"), Some(Ports { first: 1, last: 65535 }));
        assert_eq!(Ports::parse("6379"), Some(Ports::one(6379)));
        for text in ["", "0", "0-5", "5-4", "65536", "+5", "5-", "-5", "5-6-7", " 5"] {
            assert_eq!(Ports::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn ranges_cover_what_they_leave_no_gap_in() {
        let list = |texts: &[&str]| texts.iter().map(|text| Ports::parse(text).unwrap()).collect::<Vec<_>>();
        for (earlier, later, expected) in [
            (&[][..], &[][..], true),
            (&[], &["5"], true),
            (&["5"], &[], false),
            (&["1-65535"], &[], true),
            (&["32768-65535", "1-32767"], &[], true),
            (&["32769-65535", "1-32767"], &[], false),
            (&["5-7", "1-4"], &["2-6"], true),
            (&["5-7", "1-3"], &["2-6"], false),
            (&["1-9", "2-3"], &["2-6", "9"], true),
            (&["1-9"], &["9-10"], false),
        ] {
            assert_eq!(covers(&list(earlier), &list(later)), expected, "{earlier:?} over {later:?}");
        }
    }
}
