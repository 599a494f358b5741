//! TLS 1.3 over one TCP connection, in non-blocking steps: fill (read and open records), seal, flush.
//!
//! It uses rustls without its buffers, so that an idle connection holds keys and nothing else. It says exactly how the
//! peer's side ended (nothing, close_notify, an alert the peer sent, an error our own TLS found), because the
//! protocol's retry rule turns on it (PROTOCOL.md section 4). It never waits but in the handshake, knows no frames, and
//! verifies nobody: the configuration it is given does.

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
};

use rustls::{
    AlertDescription, ClientConfig, Error as TlsError, ServerConfig,
    client::UnbufferedClientConnection,
    pki_types::{CertificateDer, ServerName},
    server::{ClientHello, ResolvesServerCert, UnbufferedServerConnection},
    sign::CertifiedKey,
};
use socket2::SockRef;
use tokio::{
    io::{Interest, Ready},
    net::TcpStream,
};

use super::{
    buffer::{BULK, Buffer},
    plain::{linger_zero, take_error},
    records::{Opened, Sealed, Sealing, Turn, act, overhead, seal_or_act},
};

/// A TLS connection over TCP.
#[derive(Debug)]
pub struct Channel {
    socket: TcpStream,
    session: Session,
    /// Records as they came; after every step only the beginning of one is left.
    sealed_in: Buffer,
    /// What whole records held, not yet taken.
    opened: Opened,
    /// Records to be written.
    sealed_out: Buffer,
    end: Option<PeerEnd>,
}

enum Session {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>, Arc<Noting>),
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client(_) => "Client",
            Self::Server(..) => "Server",
        })
    }
}

/// Notes the server name that the client asked for, on its way to the resolver that picks the certificate: rustls tells
/// it nowhere else without its buffers.
#[derive(Debug)]
struct Noting {
    resolver: Arc<dyn ResolvesServerCert>,
    sni: OnceLock<Option<String>>,
}

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let _ = self.sni.set(hello.server_name().map(str::to_owned));
        self.resolver.resolve(hello)
    }
}

/// How the peer's side of a channel ended.
#[derive(Clone, Debug)]
pub enum PeerEnd {
    /// The TCP connection ended with no word of TLS: its end was read, or it was reset.
    Bare(Option<io::ErrorKind>),
    /// The peer sent close_notify.
    Closed,
    /// The peer sent this fatal alert, under the connection's keys once there are any.
    Alert(AlertDescription),
    /// Our own TLS refused what came; an alert of ours is on its way out.
    Refused(TlsError),
}

impl fmt::Display for PeerEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare(None) => f.write_str("the peer closed the connection without a word of TLS"),
            Self::Bare(Some(kind)) => write!(f, "the connection failed without a word of TLS: {kind}"),
            Self::Closed => f.write_str("the peer sent close_notify"),
            Self::Alert(alert) => write!(f, "the peer sent the TLS alert {alert:?}"),
            Self::Refused(error) => write!(f, "TLS refused what the peer sent: {error}"),
        }
    }
}

/// What one `fill` did.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Filled {
    /// Bytes came; some of them may have been opened.
    Some,
    /// Nothing is there to read now.
    NotNow,
    /// Nothing more will come: see [`Channel::end`].
    Ended,
}

