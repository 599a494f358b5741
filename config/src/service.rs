//! One `[[inbound.service]]`: under which names it is asked for, where it is, and how far a captured
//! name may lead. It does not decide who is admitted; that is `policy`.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use adit_protocol::{Captures, Name, Pattern, Template};

use crate::identity::IdentityPattern;
use crate::net::{Net, NetError, Ports};

/// A served name, or several, and what is behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// The names it is asked for by; at least one. Each is matched whole.
    pub names: Vec<Pattern>,
    /// Where it is.
    pub to: Target,
    /// Who may reach it; empty admits nobody.
    pub allow: Vec<IdentityPattern>,
    /// The id of the certificate a tunnel must have presented; any of this agent's if none is named.
    pub certificate: Option<String>,
    /// Where a name may lead; needed, and only looked at, where `to` is a name.
    pub reach: Vec<Reach>,
    /// Streams at once; no limit of its own if none is named.
    pub max_streams: Option<u32>,
    /// Instead of `[limits] connect`.
    pub connect_timeout: Option<Duration>,
    /// Whose address it sees.
    pub source: Source,
}

/// One `[[inbound.capture]]`: addresses of this host that captured connections may go on to, by `/dst/<ip>/<port>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptureService {
    /// To which ports; at least one.
    pub ports: Vec<Ports>,
    /// Who may reach them; empty admits nobody.
    pub allow: Vec<IdentityPattern>,
    /// As of a [`Service`].
    pub certificate: Option<String>,
    /// As of a [`Service`].
    pub max_streams: Option<u32>,
    /// As of a [`Service`].
    pub connect_timeout: Option<Duration>,
    /// As of a [`Service`].
    pub source: Source,
}

/// Whose address a service sees as its client's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Source {
    /// The agent's, who connects.
    #[default]
    Agent,
    /// The application's, in a header before the first byte: PROXY protocol version 1.
    ProxyV1,
    /// The same in version 2, with who the peer is.
    ProxyV2,
    /// The application's: the agent binds to it (IP_TRANSPARENT, ip(7)).
    Transparent,
}

impl Source {
    /// Every one, by the word the file uses.
    pub const WORDS: [(&'static str, Source); 4] = [
        ("agent", Source::Agent),
        ("proxy-v1", Source::ProxyV1),
        ("proxy-v2", Source::ProxyV2),
        ("transparent", Source::Transparent),
    ];

    /// The word the file uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Agent => "agent",
            Source::ProxyV1 => "proxy-v1",
            Source::ProxyV2 => "proxy-v2",
            Source::Transparent => "transparent",
        }
    }
}

/// Where a service is, as the file says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// `127.0.0.1:6379`.
    Tcp(SocketAddr),
    /// `unix:/run/x.sock`; absolute.
    Unix(PathBuf),
    /// `/name`, with captures of the service's name if it likes: goes through the inbound table.
    Name(Template),
}

impl Target {
    /// Whether a peer, by the name it asks for, has a say in where this leads.
    #[must_use]
    pub fn is_captured(&self) -> bool {
        matches!(self, Target::Name(template) if !template.is_literal())
    }

    /// Fills the captures in.
    ///
    /// # Errors
    /// What comes out is no logical name.
    pub fn fill(&self, captures: &Captures) -> Result<Backend, TargetError> {
        match self {
            Target::Tcp(address) => Ok(Backend::Tcp(*address)),
            Target::Unix(path) => Ok(Backend::Unix(path.clone())),
            Target::Name(template) => fill(template, captures).map(Backend::Name),
        }
    }
}

fn fill(template: &Template, captures: &Captures) -> Result<Name, TargetError> {
    let text = template.expand(captures).map_err(|cause| TargetError(cause.to_string()))?;
    Name::parse(&text).map_err(|cause| TargetError(format!("`{text}` is no name: {cause}")))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => write!(f, "{address}"),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
            Target::Name(template) => write!(f, "{template}"),
        }
    }
}

/// Where a service is, for one stream: captures filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Backend {
    /// Connect to this.
    Tcp(SocketAddr),
    /// Connect to this.
    Unix(PathBuf),
    /// Ask the inbound table about this.
    Name(Name),
}

/// Why a target could not be filled in for one stream: the name asked for does not fit it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetError(pub(crate) String);

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filling in a service's target: {}", self.0)
    }
}

impl Error for TargetError {}

/// One entry of `reach`: a network and a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Reach {
    net: Net,
    port: u16,
}

impl Reach {
    /// Reads `10.1.0.0/16:5432`, `10.1.2.3:5432`, `[fd00::/8]:5432` or `[fd00::1]:5432`.
    ///
    /// # Errors
    /// It is none of these, or has bits set after the prefix.
    pub fn parse(text: &str) -> Result<Reach, ReachError> {
        let (network, port) = split(text).ok_or(ReachError::Shape)?;
        let net = Net::parse(network)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(ReachError::Port)?;
        Ok(Reach { net, port })
    }

    /// One address and port.
    pub(crate) fn one(address: SocketAddr) -> Reach {
        Reach { net: Net::one(address.ip()), port: address.port() }
    }

    /// Whether the address lies in the network and has the port.
    #[must_use]
    pub fn contains(&self, address: SocketAddr) -> bool {
        address.port() == self.port && self.net.contains(address.ip())
    }

    /// Whether every address in it may only be written literally.
    pub(crate) fn is_near(&self) -> bool {
        is_near(self.net.address()) && self.net.prefix() >= 4
    }
}

/// The network, between brackets if it is of IPv6, and the port.
fn split(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").filter(|(network, _)| network.contains(':')),
        None => text.split_once(':'),
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reach { net, port } = self;
        if net.address().is_ipv4() { write!(f, "{net}:{port}") } else { write!(f, "[{net}]:{port}") }
    }
}

/// Why a text is no entry of `reach`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReachError {
    /// Not a network and a port at all.
    Shape,
    /// The port is none, or 0.
    Port,
    /// The prefix length is none, or longer than the address.
    Prefix,
    /// Bits are set after the prefix, so it is unclear what was meant.
    HostBits,
    /// It holds v4-mapped addresses only, which are IPv4 wherever they are compared.
    Mapped,
}

impl fmt::Display for ReachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReachError::Shape => "it is not a network and a port",
            ReachError::Port => "its port is not a number from 1 to 65535",
            ReachError::Prefix => "its prefix length does not fit the address",
            ReachError::HostBits => "it has bits set after the prefix",
            ReachError::Mapped => "its addresses are v4-mapped ones, which are written as IPv4",
        })
    }
}

impl Error for ReachError {}

impl From<NetError> for ReachError {
    fn from(error: NetError) -> ReachError {
        match error {
            NetError::Shape => ReachError::Shape,
            NetError::Prefix => ReachError::Prefix,
            NetError::HostBits => ReachError::HostBits,
            NetError::Mapped => ReachError::Mapped,
        }
    }
}

/// Addresses that mean something else on each host, or many hosts: a captured name must never lead
/// there. The unspecified address is here because connecting to it reaches the host itself.
#[must_use]
pub fn is_near(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback()
        || address.is_multicast()
        || address.is_unspecified()
        || match address {
            IpAddr::V4(address) => address.is_link_local() || address.is_broadcast() || address.octets()[0] == 0,
            IpAddr::V6(address) => address.is_unicast_link_local(),
        }
}
