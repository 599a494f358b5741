//! A plain socket: an application's connection to us, or ours to a service; TCP or unix.
//!
//! From its first moment a TCP one carries SO_LINGER 0, so that whatever ends it but a clean close, a crash of this
//! process included, reaches the other end as a reset (PROTOCOL.md section 4, "Abort").

use std::{
    io,
    net::{Shutdown, SocketAddr},
    os::fd::{AsRawFd, RawFd},
    path::{Path, PathBuf},
    time::Duration,
};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    io::{Interest, Ready},
    net::{TcpStream, UnixStream},
};

pub use super::bind::Bind;
use super::bind::{is_taken, unlike};
use crate::addr::{Address, Ends};

/// Between two tries at a unix socket whose queue is full: the kernel tells nobody when there is room again.
const QUEUE_REST: Duration = Duration::from_millis(10);

/// How TCP asks a silent peer whether it lives (tcp(7): TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT) and, where set, how
/// long sent bytes may stay unacknowledged (TCP_USER_TIMEOUT).
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// Silence before the first probe.
    pub keepalive_idle: Duration,
    /// Between probes.
    pub keepalive_interval: Duration,
    /// Probes before the connection is given up.
    pub keepalive_count: u32,
    /// TCP_USER_TIMEOUT; off by default, since it also kills a healthy peer with a full window.
    pub user_timeout: Option<Duration>,
    /// SO_MARK (socket(7)) of what we connect, by which the rules know our own connections and do not capture them.
    pub mark: Option<u32>,
}

impl SocketOptions {
    /// Sets TCP_NODELAY and keepalive: the one place where a TCP connection's options are set.
    ///
    /// # Errors
    /// The system's, of the first option it refused.
    pub fn apply(&self, socket: &TcpStream) -> io::Result<()> {
        let socket = SockRef::from(socket);
        let keepalive = TcpKeepalive::new()
            .with_time(self.keepalive_idle)
            .with_interval(self.keepalive_interval)
            .with_retries(self.keepalive_count);
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(self.user_timeout)
    }
}

/// A plain stream socket.
#[derive(Debug)]
pub enum Plain {
    /// TCP, with SO_LINGER 0 until it is closed cleanly.
    Tcp(TcpStream),
    /// A unix stream socket; its abort is a close.
    Unix(UnixStream),
}

/// A connection under way.
#[derive(Debug)]
pub enum Connecting {
    /// TCP, and where to: the kernel is at it.
    Tcp(Socket, SocketAddr),
    /// To the unix socket of this path.
    Unix(PathBuf),
}

impl Connecting {
    /// Begins to connect to `address`. Both its ends are known from now on.
    ///
    /// # Errors
    /// The system's.
    pub fn begin(address: &Address, options: &SocketOptions) -> io::Result<Self> {
        Self::begin_from(Bind::Any, address, options)
    }

    /// The same from a given address.
    ///
    /// # Errors
    /// The system's, or that the two addresses are of different kinds.
    pub fn begin_from(bind: Bind, address: &Address, options: &SocketOptions) -> io::Result<Self> {
        let to = match address {
            Address::Unix(_) if bind != Bind::Any => return Err(unlike("a unix socket shows nobody's address")),
            Address::Unix(path) => return Ok(Self::Unix(path.clone())),
            Address::Tcp(to) => *to,
        };
        // Before it connects: given up at that very moment, it must not look like a stream without a byte.
        let linger = Some(Duration::ZERO);
        match bind {
            Bind::Client { address, mark } if address.port() != 0 => match Self::to(to, bind, linger, options) {
                // Another connection of this host has the port, or it is one of those that only root may take.
                Err(error) if is_taken(&error) => {
                    let address = SocketAddr::new(address.ip(), 0);
                    Self::to(to, Bind::Client { address, mark }, linger, options)
                }
                begun => begun,
            },
            Bind::Any | Bind::Own(_) | Bind::Client { .. } => Self::to(to, bind, linger, options),
        }
    }

    /// Begins to connect to an agent at `address`.
    ///
    /// # Errors
    /// The system's.
    pub fn tunnel(address: SocketAddr, options: &SocketOptions) -> io::Result<Self> {
        Self::to(address, Bind::Any, None, options)
    }