impl Channel {
    /// A channel that will shake hands as the client; `name` is the SNI, an IP address means none is sent.
    ///
    /// # Errors
    /// When rustls refuses the configuration.
    pub fn client(socket: TcpStream, config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsError> {
        let session = UnbufferedClientConnection::new(config, name)?;
        Ok(Self::new(socket, Session::Client(Box::new(session))))
    }

    /// A channel that will shake hands as the server.
    ///
    /// # Errors
    /// When rustls refuses the configuration.
    pub fn server(socket: TcpStream, config: &ServerConfig) -> Result<Self, TlsError> {
        let noting = Arc::new(Noting { resolver: Arc::clone(&config.cert_resolver), sni: OnceLock::new() });
        let mut config = config.clone();
        config.cert_resolver = Arc::<Noting>::clone(&noting);
        let session = UnbufferedServerConnection::new(Arc::new(config))?;
        Ok(Self::new(socket, Session::Server(Box::new(session), noting)))
    }

    fn new(socket: TcpStream, session: Session) -> Self {
        Self {
            socket,
            session,
            sealed_in: Buffer::default(),
            opened: Opened::default(),
            sealed_out: Buffer::default(),
            end: None,
        }
    }

    /// Shakes hands; the caller sets the limit on the time. What was sealed by the handshake's end is flushed.
    ///
    /// # Errors
    /// How it ended instead. An alert of ours, if there is one, waits to be flushed.
    pub async fn handshake(&mut self) -> Result<(), PeerEnd> {
        loop {
            self.open_records();
            if let Some(end) = &self.end {
                return Err(end.clone());
            }
            // A write that fails says less than what the peer may have written before it: that is read first.
            let flushed = self.flush().unwrap_or(true);
            if !self.is_handshaking() && flushed {
                return Ok(());
            }
            let interest = if flushed { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            self.socket.ready(interest).await.map_err(|error| PeerEnd::Bare(Some(error.kind())))?;
            self.fill();
        }
    }

    fn is_handshaking(&self) -> bool {
        match &self.session {
            Session::Client(session) => session.is_handshaking(),
            Session::Server(session, _) => session.is_handshaking(),
        }
    }

    /// The protocol both sides agreed on, if any.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.session {
            Session::Client(session) => session.alpn_protocol(),
            Session::Server(session, _) => session.alpn_protocol(),
        }
    }

    /// The name the client asked for; `None` on the client's own side.
    pub fn sni(&self) -> Option<&str> {
        match &self.session {
            Session::Client(_) => None,
            Session::Server(_, noting) => noting.sni.get()?.as_deref(),
        }
    }

    /// The certificate chain the peer presented, leaf first; empty before the handshake's end.
    pub fn peer_chain(&self) -> &[CertificateDer<'static>] {
        let chain = match &self.session {
            Session::Client(session) => session.peer_certificates(),
            Session::Server(session, _) => session.peer_certificates(),
        };
        chain.unwrap_or_default()
    }

    /// The TCP socket, for its options and addresses.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// How the peer's side ended, if it did. Bytes opened before that are still to be taken.
    pub fn end(&self) -> Option<&PeerEnd> {
        self.end.as_ref()
    }

    /// The opened bytes that are to be taken.
    pub fn opened(&self) -> &[u8] {
        self.opened.bytes.data()
    }

    /// Drops `count` opened bytes from the front.
    pub fn take(&mut self, count: usize) {
        self.opened.bytes.take(count);
    }

    /// Reads once and opens every whole record. Call it only when few opened bytes wait: it is what bounds them.
    pub fn fill(&mut self) -> Filled {
        if self.end.is_some() {
            return Filled::Ended;
        }
        let room = self.sealed_in.room();
        if room.is_empty() {
            // No record and no handshake message that rustls takes is as long as a large buffer.
            return self.ended(PeerEnd::Refused(TlsError::PeerSentOversizedRecord));
        }
        match read_once(&self.socket, room) {
            Ok(0) => self.ended(PeerEnd::Bare(None)),
            Ok(count) => {
                self.sealed_in.filled(count);
                self.open_records();
                Filled::Some
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.sealed_in.filled(0);
                Filled::NotNow
            }
            Err(error) => self.ended(PeerEnd::Bare(Some(error.kind()))),
        }
    }

    /// Whether the beginning of a record is waiting for its rest.
    pub fn is_mid_record(&self) -> bool {
        !self.sealed_in.is_empty()
    }

    fn ended(&mut self, end: PeerEnd) -> Filled {
        // `sealed_in` keeps what it has: rustls remembers where in it the pieces of a handshake message lie.
        self.end = Some(end);
        Filled::Ended
    }

    fn open_records(&mut self) {
        while self.end.is_none() {
            match self.step() {
                Ok(Turn::Again) => {}
                Ok(Turn::Idle) => return,
                Err(end) => self.end_by_tls(end),
            }
        }
    }

    fn step(&mut self) -> Result<Turn, PeerEnd> {
        let (discard, turn) = match &mut self.session {
            Session::Client(session) => {
                let status = session.process_tls_records(self.sealed_in.data_mut());
                act(status, &mut self.opened, &mut self.sealed_out)
            }
            Session::Server(session, _) => {
                let status = session.process_tls_records(self.sealed_in.data_mut());
                act(status, &mut self.opened, &mut self.sealed_out)
            }
        };
        self.sealed_in.take(discard);
        turn
    }

