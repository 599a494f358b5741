//! Hosts on one machine, each a network namespace of its own, as `scripts/netns` makes them: A, B and C on one wire, a
//! bystander who hears all of it, and a container behind A. Root only. The names are this process's own, and nothing of
//! them is left afterwards.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::{
    address::Address,
    process::{Finished, Program, run},
    wait::{LIMIT, until},
};

/// How long a command on a host may take.
const COMMAND: Duration = Duration::from_secs(60);

/// Host A's IPv4 address.
pub const A: &str = "10.77.0.1";
/// Host B's IPv4 address.
pub const B: &str = "10.77.0.2";

/// The hosts, up for as long as this value lives.
#[derive(Debug)]
pub struct Hosts {
    prefix: String,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The host of the applications.
    A,
    /// The host of the services.
    B,
    /// Another one on the same wire.
    C,
    /// A container of A's, behind its interface `docker0`.
    Container,
    /// No host at all, but the wire: who is there hears A, B and C, and says nothing.
    Wire,
}

/// The two families of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

impl Host {
    /// Its address.
    #[must_use]
    pub fn ip(self, family: Family) -> IpAddr {
        let (v4, v6, number) = match self {
            Self::A => (77, 0xfd77, 1),
            Self::B => (77, 0xfd77, 2),
            Self::C => (77, 0xfd77, 3),
            Self::Container => (78, 0xfd78, 2),
            Self::Wire => panic!("the bystander has no address"),
        };
        match family {
            Family::V4 => Ipv4Addr::new(10, v4, 0, number).into(),
            Family::V6 => Ipv6Addr::new(v6, 0, 0, 0, 0, 0, 0, number.into()).into(),
        }
    }

    /// A port of it.
    #[must_use]
    pub fn at(self, family: Family, port: u16) -> Address {
        Address::Tcp(SocketAddr::new(self.ip(family), port))
    }

    fn word(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
            Self::Container => "d",
            Self::Wire => "wire",
        }
    }
}

impl Hosts {
    /// Makes them, each with loopback and its addresses.
    #[must_use]
    pub fn join() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let hosts = Self { prefix: format!("adit-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)) };
        let _ = run(Command::new(script()).args(["-p", &hosts.prefix, "up"]), COMMAND).expect_success();
        hosts
    }

    /// The command that leads into a host.
    #[must_use]
    pub fn enter(&self, host: Host) -> Vec<String> {
        ["ip", "netns", "exec", &self.name(host)].map(str::to_owned).to_vec()
    }

    /// Runs a command on a host, to its end.
    #[must_use]
    pub fn run(&self, host: Host, command: &Command) -> Finished {
        run(&mut inside(&self.enter(host), command), COMMAND)
    }

    /// The same for a command of plain words.
    #[must_use]
    pub fn say(&self, host: Host, words: &[&str]) -> Finished {
        let mut command = Command::new(words[0]);
        self.run(host, command.args(&words[1..]))
    }

    /// Does something with the sockets of a host: those that `act` opens are this host's, wherever they are used later.
    pub fn on<T: Send>(&self, host: Host, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.namespace(host)).expect("the host was made");
        // A namespace is a thread's own, so a thread that has gone there is used for nothing else.
        let there = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root goes anywhere");
            act()
        };
        thread::scope(|scope| scope.spawn(there).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Lets the bystander write down every frame from now on.
    #[must_use]
    pub fn listen(&self) -> Recording<'_> {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let file = dir.path().join("pcap");
        let mut command = Command::new("tcpdump");
        command.args(["-n", "-U", "--immediate-mode", "-i", "bridge", "-w"]).arg(&file);
        let mut command = inside(&self.enter(Host::Wire), &command);
        let mut program = Program::start("tcpdump", &mut command, &dir.path().join("log"));
        let log = dir.path().join("log");
        program.until_ready(|| fs::read_to_string(&log).ok().filter(|log| log.contains("listening on")));
        Recording { hosts: self, _program: program, file, _dir: dir }
    }

    /// The file that is a host's network namespace.
    #[must_use]
    pub fn namespace(&self, host: Host) -> PathBuf {
        Path::new("/run/netns").join(self.name(host))
    }

    fn name(&self, host: Host) -> String {
        format!("{}-{}", self.prefix, host.word())
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let _ = Command::new(script()).args(["-p", &self.prefix, "down"]).status();
    }
}

/// What the bystander has heard.
#[derive(Debug)]
pub struct Recording<'a> {
    hosts: &'a Hosts,
    _program: Program,
    file: PathBuf,
    _dir: TempDir,
}

impl Recording<'_> {
    /// True if these bytes crossed the wire as they are, up to now.
    #[must_use]
    pub fn holds(&self, plain: &str) -> bool {
        contains(&self.so_far(), plain.as_bytes())
    }

    /// The frames up to now that fit tcpdump's filter, a line each.
    #[must_use]
    pub fn frames(&self, filter: &str) -> Vec<String> {
        let _ = self.so_far();
        let mut command = Command::new("tcpdump");
        let shown = run(command.arg("-nr").arg(&self.file).arg(filter), COMMAND).expect_success();
        shown.lines().map(str::to_owned).collect()
    }

    /// The file with all that has crossed up to now: a frame of our own goes last, and is waited for.
    fn so_far(&self) -> Vec<u8> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let fence = format!("fence {} of {}", COUNT.fetch_add(1, Ordering::Relaxed), process::id());
        self.hosts.on(Host::C, || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("the kernel makes sockets");
            // Nobody is there, which is no matter: the frame crosses the wire.
            let _ = socket.send_to(fence.as_bytes(), (B, 9)).expect("a datagram can be sent");
        });
        until("the bystander to hear the last frame", LIMIT, || {
            fs::read(&self.file).ok().filter(|heard| contains(heard, fence.as_bytes()))
        })
    }
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

/// `command` as it is run inside a namespace.
#[must_use]
pub fn inside(enter: &[String], command: &Command) -> Command {
    let mut whole = Command::new(&enter[0]);
    whole.args(&enter[1..]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            whole.env(key, value);
        }
    }
    whole
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/netns")
}
