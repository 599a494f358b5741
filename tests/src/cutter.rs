//! A TCP forwarder that cuts each connection after a planned number of bytes: what a failing network, a crashed host or a
//! middlebox does to a tunnel, at any byte of it.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use socket2::SockRef;

use crate::{address::Address, wait::LIMIT};

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Both ends see RST.
    Reset,
    /// Both ends see FIN, with no word of TLS.
    End,
}

/// When and how one connection is cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// So many bytes, of both directions together, are forwarded.
    pub after: usize,
    /// Then this.
    pub how: How,
}

/// A running forwarder.
#[derive(Debug)]
pub struct Cutter {
    address: Address,
    made: Arc<AtomicUsize>,
}

impl Cutter {
    /// Forwards to `to`; the n-th connection, counted from 0, is cut as `plan(n)` says.
    #[must_use]
    pub fn start(to: &Address, plan: impl Fn(usize) -> Cut + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = Address::parse(&listener.local_addr().expect("a bound socket has an address").to_string());
        let made = Arc::new(AtomicUsize::new(0));
        let (to, count) = (to.to_string(), Arc::clone(&made));
        thread::spawn(move || {
            for (number, from) in listener.incoming().flatten().enumerate() {
                let Ok(on) = TcpStream::connect(&to) else { return };
                let (cut, count) = (plan(number), Arc::clone(&count));
                thread::spawn(move || {
                    forward(&from, &on, cut);
                    count.fetch_add(1, SeqCst);
                });
            }
        });
        Self { address, made }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// How many connections have come to their end.
    #[must_use]
    pub fn made(&self) -> usize {
        self.made.load(SeqCst)
    }
}

fn forward(from: &TcpStream, on: &TcpStream, cut: Cut) {
    let left = Mutex::new(cut.after);
    thread::scope(|scope| {
        scope.spawn(|| pass(from, on, &left, cut.how));
        pass(on, from, &left, cut.how);
    });
}

/// One direction, until nothing is left of the plan or the connection ends by itself.
fn pass(mut from: &TcpStream, mut to: &TcpStream, left: &Mutex<usize>, how: How) {
    let mut room = [0; 4096];
    loop {
        let _ = from.set_read_timeout(Some(LIMIT));
        let count = match from.read(&mut room) {
            Ok(0) => return drop(to.shutdown(Shutdown::Write)),
            Ok(count) => count,
            Err(error) => return end(&error, from, to, how),
        };
        let mut left = left.lock().expect("no thread fails with the lock held");
        let most = count.min(*left);
        let written = to.write_all(&room[..most]);
        *left -= most;
        if *left == 0 || written.is_err() {
            return sever(from, to, how);
        }
    }
}

/// A reset is passed on as one; a connection that nobody used for long is let go.
fn end(error: &io::Error, from: &TcpStream, to: &TcpStream, how: How) {
    match error.kind() {
        io::ErrorKind::ConnectionReset => sever(from, to, How::Reset),
        _ => sever(from, to, how),
    }
}

fn sever(from: &TcpStream, to: &TcpStream, how: How) {
    for socket in [from, to] {
        if how == How::Reset {
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
        // Wakes the other direction's thread; the last of the two closes the sockets.
        let _ = socket.shutdown(if how == How::Reset { Shutdown::Read } else { Shutdown::Both });
    }
}
