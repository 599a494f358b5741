//! A configuration put in force, all of it or nothing: whatever can fail is done first, and leaves no trace if it does;
//! then everything is swapped. The start is the same, from nothing.

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use adit_config::{Change, Config, Doors as Origins};
use arc_swap::ArcSwap;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    StartError, check,
    doors::{Doors, Opened, Sides},
    privileges::{RulesBy, mark},
    sides::House,
    standing::Standing,
};
use crate::{
    admin::{self, Loaded, Now, UpgradeAsked, View, Wish},
    identity::Store,
    inbound::Inbound,
    listen::{Bound, Inherited},
    outbound::Outbound,
    predecessors::Predecessors,
    reload::Applied,
    telemetry::log,
};

/// The running agent.
pub(super) struct App {
    house: House,
    sides: Sides,
    view: Arc<View>,
    /// Held while a reload changes it.
    state: Mutex<State>,
}

/// Where operators' wishes go.
pub(super) struct Asked {
    pub(super) reload: mpsc::Sender<Wish>,
    pub(super) upgrade: mpsc::Sender<UpgradeAsked>,
}

/// What is in force.
struct State {
    config: Config,
    doors: Doors,
}

impl App {
    /// Opens every door that `config` asks for, and serves at them.
    pub(super) fn start(
        file: &Path,
        config: Config,
        identity: Arc<Store>,
        page: PrometheusHandle,
        asked: Asked,
        inherited: Inherited,
    ) -> Result<Self, StartError> {
        let house = House::new(&config, identity, CancellationToken::new())?;
        say_what_is_unknown(&house, &config);
        let law = house.rights.law();
        let outbound = Arc::new(house.outbound(&config, law, None));
        let inbound = Arc::new(house.inbound(&config, house.rules(&config, law, Vec::new(), None)));
        let view = Arc::new(View {
            page,
            identity: Arc::clone(&house.identity),
            namers: Arc::clone(&house.namers),
            streams: Arc::clone(&house.streams),
            pool: Arc::clone(&house.pool),
            now: ArcSwap::from_pointee(now(&house, &config, &outbound, &inbound, Vec::new())),
            config: ArcSwap::from_pointee(Loaded {
                file: file.to_owned(),
                since: Instant::now(),
                fault: None,
                waits: Vec::new(),
            }),
            reload: asked.reload,
            upgrade: asked.upgrade,
            turn: Arc::default(),
            predecessors: Arc::default(),
            told_to_end: CancellationToken::new(),
            since: Instant::now(),
            unready: house.unready.clone(),
            handed_on: house.handed_on.clone(),
        });
        let admin = admin::start(Arc::clone(&view)).map_err(StartError::Listen)?;
        let sides = Sides { outbound: Arc::new(ArcSwap::new(outbound)), inbound, admin };
        let app = Self { state: Mutex::new(State { config, doors: Doors::inheriting(inherited) }), house, sides, view };
        app.open_all()?;
        Ok(app)
    }

    /// Every door is new.
    fn open_all(&self) -> Result<(), StartError> {
        let mut state = self.state();
        let config = state.config.clone();
        let all = Origins::all_new(&config);
        let opened = self.open(&state, &config, &all)?;
        let addresses = state.doors.addresses(&opened);
        let rules = self.sides.inbound.rules.load_full();
        let rules = self.house.rules(&config, rules.law, addresses, Some(&rules));
        self.sides.inbound.rules.store(Arc::new(rules));
        // None was open before, so none closes.
        self.turn_doors(&mut state, &config, &all, opened);
        self.show(&state, &config);
        Ok(())
    }