    /// Keeps the first end, and lets the alert that rustls queued for it out: no step more, for what was refused still lies
    /// there, and rustls would refuse it again (and assert that it never does).
    fn end_by_tls(&mut self, end: PeerEnd) {
        let refused = matches!(end, PeerEnd::Refused(_));
        self.end = Some(end);
        while refused && self.has_words() && self.step().is_ok() {}
    }

    /// Whether rustls has records of its own to be encoded.
    fn has_words(&self) -> bool {
        match &self.session {
            Session::Client(session) => session.wants_write(),
            Session::Server(session, _) => session.wants_write(),
        }
    }

    /// Seals `plain` behind what waits to be written. Once it returned true, TLS has taken all of it.
    ///
    /// Keep to [`BULK`] bytes at once, and flush in between, or memory grows.
    #[must_use]
    pub fn seal(&mut self, plain: &[u8]) -> bool {
        debug_assert!(plain.len() <= BULK + 64, "more than one bulk at once");
        self.write_traffic(plain.len() + overhead(plain.len()), Sealing::Data(plain))
    }

    /// Seals close_notify: nothing of ours follows.
    pub fn seal_close(&mut self) {
        let _ = self.write_traffic(overhead(0), Sealing::Close);
    }

    fn write_traffic(&mut self, room: usize, what: Sealing<'_>) -> bool {
        if matches!(self.end, Some(PeerEnd::Refused(_) | PeerEnd::Alert(_))) {
            return false;
        }
        loop {
            let (discard, sealed) = match &mut self.session {
                Session::Client(session) => {
                    let status = session.process_tls_records(self.sealed_in.data_mut());
                    seal_or_act(status, what, room, &mut self.opened, &mut self.sealed_out)
                }
                Session::Server(session, _) => {
                    let status = session.process_tls_records(self.sealed_in.data_mut());
                    seal_or_act(status, what, room, &mut self.opened, &mut self.sealed_out)
                }
            };
            self.sealed_in.take(discard);
            match sealed {
                Sealed::Yes => return true,
                Sealed::Again => {}
                Sealed::No => return false,
            }
        }
    }

    /// Writes what is sealed, as far as the socket takes it; true when all of it is written.
    ///
    /// # Errors
    /// The socket's. What the peer said before that may still be read.
    pub fn flush(&mut self) -> io::Result<bool> {
        while !self.sealed_out.is_empty() {
            match self.socket.try_write(self.sealed_out.data()) {
                Ok(count) => self.sealed_out.take(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Replaces what waits to be written: for an alert that rustls cannot choose.
    pub fn say_instead(&mut self, bytes: &[u8]) {
        self.sealed_out.clear();
        self.sealed_out.put(bytes);
    }

    /// How many sealed bytes wait to be written.
    pub fn unsent(&self) -> usize {
        self.sealed_out.len()
    }

    /// Waits until the socket may be read, written (where asked), or has failed.
    ///
    /// # Errors
    /// Only when the runtime is going away.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.socket.ready(interest).await
    }

    /// The error that waits on the socket, if any: seen also while nothing is read.
    pub fn take_error(&self) -> Option<io::Error> {
        take_error(&self.socket)
    }

    /// Shuts the TCP write side.
    pub fn shut(&self) {
        // It fails only on a connection that is gone, which is what was wanted.
        let _ = SockRef::from(&self.socket).shutdown(std::net::Shutdown::Write);
    }

    /// Closes by a TCP reset: what was not delivered never will be.
    pub fn reset(self) {
        linger_zero(&self.socket);
    }

    /// Reads and discards until the peer's end. The caller sets the limit on the time.
    pub async fn drain(&mut self) {
        // Not an array: that would be part of the future of whoever may one day close, which is every idle stream.
        let mut scrap = vec![0; 4096];
        while self.socket.readable().await.is_ok() {
            match self.socket.try_read(&mut scrap) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

/// Reads what is there, once. A read that leaves room has emptied the socket: it is then marked as not readable until the
/// kernel says more came, so that the look that follows costs no system call. (epoll(7): on a stream, a read of less than
/// was asked for has exhausted it; urgent data would stop it earlier, but no agent sends any.)
fn read_once(socket: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    let mut read = None;
    let tried = socket.try_io(Interest::READABLE, || {
        let count = *read.insert(socket.try_read(room)?);
        let emptied = 0 < count && count < room.len();
        if emptied { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    read.ok_or_else(|| tried.err().unwrap_or_else(|| io::ErrorKind::WouldBlock.into()))
}
