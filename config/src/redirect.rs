//! Captured connections, as the file means them: the door that netfilter brings them to, which of a host's connections the
//! rules bring there, and what sockets of the agent's own are known by, so that none of them is captured.

use std::time::Duration;

use crate::listen::TcpListen;
use crate::net::{Net, Ports};

/// `[outbound.redirect]`: the door for captured connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// At least one.
    pub listen: Vec<TcpListen>,
    /// How connections come here.
    pub mode: RedirectMode,
    /// What becomes of a connection that no rule gives a name.
    pub unmatched: Unmatched,
    /// An address that the name of a `host` rule once had counts as its own for so long: applications keep addresses longer
    /// than DNS does, and one that is forgotten too soon would be taken for nobody's.
    pub remember: Duration,
    /// The id of the client certificate to present; the default one if none is named.
    pub certificate: Option<String>,
    /// The operator has said that an address off loopback is meant.
    pub expose: bool,
    /// Which connections the rules bring here; may be none, where others make the rules.
    pub include: Vec<Selector>,
    /// Which of those they leave alone.
    pub exclude: Vec<Selector>,
}

impl Redirect {
    /// 1 h: as long as an application may go on with an address that its name had once.
    pub const REMEMBER: Duration = Duration::from_secs(3600);
}

/// How the kernel brings a connection to the door, and so where its original destination stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum RedirectMode {
    /// REDIRECT: its destination was rewritten, and conntrack knows the original (SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST).
    #[default]
    Redirect,
    /// TPROXY: nothing was rewritten, and the socket's own local address is the original (IP_TRANSPARENT, ip(7)).
    Tproxy,
}

impl RedirectMode {
    /// Every mode, by the word the file uses.
    pub const WORDS: [(&'static str, RedirectMode); 2] =
        [("redirect", RedirectMode::Redirect), ("tproxy", RedirectMode::Tproxy)];

    /// The word the file uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RedirectMode::Redirect => "redirect",
            RedirectMode::Tproxy => "tproxy",
        }
    }
}

/// What becomes of a captured connection that neither a capture rule nor the table knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Unmatched {
    /// It is reset.
    #[default]
    Refuse,
    /// It goes on to its original destination, in plaintext.
    Pass,
}

impl Unmatched {
    /// Both, by the word the file uses.
    pub const WORDS: [(&'static str, Unmatched); 2] = [("refuse", Unmatched::Refuse), ("pass", Unmatched::Pass)];

    /// The word the file uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Unmatched::Refuse => "refuse",
            Unmatched::Pass => "pass",
        }
    }
}

/// Which connections a rule is about: all that fit every list that is not empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selector {
    /// Whose they are.
    pub from: Origin,
    /// Where they go.
    pub nets: Vec<Net>,
    /// To which ports.
    pub ports: Vec<Ports>,
    /// Users of this host, by name or number.
    pub users: Vec<String>,
    /// Groups of this host, by name or number.
    pub groups: Vec<String>,
    /// Control groups, as paths below the mount of cgroup2, without a leading `/`.
    pub cgroups: Vec<String>,
    /// Interfaces that forwarded ones come in by.
    pub interfaces: Vec<String>,
}

/// Whose connections a selector is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Origin {
    /// Those of this host's processes.
    #[default]
    Local,
    /// Those that come to this host to be forwarded: of containers, or of hosts that route through it.
    Forwarded,
}

impl Origin {
    /// Both, by the word the file uses.
    pub const WORDS: [(&'static str, Origin); 2] = [("local", Origin::Local), ("forwarded", Origin::Forwarded)];

    /// The word the file uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Local => "local",
            Origin::Forwarded => "forwarded",
        }
    }
}

/// `[netfilter]`: what the rules of both sides and the agent's sockets must agree on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Netfilter {
    /// The mark (SO_MARK, socket(7)) of every socket that the agent makes; `None` is `"off"`.
    pub mark: Option<u32>,
    /// The mark of packets that are to be delivered to this host itself, whatever their destination.
    pub route_mark: u32,
    /// The routing table that delivers them.
    pub route_table: u32,
    /// The user that the agent runs as, by name or number: its connections are not captured.
    pub user: Option<String>,
}

impl Default for Netfilter {
    fn default() -> Netfilter {
        Netfilter { mark: Some(0xad17), route_mark: 0xad18, route_table: 0xad17, user: None }
    }
}
