//! Where a door is: an address, a socket file, or a socket that the service manager gives. It opens none.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a plain door is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ListenAddr {
    /// An address and port; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(UnixListen),
    /// A socket, of whatever kind, that the service manager gives by this name.
    Given(String),
}

/// Where a door is that takes TCP alone.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TcpListen {
    /// An address and port; port 0 lets the system choose.
    At(SocketAddr),
    /// A socket that the service manager gives by this name (FileDescriptorName=, systemd.socket(5)); where it listens is
    /// not in the file.
    Given(String),
}

impl TcpListen {
    /// Its address, if the file has it.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            TcpListen::At(address) => Some(*address),
            TcpListen::Given(_) => None,
        }
    }
}

impl From<TcpListen> for ListenAddr {
    fn from(listen: TcpListen) -> ListenAddr {
        match listen {
            TcpListen::At(address) => ListenAddr::Tcp(address),
            TcpListen::Given(name) => ListenAddr::Given(name),
        }
    }
}

impl fmt::Display for TcpListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ListenAddr::from(self.clone()).fmt(f)
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Tcp(address) => address.fmt(f),
            ListenAddr::Unix(socket) => write!(f, "unix:{}", socket.path.display()),
            ListenAddr::Given(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// A socket file to listen on, and who may connect to it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UnixListen {
    /// Absolute.
    pub path: PathBuf,
    /// Permission bits; 0660 unless the file says otherwise.
    pub mode: u32,
    /// The user to give it to; the agent's own if none is named.
    pub owner: Option<String>,
    /// The group to give it to; the agent's own if none is named.
    pub group: Option<String>,
}

impl UnixListen {
    /// Owner and group may connect, others may not: DESIGN.md section 5.
    pub const MODE: u32 = 0o660;

    /// A socket file with the usual permissions.
    #[must_use]
    pub fn at(path: PathBuf) -> UnixListen {
        UnixListen { path, mode: UnixListen::MODE, owner: None, group: None }
    }
}
