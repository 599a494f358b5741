//! Which local process opened a connection: its user, and the control group and systemd unit that it is in. For the
//! record, for the agent at the other end, and for the rules that ask for it.
//!
//! What is told is whose the *socket* is: who made it, and in which control group that was. Where that cannot be told for
//! sure, the process is unknown, and never taken for somebody: it is gone, lives in another network namespace, or bound its
//! socket to an interface; or netfilter gave the connection another port because its own was taken.

mod cgroups;
mod diag;
mod users;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use adit_config::workload::Workload;
use adit_protocol::fit_workload;
use tokio::net::{TcpStream, UnixStream};
use tracing::{debug, warn};

use cgroups::Cgroups;
use diag::{Diag, Pair};
use users::Users;

use crate::sys::peer::PeerProcess;

/// How long a connection waits for its control group's name: some walks over the tree. Beyond it the group is unknown.
const LIMIT: Duration = Duration::from_secs(2);

/// Finds the processes of this host's connections.
#[derive(Debug)]
pub struct Finder {
    diag: Diag,
    cgroups: Arc<Cgroups>,
    users: Arc<Users>,
    /// The number that stands for every user who is not known in this process's user namespace; none where all are.
    strangers: Option<u32>,
    /// Whether it was said that the kernel cannot be asked.
    told: AtomicBool,
}

impl Finder {
    /// A finder that knows the users of this host, and no control group yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            diag: Diag::default(),
            cgroups: Arc::default(),
            users: Arc::new(Users::of_this_host()),
            strangers: users::strangers(),
            told: AtomicBool::new(false),
        })
    }

    /// Whose a connection is that was accepted as `socket`, from `app`; `to` is where the application connected to, which is
    /// not this socket's address if the connection was captured.
    pub async fn of_tcp(&self, socket: &TcpStream, app: SocketAddr, to: SocketAddr) -> Option<Workload> {
        let owner = match self.diag.owner(Pair::new(app, to)) {
            Ok(owner) => owner.filter(|owner| self.is_somebody(owner.uid))?,
            Err(error) => {
                self.tell(&error);
                return None;
            }
        };
        // While it stands, no other connection has these ends; one that was reset has left them to the next.
        socket.peer_addr().ok()?;
        let cgroup = match owner.cgroup {
            Some(id) => tokio::time::timeout(LIMIT, self.cgroups.path(id)).await.ok().flatten(),
            None => None,
        };
        Some(self.workload(owner.uid, cgroup.as_deref()).await)
    }

    /// The same of a unix socket (SO_PEERCRED, unix(7)). Its control group is told where the kernel holds the process for
    /// us; a number alone may be another's by now.
    pub async fn of_unix(&self, socket: &UnixStream) -> Option<Workload> {
        let cred = socket.peer_cred().ok()?;
        let uid = cred.uid();
        if !self.is_somebody(uid) {
            return None;
        }
        let pid = cred.pid().and_then(|pid| u32::try_from(pid).ok());
        let groups = pid.and_then(|pid| PeerProcess::of(socket).ok()?.read(pid, "cgroup"));
        let cgroup = groups.as_deref().and_then(second_version);
        Some(self.workload(uid, cgroup).await)
    }

    /// Looks whether this kernel tells what is asked for; else why not, in one line.
    ///
    /// # Errors
    /// What will be unknown, and why.
    pub fn check(&self) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0");
        // Without a loopback nothing can be told, nor is anything amiss.
        let Some(at) = listener.as_ref().ok().and_then(|listener| listener.local_addr().ok()) else { return Ok(()) };
        // Whoever listens has ends too, the other of them empty.
        match self.diag.owner(Pair::new(at, SocketAddr::from(([0, 0, 0, 0], 0)))) {
            Ok(Some(owner)) if owner.cgroup.is_some() => Ok(()),
            Ok(Some(_)) => Err("the kernel does not tell control groups of sockets (it does since Linux 5.9, with \
                                CONFIG_SOCK_CGROUP_DATA): the units of connections are unknown"
                .to_owned()),
            Ok(None) => Err("the kernel finds no sockets (CONFIG_INET_DIAG, module tcp_diag): the processes of TCP \
                             connections are unknown"
                .to_owned()),
            Err(error) => Err(unasked(&error)),
        }
    }

    fn is_somebody(&self, uid: u32) -> bool {
        self.strangers != Some(uid)
    }

    async fn workload(&self, uid: u32, cgroup: Option<&str>) -> Workload {
        Workload {
            uid,
            user: self.users.name(uid).await,
            cgroup: cgroup.map(str::to_owned),
            unit: cgroup.and_then(cgroups::unit).map(str::to_owned),
        }
    }

    fn tell(&self, error: &io::Error) {
        if self.told.swap(true, Relaxed) {
            debug!("{}", unasked(error));
        } else {
            warn!("{}", unasked(error));
        }
    }
}

