//! The life of one outbound connection: accepted from an application, named by its listener, routed, put on a tunnel to
//! another agent who proved to be the one expected, relayed, and recorded.
//!
//! If no stream opens, the application's socket is reset, never closed cleanly: it must see a refusal, not an empty
//! success. Nothing here falls back to plaintext.

mod probe;
mod tries;
mod warm;

pub use probe::Step;

use std::{io, sync::Arc, time::Duration};

use adit_config::peers::{OnLeave, Settings};
use adit_protocol::{Code, Name, Preamble, RefusalCode};
use tokio::{sync::Semaphore, time::Instant};
use tracing::{debug, warn};

use tries::{On, Tries};

use crate::{
    addr::Address,
    balance::Lease,
    end::{End, Ending, Side},
    identity::Store,
    listen::Accepted,
    relay::{self, Beginning, Limits, abort, relay},
    router::{RouteError, Router, Way, over_unix},
    streams::{Came, Direction, Hop, Right, Stream, Streams, new_id},
    telemetry::{metrics, record},
    tunnel::{
        attempt::{Eager, Patience, attempt},
        dial::{DialError, Dialed, Key, Ours, dial},
        pool::{Keep, Pool},
        retry::{Failure, Was},
    },
    wire::plain::{Plain, SocketOptions, destinations},
    withdraw::{Rights, withdrawn},
};

/// The outbound side of the agent, as one configuration has it: a reload puts another in its place, and the streams that
/// have begun keep this one.
#[derive(Debug)]
pub struct Outbound {
    /// From a name to the endpoints that serve it, and to who must answer there.
    pub router: Arc<Router>,
    /// The number of the law that its rules came with.
    pub law: u64,
    /// What live streams are judged by when it changes.
    pub rights: Arc<Rights>,
    /// Our credentials, and whom we trust.
    pub identity: Arc<Store>,
    /// Idle tunnels.
    pub pool: Arc<Pool>,
    /// All live streams.
    pub streams: Arc<Streams>,
    /// What all copies of eager bytes may take, in bytes.
    pub copies: Arc<Semaphore>,
    /// The limits on opening, where the rules for a name set no other.
    pub opening: OpenLimits,
    /// The limits on a stream that is open, where the rules for its name set no other.
    pub limits: Limits,
    /// The options of every TCP socket.
    pub options: SocketOptions,
}

/// The limits on opening a stream.
#[derive(Clone, Copy, Debug)]
pub struct OpenLimits {
    /// In all: look-up and every attempt.
    pub all: Duration,
    /// Connecting and shaking hands, each time.
    pub handshake: Duration,
    /// From OPEN to its answer, each time.
    pub answer: Duration,
}

impl OpenLimits {
    /// The same where `settings` hold.
    fn under(self, settings: &Settings) -> Self {
        Self { handshake: settings.connect_timeout.unwrap_or(self.handshake), ..self }
    }

    /// How long one attempt may dial where `left` is left in all. While there are `others` to try it may take half of that:
    /// hosts that are silent must not take all the time of a stream for which a good one lives.
    fn dialing(&self, left: Duration, others: bool) -> Duration {
        self.handshake.min(if others { left / 2 } else { left })
    }

    /// The limit that ended an attempt, if one did: the one in all when the attempt had less than its own.
    fn reached(&self, failure: &Failure) -> Option<&'static str> {
        let (limit, own, name) = match failure {
            Failure::Silent { limit, .. } => (limit, self.answer, "answer"),
            Failure::Dial(DialError::ConnectTimeout(limit) | DialError::HandshakeTimeout(limit)) => {
                (limit, self.handshake, "handshake")
            }
            _ => return None,
        };
        Some(if *limit < own { "open" } else { name })
    }
}

/// What a listener asks for on behalf of its connections.
#[derive(Clone, Debug)]
pub struct Asks {
    /// The logical name.
    pub to: Name,
    /// The id of the certificate to show; `None` is the default one.
    pub certificate: Option<String>,
}

/// A stream that is to be opened.
struct Wanted<'a> {
    app: &'a Plain,
    preamble: Preamble,
    asks: &'a Asks,
    stream: &'a Stream,
    /// The limit on opening it in all.
    deadline: Instant,
}

