//! Why a door could not be opened, with what to do about it: the one line that an operator reads.

use std::{fmt, io};

use super::Bound;

/// Why a door could not be opened: one line.
#[derive(Debug)]
pub struct ListenError {
    door: String,
    cause: io::Error,
    help: &'static str,
}

impl ListenError {
    /// A door that failed before it had an address.
    pub fn of(what: &str, cause: io::Error) -> Self {
        Self::new(what.to_owned(), cause)
    }

    /// A door that cannot be what it is to be; `cause` says why, `help` what to do.
    pub(super) fn new_with(door: &str, cause: &str, help: &'static str) -> Self {
        Self { door: door.to_owned(), cause: io::Error::other(cause.to_owned()), help }
    }

    /// The same, where these doors of our own are open: whose address is taken may be one of them.
    pub fn beside(self, own: &[Bound]) -> Self {
        let port = |address: &str| address.rsplit_once(':').map(|(_, port)| port.to_owned());
        let is_ours = |bound: &&Bound| bound.address == self.door || port(&bound.address) == port(&self.door);
        if self.cause.kind() != io::ErrorKind::AddrInUse || !own.iter().any(|bound| is_ours(&bound)) {
            return self;
        }
        Self {
            help: "a door of this agent itself is open there: take it out of the file first, and reload twice",
            ..self
        }
    }

    pub(super) fn new(door: String, cause: io::Error) -> Self {
        let help = match cause.kind() {
            io::ErrorKind::AlreadyExists => "move it away, or change `listen`",
            io::ErrorKind::AddrInUse => "another process listens there; end it, or change `listen`",
            io::ErrorKind::AddrNotAvailable => "no interface of this host has this address; change `listen`",
            io::ErrorKind::PermissionDenied => {
                "this user may not listen there; a port below 1024 needs CAP_NET_BIND_SERVICE, a socket file a folder that may be written and \
                 nobody else's socket in its place"
            }
            io::ErrorKind::NotFound => "make the folder, or change `listen`",
            _ => "change `listen`",
        };
        Self { door, cause, help }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listening on {}: {}; {}", self.door, self.cause, self.help)
    }
}

impl std::error::Error for ListenError {}