    /// Puts `new` in force; what waits for a restart stays as it was. Must run within the runtime, and may block.
    ///
    /// # Errors
    /// What cannot be had of what it asks for; then nothing has changed.
    pub(super) fn apply(&self, new: Config) -> Result<Applied, StartError> {
        // Before the lock, which a drain asks for too: who reads files may wait for ever for a mount whose server is gone.
        let renamed = self.state().config.tls != new.tls;
        let identity = if renamed { Some(self.house.identity.prepare(&new.tls)) } else { None };
        let identity = identity.transpose().map_err(StartError::Identity)?;
        // Rules that the agent holds were asked for at the start.
        let listening = self.state().doors.listening();
        check(&new, RulesBy::Others, &self.house.privileges, &listening)?;
        let mut state = self.state();
        let change = Change::between(&state.config, new);
        if change.is_empty() {
            // Its rules may stand at other places of the file.
            self.house.route_by(&state.config, &change.next);
            state.config = change.next;
            return Ok(Applied { waits: change.waits, ..Applied::default() });
        }
        let Change { next, doors, lines, waits } = change;
        let leaving = self.house.leaving.is_cancelled();
        // All else that can fail.
        let opened = if leaving { None } else { Some(self.open(&state, &next, &doors)?) };
        // And what cannot.
        if let Some(identity) = identity {
            identity.put();
        }
        let addresses = opened.as_ref().map(|opened| state.doors.addresses(opened));
        let revoked = self.change_rules(&state.config, &next, addresses);
        let closing = match opened {
            Some(opened) => self.turn_doors(&mut state, &next, &doors, opened),
            None => Vec::new(),
        };
        // Before that, the service manager would not hear of it.
        if self.house.opens.is_cancelled() {
            state.doors.keep();
        }
        self.show(&state, &next);
        let mut warnings = Vec::new();
        let mut changes = lines;
        if next.log.level != state.config.log.level && !log::set_level(next.log.level) {
            warnings.push("RUST_LOG is set and decides what is logged, not [log] level".to_owned());
        }
        if !leaving {
            changes.splice(0..0, doors.lines);
        } else if !doors.lines.is_empty() {
            warnings.push("the agent drains: its doors stay as they are".to_owned());
        }
        state.config = next;
        Ok(Applied { changes, waits, warnings, revoked, closing })
    }

    fn open(&self, state: &State, next: &Config, doors: &Origins) -> Result<Opened, StartError> {
        let marked = (next, mark(next, &self.house.privileges));
        Opened::open(marked, doors, &state.doors, &self.sides.admin).map_err(StartError::Listen)
    }

    /// Everything but the doors. The order is that of [`Rights::announce`](crate::withdraw::Rights::announce); returns how
    /// many streams ended.
    fn change_rules(&self, old: &Config, next: &Config, addresses: Option<Vec<std::net::SocketAddr>>) -> usize {
        let law = self.house.rights.announce(self.house.grounds(next));
        self.house.route_by(old, next);
        let before = self.sides.outbound.load_full();
        let outbound = self.house.outbound(next, law, Some((old, &before)));
        self.sides.outbound.store(Arc::new(outbound));
        let before = self.sides.inbound.rules.load_full();
        let addresses = addresses.unwrap_or_else(|| before.services.doors.clone());
        let rules = self.house.rules(next, law, addresses, Some(&before));
        self.sides.inbound.rules.store(Arc::new(rules));
        self.house.bound_by(next, &self.sides.inbound);
        self.house.rights.enforce()
    }

    /// Serves at the doors that were opened, and closes those that are gone.
    fn turn_doors(
        &self,
        state: &mut State,
        next: &Config,
        origins: &Origins,
        opened: Opened,
    ) -> Vec<tokio::task::JoinHandle<()>> {
        let outbound = self.sides.outbound.load_full();
        let doors = std::mem::take(&mut state.doors);
        let (mut doors, closing) = doors.turn(&self.house, &self.sides, next, origins, opened);
        doors.keep_warm(&self.house, &outbound, next.limits.warm);
        state.doors = doors;
        closing
    }

    fn show(&self, state: &State, config: &Config) {
        let outbound = self.sides.outbound.load_full();
        let shown = now(&self.house, config, &outbound, &self.sides.inbound, state.doors.bound());
        self.view.now.store(Arc::new(shown));
    }

    pub(super) fn house(&self) -> &House {
        &self.house
    }

    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// The configuration that is in force.
    pub(super) fn in_force(&self) -> Config {
        self.state().config.clone()
    }

    /// Every door that is open.
    pub(super) fn doors(&self) -> Vec<Bound> {
        self.state().doors.bound()
    }