impl Wanted<'_> {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// A stream that is open: its tunnel, the lease on its endpoint, and the way it took there.
struct Opened {
    dialed: Dialed,
    lease: Lease,
    way: Arc<Way>,
    beginning: Beginning,
}

impl Outbound {
    /// Carries one connection from its first to its last moment.
    pub async fn carry(&self, accepted: Accepted, asks: &Asks) {
        let Some((app, preamble)) = self.meet(accepted, &asks.to) else { return };
        let id = preamble.id.unwrap_or_else(new_id);
        let from = preamble.source.map_or_else(|| "unix".to_owned(), |source| source.to_string());
        let came = Came { from, source: preamble.source, ..Came::default() };
        let stream = self.streams.register(Direction::Outbound, id, asks.to.clone(), came);
        metrics::stream_opened(Direction::Outbound);
        let deadline = Instant::now() + self.opening.all;
        let wanted = Wanted { app: &app, preamble, asks, stream: &stream, deadline };
        // In a box of its own, which is gone once it is done: what a task awaits in place, it has room for to its end.
        let opened = tokio::select! {
            opened = Box::pin(self.open(wanted)) => opened,
            ending = stream.stopped() => Err(ending),
        };
        let ending = match opened {
            Ok(opened) => self.relay(app, opened, &stream).await,
            Err(ending) => {
                app.abort();
                ending
            }
        };
        record::ended(&stream, &ending);
    }

    /// Takes the application's socket over, and writes the preamble that its stream will have.
    fn meet(&self, accepted: Accepted, to: &Name) -> Option<(Plain, Preamble)> {
        let mut preamble = Preamble::to(to.clone());
        let mut hop = None;
        let app = match accepted {
            Accepted::Unix(socket) => Plain::Unix(socket),
            Accepted::Tcp(socket, source) => {
                preamble.source = Some(source);
                let continued = self.streams.continued_by(source, || destinations(&socket));
                let met = Plain::tcp(socket, &self.options);
                let app = met
                    .inspect_err(
                        |error| warn!(%source, "a socket option was refused: {error}; the connection is reset"),
                    )
                    .ok()?;
                let Ok(continued) = continued else {
                    warn!("a name leads to the listener for {to} of this agent itself, where no tunnel can be");
                    app.abort();
                    return None;
                };
                hop = continued;
                app
            }
        };
        let Hop { id, hops } = hop.unwrap_or_else(|| Hop { id: new_id(), hops: 0 });
        preamble.id = Some(id);
        preamble.hops = hops.saturating_add(1);
        Some((app, preamble))
    }

