//! The loop that accepts. Each connection is handed on at once, with the place it will hold; no handshake and no byte is
//! awaited here, and no error ends the loop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Door, bind::BACKLOG};
use crate::{
    slots::{Slot, Slots},
    telemetry::metrics,
};

/// How long accept rests after an error, such as for want of descriptors (EMFILE); then it tries again, for ever.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Places for connections, under the limit that sets their number.
#[derive(Clone, Debug)]
pub struct Room {
    /// The places.
    pub slots: Arc<Slots>,
    /// The limit's name in the metric.
    pub limit: &'static str,
}

impl Room {
    /// A place, as soon as there is one. That it had to be waited for is counted.
    async fn take(&self) -> Slot {
        if let Some(slot) = self.slots.try_take() {
            return slot;
        }
        metrics::limit_reached(self.limit);
        self.slots.take().await
    }
}

/// A connection that came in.
#[derive(Debug)]
pub enum Accepted {
    /// Over TCP, and from where.
    Tcp(TcpStream, SocketAddr),
    /// Over a unix socket.
    Unix(UnixStream),
}

/// When a door is served.
#[derive(Clone, Debug, Default)]
pub struct Hours {
    /// From when on.
    pub opens: CancellationToken,
    /// Until when.
    pub closes: CancellationToken,
    /// Cancelled before `closes` where another process accepts what waits at the door then.
    pub handed_on: CancellationToken,
}

impl Hours {
    /// Waits until it opens; false if it closes before.
    async fn begin(&self) -> bool {
        tokio::select! {
            biased;
            () = self.opens.cancelled() => true,
            () = self.closes.cancelled() => false,
        }
    }
}

impl Door {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(socket, from)| Accepted::Tcp(socket, from)),
            Self::Unix(listener, _) => listener.accept().await.map(|(socket, _)| Accepted::Unix(socket)),
        }
    }

    /// A connection that waits to be accepted; none once there are none.
    fn accept_waiting(&self) -> Option<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (socket, from) = SockRef::from(listener).accept().ok()?;
                socket.set_nonblocking(true).ok()?;
                Some(Accepted::Tcp(TcpStream::from_std(socket.into()).ok()?, from.as_socket()?))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = SockRef::from(listener).accept().ok()?;
                socket.set_nonblocking(true).ok()?;
                Some(Accepted::Unix(UnixStream::from_std(socket.into()).ok()?))
            }
        }
    }

    /// Accepts during its `hours`. Each connection goes to `take` with a place in `room`, which is taken after accept, for a door
    /// that waits for a caller must hold none: with more doors than slots, some doors would never open. At the limit one
    /// connection waits here, and further ones in the kernel's queue. At the end those that are in that queue are taken as
    /// far as there are places, for they have been told that they are connected. (One that comes between the last of them
    /// and the close is reset: there is no way to close a queue that keeps what is in it.) Where the door is handed on, they are
    /// the next process' to take, and only the one that waits here for a place is taken yet.
    pub async fn accept_each(self, room: Room, hours: Hours, mut take: impl FnMut(Accepted, Slot)) {
        let Hours { closes: stop, handed_on, .. } = &hours;
        let mut failing = false;
        if !hours.begin().await {
            return;
        }
        while let Some(accepted) = stop.run_until_cancelled(self.accept()).await {
            match accepted {
                Ok(accepted) => {
                    if std::mem::take(&mut failing) {
                        info!(door = self.address(), "accepting again");
                    }
                    match stop.run_until_cancelled(room.take()).await {
                        Some(slot) => take(accepted, slot),
                        None if handed_on.is_cancelled() => take(accepted, room.take().await),
                        None => break,
                    }
                }
                Err(error) => {
                    metrics::accept_failed();
                    if !std::mem::replace(&mut failing, true) {
                        warn!(door = self.address(), "cannot accept: {error}; trying again every {ACCEPT_REST:?}");
                    }
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
        if handed_on.is_cancelled() {
            return;
        }
        // No more than fit into the queue: who comes as fast as we take keeps no door open.
        for _ in 0..BACKLOG {
            let Some(slot) = room.slots.try_take() else { return };
            let Some(accepted) = self.accept_waiting() else { return };
            take(accepted, slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Door {
        Door::tcp_over(([127, 0, 0, 1], 0).into(), &[]).unwrap()
    }

    #[tokio::test]
    async fn who_was_told_that_it_is_connected_is_accepted_though_the_door_closes() {
        let door = door();
        let address = door.tcp_address().unwrap();
        let clients: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let hours = Hours::default();
        hours.opens.cancel();
        hours.closes.cancel();
        let room = Room { slots: Slots::new(2), limit: "streams" };
        let mut taken = Vec::new();
        door.accept_each(room, hours, |accepted, slot| taken.push((accepted, slot))).await;
        assert_eq!((clients.len(), taken.len()), (3, 2), "as far as there are places");
        assert!(std::net::TcpStream::connect(address).is_err());
    }

    #[tokio::test]
    async fn who_waits_at_a_door_that_is_handed_on_is_left_to_the_next_process() {
        let door = door();
        let (address, held) = (door.tcp_address().unwrap(), door.held().unwrap());
        let _client = std::net::TcpStream::connect(address).unwrap();
        let hours = Hours::default();
        hours.opens.cancel();
        hours.handed_on.cancel();
        hours.closes.cancel();
        let room = Room { slots: Slots::new(2), limit: "streams" };
        door.accept_each(room, hours, |_, _| panic!("it is the next one's")).await;
        let next: std::net::TcpListener = held.copy().unwrap().into();
        assert!(next.accept().is_ok());
    }
}
