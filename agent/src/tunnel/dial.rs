//! A fresh tunnel: connect, shake hands, know who answered. Opening one takes the identity we expect as an argument, so
//! that it cannot be forgotten.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use adit_config::Verify;
use tokio::{net::TcpStream, time::Instant};

use crate::{
    identity::{Peer, Role, Snapshot, explain, server_name, speaks_adit},
    streams::{OwnConnection, Purpose, Streams},
    telemetry::metrics,
    wire::{
        channel::{Channel, PeerEnd},
        plain::{Connecting, SocketOptions},
        tunnel::Tunnel,
    },
};

/// What two streams must have in common to use one tunnel after another (PROTOCOL.md section 5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The other agent.
    pub address: SocketAddr,
    /// Who must answer, and how that is verified.
    pub verify: Verify,
    /// The server name to ask for.
    pub sni: Option<String>,
    /// The id of the credential we show; `None` is the default one.
    pub credential: Option<String>,
    /// The generation of our credentials, bundle and lists.
    pub generation: u64,
}

/// A tunnel we opened, with what is known of it.
#[derive(Debug)]
pub struct Dialed {
    /// The tunnel.
    pub tunnel: Tunnel,
    /// What it may be used for.
    pub key: Key,
    /// Who answered.
    pub peer: Arc<Peer>,
    /// When it was opened.
    pub born: Instant,
    /// Whether it has carried a stream before.
    pub recycled: bool,
    /// What connecting and shaking hands took.
    pub took: Took,
}

/// What the stages of opening a tunnel took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// TCP.
    pub connect: Duration,
    /// TLS.
    pub handshake: Duration,
}

impl Key {
    /// Who must answer, for people.
    pub fn expected(&self) -> String {
        match &self.verify {
            Verify::Identity(identity) => identity.to_string(),
            Verify::None => "anybody (verify = \"none\")".to_owned(),
        }
    }

    /// How the peer's certificate is used under this key.
    pub fn role(&self) -> Role {
        match self.verify {
            Verify::Identity(_) => Role::Acceptor,
            Verify::None => Role::Unverified,
        }
    }
}

/// Why no tunnel could be opened.
#[derive(Clone, Debug)]
pub enum DialError {
    /// TCP did not connect.
    Connect(io::ErrorKind, String),
    /// TCP did not connect in time.
    ConnectTimeout(Duration),
    /// The handshake was not over in time.
    HandshakeTimeout(Duration),
    /// The handshake failed.
    Handshake {
        /// Who had to answer.
        expected: String,
        /// Who refused whom, and why.
        why: String,
    },
    /// The address is a door for applications of this agent itself.
    Own,
    /// What must be set right on this host before anything can be dialled.
    Setup(String),
}

/// What of this agent a tunnel's connection has to do with.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    /// The options of every TCP socket.
    pub options: &'a SocketOptions,
    /// All live streams: they are told of the connection, lest a door of our own take it for an application's.
    pub streams: &'a Arc<Streams>,
}

/// Opens a tunnel to `key.address`, whose acceptor must prove to be `key.verify`.
///
/// # Errors
/// The stage that failed, and why.
pub async fn dial(key: &Key, snapshot: &Snapshot, ours: Ours<'_>, limit: Duration) -> Result<Dialed, DialError> {
    let credential = snapshot.credential(key.credential.as_deref()).ok_or_else(|| {
        DialError::Setup(format!("there is no certificate `{}`", key.credential.as_deref().unwrap_or("default")))
    })?;
    let name = server_name(key.sni.as_deref())
        .ok_or_else(|| DialError::Setup(format!("`{}` is no server name", key.sni.as_deref().unwrap_or(""))))?;
    let config = snapshot.client_config(&key.verify, credential);

    let deadline = Instant::now() + limit;
    let start = Instant::now();
    let came_back = Arc::new(AtomicBool::new(false));
    let (socket, _own) = connect(key.address, ours, &came_back, (deadline, limit)).await?;
    ours.options.apply(&socket).map_err(|error| DialError::Connect(error.kind(), error.to_string()))?;
    let began = Instant::now();
    let shaken = match Channel::client(socket, config, name) {
        Ok(channel) => tokio::time::timeout_at(deadline, shake(channel, key, snapshot)).await,
        Err(error) => Ok(Err(DialError::Setup(error.to_string()))),
    };
    let shaken = shaken.unwrap_or(Err(DialError::HandshakeTimeout(limit)));
    let shaken = if came_back.load(Relaxed) { Err(DialError::Own) } else { shaken };
    metrics::handshake("dialer", shaken.as_ref().err().map_or("ok", DialError::label), began.elapsed());
    let (channel, peer) = shaken?;
    if key.verify == Verify::None {
        metrics::tunnel_unverified();
    }
    Ok(Dialed {
        tunnel: Tunnel::dialer(channel),
        key: key.clone(),
        peer: Arc::new(peer),
        born: Instant::now(),
        recycled: false,
        took: Took { connect: began - start, handshake: began.elapsed() },
    })
}