    async fn open(&self, wanted: Wanted<'_>) -> Result<Opened, Ending> {
        let mut eager = Eager::new(&self.copies);
        match eager.read(wanted.app) {
            // Said once: whoever reads on would see an end, and the service an empty stream instead of none.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                return Err(Ending::new(End::Reset, Side::Local, format!("the application went away: {error}")));
            }
            Ok(_) | Err(_) => {}
        }
        let mut tries = Tries::default();
        while !tries.is_over() {
            let way = match self.route(&tries.spent, &wanted.asks.to, wanted.deadline).await {
                Ok(way) => way,
                // What happened at an endpoint says more than that there is no other.
                Err(ending) => return Err(if tries.made == 0 { ending } else { tries.ending(&wanted.asks.to) }),
            };
            if let Some(opened) = self.open_by(&way, &wanted, &mut tries, &mut eager).await? {
                return Ok(opened);
            }
            if wanted.left().is_zero() {
                break;
            }
            tries.spent.push(way);
        }
        Err(tries.ending(&wanted.asks.to))
    }

    /// Tries the endpoints of one way, until one opens, none is left, or the time is over.
    async fn open_by(
        &self,
        way: &Arc<Way>,
        wanted: &Wanted<'_>,
        tries: &mut Tries,
        eager: &mut Eager,
    ) -> Result<Option<Opened>, Ending> {
        while let Some((lease, on)) = tries.next(way.balancer()) {
            let began = Instant::now();
            wanted.stream.tries(format!("{} ({})", lease.address(), lease.bound()));
            let others = way.balancer().count() > tries.avoid.len() + 1;
            match self.try_at(wanted, way, (&lease, on, others), eager).await? {
                Ok(dialed) => {
                    lease.opened(began.elapsed());
                    metrics::stream_open_took(Direction::Outbound, wanted.stream.since.elapsed());
                    wanted.stream.sent.fetch_add(eager.len() as u64, std::sync::atomic::Ordering::Relaxed);
                    let beginning = Beginning { fin_sent: eager.fin(), ..Beginning::default() };
                    return Ok(Some(Opened { dialed, lease, way: Arc::clone(way), beginning }));
                }
                Err((failure, was)) => tries.failed(lease, failure, was),
            }
            if wanted.left().is_zero() {
                break;
            }
        }
        Ok(None)
    }

    async fn route(&self, spent: &[Arc<Way>], name: &Name, deadline: Instant) -> Result<Arc<Way>, Ending> {
        match tokio::time::timeout_at(deadline, self.router.route_past(spent, name)).await {
            Ok(Ok(way)) => Ok(way),
            Ok(Err(error)) => Err(unrouted(name, &error)),
            Err(_) => {
                metrics::limit_reached("open");
                let detail = format!("look-up of {name}: no answer within {:?}", self.opening.all);
                Err(Ending::new(End::Unreachable, Side::Agent, detail))
            }
        }
    }

    /// One attempt, at one endpoint. The outer error is final and this host's own; the inner one may be tried elsewhere.
    async fn try_at(
        &self,
        wanted: &Wanted<'_>,
        way: &Way,
        (lease, on, others): (&Lease, On, bool),
        eager: &mut Eager,
    ) -> Result<Result<Dialed, (Failure, Was)>, Ending> {
        let (key, destination) = self.expect(way, lease, wanted.asks)?;
        let right = Right::Outbound { bound: lease.bound().clone(), verify: key.verify.clone() };
        self.rights.rest(wanted.stream, right, self.law);
        let opening = self.opening.under(way.settings());
        let preamble = Preamble { destination, ..wanted.preamble.clone() };
        let mut dialed = match self.tunnel(&key, on, opening.dialing(wanted.left(), others)).await {
            Ok(dialed) => dialed,
            Err(failure) => return Ok(Err((self.blame(lease, &key, failure, &opening), on.was(false)))),
        };
        wanted.stream.meets(dialed.peer.to_string());
        let recycled = dialed.recycled;
        metrics::tunnel_used(recycled);
        match attempt(&mut dialed, &preamble, Some(wanted.app), eager, self.patience(wanted.left())).await {
            Ok(_) => Ok(Ok(dialed)),
            Err(failure) => {
                self.give_back(dialed, way, &failure).await;
                Ok(Err((self.blame(lease, &key, failure, &opening), on.was(recycled))))
            }
        }
    }

    /// Who must answer at this endpoint, under which name, and what the pool calls such a tunnel.
    ///
    /// # Errors
    /// The rule of this host that is missing, or that the endpoint does not fit.
    pub fn expect(&self, way: &Way, lease: &Lease, asks: &Asks) -> Result<(Key, Name), Ending> {
        let denied = |detail: String| Ending::new(End::Refused(RefusalCode::Known(Code::Denied)), Side::Agent, detail);
        let expectation = way.expectation().map_err(|error| denied(error.to_string()))?;
        let Address::Tcp(address) = lease.address() else {
            return Err(denied(over_unix(lease.bound())));
        };
        let key = Key {
            address: *address,
            verify: expectation.verify.clone(),
            sni: expectation.sni.clone(),
            credential: asks.certificate.clone(),
            generation: self.identity.snapshot().generation,
        };
        Ok((key, expectation.name.clone()))
    }

    async fn tunnel(&self, key: &Key, on: On, limit: Duration) -> Result<Dialed, Failure> {
        let pooled = if on == On::Any { self.pool.take(key) } else { None };
        match pooled {
            Some(dialed) => Ok(dialed),
            None => dial(key, &self.identity.snapshot(), self.ours(), limit).await.map_err(Failure::Dial),
        }
    }

    fn ours(&self) -> Ours<'_> {
        Ours { options: &self.options, streams: &self.streams }
    }

    /// How long an acceptor is waited for where `left` is left in all.
    fn patience(&self, left: Duration) -> Patience {
        Patience { answer: self.opening.answer.min(left), frame: self.limits.frame }
    }

    fn blame(&self, lease: &Lease, key: &Key, failure: Failure, opening: &OpenLimits) -> Failure {
        if let Some(limit) = opening.reached(&failure) {
            metrics::limit_reached(limit);
        }
        if failure.empties_pool() {
            self.pool.empty(key);
        }
        if failure.blames_endpoint() {
            lease.failed(&failure.to_string());
        }
        debug!(endpoint = %lease.address(), "attempt failed: {failure}");
        failure
    }

    /// What becomes of a tunnel on which no stream was opened.
    async fn give_back(&self, dialed: Dialed, way: &Way, failure: &Failure) {
        match failure {
            Failure::Refused(_) => self.pool.put(dialed, keep(way.settings())),
            Failure::Silent { .. } => abort(dialed.tunnel, &Ending::new(End::Stalled, Side::Peer, "")).await,
            Failure::Application(_) | Failure::Lost { .. } | Failure::Dial(_) => {
                abort(dialed.tunnel, &Ending::new(End::Reset, Side::Local, "")).await;
            }
            Failure::Protocol(_) => {
                metrics::violation("dialer");
                abort(dialed.tunnel, &Ending::new(End::Protocol, Side::Peer, "")).await;
            }
        }
    }

    async fn relay(&self, app: Plain, opened: Opened, stream: &Stream) -> Ending {
        let Opened { dialed, lease, way, beginning } = opened;
        let Dialed { tunnel, key, peer, born, recycled, took } = dialed;
        let stop = async {
            tokio::select! {
                ending = stream.stopped() => ending,
                ending = withdrawn(&self.identity, &peer, key.role()) => ending,
                () = lease.left() => left_behind(&lease),
            }
        };
        let settings = way.settings();
        let limits = Limits { idle: settings.idle.unwrap_or(self.limits.idle), ..self.limits };
        match relay(app, tunnel, beginning, stream, &limits, stop).await {
            Ok(tunnel) => {
                let dialed = Dialed { tunnel, key, peer: Arc::clone(&peer), born, recycled, took };
                self.pool.put(dialed, keep(settings));
                Ending::closed()
            }
            Err(ending) => {
                relay::count(&ending, "dialer");
                ending
            }
        }
    }
}

