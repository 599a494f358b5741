//! Sockets that listen, made and bound: TCP with the options that a door needs, unix with its file, mode and owner. Where a
//! socket file stands already, it is replaced only if it is one that nobody answers on.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use adit_config::UnixListen;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::sys::accounts;

/// Connections that wait to be accepted; the kernel bounds it by net.core.somaxconn.
pub(super) const BACKLOG: i32 = 4096;

/// A socket file of ours; dropping it removes it, unless another stands there by then.
#[derive(Debug)]
pub struct SocketFile {
    pub(super) path: PathBuf,
    /// Its device and inode; `None` for a file of others, which stays.
    is: Option<(u64, u64)>,
    /// Another process has it by now.
    stays: Arc<AtomicBool>,
}

impl SocketFile {
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), is: Some(identity(path)?), stays: Arc::default() })
    }

    /// One that others made, and remove when they like.
    pub(super) fn of_others(path: &Path) -> Self {
        Self { path: path.to_owned(), is: None, stays: Arc::default() }
    }

    /// What says whether it stays.
    pub(super) fn stays(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stays)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The file of a successor is the successor's; one that is gone is what was wanted.
        let is_ours = self.is.is_some() && identity(&self.path).ok() == self.is;
        if is_ours && !self.stays.load(Relaxed) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(file: &Path) -> io::Result<(u64, u64)> {
    file.symlink_metadata().map(|meta| (meta.dev(), meta.ino()))
}

/// Whether another socket of this user may listen at the same address (SO_REUSEPORT, socket(7)).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// None may.
    Nobody,
    /// One that says so too, until this one listens.
    ForNow,
}

/// What a door needs beyond others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Special {
    /// It takes connections to other hosts' addresses that TPROXY brings to it (IP_TRANSPARENT, ip(7)).
    pub transparent: bool,
    /// What it answers with carries this mark (SO_MARK, socket(7); a connection inherits it from its listener), by which the
    /// rules know the agent's own packets.
    pub mark: Option<u32>,
}

impl Special {
    pub(super) fn apply(&self, socket: &Socket, address: SocketAddr) -> io::Result<()> {
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        match (self.transparent, address) {
            (false, _) => Ok(()),
            (true, SocketAddr::V4(_)) => socket.set_ip_transparent_v4(true),
            (true, SocketAddr::V6(_)) => socket.set_ip_transparent_v6(true),
        }
    }
}

pub(super) fn bind_tcp(address: SocketAddr, sharing: Sharing, special: &Special) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    // Connections of a predecessor that linger in TIME_WAIT do not keep a new agent from its port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(sharing == Sharing::ForNow)?;
    special.apply(&socket, address)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_reuse_port(false)?;
    TcpListener::from_std(socket.into())
}

pub(super) fn bind_unix(listen: &UnixListen) -> io::Result<(UnixListener, SocketFile)> {
    remove_stale(&listen.path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&socket2::SockAddr::unix(&listen.path)?)?;
    let file = SocketFile::at(&listen.path)?;
    // Nobody can connect before listen(), so the file has its mode and owner before it opens.
    fs::set_permissions(&listen.path, fs::Permissions::from_mode(listen.mode))?;
    own(listen)?;
    socket.listen(BACKLOG)?;
    Ok((UnixListener::from_std(socket.into())?, file))
}

/// Makes room where a socket stands that nobody answers on. Asked by its kind first: connect(2) refuses a file that is no
/// socket in the same words (unix(7), ECONNREFUSED), and somebody's file is no leftover of ours.
fn remove_stale(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file stands there that is no socket"));
        }
        _ => {}
    }
    let caller = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    match caller.connect(&socket2::SockAddr::unix(path)?) {
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        // Somebody listens, and has a full queue: who waited for room in it might wait for ever.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Whose it is cannot be asked, and so not whether anybody answers.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "a socket of another user stands there, to which this one may not connect",
        )),
        // Gone meanwhile is fine; anything else is for bind to refuse.
        Err(_) => Ok(()),
    }
}

fn own(listen: &UnixListen) -> io::Result<()> {
    let owner = listen.owner.as_deref().map(accounts::user).transpose()?;
    let group = listen.group.as_deref().map(accounts::group).transpose()?;
    if owner.is_some() || group.is_some() {
        std::os::unix::fs::chown(&listen.path, owner, group)?;
    }
    Ok(())
}
