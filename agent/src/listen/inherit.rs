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

use super::{Door, Held, ListenError, SocketFile, Special};

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

    /// The door at `listen`, by its socket if that is among them, else newly made; must run within the runtime. Doors of ours
    /// that are `closing` may stand in its way. Where the file does not know the address it must be a near one, unless it is
    /// `exposed`.
    ///
    /// # Errors
    /// What the system said, and what to do.
    pub fn open(
        &self,
        listen: &ListenAddr,
        exposed: bool,
        special: &Special,
        closing: &[&Held],
    ) -> Result<Named, ListenError> {
        let own = |door| Named::own(door, listen);
        match listen {
            ListenAddr::Tcp(address) => {
                self.tcp(*address, special).unwrap_or_else(|| Door::tcp_with(*address, special, closing).map(own))
            }
            ListenAddr::Unix(socket) => self.unix(socket).unwrap_or_else(|| Door::unix(socket).map(own)),
            ListenAddr::Given(name) => self.by_name(name, exposed, special),
        }
    }

    /// The addresses of those that are TCP ones: who takes one of these need not be allowed to bind it.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.given().iter().filter_map(|given| given.socket.local_addr().ok()?.as_socket()).collect()
    }

    /// The door at this address, if its socket is among them; must run within the runtime.
    ///
    /// # Errors
    /// The socket takes no option that the door needs.
    fn tcp(&self, address: SocketAddr, special: &Special) -> Option<Result<Named, ListenError>> {
        let listen = ListenAddr::Tcp(address);
        let given = self.take(&name_of(&listen), |at| at.as_socket() == Some(address))?;
        let opened = tcp_door(given.socket, address, special);
        Some(opened.map(|door| Named {
            is_kept: given.name == name_of(&listen) && has_one_address(&listen),
            door,
            name: given.name,
        }))
    }

    /// The same for a socket file. One whose file is gone could not be reached, and is none.
    ///
    /// # Errors
    /// As above.
    fn unix(&self, listen: &UnixListen) -> Option<Result<Named, ListenError>> {
        let path = &listen.path;
        let own = name_of(&ListenAddr::Unix(listen.clone()));
        let Given { name, socket } = self.take(&own, |at| at.as_pathname() == Some(path))?;
        if !is_socket(path) {
            return None;
        }
        let is_own = name == own;
        let file = || if is_own { SocketFile::at(path) } else { Ok(SocketFile::of_others(path)) };
        let opened = served(&socket).and_then(|()| Ok(Door::Unix(UnixListener::from_std(socket.into())?, file()?)));
        let opened = opened.map_err(|cause| ListenError::of(&format!("unix:{}", path.display()), cause));
        Some(opened.map(|door| Named { door, name, is_kept: is_own }))
    }

    /// The door that the file knows by the name of its socket alone. Unless it is `exposed`, it must not be open to other
    /// hosts: the file's own check could not know where it is.
    ///
    /// # Errors
    /// No socket of this name was given, or it is not what the door needs.
    fn by_name(&self, name: &str, exposed: bool, special: &Special) -> Result<Named, ListenError> {
        let what = format!("systemd:{name}");
        let given = self.take(name, |_| false).ok_or_else(|| ListenError::new_with(&what, NOT_GIVEN, START_SOCKET))?;
        let address = given.socket.local_addr().map_err(|cause| ListenError::of(&what, cause))?;
        let door = match (address.as_socket(), address.as_pathname()) {
            (Some(address), _) if !exposed && !address.ip().to_canonical().is_loopback() => {
                let exposed = format!("its socket listens on {address}, open to other hosts");
                return Err(ListenError::new_with(&what, &exposed, BIND_NEAR));
            }
            (Some(address), _) => tcp_door(given.socket, address, special)?,
            (None, path) => {
                let file = SocketFile::of_others(path.unwrap_or(Path::new("")));
                let opened = served(&given.socket).and_then(|()| UnixListener::from_std(given.socket.into()));
                Door::Unix(opened.map_err(|cause| ListenError::of(&what, cause))?, file)
            }
        };
        Ok(Named { door, name: given.name, is_kept: false })
    }

    /// Closes those that no door has taken; their names.
    pub fn close_rest(&self) -> Vec<String> {
        self.given().drain(..).map(|given| given.name).collect()
    }

    fn take(&self, name: &str, is_at: impl Fn(&socket2::SockAddr) -> bool) -> Option<Given> {
        let mut given = self.given();
        let by_name = given.iter().position(|given| given.name == name);
        let by_address = || given.iter().position(|given| given.socket.local_addr().is_ok_and(|at| is_at(&at)));
        let at = by_name.or_else(by_address)?;
        Some(given.remove(at))
    }

    fn given(&self) -> MutexGuard<'_, Vec<Given>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A door, and what its socket is called among descriptors that are handed on.
