//! Doors: sockets that listen, and the loop that accepts. Each connection is handed on at once, with the permits it will
//! hold; no handshake and no byte is awaited here, and no error ends the loop.

mod bind;
mod inherit;

pub use bind::{SocketFile, Special};
pub use inherit::{Inherited, Named, name_of};

use std::{
    fmt, io,
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
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use bind::{BACKLOG, Sharing, bind_tcp, bind_unix};

use crate::{
    slots::{Slot, Slots},
    telemetry::metrics,
};

/// How long accept rests after an error, such as for want of descriptors (EMFILE); then it tries again, for ever.
const ACCEPT_REST: Duration = Duration::from_millis(50);

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

/// Places for connections, under the limit that sets their number.
#[derive(Clone, Debug)]
pub struct Room {
    /// The places.
    pub slots: Arc<Slots>,
    /// The limit's name in the metric.
    pub limit: &'static str,
}

impl Room {
    /// A place, as soon as there is one. That it had to be waited for is counted.
    async fn take(&self) -> Slot {
        if let Some(slot) = self.slots.try_take() {
            return slot;
        }
        metrics::limit_reached(self.limit);
        self.slots.take().await
    }
}

/// A connection that came in.
#[derive(Debug)]
pub enum Accepted {
    /// Over TCP, and from where.
    Tcp(TcpStream, SocketAddr),
    /// Over a unix socket.
    Unix(UnixStream),
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

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// When a door is served.
#[derive(Clone, Debug, Default)]
pub struct Hours {
    /// From when on.
    pub opens: CancellationToken,
    /// Until when.
    pub closes: CancellationToken,
    /// Cancelled before `closes` where another process accepts what waits at the door then.
    pub handed_on: CancellationToken,
}

impl Hours {
    /// Waits until it opens; false if it closes before.
    async fn begin(&self) -> bool {
        tokio::select! {
            biased;
            () = self.opens.cancelled() => true,
            () = self.closes.cancelled() => false,
        }
    }
}

/// Why a door could not be opened: one line.
#[derive(Debug)]
pub struct ListenError {
    door: String,
    cause: io::Error,
    help: &'static str,
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

    /// Its socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(socket, from)| Accepted::Tcp(socket, from)),
            Self::Unix(listener, _) => listener.accept().await.map(|(socket, _)| Accepted::Unix(socket)),
        }
    }

    /// A connection that waits to be accepted; none once there are none.
    fn accept_waiting(&self) -> Option<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (socket, from) = SockRef::from(listener).accept().ok()?;
                socket.set_nonblocking(true).ok()?;
                Some(Accepted::Tcp(TcpStream::from_std(socket.into()).ok()?, from.as_socket()?))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = SockRef::from(listener).accept().ok()?;
                socket.set_nonblocking(true).ok()?;
                Some(Accepted::Unix(UnixStream::from_std(socket.into()).ok()?))
            }
        }
    }

    /// Accepts during its `hours`. Each connection goes to `take` with a place in `room`, which is taken after accept, for a door
    /// that waits for a caller must hold none: with more doors than slots, some doors would never open. At the limit one
    /// connection waits here, and further ones in the kernel's queue. At the end those that are in that queue are taken as
    /// far as there are places, for they have been told that they are connected. (One that comes between the last of them
    /// and the close is reset: there is no way to close a queue that keeps what is in it.) Where the door is handed on, they are
    /// the next process' to take, and only the one that waits here for a place is taken yet.
    pub async fn accept_each(self, room: Room, hours: Hours, mut take: impl FnMut(Accepted, Slot)) {
        let Hours { closes: stop, handed_on, .. } = &hours;
        let mut failing = false;
        if !hours.begin().await {
            return;
        }
        while let Some(accepted) = stop.run_until_cancelled(self.accept()).await {
            match accepted {
                Ok(accepted) => {
                    if std::mem::take(&mut failing) {
                        info!(door = self.address(), "accepting again");
                    }
                    match stop.run_until_cancelled(room.take()).await {
                        Some(slot) => take(accepted, slot),
                        None if handed_on.is_cancelled() => take(accepted, room.take().await),
                        None => break,
                    }
                }
                Err(error) => {
                    metrics::accept_failed();
                    if !std::mem::replace(&mut failing, true) {
                        warn!(door = self.address(), "cannot accept: {error}; trying again every {ACCEPT_REST:?}");
                    }
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
        if handed_on.is_cancelled() {
            return;
        }
        // No more than fit into the queue: who comes as fast as we take keeps no door open.
        for _ in 0..BACKLOG {
            let Some(slot) = room.slots.try_take() else { return };
            let Some(accepted) = self.accept_waiting() else { return };
            take(accepted, slot);
        }
    }
}

impl ListenError {
    /// A door that failed before it had an address.
    pub fn of(what: &str, cause: io::Error) -> Self {
        Self::new(what.to_owned(), cause)
    }

    /// A door that cannot be what it is to be; `cause` says why, `help` what to do.
    fn new_with(door: &str, cause: &str, help: &'static str) -> Self {
        Self { door: door.to_owned(), cause: io::Error::other(cause.to_owned()), help }
    }

    /// The same, where these doors of our own are open: whose address is taken may be one of them.
    pub fn beside(self, own: &[Bound]) -> Self {
        let port = |address: &str| address.rsplit_once(':').map(|(_, port)| port.to_owned());
        let is_ours = |bound: &&Bound| bound.address == self.door || port(&bound.address) == port(&self.door);
        if self.cause.kind() != io::ErrorKind::AddrInUse || !own.iter().any(|bound| is_ours(&bound)) {
            return self;
        }
        Self {
            help: "a door of this agent itself is open there: take it out of the file first, and reload twice",
            ..self
        }
    }

    fn new(door: String, cause: io::Error) -> Self {
        let help = match cause.kind() {
            io::ErrorKind::AlreadyExists => "move it away, or change `listen`",
            io::ErrorKind::AddrInUse => "another process listens there; end it, or change `listen`",
            io::ErrorKind::AddrNotAvailable => "no interface of this host has this address; change `listen`",
            io::ErrorKind::PermissionDenied => {
                "this user may not listen there; a port below 1024 needs CAP_NET_BIND_SERVICE, a socket file a folder that may be written and \
                 nobody else's socket in its place"
            }
            io::ErrorKind::NotFound => "make the folder, or change `listen`",
            _ => "change `listen`",
        };
        Self { door, cause, help }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listening on {}: {}; {}", self.door, self.cause, self.help)
    }
}

impl std::error::Error for ListenError {}

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
    async fn who_was_told_that_it_is_connected_is_accepted_though_the_door_closes() {
        let door = tcp(([127, 0, 0, 1], 0).into()).unwrap();
        let address = door.tcp_address().unwrap();
        let clients: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let hours = Hours::default();
        hours.opens.cancel();
        hours.closes.cancel();
        let room = Room { slots: Slots::new(2), limit: "streams" };
        let mut taken = Vec::new();
        door.accept_each(room, hours, |accepted, slot| taken.push((accepted, slot))).await;
        assert_eq!((clients.len(), taken.len()), (3, 2), "as far as there are places");
        assert!(std::net::TcpStream::connect(address).is_err());
    }

    #[tokio::test]
    async fn who_waits_at_a_door_that_is_handed_on_is_left_to_the_next_process() {
        let door = tcp(([127, 0, 0, 1], 0).into()).unwrap();
        let (address, held) = (door.tcp_address().unwrap(), door.held().unwrap());
        let _client = std::net::TcpStream::connect(address).unwrap();
        let hours = Hours::default();
        hours.opens.cancel();
        hours.handed_on.cancel();
        hours.closes.cancel();
        let room = Room { slots: Slots::new(2), limit: "streams" };
        door.accept_each(room, hours, |_, _| panic!("it is the next one's")).await;
        let next: std::net::TcpListener = held.copy().unwrap().into();
        assert!(next.accept().is_ok());
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
