//! What DNS is asked, and the records that answer it: plain values, without a port and without anybody who wants them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// One thing that is looked up, once however many bound names want it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Question {
    /// A host's addresses, A and AAAA.
    Host(Arc<str>),
    /// A service's SRV records.
    Srv(Arc<str>),
}

/// One record of an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Record {
    /// Of a host.
    Ip(IpAddr),
    /// Of a service (RFC 2782).
    Service(Service),
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Service {
    /// The lower goes first.
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// A host's name in lower case without its last dot; empty for `.`.
    pub(super) target: Arc<str>,
}

/// What is known of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// Nothing yet; the first look-up is under way.
    Pending,
    /// These, at least one, in a stable order.
    Found(Arc<[Record]>),
    /// An authority says that there is none.
    Neg,
    /// Nothing was ever known and the last look-up failed, for this reason.
    Failed(Arc<str>),
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => write!(f, "{name} A, AAAA"),
            Self::Srv(name) => write!(f, "{name} SRV"),
        }
    }
}
