//! Rules as both tools mean them: which connections, and what becomes of them. What a plan says is said once, in these
//! words; how nft and iptables spell it is for their own files.

use std::net::{IpAddr, SocketAddr};

use adit_config::{Net, Ports};

/// IPv4 or IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// That of an address.
    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

/// A place in a packet's way through the kernel where rules of ours stand.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Hook {
    /// Where packets of this host's processes are marked, so that they are routed again.
    MarkOutput,
    /// Where packets are given to the door's socket (TPROXY).
    TproxyPrerouting,
    /// Where the first packet of a process's connection is sent to the door (REDIRECT).
    NatOutput,
    /// The same for connections that come to be forwarded.
    NatPrerouting,
    /// Where a process's connection is refused that has no door.
    RejectOutput,
    /// The same for those to be forwarded.
    RejectForward,
    /// Where what comes from other hosts is refused.
    StrictInput,
    /// Where packets leave, which is known by then: what was to come to this host goes nowhere else.
    HomePostrouting,
}

/// The rules of one place, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// Where they stand.
    pub hook: Hook,
    /// The first that decides ends the walk.
    pub rules: Vec<Rule>,
}

/// One rule: for packets of TCP that pass every test.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Of this family only.
    pub family: Option<Family>,
    /// All of them.
    pub tests: Vec<Test>,
    /// What becomes of the packet.
    pub then: Then,
    /// Which part of the file it comes from, or what it is for: what an operator sees beside its counter.
    pub comment: String,
}

/// What is asked of a packet. A list holds if one of its members does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Test {
    /// Its mark.
    Mark(u32),
    /// The mark of its connection.
    CtMark(u32),
    /// Its destination is in one of these, all of the rule's family.
    Net(Vec<Net>),
    /// Its destination port.
    Port(Vec<Ports>),
    /// The port that it comes from.
    FromPort(Vec<Ports>),
    /// The user whose socket sends it.
    User(Vec<u32>),
    /// The group whose socket sends it.
    Group(Vec<u32>),
    /// The control group whose socket sends it, or one below it.
    Cgroup(String),
    /// It came in here.
    Interface(Vec<String>),
    /// Its destination is an address of this host.
    ToThisHost,
    /// It comes from an address that this host does not have.
    FromElsewhere,
    /// It leaves by an interface that leads to other hosts.
    Leaving,
    /// It is not the first of its connection, which connection tracking knows. (A first one, SYN, may find the entry of an
    /// earlier connection of the same addresses and ports there, which was not captured.)
    Decided,
    /// NAT has given its connection another destination.
    Rewritten,
    /// It is the first that connection tracking knows of its connection, and not the first there was.
    Lost,
    /// Connection tracking has no connection for it, and so rewrites nothing.
    Unknown,
    /// It goes from who connected to who was connected to.
    Original,
    /// It goes the other way.
    Reply,
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// Nothing: it goes its way.
    Leave,
    /// To this port, at the loopback address (of a process), or at the address of the interface it came by.
    Redirect(u16),
    /// To this address.
    Dnat(SocketAddr),
    /// Its connection is marked as captured, and it is routed to this host.
    Capture(Marks),
    /// The same, and given to the socket that listens at this address, its destination left as it is.
    Tproxy(Marks, SocketAddr),
    /// Its connection is marked, so that answers are known.
    MarkConnection(u32),
    /// It is routed to this host.
    RouteHome(u32),
    /// It is refused with a reset.
    Reset,
    /// It goes nowhere.
    Drop,
}

/// The marks of a captured connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marks {
    /// Of the connection.
    pub connection: u32,
    /// Of a packet that is to be routed to this host.
    pub route: u32,
}

impl Chain {
    /// Whether it does anything to packets of this family.
    pub fn is_about(&self, family: Family) -> bool {
        self.rules.iter().any(|rule| rule.is_about(family) && rule.then != Then::Leave)
    }
}

impl Rule {
    /// A rule of both families.
    pub fn both(tests: Vec<Test>, then: Then, comment: impl Into<String>) -> Rule {
        Rule { family: None, tests, then, comment: comment.into() }
    }

    /// Whether it can be about this family.
    pub fn is_about(&self, family: Family) -> bool {
        self.family.is_none_or(|own| own == family)
    }
}
