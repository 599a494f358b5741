//! The agent as a whole: everything the configuration asks for is opened before READY, or nothing is; then it runs until
//! it is told to drain.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use adit_config::{
    self as config, Capacity, Config, Dns, Fs, Inbound as InboundConfig, Limits, ListenAddr,
    Outbound as OutboundConfig, peers::Peers,
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    admin::{self, View},
    crowd::Crowd,
    end::End,
    identity::{LoadError, Store},
    inbound::{Bounds, IdleLimits, Inbound, Services},
    listen::{Accepted, Bound, Door, ListenError, Slots},
    naming::{Namers, Settings, Zone},
    outbound::{Asks, OpenLimits, Outbound},
    relay,
    router::Router,
    streams::Streams,
    sys,
    telemetry::metrics,
    tunnel::pool::{Pool, PoolLimits},
    wire::plain::SocketOptions,
};

/// How often the TLS files are looked at.
const WATCH_PERIOD: Duration = Duration::from_secs(1);
/// How often it is looked whether a peak is over.
const PEAK_PERIOD: Duration = Duration::from_secs(5);
/// What is no peak, in connections: their memory is not worth a walk through the heap.
const NO_PEAK: usize = 256;
/// How long the last tasks may take once every stream was ended: an abort waits a second, a close five.
const LAST_TASKS: Duration = Duration::from_secs(6);

/// Why the agent did not start: one line.
#[derive(Debug)]
pub enum StartError {
    /// A certificate, key, bundle or list.
    Identity(LoadError),
    /// A door.
    Listen(ListenError),
    /// The ready file.
    Ready(PathBuf, io::Error),
    /// Anything else of the system.
    System(&'static str, io::Error),
}

/// Everything that lives as long as the agent does.
struct App {
    config: Config,
    capacity: Capacity,
    identity: Arc<Store>,
    namers: Arc<Namers>,
    streams: Arc<Streams>,
    pool: Arc<Pool>,
    options: SocketOptions,
    /// Streams at once, of both doors.
    slots: Arc<Semaphore>,
    /// Accepted tunnels at once.
    accepted: Arc<Semaphore>,
    /// Connections and tunnels: what a drain waits for.
    work: TaskTracker,
    /// What serves them: ended after them.
    chores: TaskTracker,
    draining: CancellationToken,
    stop: CancellationToken,
}

/// Runs the agent until it was told to end and has drained. `ready_file` is written once every door is open.
///
/// # Errors
/// What kept it from starting; then no door was ever open for others.
pub async fn run(config: Config, page: PrometheusHandle, ready_file: Option<PathBuf>) -> Result<(), StartError> {
    let mut signals = Signals::new().map_err(|error| StartError::System("waiting for signals", error))?;
    let app = App::new(config)?;
    let mut bound = Vec::new();
    let outbound = app.start_outbound(&mut bound)?;
    let inbound = app.start_inbound(&mut bound)?;
    let admin = app.start_admin(page, outbound, inbound, &mut bound)?;
    app.start_chores();
    if let Some(file) = ready_file {
        write_ready(&file, &bound).map_err(|error| StartError::Ready(file, error))?;
    }
    for door in &bound {
        info!(listener = door.listener, to = door.to, address = door.address, "listening");
    }
    info!("ready");
    signals.end().await;
    app.drain(&mut signals).await;
    admin.stop();
    Ok(())
}

/// The outbound side alone, with no door open: for a look at what a stream would meet. Ending `stop` ends its chores.
///
/// # Errors
/// What keeps it from standing; also a file without an `[outbound]`.
pub fn outbound_alone(config: Config, stop: &CancellationToken) -> Result<Outbound, StartError> {
    let app = App { stop: stop.clone(), ..App::new(config)? };
    let outbound = app.config.outbound.as_ref().ok_or_else(|| {
        let missing = io::Error::new(io::ErrorKind::NotFound, "the file has no [outbound]; nothing can be asked for");
        StartError::System("reading the configuration", missing)
    })?;
    Ok(app.outbound(outbound))
}

impl App {
    fn new(config: Config) -> Result<Self, StartError> {
        let descriptors = sys::limits::raise_descriptors()
            .map_err(|error| StartError::System("reading the descriptor limit", error))?;
        metrics::descriptors(descriptors);
        let capacity = config.limits.resolved(descriptors);
        let identity = Arc::new(Store::load(&config.tls).map_err(StartError::Identity)?);
        let (work, chores) = (TaskTracker::new(), TaskTracker::new());
        let stop = CancellationToken::new();
        let namers = Arc::new(Namers::new(settings(&config.dns, &config.fs), chores.clone(), stop.clone()));
        let pool_limits = PoolLimits {
            idle: config.limits.tunnel_idle_dialer,
            age: config.limits.tunnel_age,
            of_key: capacity.tunnels_per_peer,
            all: capacity.tunnels,
            frame: config.limits.open_frame,
        };
        let streams = Streams::new();
        Ok(Self {
            pool: Pool::new(Arc::clone(&identity), Arc::clone(&streams), pool_limits, work.clone()),
            options: socket_options(&config.limits),
            slots: Arc::new(Semaphore::new(capacity.streams.min(Semaphore::MAX_PERMITS))),
            accepted: Arc::new(Semaphore::new(capacity.tunnels.min(Semaphore::MAX_PERMITS))),
            streams,
            draining: CancellationToken::new(),
            config,
            capacity,
            identity,
            namers,
            work,
            chores,
            stop,
        })
    }

