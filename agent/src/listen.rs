//! Doors: sockets that listen, how they are opened, and how one takes over from another. What comes in at them is
//! `accept`'s; no handshake and no byte is awaited here.

mod accept;
mod bind;
mod error;
mod inherit;

pub use accept::{Accepted, Hours, Room};
pub use bind::{SocketFile, Special};
pub use error::ListenError;
pub use inherit::{Inherited, Named, name_of};

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use adit_config::UnixListen;
use serde::Serialize;
use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, UnixListener};

use bind::{Sharing, bind_tcp, bind_unix};

/// A door that is open.
#[derive(Debug)]
pub enum Door {
    /// TCP.
    Tcp(TcpListener),
    /// A unix stream socket; its file goes with it.
    Unix(UnixListener, SocketFile),
}

/// A door that is open, as the ready file and the status page tell it.
#[derive(Clone, Debug, Serialize)]
pub struct Bound {
    /// `outbound`, `redirect`, `inbound` or `admin`.
    pub listener: &'static str,
    /// The logical name it leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The certificate its streams show, if not the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Where it is: an address, or `unix:` and a path.
    pub address: String,
}

impl Bound {
    /// A door that leads to no name.
    pub fn of(listener: &'static str, door: &Door) -> Self {
        Self { listener, to: None, certificate: None, address: door.address() }
    }
}

/// A hold on the socket of a door that is served elsewhere: enough for another door to take over its address, or for another
/// process to go on with it.
#[derive(Debug)]
pub struct Held {
    socket: Socket,
    /// Of a TCP door.
    address: Option<SocketAddr>,
    /// Of a unix door: whether its file stays when it closes.
    file_stays: Option<Arc<AtomicBool>>,
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Held {
    /// Where it listens, if it is a TCP door.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Its socket, for another process.
    ///
    /// # Errors
    /// There is no descriptor for it.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone().map(Into::into)
    }

    /// Another process goes on with it: its file stays when the door here closes.
    pub fn goes_on_elsewhere(&self) {
        if let Some(stays) = &self.file_stays {
            stays.store(true, Relaxed);
        }
    }
}

impl Door {
    /// Opens a TCP door; must run within the runtime. Doors of ours that are about to close may stand in its way: it opens
    /// beside them, so that at no moment nobody listens there.
    ///
    /// # Errors
    /// What the system said, and what to do.
    pub fn tcp_over(address: SocketAddr, closing: &[&Held]) -> Result<Self, ListenError> {
        Self::tcp_with(address, &Special::default(), closing)
    }

    /// The same for a door with these options.
    ///
    /// # Errors
    /// What the system said, and what to do.
    pub fn tcp_with(address: SocketAddr, special: &Special, closing: &[&Held]) -> Result<Self, ListenError> {
        let in_the_way: Vec<_> =
            closing.iter().filter(|held| held.address.is_some_and(|held| held.port() == address.port())).collect();
        let opened = match bind_tcp(address, Sharing::Nobody, special) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && !in_the_way.is_empty() => {
                let share = |on| in_the_way.iter().try_for_each(|held| held.socket.set_reuse_port(on));
                let opened = share(true).and_then(|()| bind_tcp(address, Sharing::ForNow, special));
                // A second agent still hears that the address is taken.
                share(false).and(opened)
            }
            opened => opened,
        };
        opened.map(Self::Tcp).map_err(|cause| ListenError::new(address.to_string(), cause))
    }

    /// A hold on its socket.
    ///
    /// # Errors
    /// There is no descriptor for it.
    pub fn held(&self) -> io::Result<Held> {
        Ok(match self {
            Self::Tcp(listener) => Held {
                socket: SockRef::from(listener).try_clone()?,
                address: Some(listener.local_addr()?),
                file_stays: None,
            },
            Self::Unix(listener, file) => {
                Held { socket: SockRef::from(listener).try_clone()?, address: None, file_stays: Some(file.stays()) }
            }
        })
    }

    /// Opens a door on a unix socket. A file that stands there is replaced only if it is a socket nobody answers on.
    ///
    /// # Errors
    /// What the system said, and what to do.
    pub fn unix(listen: &UnixListen) -> Result<Self, ListenError> {
        bind_unix(listen)
            .map(|(listener, file)| Self::Unix(listener, file))
            .map_err(|cause| ListenError::new(format!("unix:{}", listen.path.display()), cause))
    }

    /// Lets whatever closes a connection of this door, from the moment it was accepted, be a reset (PROTOCOL.md section 4,
    /// "Abort"): on Linux a connection inherits SO_LINGER from its listener.
    pub fn abort_unless_closed(self) -> Self {
        if let Self::Tcp(listener) = &self {
            // It can only fail on what is no socket; each connection sets it again.
            let _ = SockRef::from(listener).set_linger(Some(Duration::ZERO));
        }
        self
    }

    /// Where it listens, as text.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
            }
            Self::Unix(_, file) => format!("unix:{}", file.path.display()),
        }
    }

    /// The TCP address it listens on.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;

    fn unix(path: &Path) -> Result<Door, String> {
        let listen = UnixListen { path: path.to_owned(), mode: 0o600, owner: None, group: None };
        Door::unix(&listen).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn only_a_socket_that_nobody_answers_on_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "precious").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        for name in ["file", "link"] {
            let refused = unix(&at(name)).unwrap_err();
            assert!(refused.contains("no socket; move it away"), "{refused}");
        }
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "precious");
        assert!(at("link").is_symlink());

        drop(std::os::unix::net::UnixListener::bind(at("stale")).unwrap());
        let door = unix(&at("stale")).unwrap();
        assert_eq!(at("stale").metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(unix(&at("stale")).unwrap_err().contains("another process listens there"));
        drop(door);
        assert!(!at("stale").exists());
    }

    #[tokio::test]
    async fn a_socket_whose_owner_accepts_nobody_is_somebodys_too() {
        use socket2::{Domain, SockAddr, Type};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("busy");
        let address = SockAddr::unix(&path).unwrap();
        let new = || Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
        let owner = new();
        owner.bind(&address).unwrap();
        owner.listen(0).unwrap();
        // given a queue without room
        let mut waiting = Vec::new();
        let full = loop {
            let caller = new();
            match caller.connect(&address) {
                Ok(()) => waiting.push(caller),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(unix(&path).unwrap_err().contains("another process listens there"));
    }

    fn tcp(address: SocketAddr) -> Result<Door, ListenError> {
        Door::tcp_over(address, &[])
    }

    #[tokio::test]
    async fn a_door_takes_an_address_over_from_one_that_closes_and_shares_it_with_nobody_else() {
        let first = tcp(([127, 0, 0, 1], 0).into()).unwrap();
        let held = first.held().unwrap();
        let port = held.address().unwrap().port();
        for wider in [[127, 0, 0, 1], [0, 0, 0, 0]] {
            let address = (wider, port).into();
            assert!(tcp(address).is_err(), "it is open");
            let second = Door::tcp_over(address, &[&held]).unwrap();
            assert!(tcp(address).is_err(), "to others it is still taken");
            drop(second);
        }
        let elsewhere = tcp(([127, 0, 0, 1], 0).into()).unwrap();
        assert!(Door::tcp_over(elsewhere.tcp_address().unwrap(), &[&held]).is_err(), "no door there closes");
    }

    #[tokio::test]
    async fn a_socket_file_stays_where_another_process_goes_on_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let door = unix(&path).unwrap();
        door.held().unwrap().goes_on_elsewhere();
        drop(door);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_outlives_the_door_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let door = unix(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _successor = unix(&path).unwrap();
        drop(door);
        assert!(path.exists());
    }
}
