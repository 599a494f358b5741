//! The life of one outbound connection: accepted from an application, named by its listener, routed, put on a tunnel to
//! another agent who proved to be the one expected, relayed, and recorded.
//!
//! One that was captured has no listener that names it: its name is found by where it was meant to go.
//!
//! If no stream opens, the application's socket is reset, never closed cleanly: it must see a refusal, not an empty
//! success. Nothing here falls back to plaintext, but for a captured connection that no rule knows where the file says
//! `unmatched = "pass"`.

pub mod capture;
mod limits;
mod pass;
mod probe;
mod tries;
mod warm;
mod whose;

pub use limits::OpenLimits;
pub use probe::Step;
pub use whose::Whose;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use adit_config::peers::{OnLeave, Settings};
use adit_protocol::{Code, Name, Preamble, RefusalCode};
use tokio::{sync::Semaphore, time::Instant};
use tracing::{debug, warn};

use capture::{Capture, Found, HostStatus};
use tries::{On, Tries};

use crate::{
    addr::Address,
    balance::Lease,
    end::{End, Ending, Side},
    flight::{By, What},
    identity::Store,
    listen::Accepted,
    relay::{self, Beginning, Limits, abort, relay},
    router::{RouteError, Router, Way, over_unix},
    streams::{Came, Direction, Hop, Registered, Right, Stream, Streams, new_id},
    telemetry::{metrics, record},
    tunnel::{
        attempt::{Eager, Patience, attempt},
        dial::{Dialed, Key, Ours, dial},
        pool::{Keep, Pool},
        retry::{Blames, Failure, Was},
    },
    wire::plain::{Plain, SocketOptions, destinations},
    withdraw::{Rights, withdrawn},
    workload::shown,
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
    /// What captured connections ask for, where the file has a door for them.
    pub capture: Option<Capture>,
    /// Which local process a connection is of, and what holds for it.
    pub whose: Whose,
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

/// What is asked for on behalf of a connection, by its listener or, of a captured one, by the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asks {
    /// The logical name.
    pub to: Name,
    /// The id of the certificate to show; `None` is the default one.
    pub certificate: Option<String>,
    /// Where the application had connected to, if its connection was captured.
    pub original: Option<SocketAddr>,
    /// What says so.
    pub by: By,
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
        self.carry_until(accepted, asks, Instant::now() + self.opening.all).await;
    }

    /// The same for a connection that was captured and came in at `door`.
    pub async fn carry_captured(&self, accepted: Accepted, door: SocketAddr) {
        let deadline = Instant::now() + self.opening.all;
        let (Some(capture), Accepted::Tcp(socket, source)) = (&self.capture, &accepted) else {
            // The door is about to close, and takes TCP only.
            return;
        };
        let original = match capture.destination(socket, door) {
            Ok(original) => original,
            Err(not) => {
                metrics::not_captured(not.label());
                return warn!(%source, %door, "a connection was refused: {not}");
            }
        };
        match capture.find(original, &self.router.dtab(), deadline).await {
            Found::Carry(asks) => self.carry_until(accepted, &asks, deadline).await,
            Found::Pass(to) => self.pass(accepted, &unmatched(to, original)).await,
            Found::Refuse(to, ending) => {
                let asks = unmatched(to, original);
                let Some((app, stream, _)) = self.begin(accepted, &asks, Direction::Outbound).await else { return };
                refuse(app, &stream, &ending);
            }
        }
    }

    /// What is known of the host names that capture rules are about.
    pub fn captured_hosts(&self) -> Vec<HostStatus> {
        self.capture.as_ref().map_or_else(Vec::new, |capture| capture.hosts.status())
    }

    async fn carry_until(&self, accepted: Accepted, asks: &Asks, deadline: Instant) {
        let Some((app, stream, preamble)) = self.begin(accepted, asks, Direction::Outbound).await else { return };
        let asks = match self.whose.judge(asks, stream.came.process.as_ref()) {
            Ok(asks) => asks,
            Err(ending) => return refuse(app, &stream, &ending),
        };
        let wanted = Wanted { app: &app, preamble, asks: &asks, stream: &stream, deadline };
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

    /// Takes the application's socket over, finds out whose it is, and enters its stream.
    async fn begin(
        &self,
        accepted: Accepted,
        asks: &Asks,
        direction: Direction,
    ) -> Option<(Plain, Registered, Preamble)> {
        let accepted_at = Some(std::time::Instant::now());
        let (app, mut preamble) = self.meet(accepted, asks)?;
        let process = Box::pin(self.whose.find(&app, &preamble)).await;
        preamble.workload = process.as_ref().map(shown);
        let id = preamble.id.unwrap_or_else(new_id);
        let from = preamble.source.map_or_else(|| "unix".to_owned(), |source| source.to_string());
        let workload = preamble.workload.clone();
        let (source, original) = (preamble.source, asks.original);
        let came = Came { from, source, agent: None, accepted: accepted_at, original, workload, process };
        let stream = self.streams.register(direction, id, asks.to.clone(), came);
        stream.flight.note(What::Named(asks.by.clone()));
        metrics::stream_opened(direction);
        Some((app, stream, preamble))
    }

    /// Takes the application's socket over, and writes the preamble that its stream will have.
    fn meet(&self, accepted: Accepted, asks: &Asks) -> Option<(Plain, Preamble)> {
        let to = &asks.to;
        let mut preamble = Preamble { original: asks.original, ..Preamble::to(to.clone()) };
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
            wanted.stream.flight.note(What::Routed(way.bound().clone(), self.router.answer_age(way.bound())));
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
        while let Some((lease, on)) = tries.next(|avoid| way.pick(avoid)) {
            let began = Instant::now();
            wanted.stream.tries(format!("{} ({})", lease.address(), lease.bound()));
            wanted.stream.flight.note(What::Chosen(lease.address().clone(), lease.pick()));
            let others = way.balancer().count() > tries.avoid.len() + 1;
            match self.try_at(wanted, way, (&lease, on, others), eager).await? {
                Ok(dialed) => {
                    lease.opened(began.elapsed());
                    way.serves(&lease);
                    metrics::stream_open_took(Direction::Outbound, wanted.stream.since.elapsed());
                    wanted.stream.flight.note(What::Opened);
                    wanted.stream.sends(eager.len());
                    let beginning = Beginning { fin_sent: eager.fin(), ..Beginning::default() };
                    return Ok(Some(Opened { dialed, lease, way: Arc::clone(way), beginning }));
                }
                Err((failure, was)) => {
                    wanted.stream.flight.failed(&failure.to_string());
                    tries.failed(lease, failure, was);
                }
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
            Err(failure) => return Ok(Err((self.blame(way, lease, &key, failure), on.was(false)))),
        };
        wanted.stream.meets(dialed.peer.to_string());
        let recycled = dialed.recycled;
        wanted.stream.flight.note(how(&dialed));
        metrics::tunnel_used(recycled);
        match attempt(&mut dialed, &preamble, Some(wanted.app), eager, self.patience(wanted.left())).await {
            Ok(_) => Ok(Ok(dialed)),
            Err(failure) => {
                self.give_back(dialed, way, &failure).await;
                Ok(Err((self.blame(way, lease, &key, failure), on.was(recycled))))
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

    fn blame(&self, way: &Way, lease: &Lease, key: &Key, failure: Failure) -> Failure {
        let opening = self.opening.under(way.settings());
        if let Some(limit) = opening.reached(&failure) {
            metrics::limit_reached(limit);
        }
        if opening.is_telling(&failure) {
            self.pass_judgement(way, lease, key, &failure);
        }
        debug!(endpoint = %lease.address(), "attempt failed: {failure}");
        failure
    }

    fn pass_judgement(&self, way: &Way, lease: &Lease, key: &Key, failure: &Failure) {
        if failure.empties_pool() {
            self.pool.empty(key);
        }
        match failure.blames() {
            Blames::Endpoint => lease.failed(&failure.to_string()),
            Blames::Service => way.refuses(lease, &failure.to_string()),
            Blames::Nobody => {}
        }
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

/// What a captured connection asks for that no rule names.
fn unmatched(to: Name, original: SocketAddr) -> Asks {
    Asks { to, certificate: None, original: Some(original), by: By::Destination }
}

/// Ends a stream for which nothing was opened.
fn refuse(app: Plain, stream: &Stream, ending: &Ending) {
    app.abort();
    record::ended(stream, ending);
}

/// How its tunnel was come by.
fn how(dialed: &Dialed) -> What {
    if dialed.recycled {
        return What::Recycled;
    }
    What::Dialled { connect: dialed.took.connect, handshake: dialed.took.handshake }
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