    /// How long a drain may take.
    pub(super) fn drain_limit(&self) -> Option<Duration> {
        self.state().config.limits.drain
    }

    /// Lets every door but the admin's close, once who waits at it was taken in.
    pub(super) fn stop_accepting(&self) {
        self.state().doors.release();
        self.house.draining.cancel();
    }

    /// Lets the service manager keep the sockets of its doors, and none of others.
    pub(super) fn keep(&self) {
        self.state().doors.keep();
    }

    /// What the sockets are called that the service manager keeps a copy of.
    pub(super) fn kept(&self) -> Vec<String> {
        self.state().doors.kept()
    }

    /// How it stands now.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            doors: self.view.now.load().doors.len(),
            streams: self.house.streams.count(),
            tunnels: self.house.accepted.taken() + self.house.pool.all(),
            predecessors: self.view.predecessors.all().len(),
            is_behind: self.view.config.load().fault.is_some(),
            is_draining: self.house.draining.is_cancelled(),
        }
    }

    /// Whether the admin's thread does what it is asked to, within this time.
    pub(super) async fn admin_answers(&self, within: Duration) -> bool {
        self.sides.admin.answers(within).await
    }

    /// The same once another process has its place.
    pub(super) fn upgrade_drain_limit(&self) -> Option<Duration> {
        self.state().config.limits.upgrade_drain
    }

    /// How long a successor may take until it is ready.
    pub(super) fn upgrade_ready_limit(&self) -> Duration {
        self.state().config.limits.upgrade_ready
    }

    /// The sockets of its doors, for a successor.
    ///
    /// # Errors
    /// There is no descriptor for one.
    pub(super) fn copies(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        self.state().doors.copies()
    }

    /// Leaves its doors to the process that has their sockets too.
    pub(super) fn hand_on(&self) {
        self.state().doors.hand_on();
        self.sides.admin.hand_on();
        self.house.hand_on();
    }

    pub(super) fn predecessors(&self) -> &Arc<Predecessors> {
        &self.view.predecessors
    }

    /// Takes the lines to agents before this one.
    pub(super) fn add_predecessors(&self, lines: impl IntoIterator<Item = OwnedFd>) {
        for line in lines {
            if let Err(error) = self.sides.admin.add_predecessor(line) {
                error!("an agent before this one, which still carries streams, cannot be asked: {error}");
            }
        }
    }

    /// Waits until everybody is answered who has asked at an admin door.
    pub(super) async fn admin_answered(&self) {
        self.sides.admin.answered().await;
    }

    pub(super) fn serve_line(&self, line: OwnedFd, over: CancellationToken) -> io::Result<tokio::task::JoinHandle<()>> {
        self.sides.admin.serve_line(line, over)
    }

    /// Has the file read again, and waits for nothing.
    pub(super) fn read_soon(&self) {
        // Where others have asked already, it is read after this.
        let _ = self.view.reload.try_send(Wish::Done(oneshot::channel().0));
    }

    pub(super) fn stop_admin(&self) {
        self.sides.admin.stop();
    }

    /// Nothing between its first change and its last can panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an operator would look for in vain later.
fn say_what_is_unknown(house: &House, config: &Config) {
    let Some(outbound) = &config.outbound else { return };
    let is_asked = outbound.find_workloads || !outbound.workloads.rules.is_empty();
    if is_asked && let Err(why) = house.finder.check() {
        warn!("{why}");
    }
    if outbound.redirect.is_some() && config.netfilter.mark.is_some() && mark(config, &house.privileges).is_none() {
        info!("this process may not mark its sockets (CAP_NET_ADMIN); the rules know it by [netfilter] user");
    }
}

/// What the admin's pages show of `config`.
fn now(house: &House, config: &Config, outbound: &Arc<Outbound>, inbound: &Arc<Inbound>, doors: Vec<Bound>) -> Now {
    Now {
        outbound: config.outbound.as_ref().map(|_| Arc::clone(outbound)),
        inbound: config.inbound.as_ref().map(|_| Arc::clone(inbound)),
        doors,
        limits: config.limits.clone(),
        capacity: house.capacity(config),
    }
}
