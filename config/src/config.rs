//! What a configuration file means, as plain values: the only thing the agent knows of the file.
//! Making one from text is `spec`'s work; a `Config` in hand has passed every check.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_protocol::Name;

use crate::capture::Captures;
use crate::dtab::Dtab;
use crate::error::{Problems, Warning};
use crate::limits::Limits;
use crate::listen::{ListenAddr, TcpListen, UnixListen};
use crate::net::Ports;
use crate::peers::Peers;
use crate::policy::Policy;
use crate::redirect::{Netfilter, Redirect};
use crate::spec;
use crate::tls::Tls;
use crate::workload::Workloads;

/// A whole configuration.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Who this agent is and whom it trusts.
    pub tls: Tls,
    /// The acceptor's side, if the file has `[inbound]`.
    pub inbound: Option<Inbound>,
    /// The dialer's side, if the file has `[outbound]`.
    pub outbound: Option<Outbound>,
    /// The doors for operators; both closed unless the file opens them.
    pub admin: Admin,
    /// How host names are looked up.
    pub dns: Dns,
    /// The files that names may lead to.
    pub fs: Fs,
    /// What netfilter's rules and the agent's sockets must agree on.
    pub netfilter: Netfilter,
    /// Every limit.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: Log,
    /// The machine under it.
    pub runtime: Runtime,
}

impl Config {
    /// Reads a configuration from its text. `file` is only named in messages.
    ///
    /// # Errors
    /// Every problem of the text, sorted by place.
    pub fn parse(file: &Path, text: &str) -> Result<(Config, Vec<Warning>), Problems> {
        spec::parse(file, text)
    }

    /// Reads a configuration from a file.
    ///
    /// # Errors
    /// The file cannot be read, is too long or no UTF-8; or every problem of its text.
    pub fn load(file: &Path) -> Result<(Config, Vec<Warning>), Problems> {
        spec::load(file)
    }

    /// Every door of the file, and the section that it stands in.
    #[must_use]
    pub fn doors(&self) -> Vec<(&'static str, ListenAddr)> {
        let inbound = self.inbound.iter().flat_map(|inbound| &inbound.listen);
        let fronts = self.outbound.iter().flat_map(|outbound| &outbound.listeners);
        let redirect = self.outbound.iter().filter_map(|outbound| outbound.redirect.as_ref());
        let redirect = redirect.flat_map(|redirect| &redirect.listen);
        inbound
            .map(|listen| ("[inbound]", listen.clone().into()))
            .chain(fronts.map(|listener| ("[[outbound.listener]]", listener.listen.clone())))
            .chain(redirect.map(|listen| ("[outbound.redirect]", listen.clone().into())))
            .chain(self.admin.doors().into_iter().map(|listen| ("[admin]", listen)))
            .collect()
    }

    /// What `[admin]` of a file says, however wrong the rest of it is: where to ask the agent that still runs by an earlier
    /// one. `None` if not even that can be read.
    #[must_use]
    pub fn admin_of(file: &Path) -> Option<Admin> {
        spec::admin_of(file)
    }
}

/// `[inbound]`: where tunnels come in, and what they may reach.
#[derive(Clone, PartialEq, Debug)]
pub struct Inbound {
    /// At least one.
    pub listen: Vec<TcpListen>,
    /// The table that a service's `to = "/name"` goes through.
    pub dtab: Dtab,
    /// The services and the judge over them; whether unknown names are concealed is its to know.
    pub policy: Policy,
    /// Which ports other hosts reach through the agent only.
    pub strict: Strict,
}

/// `[inbound] strict`: which ports other hosts reach through the agent only, once the rules are installed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Strict {
    /// None.
    #[default]
    Off,
    /// Those of every service whose target is an address, and of every `[[inbound.capture]]`.
    Services,
    /// These.
    Ports(Vec<Ports>),
}

impl Inbound {
    /// Whether an unknown name is answered as a denied one.
    #[must_use]
    pub fn conceal(&self) -> bool {
        self.policy.conceal
    }
}

/// `[outbound]`: where applications come in, and whom they are taken to.
#[derive(Clone, PartialEq, Debug)]
pub struct Outbound {
    /// The table that says whom to ask for a name.
    pub dtab: Dtab,
    /// Who must answer for a name.
    pub peers: Peers,
    /// The doors for applications; may be none.
    pub listeners: Vec<Listener>,
    /// The door for captured connections, if the file has one.
    pub redirect: Option<Redirect>,
    /// Which names captured connections have.
    pub captures: Captures,
    /// What holds for the connections of single local processes.
    pub workloads: Workloads,
    /// The process of every connection is looked for, and told to the other agent; else only where a rule of `workloads`
    /// asks for it.
    pub find_workloads: bool,
}

