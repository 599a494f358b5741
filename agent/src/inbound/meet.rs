//! Meeting a dialer: the handshake within its limits, and who it proved to be. What comes to nothing is counted, logged with
//! its cause, and told to the other side where something can still be told.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{net::TcpStream, time::Instant};
use tracing::{debug, warn};

use super::Inbound;
use crate::{
    identity::{Peer, Role, Snapshot, UNRECOGNIZED_NAME, explain, is_unknown_sni, speaks_adit},
    telemetry::metrics,
    tunnel::close::shut_and_drain,
    wire::{
        channel::{Channel, PeerEnd},
        tunnel::Tunnel,
    },
};

/// How long an alert of ours is given to arrive (PROTOCOL.md section 1).
const ALERT_LIMIT: Duration = Duration::from_secs(2);

/// A tunnel whose dialer has proved who it is.
pub(super) struct Met {
    pub(super) tunnel: Tunnel,
    pub(super) peer: Arc<Peer>,
    pub(super) from: SocketAddr,
    /// The id of the credential we showed.
    pub(super) shown: Option<String>,
    /// The generation of our credentials that it was shown from.
    pub(super) credential_generation: u64,
    /// Set when this peer has too many tunnels: every OPEN on this one is refused.
    pub(super) crowded: bool,
}

/// A connection that came to nothing.
struct Unmet {
    /// Where there is still something to be said.
    channel: Option<Box<Channel>>,
    why: String,
    outcome: Outcome,
}

/// How a handshake came to nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// One side refused the other.
    Failed,
    /// It was not over in time.
    Late,
    /// Not a word of TLS was said.
    Silent,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Late => "timeout",
            Self::Silent => "closed",
        }
    }
}

impl Inbound {
    /// Shakes hands within the limits; every failure is counted and logged with its cause.
    pub(super) async fn meet(&self, socket: TcpStream, from: SocketAddr) -> Option<Met> {
        let rules = self.rules.load_full();
        let deadline = Instant::now() + rules.handshake;
        let crowded = || {
            metrics::limit_reached("handshakes");
            debug!(%from, "too many handshakes at once; the connection is dropped");
        };
        // Whoever waits holds a tunnel's place too: one address that says nothing must not hold them all.
        let Some(_unproven) = self.unproven.enter(from.ip()) else {
            crowded();
            return None;
        };
        // A burst from one host waits its turn within the limit, and only then is turned away.
        let Ok(_place) = tokio::time::timeout_at(deadline, self.handshakes.wait(from.ip())).await else {
            crowded();
            return None;
        };
        let began = Instant::now();
        let applied = rules.options.apply(&socket);
        applied
            .inspect_err(|error| warn!(%from, "a socket option was refused: {error}; the connection is closed"))
            .ok()?;
        // One snapshot from the handshake's first byte to the peer's stamp: with a later one, a dialer judged by an old
        // list would count as judged by the new one, and escape a revocation that came in between.
        let snapshot = self.identity.snapshot();
        let met = SystemTime::now();
        let channel = Channel::server(socket, &snapshot.server_config());
        let shaken = match channel {
            Ok(mut channel) => match tokio::time::timeout_at(deadline, channel.handshake()).await {
                Ok(Ok(())) => know(channel, from, &snapshot, met),
                Ok(Err(end)) => Err(Unmet { why: why(&end), outcome: outcome(&end), channel: Some(Box::new(channel)) }),
                Err(_) => {
                    metrics::limit_reached("handshake");
                    let why = format!("not finished within {:?}", rules.handshake);
                    Err(Unmet { channel: None, why, outcome: Outcome::Late })
                }
            },
            Err(error) => Err(Unmet { channel: None, why: error.to_string(), outcome: Outcome::Failed }),
        };
        let outcome = shaken.as_ref().err().map_or("ok", |unmet| unmet.outcome.label());
        metrics::handshake("acceptor", outcome, began.elapsed());
        match shaken {
            Ok(met) => Some(met),
            Err(Unmet { channel, why, outcome }) => {
                // A port scan or a health check that says nothing is no news.
                if outcome == Outcome::Silent {
                    debug!(%from, "TLS handshake: {why}");
                } else {
                    warn!(%from, "TLS handshake: {why}");
                }
                if let Some(channel) = channel {
                    say_why(*channel).await;
                }
                None
            }
        }
    }
}

/// Who the dialer is, by the snapshot that its handshake was judged by.
fn know(channel: Channel, from: SocketAddr, snapshot: &Snapshot, met: SystemTime) -> Result<Met, Unmet> {
    let unmet = |channel, why| Unmet { channel: Some(Box::new(channel)), why, outcome: Outcome::Failed };
    if !speaks_adit(channel.alpn()) {
        let why = "the peer does not speak adit/1 (no ALPN agreed): a plain TLS client has no door here";
        return Err(unmet(channel, why.to_owned()));
    }
    let shown = snapshot.credential_for_sni(channel.sni()).map(|credential| credential.id.clone());
    let peer = match snapshot.peer(channel.peer_chain(), Role::Dialer, met) {
        Ok(peer) => Arc::new(peer),
        Err(error) => return Err(unmet(channel, error.to_string())),
    };
    let credential_generation = snapshot.credential_generation;
    Ok(Met { tunnel: Tunnel::acceptor(channel), peer, from, shown, credential_generation, crowded: false })
}

/// Lets the alert that says why out, and gives it time to arrive (PROTOCOL.md section 1).
async fn say_why(mut channel: Channel) {
    if matches!(channel.end(), Some(PeerEnd::Refused(error)) if is_unknown_sni(error)) {
        channel.say_instead(&UNRECOGNIZED_NAME);
    }
    shut_and_drain(channel, ALERT_LIMIT).await;
}

fn why(end: &PeerEnd) -> String {
    match end {
        PeerEnd::Refused(error) => explain(error),
        PeerEnd::Alert(alert) => explain(&rustls::Error::AlertReceived(*alert)),
        PeerEnd::Bare(_) | PeerEnd::Closed => end.to_string(),
    }
}

fn outcome(end: &PeerEnd) -> Outcome {
    match end {
        PeerEnd::Bare(_) => Outcome::Silent,
        PeerEnd::Refused(_) | PeerEnd::Alert(_) | PeerEnd::Closed => Outcome::Failed,
    }
}