#[derive(Debug)]
pub struct Named {
    /// The door.
    pub door: Door,
    /// By which a successor finds the socket.
    pub name: String,
    /// The service manager is to keep a copy through a crash: the socket is the agent's own, and its name means one address.
    pub is_kept: bool,
}

impl Named {
    /// One that was opened here.
    pub fn own(door: Door, listen: &ListenAddr) -> Self {
        Self { door, name: name_of(listen), is_kept: has_one_address(listen) }
    }

    /// With another setting of its door.
    #[must_use]
    pub fn with(self, set: impl FnOnce(Door) -> Door) -> Self {
        Self { door: set(self.door), ..self }
    }
}

const NOT_GIVEN: &str = "no socket of this name was given to the agent";
const START_SOCKET: &str = "let FileDescriptorName= of a .socket unit of its service say so, and start that unit and then the \
                            service: sockets are given at the start alone";
const BIND_NEAR: &str = "let ListenStream= of its .socket unit name 127.0.0.1 or [::1], or say `expose = true`";

/// What a door's socket is called among descriptors that are handed on: the name that the file says, or its address as the
/// file writes it, without the colons that part such names (sd_listen_fds(3)).
pub fn name_of(listen: &ListenAddr) -> String {
    match listen {
        ListenAddr::Given(name) => name.clone(),
        ListenAddr::Tcp(_) | ListenAddr::Unix(_) => listen.to_string().replace(':', ","),
    }
}

/// Of port 0 there is another each time: two such doors would be taken for one another.
fn has_one_address(listen: &ListenAddr) -> bool {
    !matches!(listen, ListenAddr::Tcp(address) if address.port() == 0)
}

fn tcp_door(socket: Socket, address: SocketAddr, special: &Special) -> Result<Door, ListenError> {
    let opened = special.apply(&socket, address).and_then(|()| served(&socket));
    let opened = opened.and_then(|()| TcpListener::from_std(socket.into()));
    opened.map(Door::Tcp).map_err(|cause| ListenError::of(&address.to_string(), cause))
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
        let opened = inherited.tcp(any, &Special::default()).unwrap().unwrap();
        assert_eq!((opened.door.tcp_address(), opened.name.as_str()), (Some(at), "127.0.0.1,0"), "by its name");
        assert!(inherited.tcp(any, &Special::default()).is_none(), "once");

        let inherited = given(listener, "unknown");
        assert!(inherited.tcp("127.0.0.1:1".parse().unwrap(), &Special::default()).is_none());
        let opened = inherited.tcp(at, &Special::default()).unwrap().unwrap();
        assert_eq!((opened.door.tcp_address(), opened.is_kept), (Some(at), false), "by its address");
        assert_eq!(opened.name, "unknown", "its successor finds it as it did");
        assert!(inherited.close_rest().is_empty());
    }

    #[tokio::test]
    async fn a_socket_whose_file_is_gone_is_none_and_a_file_of_others_stays() {
        let dir = tempfile::tempdir().unwrap();
        let listen = UnixListen::at(dir.path().join("socket"));
        let listener = std::os::unix::net::UnixListener::bind(&listen.path).unwrap();
        let own = name_of(&ListenAddr::Unix(listen.clone()));
        for (name, stays) in [("adit.socket", true), (&own, false)] {
            let opened = given(listener.try_clone().unwrap(), name).unix(&listen).unwrap().unwrap();
            assert_eq!(opened.door.address(), format!("unix:{}", listen.path.display()));
            drop(opened);
            assert_eq!(listen.path.exists(), stays, "{name}");
        }
        assert!(given(listener, "unknown").unix(&listen).is_none());
    }

    #[tokio::test]
    async fn a_door_known_by_its_name_alone_takes_that_socket_if_other_hosts_cannot_come_to_it() {
        let near = || given(std::net::TcpListener::bind("127.0.0.1:0").unwrap(), "web");
        let opened = near().by_name("web", false, &Special::default()).unwrap();
        assert_eq!((opened.name.as_str(), opened.is_kept), ("web", false));
        let missing = near().by_name("wed", false, &Special::default()).unwrap_err().to_string();
        assert!(missing.contains("systemd:wed: no socket of this name was given to the agent; let File"), "{missing}");

        let far = || given(std::net::TcpListener::bind("0.0.0.0:0").unwrap(), "web");
        let refused = far().by_name("web", false, &Special::default()).unwrap_err().to_string();
        assert!(refused.contains("systemd:web: its socket listens on 0.0.0.0:"), "{refused}");
        assert!(refused.contains("open to other hosts; let ListenStream="), "{refused}");
        assert!(far().by_name("web", true, &Special::default()).is_ok());
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