    fn start_outbound(&self, bound: &mut Vec<Bound>) -> Result<Option<Arc<Outbound>>, StartError> {
        let Some(config) = &self.config.outbound else { return Ok(None) };
        let mut doors = Vec::new();
        for listener in &config.listeners {
            let door = open_door(&listener.listen)?;
            bound.push(Bound {
                to: Some(listener.to.to_string()),
                certificate: listener.certificate.clone(),
                ..Bound::of("outbound", &door)
            });
            doors.push((door, Asks { to: listener.to.clone(), certificate: listener.certificate.clone() }));
        }
        let outbound = Arc::new(self.outbound(config));
        let slots = Slots { free: Arc::clone(&self.slots), limit: "streams" };
        for (door, asks) in doors {
            let (outbound, work, asks) = (Arc::clone(&outbound), self.work.clone(), Arc::new(asks));
            self.keep_warm(&outbound, &asks);
            let accepting = door.accept_each(slots.clone(), self.draining.clone(), move |accepted, slot| {
                let (outbound, asks) = (Arc::clone(&outbound), Arc::clone(&asks));
                work.spawn(async move {
                    outbound.carry(accepted, &asks).await;
                    drop(slot);
                });
            });
            self.chores.spawn(accepting);
        }
        Ok(Some(outbound))
    }

    fn keep_warm(&self, outbound: &Arc<Outbound>, asks: &Arc<Asks>) {
        let (each, until) = (self.config.limits.warm, self.draining.clone());
        self.chores.spawn(Arc::clone(outbound).keep_warm(Arc::clone(asks), each, until));
    }

    fn outbound(&self, config: &OutboundConfig) -> Outbound {
        let limits = &self.config.limits;
        Outbound {
            router: Router::new(config.dtab.clone(), config.peers.clone(), Arc::clone(&self.namers)),
            identity: Arc::clone(&self.identity),
            pool: Arc::clone(&self.pool),
            streams: Arc::clone(&self.streams),
            copies: Arc::new(Semaphore::new(limits.eager_bytes.min(Semaphore::MAX_PERMITS))),
            opening: OpenLimits { all: limits.open, handshake: limits.handshake, answer: limits.answer },
            limits: relay_limits(limits),
            options: self.options,
        }
    }

