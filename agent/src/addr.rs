//! Where a connection goes, a TCP address or a unix socket, and between which ends it is. Plain values, for every floor.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

/// An address that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// The path of a unix stream socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address with its share of the streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighted {
    /// Where it is.
    pub address: Address,
    /// How near it is to the front: streams go to the lowest tier that has an endpoint which is up (the priority of
    /// RFC 2782).
    pub tier: u16,
    /// Its share within its tier.
    pub weight: Weight,
}

impl Weighted {
    /// An address like any other.
    pub fn plain(address: Address) -> Self {
        Self { address, tier: 0, weight: Weight::ONE }
    }
}

/// A share, in thousandths, never 0: a weight of nothing is the smallest there is, for an endpoint that is named shall be
/// found (RFC 2782 gives it "a very small chance").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

impl Weight {
    /// What has no weight of its own weighs this.
    pub const ONE: Self = Self(1000);

    /// From thousandths.
    pub fn thousandths(count: u32) -> Self {
        Self(count.max(1))
    }

    /// A part of it, where `count` share it.
    pub fn shared_by(self, count: u32) -> Self {
        Self::thousandths(self.0 / count.max(1))
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// In thousandths.
    pub fn count(self) -> u32 {
        self.0
    }

    /// As a number, where [`Weight::ONE`] is 1.
    pub fn value(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

/// Both ends of a TCP connection of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Ours.
    pub from: SocketAddr,
    /// The other.
    pub to: SocketAddr,
}

impl Ends {
    /// Of a connection made from `from` to `to`, as whoever accepts it will see them.
    pub fn new(from: SocketAddr, to: SocketAddr) -> Self {
        // Connecting to the unspecified address connects to this host by the address it is done from.
        let goal = if to.ip().is_unspecified() { from.ip() } else { to.ip() };
        let plain = |ip: IpAddr, port| SocketAddr::new(ip.to_canonical(), port);
        Self { from: plain(from.ip(), from.port()), to: plain(goal, to.port()) }
    }
}
