//! The agent as a whole: everything the configuration asks for is opened before READY, or nothing is; then it runs, and
//! follows its file, until it is told to drain.

mod apply;
mod doors;
mod life;
mod manager;
mod privileges;
mod rounds;
mod rules;
mod sides;
mod standing;

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use adit_config::Config;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    admin::Wish,
    identity::{LoadError, Store},
    listen::{Bound, Inherited, ListenError},
    outbound::Outbound,
    redirect::{RulesError, Tool},
    reload::{Source, follow},
    sys::{self, caps::Privileges, notify},
    upgrade::{Go, Heritage, Line, Origin},
};

use apply::{App, Asked};
use life::{Signals, live};
pub use privileges::Lacking;
use privileges::RulesBy;
use rules::{Release, Rules};
use sides::House;

/// How often the TLS files are looked at.
const WATCH_PERIOD: Duration = Duration::from_secs(1);
/// How often it is looked whether a peak is over.
const PEAK_PERIOD: Duration = Duration::from_secs(5);
/// What is no peak, in connections: their memory is not worth a walk through the heap.
const NO_PEAK: usize = 256;
/// How long a successor may take to read its file once more before it accepts.
const FIRST_READ: Duration = Duration::from_secs(5);
/// Who asks for a reload while one is under way waits here.
const RELOADS_ASKED: usize = 16;