    fn to(address: SocketAddr, bind: Bind, linger: Option<Duration>, options: &SocketOptions) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        socket.set_linger(linger)?;
        if let Some(mark) = options.mark {
            socket.set_mark(mark)?;
        }
        bind.apply(&socket, address)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            Ok(()) | Err(_) => {
                bind.check(&socket)?;
                Ok(Self::Tcp(socket, address))
            }
        }
    }

    /// Both ends; `None` for a unix socket.
    pub fn ends(&self) -> Option<Ends> {
        match self {
            Self::Tcp(socket, to) => Some(Ends::new(socket.local_addr().ok()?.as_socket()?, *to)),
            Self::Unix(_) => None,
        }
    }

    /// Waits until it is connected; the caller sets the limit on the time.
    ///
    /// # Errors
    /// The system's.
    pub async fn finish(self, options: &SocketOptions) -> io::Result<Plain> {
        match self {
            Self::Unix(path) => Ok(Plain::Unix(connect_unix(&path).await?)),
            Self::Tcp(socket, _) => Plain::tcp(connected(socket).await?, options),
        }
    }

    /// The same for a tunnel's, whose options are the caller's to set.
    ///
    /// # Errors
    /// The system's.
    pub async fn connected(self) -> io::Result<TcpStream> {
        match self {
            Self::Unix(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "a tunnel goes over TCP")),
            Self::Tcp(socket, _) => connected(socket).await,
        }
    }
}

async fn connected(socket: Socket) -> io::Result<TcpStream> {
    let socket = TcpStream::from_std(socket.into())?;
    // connect(2), EINPROGRESS: writable once it is decided, and SO_ERROR says how.
    socket.writable().await?;
    match socket.take_error()? {
        Some(error) => Err(error),
        None => Ok(socket),
    }
}

impl Plain {
    /// Takes over a TCP socket just accepted or connected.
    ///
    /// # Errors
    /// The system's, when an option cannot be set.
    pub fn tcp(socket: TcpStream, options: &SocketOptions) -> io::Result<Self> {
        linger_zero(&socket);
        options.apply(&socket)?;
        Ok(Self::Tcp(socket))
    }

    /// Reads what is there, once. A read of less than was asked for says nothing here: it also stops before urgent data
    /// (tcp(7)) or ancillary data (unix(7)), with more behind it.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; else the socket failed.
    pub fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_read(room),
            Self::Unix(socket) => socket.try_read(room),
        }
    }

    /// Writes what the socket takes, once.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing; else the socket failed.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_write(bytes),
            Self::Unix(socket) => socket.try_write(bytes),
        }
    }

    /// Writes all of `bytes`, waiting where the socket takes no more; the caller sets the limit on the time.
    ///
    /// # Errors
    /// The socket's.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready(Interest::WRITABLE).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until the socket may be read, written, or has failed, as asked.
    ///
    /// # Errors
    /// Only when the runtime is going away.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Tcp(socket) => socket.ready(interest).await,
            Self::Unix(socket) => socket.ready(interest).await,
        }
    }

    /// The error that waits on the socket, if any.
    pub fn take_error(&self) -> Option<io::Error> {
        match self {
            Self::Tcp(socket) => take_error(socket),
            Self::Unix(socket) => socket.take_error().ok().flatten(),
        }
    }

    /// Half-close: no more bytes will be written.
    pub fn shut(&self) {
        let socket = match self {
            Self::Tcp(socket) => SockRef::from(socket),
            Self::Unix(socket) => SockRef::from(socket),
        };
        // It fails when the other end is already gone, which is no abort (PROTOCOL.md section 4, DONE).
        let _ = socket.shutdown(Shutdown::Write);
    }

    /// Closes cleanly: what was written is delivered.
    pub fn close(self) {
        if let Self::Tcp(socket) = &self {
            let _ = SockRef::from(socket).set_linger(None);
        }
    }

    /// Aborts: TCP sees a reset. (Dropping it does the same; this is to say it.)
    pub fn abort(self) {
        drop(self);
    }

    /// The TCP socket, where it is one: for TCP_INFO.
    pub fn as_tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(socket) => Some(socket),
            Self::Unix(_) => None,
        }
    }
}

impl AsRawFd for Plain {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(socket) => socket.as_raw_fd(),
            Self::Unix(socket) => socket.as_raw_fd(),
        }
    }
}

