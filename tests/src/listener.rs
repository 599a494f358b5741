//! A plain service's listening socket, held by the test itself.

use std::path::Path;

use socket2::{Socket, Type};

use crate::{
    address::{Address, Wire},
    end::End,
    wait::LIMIT,
};

/// A listening socket; accepting has a limit.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
}

impl Listener {
    /// Listens on loopback at a port of the kernel's choice, or at `name` in `dir`.
    #[must_use]
    pub fn bind(wire: Wire, dir: &Path, name: &str) -> Self {
        match wire {
            Wire::Tcp => Self::at(&Address::any_port()),
            Wire::Unix => Self::at(&Address::Unix(dir.join(name))),
        }
    }

    /// Listens at `address`.
    #[must_use]
    pub fn at(address: &Address) -> Self {
        let socket = Socket::new(address.domain(), Type::STREAM, None).expect("the kernel makes sockets");
        if address.wire() == Wire::Tcp {
            socket.set_reuse_address(true).expect("a socket takes options");
        }
        socket
            .bind(&address.to_socket())
            .and_then(|()| socket.listen(1024))
            .and_then(|()| socket.set_read_timeout(Some(LIMIT)))
            .unwrap_or_else(|error| panic!("listen at {address}: {error}"));
        let bound = socket.local_addr().expect("a bound socket has an address");
        let address = bound.as_socket().map_or_else(|| address.clone(), Address::Tcp);
        Self { socket, address }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The next connection.
    #[must_use]
    pub fn accept(&self) -> End {
        let (socket, _) = self.socket.accept().unwrap_or_else(|error| {
            panic!("nobody connected to the service at {} in {LIMIT:?}: {error}", self.address)
        });
        End::new(socket)
    }

    /// The next connection; `None` when nobody came within the limit.
    #[must_use]
    pub fn try_accept(&self) -> Option<End> {
        self.socket.accept().ok().map(|(socket, _)| End::new(socket))
    }

    /// True if a connection waits to be accepted.
    #[must_use]
    pub fn has_caller(&self) -> bool {
        self.socket.set_nonblocking(true).expect("a socket can be made not to block");
        let caller = self.socket.accept();
        self.socket.set_nonblocking(false).expect("a socket can be made to block");
        caller.is_ok()
    }
}
