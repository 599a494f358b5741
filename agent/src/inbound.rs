//! The life of one tunnel from another agent: the handshake proves who it is; each OPEN is judged, routed, connected to
//! its service, relayed, and recorded, one stream after another, until the tunnel is retired or its dialer leaves.
//!
//! A service is reached only with an `Admitted`, which only the policy's judge makes; nothing is looked up for a name
//! that it does not admit.

mod idle;
mod meet;
mod proxy;
mod service;
mod source;

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
use tracing::warn;

use idle::{Generations, IdleEnd, next_open};
use meet::Met;
use proxy::Told;
use service::{Caller, Connected};

use crate::{
    addr::Address,
    crowd::Crowd,
    end::{End, Ending, Side},
    identity::{Peer, Role, Store},
    relay::{self, Beginning, Limits, abort, relay, truncated},
    slots::{Slot, Slots},
    streams::{Came, Direction, Registered, Right, Streams, new_id},
    telemetry::{metrics, record},
    tunnel::{arrive::next_arrival, close::close},
    wire::{
        plain::SocketOptions,
        tunnel::{Arrival, Role as End_, Tunnel},
    },
    withdraw::{Rights, withdrawn},
};

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
    /// Tunnels are retired. A stream that was asked for before its dialer knew still begins, unless the agent drains.
    pub leaving: CancellationToken,
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
            match next_open(&mut met.tunnel, &limits, born, made_under, &self.identity, &self.leaving).await {
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
        let came = came(&met, &preamble);
        let stream = self.streams.register(Direction::Inbound, id, preamble.destination.clone(), came);
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
        let client = rules.services.client(&admitted, preamble.source, met.from);
        let caller = Caller { stream, hops: preamble.hops, client };
        let connected = tokio::select! {
            connected = rules.services.connect(&admitted, caller, &rules.options) => connected,
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
        let header = header(&met, &admitted, &caller, preamble, &to);
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
        if let Some(header) = header
            && let Err(ending) = source::introduce(&service, &header).await
        {
            return give_up(met, ending).await;
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

/// What this peer's right to a stream rests on; `at` is where its service was reached.
fn right(met: &Met, at: Option<Address>) -> Right {
    Right::Inbound { peer: met.peer.identities.clone(), shown: met.shown.clone(), at }
}

/// What the service reads first, where it shall read whose connection it has.
fn header(met: &Met, admitted: &Admitted, caller: &Caller<'_>, preamble: &Preamble, to: &Address) -> Option<Vec<u8>> {
    let reached = match to {
        Address::Tcp(to) if admitted.must_be_own() => *to,
        // Where the client had connected to is nothing here; this host was reached where the tunnel came in. A connected
        // socket has an address, but whatever happens: without a header the client could write one itself.
        Address::Tcp(_) | Address::Unix(_) => {
            met.tunnel.channel.socket().local_addr().unwrap_or_else(|_| ([0; 4], 0).into())
        }
    };
    let told = Told {
        client: caller.client,
        reached,
        stream: caller.stream.id,
        name: &preamble.destination,
        identities: &met.peer.identities,
        workload: preamble.workload.as_deref(),
    };
    source::header(admitted.source(), &told)
}

/// Aborts a stream that the service has got nothing of.
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

fn peer_name(peer: &Peer) -> String {
    peer.identities.first().map_or_else(|| peer.to_string(), ToString::to_string)
}

/// Where a stream comes from: the dialing agent's address, and what it says of the application.
fn came(met: &Met, preamble: &Preamble) -> Came {
    let from = match preamble.source {
        Some(source) => format!("{} for {source}", met.from),
        None => met.from.to_string(),
    };
    let (source, original) = (preamble.source, preamble.original);
    Came { from, source, agent: Some(met.from), original, workload: preamble.workload.clone(), process: None }
}

fn overloaded(limit: &'static str, reason: &str) -> Refusal {
    metrics::limit_reached(limit);
    Refusal::new(Code::Overloaded, reason)
}