/// Where a connection was meant to go that netfilter has rewritten, as conntrack knows it (SO_ORIGINAL_DST of
/// linux/netfilter_ipv4.h, IP6T_SO_ORIGINAL_DST of linux/netfilter_ipv6/ip6_tables.h).
///
/// # Errors
/// The system's: conntrack knows nothing of the connection, or the kernel has none.
pub fn before_rewriting(socket: &TcpStream) -> io::Result<SocketAddr> {
    let asked = SockRef::from(socket);
    let original = if socket.local_addr()?.is_ipv4() { asked.original_dst_v4() } else { asked.original_dst_v6() };
    inet(&original?)
}

fn inet(address: &SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is no IP address"))
}

/// Where a connection that was accepted was meant to go: its own end, and what netfilter has rewritten to it, if it has.
pub fn destinations(socket: &TcpStream) -> impl Iterator<Item = SocketAddr> {
    let own = socket.local_addr().ok();
    let asked = SockRef::from(socket);
    let original = asked.original_dst_v4().or_else(|_| asked.original_dst_v6()).ok();
    own.into_iter().chain(original.and_then(|address| address.as_socket()))
}

/// A service whose queue is full answers EAGAIN to a connection that does not wait (connect(2), unix(7)), where an
/// application of its own would be made to wait: so it is asked again, until the caller's limit.
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(QUEUE_REST).await,
            connected => return connected,
        }
    }
}

/// Whatever closes the socket from now on sends a reset.
pub(super) fn linger_zero(socket: &TcpStream) {
    // It can only fail on a socket that is no socket.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// The error that waits on the socket (SO_ERROR), if any.
pub(super) fn take_error(socket: &TcpStream) -> Option<io::Error> {
    socket.take_error().ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const OPTIONS: SocketOptions = SocketOptions {
        keepalive_idle: Duration::from_secs(60),
        keepalive_interval: Duration::from_secs(15),
        keepalive_count: 4,
        user_timeout: None,
        mark: None,
    };

    #[test]
    fn a_client_with_a_broadcast_address_is_stood_for_by_nobody() {
        // As root the kernel would take it, and connect from 127.0.0.1.
        let service = TcpListener::bind("127.0.0.1:0").unwrap();
        let (to, client) = (Address::Tcp(service.local_addr().unwrap()), "127.255.255.255:0".parse().unwrap());
        let begun = Connecting::begin_from(Bind::Client { address: client, mark: 7 }, &to, &OPTIONS);
        let kind = begun.map(|_| ()).unwrap_err().kind();
        assert!(matches!(kind, io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied), "{kind}");
    }

    #[tokio::test]
    async fn a_connection_is_known_by_its_ends_before_it_is_connected() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        for written in [at, SocketAddr::from(([0; 4], at.port()))] {
            let connecting = Connecting::begin(&Address::Tcp(written), &OPTIONS).unwrap();
            let known = connecting.ends().unwrap();
            let (accepted, from) = listener.accept().unwrap();
            assert_eq!(known, Ends { from, to: accepted.local_addr().unwrap() }, "{written}");
            let service = connecting.finish(&OPTIONS).await.unwrap();
            assert_eq!(service.as_tcp().unwrap().local_addr().unwrap(), from);
        }
    }

    #[tokio::test]
    async fn a_connection_comes_from_the_address_that_it_is_given() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = Address::Tcp(listener.local_addr().unwrap());
        let own = Bind::Own("127.0.0.7".parse().unwrap());
        let connecting = Connecting::begin_from(own, &to, &OPTIONS).unwrap();
        let (_, from) = listener.accept().unwrap();
        assert_eq!((from.ip(), connecting.ends().unwrap().from), ("127.0.0.7".parse().unwrap(), from));
        // and not at all from one that is nobody's of this host, or of another kind
        let begin = |bind, to| Connecting::begin_from(bind, to, &OPTIONS).unwrap_err();
        let foreign = Bind::Own("192.0.2.1".parse().unwrap());
        assert_eq!(begin(foreign, &to).kind(), io::ErrorKind::AddrNotAvailable);
        let other = Bind::Own("::1".parse().unwrap());
        assert!(begin(other, &to).to_string().contains("another kind of address"));
        assert_eq!(begin(own, &Address::Unix("/x".into())).kind(), io::ErrorKind::Unsupported);
    }

    #[tokio::test]
    async fn a_connection_that_is_refused_says_so() {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = match Connecting::begin(&Address::Tcp(nobody), &OPTIONS) {
            Ok(connecting) => connecting.finish(&OPTIONS).await.map(drop),
            Err(error) => Err(error),
        };
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