fn unasked(error: &io::Error) -> String {
    format!(
        "the kernel cannot be asked whose a socket is (sock_diag: {error}; a sandbox must allow AF_NETLINK): the processes of \
         TCP connections are unknown"
    )
}

/// The group in cgroup2, of those in `/proc/PID/cgroup` (cgroups(7)): the line of no controller.
fn second_version(groups: &str) -> Option<&str> {
    // A group that was removed under its process is nobody's by name.
    groups.lines().find_map(|line| line.strip_prefix("0::")).filter(|path| !path.ends_with(" (deleted)"))
}

/// A workload as the record and the preamble show it.
pub fn shown(workload: &Workload) -> String {
    fit_workload(&workload.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    fn own_uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    /// This process's own group, if it is in one.
    fn own_group() -> Option<String> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        second_version(&groups).map(str::to_owned)
    }

    /// A socket that may share its port with another that says so too.
    fn socket(at: SocketAddr) -> TcpSocket {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(at).unwrap();
        socket
    }

    async fn listener() -> (tokio::net::TcpListener, SocketAddr) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        (listener, at)
    }

    #[tokio::test]
    async fn a_connection_of_this_process_is_found_with_its_user_and_group() {
        let finder = Finder::new();
        finder.check().unwrap();
        let (listener, to) = listener().await;
        let _app = TcpStream::connect(to).await.unwrap();
        let (ours, from) = listener.accept().await.unwrap();
        let found = finder.of_tcp(&ours, from, to).await.unwrap();
        assert_eq!((found.uid, found.cgroup), (own_uid(), own_group()));
        if own_uid() == 0 {
            assert_eq!(found.user.as_deref(), Some("root"));
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_reset_is_nobodys_though_another_has_its_ends_by_then() {
        // given an application that reset its connection, and another that comes from the same port by then
        let (listener, to) = listener().await;
        let app = socket(([127, 0, 0, 1], 0).into());
        let next = socket(app.local_addr().unwrap());
        let app = app.connect(to).await.unwrap();
        let (ours, from) = listener.accept().await.unwrap();
        socket2::SockRef::from(&app).set_linger(Some(Duration::ZERO)).unwrap();
        drop(app);
        let _next = next.connect(to).await.unwrap();
        let (second, from_it) = listener.accept().await.unwrap();
        assert_eq!(from_it, from);
        // then the second connection's process is known, and is not taken for the first one's
        let finder = Finder::new();
        assert!(finder.of_tcp(&second, from, to).await.is_some());
        assert_eq!(finder.of_tcp(&ours, from, to).await, None);
    }

    #[tokio::test]
    async fn the_process_behind_a_unix_socket_is_found() {
        let (_app, ours) = UnixStream::pair().unwrap();
        let found = Finder::new().of_unix(&ours).await.unwrap();
        assert_eq!((found.uid, found.cgroup), (own_uid(), own_group()));
    }

    #[test]
    fn the_group_of_the_second_version_is_the_one_of_no_controller() {
        assert_eq!(second_version("2:cpu:/a\n0::/system.slice/web.service\n"), Some("/system.slice/web.service"));
        assert_eq!(second_version("0::/gone.service (deleted)\n"), None);
        assert_eq!(second_version("2:cpu:/a\n"), None);
    }

    #[test]
    fn what_is_shown_is_short_and_holds_no_control_character() {
        let unit = format!("a\x1b[31m{}.service", "b".repeat(300));
        let shown = shown(&Workload { uid: 7, user: None, cgroup: None, unit: Some(unit) });
        assert!(shown.len() <= 256 && shown.starts_with("a [31mb"), "{shown}");
    }
}
