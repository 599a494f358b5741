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
