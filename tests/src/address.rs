//! Where something listens, and over which of the two wires. Written as the configuration file writes it.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr};

/// The two kinds of local stream socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// TCP on loopback.
    Tcp,
    /// A unix stream socket.
    Unix,
}

/// An address that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// The path of a unix stream socket.
    Unix(PathBuf),
}

impl Address {
    /// Port 0 of loopback: the kernel chooses.
    #[must_use]
    pub fn any_port() -> Self {
        Self::Tcp((Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("unix:") {
            Some(path) => Self::Unix(path.into()),
            None => Self::Tcp(text.parse().unwrap_or_else(|_| panic!("{text} is no address"))),
        }
    }

    /// Which wire this is an address of.
    #[must_use]
    pub fn wire(&self) -> Wire {
        match self {
            Self::Tcp(_) => Wire::Tcp,
            Self::Unix(_) => Wire::Unix,
        }
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp(address) => address.port(),
            Self::Unix(path) => panic!("{} has no port", path.display()),
        }
    }

    /// The path of the unix socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Tcp(address) => panic!("{address} is no path"),
            Self::Unix(path) => path,
        }
    }

    pub(crate) fn domain(&self) -> Domain {
        match self {
            Self::Tcp(address) => Domain::for_address(*address),
            Self::Unix(_) => Domain::UNIX,
        }
    }

    pub(crate) fn to_socket(&self) -> SockAddr {
        match self {
            Self::Tcp(address) => (*address).into(),
            Self::Unix(path) => SockAddr::unix(path).expect("a socket's path is short enough"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A TCP port of loopback that was free a moment ago, for programs that cannot bind port 0.
///
/// Another program may take it first: start with [`crate::process::on_a_free_port`], which tries again.
#[must_use]
pub fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    socket.local_addr().expect("a bound socket has an address").port()
}
