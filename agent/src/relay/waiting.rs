//! Bytes that wait for a receiver: what the sockets of a stream are to be asked for meanwhile, and whether the receiver's TCP
//! lives at all.

use tokio::{io::Interest, net::TcpStream};

use super::Limits;
use crate::{
    end::{End, Ending, Side},
    sys::tcp_info::TcpInfo,
};

/// Which receivers have bytes waiting for them.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) for_local: bool,
    pub(super) for_tunnel: bool,
}

impl Waiting {
    pub(super) fn any(self) -> bool {
        self.for_local || self.for_tunnel
    }

    /// Errors are always of interest, also on a socket that is not read (PROTOCOL.md section 4, "Abort").
    pub(super) fn local_interest(self, read_ended: bool) -> Interest {
        let mut interest = Interest::ERROR;
        if !read_ended && !self.for_tunnel {
            interest = interest.add(Interest::READABLE);
        }
        if self.for_local {
            interest = interest.add(Interest::WRITABLE);
        }
        interest
    }

    pub(super) fn tunnel_interest(self) -> Interest {
        let mut interest = Interest::ERROR;
        if !self.for_local {
            interest = interest.add(Interest::READABLE);
        }
        if self.for_tunnel {
            interest = interest.add(Interest::WRITABLE);
        }
        interest
    }
}

/// The ending of a stream whose bytes wait for this socket, if its other end has acknowledged nothing for too long.
pub(super) fn lacks_acknowledgement(
    socket: Option<&TcpStream>,
    side: Side,
    who: &str,
    limits: &Limits,
) -> Result<(), Ending> {
    let silent = socket.and_then(|socket| TcpInfo::of(socket).ok()).map(|info| info.last_ack);
    match silent.zip(limits.stalled) {
        Some((silent, limit)) if silent >= limit => {
            let detail = format!("{who} acknowledged nothing for {silent:?} while bytes waited");
            Err(Ending::new(End::Stalled, side, detail))
        }
        _ => Ok(()),
    }
}
