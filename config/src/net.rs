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
    /// It is none of these, or has bits set after the prefix.
    pub fn parse(text: &str) -> Result<Net, NetError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| NetError::Shape)?;
        let width = width(address);
        let prefix = match prefix {
            None => width,
            Some(text) => text.parse().ok().filter(|p| *p <= width).ok_or(NetError::Prefix)?,
        };
        if masked(address, prefix) == bits(address) { Ok(Net { address, prefix }) } else { Err(NetError::HostBits) }
    }

    /// Whether the address lies in it; a v4-mapped one as the IPv4 one it stands for.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let ip = address.to_canonical();
        ip.is_ipv4() == self.address.is_ipv4() && masked(ip, self.prefix) == bits(self.address)
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
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NetError::Shape => "it is not a network",
            NetError::Prefix => "its prefix length does not fit the address",
            NetError::HostBits => "it has bits set after the prefix",
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
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let (first, last) = (port(first)?, port(last)?);
        (first <= last).then_some(Ports { first, last })
    }

    /// Whether it holds the port.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}