/// Why the agent did not start, or a configuration could not be put in force: one line, but for one.
#[derive(Debug)]
pub enum StartError {
    /// A certificate, key, bundle or list.
    Identity(LoadError),
    /// What this process may not do; of several lines.
    Privileges(Lacking),
    /// A door.
    Listen(ListenError),
    /// The kernel's rules.
    Rules(Box<RulesError>),
    /// The ready file.
    Ready(PathBuf, io::Error),
    /// The file is another than the one that was read, in the middle of an upgrade.
    Changed(PathBuf),
    /// Anything else of the system.
    System(&'static str, io::Error),
}

/// What the agent is started with.
#[derive(Debug)]
pub struct Start {
    /// Where the configuration came from.
    pub source: Source,
    /// What it said.
    pub config: Config,
    /// The metrics.
    pub page: PrometheusHandle,
    /// Written once every door is open.
    pub ready_file: Option<PathBuf>,
    /// With it, the agent holds the kernel's rules for its life.
    pub tool: Option<Tool>,
    /// Which program runs, and with which words.
    pub origin: Origin,
    /// What it was started with.
    pub heritage: Heritage,
}

/// Runs the agent until it was told to end and has drained.
///
/// # Errors
/// What kept it from starting; then no door was ever open for others.
pub async fn run(start: Start) -> Result<(), StartError> {
    let Start { source, config, page, ready_file, tool, origin, heritage } = start;
    let Heritage { line, older, sockets } = heritage;
    let waiting = |error| StartError::System("waiting for signals", error);
    let mut signals = Signals::new().map_err(waiting)?;
    let hangup = signal(SignalKind::hangup()).map_err(waiting)?;
    let (reload, asked) = mpsc::channel(RELOADS_ASKED);
    let (upgrade, upgrades) = mpsc::channel(1);
    let own = privileges::own()?;
    let inherited = Inherited::new(sockets).map_err(StartError::Listen)?;
    let rules_by = if tool.is_some() { RulesBy::Agent } else { RulesBy::Others };
    check(&config, rules_by, &own, &inherited.addresses())?;
    let plan = tool.map(|tool| Ok((rules::plan(&config)?, tool))).transpose()?;
    let Some(identity) = first_credentials(&config, &mut signals).await? else {
        return Ok(());
    };
    let app = Arc::new(App::start(source.file(), config, identity, page, Asked { reload, upgrade }, inherited)?);
    start_chores(app.house());
    // Once the doors are open that they lead to.
    let rules = plan.map(|(plan, tool)| Rules::install(plan, tool)).transpose()?;
    let is_first = line.is_none();
    if let Some(line) = &line {
        // The agent before this one may be by a later file, which took somebody's right.
        if source.has_changed() {
            return Err(StartError::Changed(source.file().to_owned()));
        }
        go(line).await?;
        app.add_predecessors(older);
    }
    // From here on nothing fails: this is the agent.
    let release = rules.clone().map(Release);
    let applies = Arc::clone(&app);
    let house = app.house();
    if let Some(rules) = rules.clone() {
        house.chores.spawn(rules.watch(house.stop.clone()));
    }
    let following = follow(source, app.view(), asked, hangup, house.stop.clone(), move |config| {
        let before = applies.in_force();
        if rules.is_some() {
            // What cannot be written down changes nothing.
            rules::plan(&config)?;
        }
        let mut applied = applies.apply(config)?;
        // Not by the file: what of it waits for a restart, the sockets and the doors are not by yet.
        let now = applies.in_force();
        match rules.as_deref() {
            Some(rules) => rules.follow(rules::plan(&now)?, &mut applied),
            None => rules::remind(&before, &now, &mut applied),
        }
        Ok::<_, StartError>(applied)
    });
    house.chores.spawn(following);
    if !is_first {
        read_again(&app).await;
    }
    house.opens.cancel();
    if let Some(line) = line {
        take_over(&app, line).await;
    }
    if let Some(file) = ready_file {
        let written = write_ready(&file, &app.doors());
        match written.map_err(|error| StartError::Ready(file, error)) {
            Err(error) if is_first => return Err(error),
            Err(error) => error!("{error}"),
            Ok(()) => {}
        }
    }
    for door in &app.doors() {
        info!(listener = door.listener, to = door.to, address = door.address, "listening");
    }
    info!("ready");
    app.keep();
    notify::ready(&app.standing().to_string());
    manager::start(&app);
    live(&app, &origin, upgrades, signals, release).await;
    app.stop_admin();
    Ok(())
}

/// The credentials that `config` names; none when the agent was told to end while it waited for a Workload API.
async fn first_credentials(config: &Config, signals: &mut Signals) -> Result<Option<Arc<Store>>, StartError> {
    let tls = config.tls.clone();
    let load = spawn_blocking(move || Store::load(&tls));
    tokio::select! {
        () = signals.end() => Ok(None),
        loaded = load => {
            let loaded = loaded.map_err(|error| StartError::System("reading the credentials", error.into()))?;
            loaded.map(|store| Some(Arc::new(store))).map_err(StartError::Identity)
        }
    }
}

/// Says that this agent is ready, and waits until it is told to go.
async fn go(line: &Line) -> Result<(), StartError> {
    let broken = |error| StartError::System("talking to the agent before this one", error);
    // Whoever is told to end meanwhile ends once it is known who serves: the word may be on its way.
    match line.ready(env!("CARGO_PKG_VERSION")).await.map_err(broken)? {
        Go::Told => {}
        Go::Alone => error!("the agent before this one has ended without a word; this one takes its place"),
    }
    Ok(())
}

/// Takes the place of the agent before this one, which steps back once it hears that this one accepts.
async fn take_over(app: &App, line: Line) {
    match line.serving().await {
        Ok(Go::Told) => app.add_predecessors([line.turn()]),
        Ok(Go::Alone) => {}
        Err(error) => error!("the agent before this one cannot be asked: {error}"),
    }
}

/// Reads the file before anybody is served by what it said: the agent before this one may have been told of a change
/// meanwhile, and has said that it is in force.
async fn read_again(app: &App) {
    let (done, is_done) = oneshot::channel();
    let read = async {
        let _ = app.view().reload.send(Wish::Done(done)).await;
        let _ = is_done.await;
    };
    if tokio::time::timeout(FIRST_READ, read).await.is_err() {
        error!("the file could not be read again within {FIRST_READ:?}; what was read at the start is in force");
    }
}

/// Whether this host has what `config` asks for, apart from files and addresses, where these doors are `listening`.
fn check(config: &Config, rules: RulesBy, own: &Privileges, listening: &[SocketAddr]) -> Result<(), StartError> {
    privileges::check(config, rules, own, listening).map_err(StartError::Privileges)?;
    let users = privileges::check_own(config, own).and_then(|()| privileges::check_users(config));
    users.map_err(|error| StartError::System("reading the configuration", error))
}

/// The outbound side alone, with no door open: for a look at what a stream would meet. Ending `stop` ends its chores.
///
/// # Errors
/// What keeps it from standing; also a file without an `[outbound]`.
pub fn outbound_alone(config: &Config, stop: &CancellationToken) -> Result<Outbound, StartError> {
    let identity = Arc::new(Store::load(&config.tls).map_err(StartError::Identity)?);
    let house = House::new(config, identity, stop.clone())?;
    if config.outbound.is_none() {
        let missing = io::Error::new(io::ErrorKind::NotFound, "the file has no [outbound]; nothing can be asked for");
        return Err(StartError::System("reading the configuration", missing));
    }
    Ok(house.outbound(config, house.rights.law(), None))
}

fn start_chores(house: &House) {
    let pool = Arc::clone(&house.pool);
    let stop = house.stop.clone();
    house.chores.spawn(async move { pool.sweep(stop).await });
    house.chores.spawn(Arc::clone(&house.identity).watch(WATCH_PERIOD, house.stop.clone()));
    let (streams, pool, accepted) = (Arc::clone(&house.streams), Arc::clone(&house.pool), Arc::clone(&house.accepted));
    let held = move || streams.count() + pool.all() + accepted.taken();
    house.chores.spawn(give_memory_back(held, house.stop.clone()));
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

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(error) => error.fmt(f),
            Self::Privileges(lacking) => lacking.fmt(f),
            Self::Listen(error) => error.fmt(f),
            Self::Rules(error) => error.fmt(f),
            Self::Ready(file, error) => write!(f, "writing the ready file {}: {error}", file.display()),
            Self::Changed(file) => {
                write!(
                    f,
                    "{} was changed while the new agent started; upgrade again, so that it reads all of it",
                    file.display()
                )
            }
            Self::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}