    fn start_inbound(&self, bound: &mut Vec<Bound>) -> Result<Option<Arc<Inbound>>, StartError> {
        let Some(config) = &self.config.inbound else { return Ok(None) };
        let mut doors = Vec::new();
        for address in &config.listen {
            let door = Door::tcp(*address).map_err(StartError::Listen)?;
            bound.push(Bound::of("inbound", &door));
            doors.push(door);
        }
        // The admin door opens last, for it shows the others; where it will be, the file says.
        let open = bound.iter().filter_map(|bound| bound.address.parse().ok());
        let own = open.chain(self.config.admin.listen).collect();
        let inbound = Arc::new(self.inbound(config, own));
        let tunnels = Slots { free: Arc::clone(&self.accepted), limit: "tunnels" };
        for door in doors {
            let (inbound, work) = (Arc::clone(&inbound), self.work.clone());
            let accepting = door.accept_each(tunnels.clone(), self.draining.clone(), move |accepted, place| {
                let Accepted::Tcp(socket, from) = accepted else { return };
                let inbound = Arc::clone(&inbound);
                work.spawn(async move {
                    inbound.serve(socket, from).await;
                    drop(place);
                });
            });
            self.chores.spawn(accepting);
        }
        Ok(Some(inbound))
    }

    fn inbound(&self, config: &InboundConfig, doors: Vec<SocketAddr>) -> Inbound {
        let limits = &self.config.limits;
        let bounds = config.policy.services.iter().map(|service| Bounds {
            slots: Arc::new(Semaphore::new(service.max_streams.map_or(Semaphore::MAX_PERMITS, |most| most as usize))),
            connect: service.connect_timeout.unwrap_or(limits.connect),
        });
        Inbound {
            services: Services {
                router: Router::new(config.dtab.clone(), Peers::default(), Arc::clone(&self.namers)),
                bounds: bounds.collect(),
                doors,
                streams: Arc::clone(&self.streams),
            },
            policy: config.policy.clone(),
            identity: Arc::clone(&self.identity),
            streams: Arc::clone(&self.streams),
            slots: Arc::clone(&self.slots),
            unproven: Crowd::new(usize::MAX, (self.capacity.tunnels / 2).max(1)),
            handshakes: Crowd::new(limits.handshakes, limits.handshakes_per_source),
            tunnels_per_peer: Crowd::new(usize::MAX, self.capacity.tunnels_per_peer),
            handshake: limits.handshake,
            idle: IdleLimits {
                idle: limits.tunnel_idle_acceptor,
                age: limits.tunnel_age,
                frame: limits.open_frame,
                spread: limits.retire_spread,
            },
            limits: relay_limits(limits),
            options: self.options,
            draining: self.draining.clone(),
        }
    }

    fn start_admin(
        &self,
        page: PrometheusHandle,
        outbound: Option<Arc<Outbound>>,
        inbound: Option<Arc<Inbound>>,
        bound: &mut Vec<Bound>,
    ) -> Result<admin::Running, StartError> {
        let view = View {
            page,
            outbound,
            inbound,
            identity: Arc::clone(&self.identity),
            namers: Arc::clone(&self.namers),
            streams: Arc::clone(&self.streams),
            pool: Arc::clone(&self.pool),
            doors: bound.clone(),
            limits: self.config.limits.clone(),
            capacity: self.capacity,
            since: Instant::now(),
            draining: self.draining.clone(),
        };
        let running = admin::start(&self.config.admin, view).map_err(StartError::Listen)?;
        bound.extend_from_slice(running.doors());
        Ok(running)
    }

