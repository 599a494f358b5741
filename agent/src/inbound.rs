//! The life of one tunnel from another agent: the handshake proves who it is; each OPEN is judged, routed, connected to
//! its service, relayed, and recorded, one stream after another, until the tunnel is retired or its dialer leaves.
//!
//! A service is reached only with an `Admitted`, which only the policy's judge makes; nothing is looked up for a name
//! that it does not admit.

mod idle;
mod service;

pub use idle::IdleLimits;
pub use service::{Bounds, Services};

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use adit_config::{
    limits::REFUSED_READS,
    policy::{Admitted, Policy, Verdict},
};
use adit_protocol::{Answer, Code, Kind, Phase, Preamble, Refusal, ResetCode};
use arc_swap::ArcSwap;
use tokio::{net::TcpStream, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use idle::{Generations, IdleEnd, next_open};
use service::Connected;

use crate::{
    addr::Address,
    crowd::Crowd,
    end::{End, Ending, Side},
    identity::{Peer, Role, Snapshot, Store, UNRECOGNIZED_NAME, explain, is_unknown_sni, speaks_adit},
    relay::{self, Beginning, Limits, abort, relay, truncated},
    slots::{Slot, Slots},
    streams::{Direction, Hop, Registered, Right, Streams, new_id},
    telemetry::{metrics, record},
    tunnel::{
        arrive::next_arrival,
        close::{close, shut_and_drain},
    },
    wire::{
        channel::{Channel, PeerEnd},
        plain::SocketOptions,
        tunnel::{Arrival, Role as End_, Tunnel},
    },
    withdraw::{Rights, withdrawn},
};

/// How long an alert of ours is given to arrive (PROTOCOL.md section 1).
const ALERT_LIMIT: Duration = Duration::from_secs(2);

/// How long a tunnel beyond its peer's share waits for the OPEN that it was made for, which is refused and hears why.
const CROWDED_IDLE: Duration = Duration::from_secs(1);

/// The inbound side of the agent.
#[derive(Debug)]
pub struct Inbound {
    /// What a reload replaces: each stream goes by what is in force at its OPEN.
    pub rules: ArcSwap<Rules>,
    /// What live streams are judged by when it changes.
    pub rights: Arc<Rights>,
    /// Our credentials, and whom we trust.
    pub identity: Arc<Store>,
    /// All live streams.
    pub streams: Arc<Streams>,
    /// Streams at once, in all; per service in its rules.
    pub slots: Arc<Slots>,
    /// Connections of one source address that have not yet proved who they are, waiting for their handshake or in it.
    pub unproven: Crowd<IpAddr>,
    /// Handshakes at once, in all and per source address.
    pub handshakes: Crowd<IpAddr>,
    /// Tunnels at once per peer identity.
    pub tunnels_per_peer: Crowd<String>,
    /// The agent drains: no further stream begins.
    pub draining: CancellationToken,
}

/// What the inbound side goes by.
#[derive(Debug)]
pub struct Rules {
    /// The number of the law they came with.
    pub law: u64,
    /// Who may reach what.
    pub policy: Arc<Policy>,
    /// How to reach it.
    pub services: Services,
    /// The limit on a handshake, from accept.
    pub handshake: Duration,
    /// The limits on an idle tunnel.
    pub idle: IdleLimits,
    /// The limits on a stream that is open.
    pub limits: Limits,
    /// The options of every TCP socket.
    pub options: SocketOptions,
}

/// A tunnel whose dialer has proved who it is.
struct Met {
    tunnel: Tunnel,
    peer: Arc<Peer>,
    from: SocketAddr,
    /// The id of the credential we showed.
    shown: Option<String>,
    /// The generation of our credentials that it was shown from.
    credential_generation: u64,
    /// Set when this peer has too many tunnels: every OPEN on this one is refused.
    crowded: bool,
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
    /// Serves one connection from its first to its last moment.
    pub async fn serve(&self, socket: TcpStream, from: SocketAddr) {
        // In a box of its own, which is gone once it is done: what a task awaits in place, it has room for to its end.
        let Some(met) = Box::pin(self.meet(socket, from)).await else { return };
        let _place = self.tunnels_per_peer.enter(peer_name(&met.peer));
        let mut met = Met { crowded: _place.is_none(), ..met };
        metrics::tunnels_accepted(1.0);
        let made_under = Generations { credential: met.credential_generation, trust: met.peer.generation };
        let born = Instant::now();
        // A tunnel too many is kept to say so and no longer, or its peer would hold the places of all others by it.
        let mut patience = if met.crowded { CROWDED_IDLE } else { Duration::MAX };
        loop {
            let idle = self.rules.load().idle;
            let limits = IdleLimits { idle: idle.idle.min(patience), ..idle };
            match next_open(&mut met.tunnel, &limits, born, made_under, &self.identity, &self.draining).await {
                IdleEnd::Open(opening) => match self.stream(met, opening).await {
                    Some(back) => {
                        met = back;
                        if met.crowded {
                            patience = Duration::ZERO;
                        }
                    }
                    None => break,
                },
                IdleEnd::Over => {
                    Box::pin(close(met.tunnel)).await;
                    break;
                }
                IdleEnd::Reset => {
                    met.tunnel.channel.reset();
                    break;
                }
                IdleEnd::Broken(rule) => {
                    warn!(%from, peer = %met.peer, "the peer broke the protocol: {rule}; closing its tunnel");
                    metrics::rule_broken(&rule);
                    metrics::violation("acceptor");
                    met.tunnel.channel.reset();
                    break;
                }
            }
        }
        metrics::tunnels_accepted(-1.0);
    }

    /// Shakes hands within the limits; every failure is counted and logged with its cause.
    async fn meet(&self, socket: TcpStream, from: SocketAddr) -> Option<Met> {
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

    /// One stream. Returns the tunnel if another may follow on it.
    async fn stream(&self, met: Met, opening: Result<Preamble, Refusal>) -> Option<Met> {
        let preamble = match opening {
            Ok(preamble) => preamble,
            Err(refusal) => {
                warn!(from = %met.from, peer = %met.peer, "OPEN: {refusal}");
                return Box::pin(self.refuse(met, refusal)).await;
            }
        };
        let id = preamble.id.unwrap_or_else(new_id);
        let from = origin(&met, &preamble);
        let stream = self.streams.register(Direction::Inbound, id, preamble.destination.clone(), from);
        stream.meets(met.peer.to_string());
        metrics::stream_opened(Direction::Inbound);
        let rules = self.rules.load_full();
        let (ending, met) = match self.judge(&rules, &met, &preamble) {
            Ok((admitted, _slot)) if preamble.probe => Box::pin(self.answer_probe(&rules, met, &admitted)).await,
            Ok((admitted, _slot)) => {
                self.rights.rest(&stream, right(&met, None), rules.law);
                self.carry(&rules, met, &preamble, admitted, &stream).await
            }
            Err(refusal) => self.turn_away(met, refusal).await,
        };
        record::ended(&stream, &ending);
        met
    }

    /// Everything that can be said without looking anything up, policy first (PROTOCOL.md section 4). What is malformed or
    /// a loop was refused when OPEN was read.
    fn judge(&self, rules: &Rules, met: &Met, preamble: &Preamble) -> Result<(Admitted, Slot), Refusal> {
        self.identity
            .snapshot()
            .recheck(&met.peer, Role::Dialer, SystemTime::now())
            .map_err(|revoked| Refusal::new(Code::Denied, revoked.reason))?;
        let admitted = match rules.policy.judge(&preamble.destination, &met.peer.identities, met.shown.as_deref()) {
            Verdict::Admitted(admitted) => admitted,
            Verdict::Refused(refusal) => return Err(refusal),
        };
        if self.draining.is_cancelled() {
            return Err(Refusal::new(Code::Draining, "the agent is draining"));
        }
        if met.crowded {
            return Err(overloaded("tunnels_per_peer", "this peer has too many tunnels"));
        }
        let slot = self.slots.try_take().ok_or_else(|| overloaded("streams", "the agent has too many streams"))?;
        Ok((admitted, slot))
    }

    async fn carry(
        &self,
        rules: &Rules,
        mut met: Met,
        preamble: &Preamble,
        admitted: Admitted,
        stream: &Registered,
    ) -> (Ending, Option<Met>) {
        let mut beginning = Beginning::default();
        let hop = Hop { id: stream.id, hops: preamble.hops };
        let connected = tokio::select! {
            connected = rules.services.connect(&admitted, hop, &rules.options) => connected,
            ending = watch_early(&mut met.tunnel, &mut beginning, rules.limits.frame) => {
                return give_up(met, ending).await;
            }
            ending = stream.stopped() => return give_up(met, ending).await,
        };
        let Connected { service, to, _slot, _lease, _own } = match connected {
            Ok(connected) => connected,
            Err(refusal) => return self.turn_away(met, refusal).await,
        };
        stream.reaches(to.to_string());
        self.rights.rest(stream, right(&met, Some(to)), rules.law);
        if let Some(ending) = stream.ending() {
            return give_up(met, ending).await;
        }
        // ACCEPT is with TLS before the service gets its first byte (PROTOCOL.md section 4, "Retry").
        if met.tunnel.send_accept(&Answer::default()).is_err() {
            let ending = truncated(met.tunnel.channel.end());
            Box::pin(abort(met.tunnel, &ending)).await;
            return (ending, None);
        }
        metrics::stream_open_took(Direction::Inbound, stream.since.elapsed());
        // The relay reads again once what came early is written.
        met.tunnel.pause();
        let stop = async {
            tokio::select! {
                ending = stream.stopped() => ending,
                ending = withdrawn(&self.identity, &met.peer, Role::Dialer) => ending,
            }
        };
        match relay(service, met.tunnel, beginning, stream, &rules.limits, stop).await {
            Ok(tunnel) => (Ending::closed(), Some(Met { tunnel, ..met })),
            Err(ending) => {
                relay::count(&ending, "acceptor");
                (ending, None)
            }
        }
    }

    /// A probe: what it would connect to and why it may, then FIN and DONE once the dialer's FIN is there.
    async fn answer_probe(&self, rules: &Rules, mut met: Met, admitted: &Admitted) -> (Ending, Option<Met>) {
        let bound = match rules.services.locate(admitted).await {
            Ok(bound) => bound,
            Err(refusal) => return self.turn_away(met, refusal).await,
        };
        let answer = Answer { bound: Some(bound), rule: Some(admitted.rule()) };
        let said = met.tunnel.send_accept(&answer).is_ok() && met.tunnel.send(Kind::Fin).is_ok();
        let limit = rules.limits.frame;
        let ending = match tokio::time::timeout(limit, await_fin(&mut met.tunnel, limit)).await {
            Ok(Ok(())) if said && met.tunnel.send(Kind::Done).is_ok() => return (Ending::closed(), Some(met)),
            Ok(Ok(())) => truncated(met.tunnel.channel.end()),
            Ok(Err(ending)) => ending,
            Err(_) => Ending::new(End::Stalled, Side::Peer, format!("the probe's FIN did not come within {limit:?}")),
        };
        relay::count(&ending, "acceptor");
        Box::pin(abort(met.tunnel, &ending)).await;
        (ending, None)
    }

    async fn turn_away(&self, met: Met, refusal: Refusal) -> (Ending, Option<Met>) {
        let ending = Ending::new(End::Refused(refusal.code), Side::Agent, refusal.to_string());
        (ending, Box::pin(self.refuse(met, refusal)).await)
    }

    /// Says REFUSE, and discards until the dialer's FIN makes the tunnel idle (PROTOCOL.md section 4).
    async fn refuse(&self, mut met: Met, refusal: Refusal) -> Option<Met> {
        metrics::refused(Direction::Inbound, refusal.code.label());
        if met.tunnel.send_refusal(&refusal).is_err() {
            return None;
        }
        match tokio::time::timeout(REFUSED_READS, await_idle(&mut met.tunnel, self.rules.load().limits.frame)).await {
            Ok(Ok(())) => return Some(met),
            Ok(Err(ending)) if matches!(ending.end, End::Truncated) => close(met.tunnel).await,
            Ok(Err(ending)) => {
                if ending.end == End::Protocol {
                    warn!(from = %met.from, peer = %met.peer, "{}; closing its tunnel", ending.detail);
                }
                relay::count(&ending, "acceptor");
                met.tunnel.channel.reset();
            }
            Err(_) => close(met.tunnel).await,
        }
        None
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

/// What this peer's right to a stream rests on; `at` is where its service was reached.
fn right(met: &Met, at: Option<Address>) -> Right {
    Right::Inbound { peer: met.peer.identities.clone(), shown: met.shown.clone(), at }
}

/// Aborts a stream that was not accepted yet.
async fn give_up(met: Met, ending: Ending) -> (Ending, Option<Met>) {
    relay::count(&ending, "acceptor");
    Box::pin(abort(met.tunnel, &ending)).await;
    (ending, None)
}

/// Reads on while the service is being connected: keeps what comes (the eager bound holds it to 64 KiB), and returns when
/// the stream is aborted.
async fn watch_early(tunnel: &mut Tunnel, beginning: &mut Beginning, frame: Duration) -> Ending {
    loop {
        match next_arrival(tunnel, frame).await {
            Ok(Arrival::Payload) => {
                beginning.early.put(tunnel.payload());
                tunnel.take_payload(tunnel.payload().len());
            }
            Ok(Arrival::Fin) => beginning.fin_received = true,
            Ok(Arrival::Reset(code)) => return given_up("the service was connected", code),
            Ok(_) => {}
            Err(ending) => return ending,
        }
    }
}

/// Discards until the refused stream is over.
async fn await_idle(tunnel: &mut Tunnel, frame: Duration) -> Result<(), Ending> {
    while phase(tunnel) != Phase::Idle {
        if let Arrival::Reset(code) = next_arrival(tunnel, frame).await? {
            return Err(given_up("it heard its refusal", code));
        }
        tunnel.take_payload(tunnel.payload().len());
    }
    Ok(())
}

async fn await_fin(tunnel: &mut Tunnel, frame: Duration) -> Result<(), Ending> {
    while !matches!(tunnel.role(), End_::Acceptor(acceptor) if acceptor.fin_received()) {
        if let Arrival::Reset(code) = next_arrival(tunnel, frame).await? {
            return Err(given_up("the probe was over", code));
        }
    }
    Ok(())
}

/// The dialer's RESET before there was anything to relay.
fn given_up(before: &str, code: ResetCode) -> Ending {
    Ending::new(code.into(), Side::Peer, format!("the dialer gave up before {before} ({})", code.label()))
}

fn phase(tunnel: &Tunnel) -> Phase {
    match tunnel.role() {
        End_::Acceptor(acceptor) => acceptor.phase(),
        End_::Dialer(dialer) => dialer.phase(),
    }
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

fn peer_name(peer: &Peer) -> String {
    peer.identities.first().map_or_else(|| peer.to_string(), ToString::to_string)
}

/// Where a stream comes from: the dialing agent's address, and what it says of the application.
fn origin(met: &Met, preamble: &Preamble) -> String {
    match preamble.source {
        Some(source) => format!("{} for {source}", met.from),
        None => met.from.to_string(),
    }
}

fn overloaded(limit: &'static str, reason: &str) -> Refusal {
    metrics::limit_reached(limit);
    Refusal::new(Code::Overloaded, reason)
}