impl Default for Outbound {
    /// Nothing leads anywhere. Processes are looked for: it costs a short connection a fortieth of what it takes anyway,
    /// and answers the first question of every operator.
    fn default() -> Outbound {
        Outbound {
            dtab: Dtab::default(),
            peers: Peers::default(),
            listeners: Vec::new(),
            redirect: None,
            captures: Captures::default(),
            workloads: Workloads::default(),
            find_workloads: true,
        }
    }
}

/// `[[outbound.listener]]`: a plain door that leads to one name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Where.
    pub listen: ListenAddr,
    /// The logical name every connection goes to.
    pub to: Name,
    /// The id of the client certificate to present; the default one if none is named.
    pub certificate: Option<String>,
    /// The operator has said that a TCP address off loopback is meant.
    pub expose: bool,
}

/// `[admin]`: the doors for operators.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Admin {
    /// The TCP door: metrics, healthz, readyz and status, by GET.
    pub listen: Option<TcpListen>,
    /// The unix door: everything.
    pub socket: Option<UnixListen>,
    /// The operator has said that a TCP address off loopback is meant.
    pub expose: bool,
}

impl Admin {
    /// Its doors, the TCP one first.
    #[must_use]
    pub fn doors(&self) -> Vec<ListenAddr> {
        let socket = self.socket.clone().map(ListenAddr::Unix);
        self.listen.clone().map(ListenAddr::from).into_iter().chain(socket).collect()
    }
}

/// `[dns]`: how host names are looked up, and how long an answer is believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dns {
    /// Servers to ask; none means those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// Zones that have servers of their own; of those that hold a name the longest decides.
    pub zones: Vec<Zone>,
    /// An answer with a shorter TTL is kept this long. 1 s: a TTL of 0 must not mean a query for each
    /// refresh without pause.
    pub min_ttl: Duration,
    /// An answer with a longer TTL is kept only this long. 5 min: how long a moved service may stay
    /// unfound because its record once promised a day.
    pub max_ttl: Duration,
    /// How long an authoritative *no such name* is believed when it brings no time of its own. 5 s: a
    /// service that starts after its client is found soon.
    pub negative_ttl: Duration,
    /// One look-up, retries included. 5 s: what resolv.conf(5) gives one attempt.
    pub timeout: Duration,
}

/// `[[dns.zone]]`: a zone, and all under it, with servers of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Zone {
    /// A DNS name in lower case, without a trailing dot.
    pub name: String,
    /// At least one.
    pub servers: Vec<SocketAddr>,
}

/// `[fs]`: the files that `/#/fs/<file>` leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fs {
    /// Where they are.
    pub folder: PathBuf,
}

impl Default for Fs {
    /// Beside the configuration.
    fn default() -> Fs {
        Fs { folder: PathBuf::from("/etc/adit/names") }
    }
}

impl Default for Dns {
    fn default() -> Dns {
        Dns {
            servers: Vec::new(),
            zones: Vec::new(),
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
            negative_ttl: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
        }
    }
}

/// `[log]`: what is logged, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Log {
    /// For people or for programs.
    pub format: LogFormat,
    /// The least severe event that is logged.
    pub level: LogLevel,
}

/// How an event is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// One line of text.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// To the journal of systemd, with fields.
    Journald,
}

impl LogFormat {
    /// Every format, by the word the file uses.
    pub const WORDS: [(&'static str, LogFormat); 3] =
        [("text", LogFormat::Text), ("json", LogFormat::Json), ("journald", LogFormat::Journald)];
}

/// The severity of an event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum LogLevel {
    /// Only what needs a person.
    Error,
    /// And what may soon.
    Warn,
    /// And each stream's end.
    #[default]
    Info,
    /// And the steps between.
    Debug,
    /// And every frame.
    Trace,
}

impl LogLevel {
    /// Every level, by the word the file uses.
    pub const WORDS: [(&'static str, LogLevel); 5] = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];

    /// The word the file uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

impl LogFormat {
    /// The word the file uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
            LogFormat::Journald => "journald",
        }
    }
}

/// `[runtime]`: the machine under the agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Runtime {
    /// Threads that carry streams; `None` (`"auto"`) leaves it to the agent.
    pub threads: Option<usize>,
}