/// How the pool keeps a tunnel where `settings` hold.
fn keep(settings: &Settings) -> Keep {
    Keep { idle: settings.tunnel_idle, of_key: settings.pool }
}

/// The ending of a stream whose endpoint left the answer and did not come back.
fn left_behind(lease: &Lease) -> Ending {
    let after = match lease.on_leave() {
        OnLeave::Keep => Duration::ZERO,
        OnLeave::After(after) => after,
    };
    let (bound, address) = (lease.bound(), lease.address());
    let after = if after.is_zero() { "then".to_owned() } else { format!("{after:?} after that") };
    let detail = format!("{bound}: {address} left the answer; `on_leave` ends its streams from {after} on");
    Ending::new(End::Drained, Side::Agent, detail)
}

/// A name that leads nowhere: refused by a rule of this host's table, or its namer failed.
fn unrouted(name: &Name, error: &RouteError) -> Ending {
    let end = match error {
        RouteError::Forbidden { .. } => End::Refused(RefusalCode::Known(Code::Denied)),
        RouteError::NoSuchName { .. } | RouteError::Empty { .. } => End::Refused(RefusalCode::Known(Code::Unknown)),
        _ => End::Unreachable,
    };
    Ending::new(end, Side::Agent, format!("look-up of {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_hosts_leave_time_for_one_that_lives() {
        let seconds = Duration::from_secs;
        let limits = OpenLimits { all: seconds(15), handshake: seconds(10), answer: seconds(10) };
        let mut left = limits.all;
        for _ in 0..3 {
            left -= limits.dialing(left, true);
        }
        assert!(left > seconds(1), "{left:?}");
        assert_eq!(limits.dialing(limits.all, false), seconds(10), "there is no other");
        assert_eq!(limits.dialing(seconds(3), false), seconds(3));
        assert_eq!(OpenLimits { handshake: seconds(2), ..limits }.dialing(limits.all, true), seconds(2));
    }
}
