//! Which address a connection of ours is made from: whichever, one of this host, or a client's that the service is to see.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::Socket;

/// Which address a connection is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// Whichever the kernel chooses.
    Any,
    /// This one, which bind(2) refuses unless it is this host's: whoever connects to it as well reaches nobody else.
    Own(IpAddr),
    /// A client's, of whatever host (IP_TRANSPARENT, ip(7)).
    Client {
        /// Its address; of port 0, or where its own is taken, with one that the kernel chooses.
        address: SocketAddr,
        /// SO_MARK of what is sent, by which the rules of this host bring the answers back here.
        mark: u32,
    },
}

impl Bind {
    pub(super) fn apply(self, socket: &Socket, to: SocketAddr) -> io::Result<()> {
        let (ip, port) = match self {
            Self::Any => return Ok(()),
            Self::Own(ip) => (ip, 0),
            Self::Client { address, .. } => (address.ip(), address.port()),
        };
        if ip.is_ipv4() != to.is_ipv4() {
            return Err(unlike(&format!("{ip} cannot be its client, being of another kind of address")));
        }
        if let Self::Client { mark, .. } = self {
            be_transparent(socket, to, mark).map_err(needs_capability)?;
            // A client's connections to several services have one port here; what two cannot have is told by connect(2).
            socket.set_reuse_address(true)?;
        }
        // Port 0 is then chosen by connect(2), which knows where to: to each place there are as many as there are ports. A
        // kernel that lacks it (Linux before 4.2) has fewer.
        let _ = setsockopt(socket, IpBindAddressNoPort, &true);
        socket.bind(&SocketAddr::new(ip, port).into())
    }

    /// bind(2) takes a broadcast address, and connect(2) then chooses another: one of this host, of whom a service may think
    /// better than of any client.
    pub(super) fn check(self, socket: &Socket) -> io::Result<()> {
        let Self::Client { address, .. } = self else { return Ok(()) };
        let from = socket.local_addr()?.as_socket().map(|from| from.ip());
        if from == Some(address.ip()) {
            Ok(())
        } else {
            Err(unlike(&format!("{} is no client's address", address.ip())))
        }
    }
}

fn be_transparent(socket: &Socket, to: SocketAddr, mark: u32) -> io::Result<()> {
    match to {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    socket.set_mark(mark)
}

fn needs_capability(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            io::Error::new(error.kind(), format!("source = \"transparent\" needs CAP_NET_ADMIN: {error}"))
        }
        _ => error,
    }
}

pub(super) fn unlike(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, what)
}

/// bind(2) and connect(2): EADDRINUSE, EADDRNOTAVAIL and EACCES.
pub(super) fn is_taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRINUSE | libc::EADDRNOTAVAIL | libc::EACCES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_that_is_missing_is_named_and_no_other_fault_is_taken_for_it() {
        let told = |errno| needs_capability(io::Error::from_raw_os_error(errno)).to_string();
        assert!(
            told(libc::EPERM).starts_with("source = \"transparent\" needs CAP_NET_ADMIN: "),
            "{}",
            told(libc::EPERM)
        );
        assert!(!told(libc::ENOPROTOOPT).contains("CAP_NET_ADMIN"));
    }
}