    fn start_chores(&self) {
        let pool = Arc::clone(&self.pool);
        let stop = self.stop.clone();
        self.chores.spawn(async move { pool.sweep(stop).await });
        self.chores.spawn(Arc::clone(&self.identity).watch(WATCH_PERIOD, self.stop.clone()));
        let (streams, pool, accepted) = (Arc::clone(&self.streams), Arc::clone(&self.pool), Arc::clone(&self.accepted));
        let most = accepted.available_permits();
        let held = move || streams.count() + pool.all() + most.saturating_sub(accepted.available_permits());
        self.chores.spawn(give_memory_back(held, self.stop.clone()));
    }

    /// Stops accepting, retires tunnels, waits for streams up to the deadline, ends what is left.
    async fn drain(self, signals: &mut Signals) {
        info!(streams = self.streams.count(), "draining");
        metrics::draining();
        self.draining.cancel();
        self.work.close();
        tokio::select! {
            () = self.work.wait() => {}
            () = after(self.config.limits.drain) => {
                warn!(streams = self.streams.count(), "the drain's deadline came; ending what is left");
            }
            () = signals.end() => warn!(streams = self.streams.count(), "told to end again; ending what is left"),
        }
        self.streams.stop_all(End::Drained, "the agent drained and the deadline came");
        self.stop.cancel();
        self.chores.close();
        let last = async {
            self.work.wait().await;
            self.chores.wait().await;
        };
        if tokio::time::timeout(LAST_TASKS, last).await.is_err() {
            error!("some connections did not end in time; they are dropped");
        }
        info!("drained");
    }
}

fn open_door(listen: &ListenAddr) -> Result<Door, StartError> {
    match listen {
        ListenAddr::Tcp(address) => Door::tcp(*address).map(Door::abort_unless_closed),
        ListenAddr::Unix(listen) => Door::unix(listen),
    }
    .map_err(StartError::Listen)
}

fn settings(dns: &Dns, fs: &Fs) -> Settings {
    let zone = |zone: &config::Zone| Zone { name: zone.name.clone(), servers: zone.servers.clone() };
    Settings {
        servers: dns.servers.clone(),
        zones: dns.zones.iter().map(zone).collect(),
        folder: fs.folder.clone(),
        min_ttl: dns.min_ttl,
        max_ttl: dns.max_ttl,
        negative_ttl: dns.negative_ttl,
        timeout: dns.timeout,
        ..Settings::default()
    }
}

fn socket_options(limits: &Limits) -> SocketOptions {
    SocketOptions {
        keepalive_idle: limits.keepalive_idle,
        keepalive_interval: limits.keepalive_interval,
        keepalive_count: limits.keepalive_count,
        user_timeout: limits.user_timeout,
    }
}

fn relay_limits(limits: &Limits) -> relay::Limits {
    relay::Limits {
        idle: limits.idle,
        half_closed: limits.half_closed,
        stalled: limits.stalled,
        unread: limits.unread,
        life: limits.life,
        frame: limits.open_frame,
    }
}

async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Gives memory back when less than half of what was held is still `held`, in connections; until `stop`.
async fn give_memory_back(held: impl Fn() -> usize, stop: CancellationToken) {
    let mut tick = tokio::time::interval(PEAK_PERIOD);
    let mut peak = 0;
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let now = held();
        peak = peak.max(now);
        if peak >= NO_PEAK && now < peak / 2 {
            peak = now;
            // It cannot fail; that it ended is all there is to know.
            let _ = tokio::task::spawn_blocking(sys::memory::give_back).await;
        }
    }
}

/// One JSON line for each door, put in place whole, so that a reader sees all of it or none.
fn write_ready(file: &Path, bound: &[Bound]) -> io::Result<()> {
    let mut text = String::new();
    for door in bound {
        text += &serde_json::to_string(door)?;
        text.push('\n');
    }
    let whole = file.with_extension("new");
    std::fs::write(&whole, text)?;
    std::fs::rename(&whole, file)
}

/// The signals that end the agent.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(error) => error.fmt(f),
            Self::Listen(error) => error.fmt(f),
            Self::Ready(file, error) => write!(f, "writing the ready file {}: {error}", file.display()),
            Self::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}
