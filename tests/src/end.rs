//! One end of a connection, as the scenarios hold it: blocking, with a limit on every wait, alike on both wires.
//! A scenario reads as a conversation between two ends, so each verb either does all it says or fails the test.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr},
    thread,
    time::Duration,
};

use socket2::{SockRef, Socket, Type};

use crate::{address::Address, pattern::Pattern, wait::LIMIT};

/// A connected socket.
#[derive(Debug)]
pub struct End {
    socket: Socket,
}

impl End {
    /// Connects, and fails the test if that cannot be done.
    #[must_use]
    pub fn connect(address: &Address) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"))
    }

    /// Connects.
    ///
    /// # Errors
    /// What connect(2) says.
    pub fn try_connect(address: &Address) -> io::Result<Self> {
        let socket = Socket::new(address.domain(), Type::STREAM, None)?;
        socket.connect(&address.to_socket())?;
        Ok(Self::new(socket))
    }

    /// Connects from a given address and port, which other connections may have too.
    ///
    /// # Errors
    /// What bind(2) and connect(2) say.
    pub fn try_connect_from(from: &Address, address: &Address) -> io::Result<Self> {
        let socket = Socket::new(address.domain(), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.to_socket())?;
        socket.connect(&address.to_socket())?;
        Ok(Self::new(socket))
    }

    /// Connects, or gives up after `span`.
    ///
    /// # Errors
    /// What connect(2) says; a silence is [`ErrorKind::TimedOut`].
    pub fn try_connect_within(address: &Address, span: Duration) -> io::Result<Self> {
        let socket = Socket::new(address.domain(), Type::STREAM, None)?;
        socket.connect_timeout(&address.to_socket(), span)?;
        Ok(Self::new(socket))
    }

    /// The same bound to an interface (SO_BINDTODEVICE).
    ///
    /// # Errors
    /// What setsockopt(2) and connect(2) say; a silence is [`ErrorKind::TimedOut`].
    pub fn try_connect_by(interface: &str, address: &Address, span: Duration) -> io::Result<Self> {
        let socket = Socket::new(address.domain(), Type::STREAM, None)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.connect_timeout(&address.to_socket(), span)?;
        Ok(Self::new(socket))
    }

    pub(crate) fn new(socket: Socket) -> Self {
        let limits = socket.set_read_timeout(Some(LIMIT)).and(socket.set_write_timeout(Some(LIMIT)));
        limits.expect("a socket takes a time limit");
        // Fails on a unix socket, which has nothing to delay.
        let _ = socket.set_tcp_nodelay(true);
        Self { socket }
    }

    /// Its own address.
    #[must_use]
    pub fn address(&self) -> Address {
        let name = self.socket.local_addr().expect("a connected socket has an address");
        Address::Tcp(canonical(name.as_socket().expect("only TCP's ends are told apart by address")))
    }

    /// The other end's address, as this one sees it.
    #[must_use]
    pub fn other(&self) -> Address {
        let name = self.socket.peer_addr().expect("a connected socket has a peer");
        Address::Tcp(canonical(name.as_socket().expect("only TCP's ends are told apart by address")))
    }

    /// A second handle on the same end, for a thread that goes the other way.
    #[must_use]
    pub fn twin(&self) -> Self {
        Self { socket: self.socket.try_clone().expect("a descriptor can be copied") }
    }

    /// Writes all of `bytes`.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the other end takes what is sent");
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// What write(2) says.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Writes the pattern's first `count` bytes.
    pub fn send_pattern(&mut self, pattern: &Pattern, count: u64) {
        let mut at = 0;
        while at < count {
            let piece = pattern.piece(at, count - at);
            self.send(piece);
            at += piece.len() as u64;
        }
    }

    /// Writes the pattern from byte `at` for as long as the kernel takes it without waiting; returns how many bytes.
    pub fn fill(&mut self, pattern: &Pattern, at: u64, limit: u64) -> u64 {
        self.socket.set_nonblocking(true).expect("a socket can be made not to block");
        let mut taken = 0;
        while taken < limit {
            match self.socket.write(pattern.piece(at + taken, limit - taken)) {
                Ok(count) => taken += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the other end takes what is sent: {error}"),
            }
        }
        self.socket.set_nonblocking(false).expect("a socket can be made to block");
        taken
    }

    /// Reads exactly `count` bytes.
    #[must_use]
    pub fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.socket.read_exact(&mut bytes).expect("the other end sends what it owes");
        bytes
    }

    /// Reads what is there, at most `limit` bytes; 0 at the end.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn try_receive(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; limit];
        let count = self.socket.read(&mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Reads to the other end's end.
    #[must_use]
    pub fn receive_rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.socket.read_to_end(&mut bytes).expect("the other end ends cleanly");
        bytes
    }

    /// Both ends send so many bytes at once, each of a pattern of its own, and end; how many bytes each has received of the
    /// other's pattern, the other first.
    #[must_use]
    pub fn exchange(&mut self, other: &mut Self, each: u64) -> [u64; 2] {
        let (mut reads, mut other_reads) = (self.twin(), other.twin());
        let (there, back) = (Pattern::new(1), Pattern::new(2));
        thread::scope(|scope| {
            let received =
                [scope.spawn(|| other_reads.receive_pattern(&there)), scope.spawn(|| reads.receive_pattern(&back))];
            for (end, pattern) in [(self, &there), (other, &back)] {
                scope.spawn(move || {
                    end.send_pattern(pattern, each);
                    end.finish();
                });
            }
            received.map(|received| received.join().expect("what was received is the other's pattern"))
        })
    }

    /// Reads to the other end's end, holds each byte against the pattern, and returns how many there were.
    pub fn receive_pattern(&mut self, pattern: &Pattern) -> u64 {
        let mut buffer = vec![0; 1 << 18];
        let mut at = 0;
        loop {
            let count = self.socket.read(&mut buffer).expect("the other end ends cleanly");
            if count == 0 {
                return at;
            }
            pattern.check(at, &buffer[..count]).unwrap();
            at += count as u64;
        }
    }

    /// Reads until the connection fails, and returns how; `None` when it ended cleanly instead.
    #[must_use]
    pub fn failure(&mut self) -> Option<ErrorKind> {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("nothing happened in {LIMIT:?}")
                }
                Err(error) => return Some(error.kind()),
            }
        }
    }

    /// Sends, and reads until the connection fails; `None` when it ended cleanly instead.
    ///
    /// The kernel tells a reset once, to whichever call comes first: a write that fails must not swallow it.
    #[must_use]
    pub fn failure_after(&mut self, bytes: &[u8]) -> Option<ErrorKind> {
        match self.try_send(bytes) {
            Ok(()) => self.failure(),
            Err(error) => Some(error.kind()),
        }
    }

    /// True if nothing arrives, no byte, no end and no failure, for as long as `span`.
    #[must_use]
    pub fn is_silent_for(&mut self, span: Duration) -> bool {
        self.socket.set_read_timeout(Some(span)).expect("a socket takes a time limit");
        let got = self.socket.read(&mut [0; 1]);
        self.socket.set_read_timeout(Some(LIMIT)).expect("a socket takes a time limit");
        matches!(got, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Connects to an echo service, says a word and hears it.
    ///
    /// # Errors
    /// Whatever kept the word from coming back.
    pub fn try_echo(address: &Address) -> io::Result<()> {
        const WORD: &[u8] = b"adit?";
        let mut end = Self::try_connect(address)?;
        end.try_send(WORD)?;
        let mut heard = [0; WORD.len()];
        end.socket.read_exact(&mut heard)?;
        assert_eq!(heard, WORD, "the echo is not what was said");
        Ok(())
    }

    /// Ends this direction; the other goes on.
    pub fn finish(&mut self) {
        self.socket.shutdown(Shutdown::Write).expect("a connected socket can be half-closed");
    }

    /// Sends one byte of urgent data, which is no byte of the stream (tcp(7)).
    pub fn send_urgent(&mut self, byte: u8) {
        self.socket.send_out_of_band(&[byte]).expect("the other end takes what is sent");
    }

    /// Ends this direction, unless the connection is gone.
    pub fn try_finish(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Aborts: on TCP the other end sees RST, on a unix socket a close.
    pub fn reset(self) {
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).expect("a socket takes a linger time");
    }

    /// Keeps this end's receive buffer from growing, so that its window closes soon.
    ///
    /// Not to the least the kernel allows: a window below loopback's segments of 64 KiB opens by the sender's
    /// persist timer only, five times a second.
    pub fn shrink_window(&mut self) {
        self.socket.set_recv_buffer_size(1 << 18).expect("a receive buffer can be made small");
    }
}

/// An IPv4 address that came to a socket of both families, as the one it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