/// Connects, known as ours until the handshake is over: only then is it sure who has accepted.
async fn connect(
    address: SocketAddr,
    ours: Ours<'_>,
    came_back: &Arc<AtomicBool>,
    (deadline, limit): (Instant, Duration),
) -> Result<(TcpStream, Option<OwnConnection>), DialError> {
    let failed = |error: io::Error| DialError::Connect(error.kind(), error.to_string());
    let begun = ours.streams.own(Purpose::Tunnel(Arc::clone(came_back)), || {
        let connecting = Connecting::tunnel(address, ours.options)?;
        let ends = connecting.ends();
        Ok((connecting, ends))
    });
    let (connecting, own) = begun.map_err(failed)?;
    match tokio::time::timeout_at(deadline, connecting.connected()).await {
        Ok(Ok(socket)) => Ok((socket, own)),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(DialError::ConnectTimeout(limit)),
    }
}

async fn shake(mut channel: Channel, key: &Key, snapshot: &Snapshot) -> Result<(Channel, Peer), DialError> {
    let met = SystemTime::now();
    let failed = |why: String| DialError::Handshake { expected: key.expected(), why };
    if let Err(end) = channel.handshake().await {
        let why = why_ended(&end);
        // An alert of ours tells the acceptor why; whether it arrives changes nothing here.
        let _ = channel.flush();
        return Err(failed(why));
    }
    if !speaks_adit(channel.alpn()) {
        return Err(failed("the acceptor does not speak adit/1 (no ALPN agreed)".to_owned()));
    }
    let peer = snapshot.peer(channel.peer_chain(), key.role(), met).map_err(|error| failed(error.to_string()))?;
    Ok((channel, peer))
}

/// How a handshake, or a tunnel on which nothing was said yet, ended: in words that name the alert and its cause.
pub fn why_ended(end: &PeerEnd) -> String {
    match end {
        PeerEnd::Alert(alert) => explain(&rustls::Error::AlertReceived(*alert)),
        PeerEnd::Refused(error) => explain(error),
        PeerEnd::Bare(_) | PeerEnd::Closed => end.to_string(),
    }
}

impl DialError {
    /// The label in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect(..) | Self::ConnectTimeout(_) => "unreachable",
            Self::HandshakeTimeout(_) => "timeout",
            Self::Handshake { .. } | Self::Own => "failed",
            Self::Setup(_) => "setup",
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(_, error) => write!(f, "connect: {error}"),
            Self::ConnectTimeout(limit) => write!(f, "connect: no answer within {limit:?}"),
            Self::HandshakeTimeout(limit) => write!(f, "TLS handshake: not finished within {limit:?}"),
            Self::Handshake { expected, why } => write!(f, "TLS handshake, expecting {expected}: {why}"),
            Self::Own => f.write_str("the address is a listener of this agent itself, where no tunnel can be"),
            Self::Setup(why) => write!(f, "this agent's own set-up: {why}"),
        }
    }
}

impl std::error::Error for DialError {}
