//! Sockets that listen already when the agent starts: given by systemd, which bound them or kept them through a crash, or by
//! the agent before this one. What waits in their queues was never refused, and is accepted.
//!
//! A door takes the one of its own name, or else one with its very address; what no door takes is closed.

use std::{
    io,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::fs::FileTypeExt},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use adit_config::{ListenAddr, UnixListen};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::{Door, ListenError, SocketFile, Special};

/// Those that no door has taken yet.
#[derive(Debug, Default)]
pub struct Inherited {
    given: Mutex<Vec<Given>>,
}

/// One of them.
#[derive(Debug)]
struct Given {
    name: String,
    socket: Socket,
}

impl Inherited {
    /// Sockets with their names (sd_listen_fds_with_names(3)).
    ///
    /// # Errors
    /// One is no stream socket that listens: its name, and what it is to be.
    pub fn new(given: impl IntoIterator<Item = (String, OwnedFd)>) -> Result<Self, ListenError> {
        let given = given.into_iter().map(|(name, descriptor)| {
            let socket = Socket::from(descriptor);
            match is_listener(&socket) {
                Ok(true) => Ok(Given { name, socket }),
                Ok(false) => {
                    let cause = io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "no stream socket that listens (a .socket unit needs ListenStream= and Accept=no)",
                    );
                    Err(ListenError::of(&format!("the socket {name} that was given"), cause))
                }
                Err(cause) => Err(ListenError::of(&format!("the socket {name} that was given"), cause)),
            }
        });
        Ok(Self { given: Mutex::new(given.collect::<Result<_, _>>()?) })
    }

    /// The door at this address, if its socket is among them; must run within the runtime.
    ///
    /// # Errors
    /// The socket takes no option that the door needs.
    pub fn tcp(&self, address: SocketAddr, special: &Special) -> Option<Result<Door, ListenError>> {
        let socket = self.take(&name_of(&ListenAddr::Tcp(address)), |at| at.as_socket() == Some(address))?;
        let opened = special.apply(&socket, address).and_then(|()| served(&socket)).and_then(|()| {
            let listener: std::net::TcpListener = socket.into();
            TcpListener::from_std(listener).map(Door::Tcp)
        });
        Some(opened.map_err(|cause| ListenError::of(&address.to_string(), cause)))
    }

    /// The same for a socket file. One whose file is gone could not be reached, and is none.
    ///
    /// # Errors
    /// As above.
    pub fn unix(&self, listen: &UnixListen) -> Option<Result<Door, ListenError>> {
        let path = &listen.path;
        let name = name_of(&ListenAddr::Unix(listen.clone()));
        let socket = self.take(&name, |at| at.as_pathname() == Some(path))?;
        if !is_socket(path) {
            return None;
        }
        let opened = served(&socket).and_then(|()| {
            let listener: std::os::unix::net::UnixListener = socket.into();
            Ok(Door::Unix(UnixListener::from_std(listener)?, SocketFile::at(path)?))
        });
        Some(opened.map_err(|cause| ListenError::of(&format!("unix:{}", path.display()), cause)))
    }

    /// Closes those that no door has taken; their names.
    pub fn close_rest(&self) -> Vec<String> {
        self.given().drain(..).map(|given| given.name).collect()
    }

    fn take(&self, name: &str, is_at: impl Fn(&socket2::SockAddr) -> bool) -> Option<Socket> {
        let mut given = self.given();
        let by_name = given.iter().position(|given| given.name == name);
        let by_address = || given.iter().position(|given| given.socket.local_addr().is_ok_and(|at| is_at(&at)));
        let at = by_name.or_else(by_address)?;
        Some(given.remove(at).socket)
    }

    fn given(&self) -> MutexGuard<'_, Vec<Given>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a door's socket is called among descriptors that are handed on: its address as the file writes it, without the
/// colons that part such names (sd_listen_fds(3)).
pub fn name_of(listen: &ListenAddr) -> String {
    listen.to_string().replace(':', ",")
}

fn is_listener(socket: &Socket) -> io::Result<bool> {
    let known = [Domain::IPV4, Domain::IPV6, Domain::UNIX].contains(&socket.domain()?);
    Ok(known && socket.r#type()? == Type::STREAM && socket.is_listener()?)
}

/// As if it had been made here.
fn served(socket: &Socket) -> io::Result<()> {
    socket.set_cloexec(true)?;
    socket.set_nonblocking(true)
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(socket: impl Into<OwnedFd>, name: &str) -> Inherited {
        Inherited::new([(name.to_owned(), socket.into())]).unwrap()
    }

    #[tokio::test]
    async fn a_door_takes_the_socket_of_its_name_or_of_its_address_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let inherited = given(listener.try_clone().unwrap(), "127.0.0.1,0");
        let any = "127.0.0.1:0".parse().unwrap();
        let door = inherited.tcp(any, &Special::default()).unwrap().unwrap();
        assert_eq!(door.tcp_address(), Some(at), "by its name");
        assert!(inherited.tcp(any, &Special::default()).is_none(), "once");

        let inherited = given(listener, "unknown");
        assert!(inherited.tcp("127.0.0.1:1".parse().unwrap(), &Special::default()).is_none());
        let door = inherited.tcp(at, &Special::default()).unwrap().unwrap();
        assert_eq!(door.tcp_address(), Some(at), "by its address");
        assert!(inherited.close_rest().is_empty());
    }

    #[tokio::test]
    async fn a_socket_whose_file_is_gone_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let listen = UnixListen::at(dir.path().join("socket"));
        let listener = std::os::unix::net::UnixListener::bind(&listen.path).unwrap();
        let door = given(listener.try_clone().unwrap(), "unknown").unix(&listen).unwrap().unwrap();
        assert_eq!(door.address(), format!("unix:{}", listen.path.display()));
        drop(door);
        assert!(!listen.path.exists());
        assert!(given(listener, "unknown").unix(&listen).is_none());
    }

    #[test]
    fn what_does_not_listen_is_refused_by_name() {
        let connected = std::os::unix::net::UnixStream::pair().unwrap().0;
        let file = tempfile::tempfile().unwrap();
        for descriptor in [OwnedFd::from(connected), OwnedFd::from(file)] {
            let refused = Inherited::new([("web".to_owned(), descriptor)]).unwrap_err().to_string();
            assert!(refused.contains("the socket web that was given: "), "{refused}");
        }
    }
}
