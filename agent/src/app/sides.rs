//! Both sides of the agent, made from what lives as long as it does and from one configuration: at the start, and anew by
//! each reload.

mod bounds;

use std::{net::SocketAddr, sync::Arc};

use adit_config::{Capacity, Captures, Config, Dtab, Peers, Policy, Workloads, dtab::Dentry};
use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use bounds::bounds;

use super::{
    StartError,
    privileges::{self, mark},
};
use crate::{
    crowd::Crowd,
    identity::Store,
    inbound::{IdleLimits, Inbound, Rules, Services},
    listen::Hours,
    naming::{Namers, Settings, Zone},
    outbound::{
        OpenLimits, Outbound, Whose,
        capture::{Capture, Hosts},
    },
    relay,
    router::Router,
    slots::Slots,
    streams::Streams,
    sys::{self, caps::Privileges, ifaces::OwnAddresses},
    telemetry::metrics,
    tunnel::pool::{Pool, PoolLimits},
    wire::plain::SocketOptions,
    withdraw::{Grounds, Rights},
    workload::Finder,
};

/// Descriptors that a door of the outbound side takes: its socket, its poller's copy, and at an upgrade one for each of the
/// two processes.
const DESCRIPTORS_OF_DOOR: u64 = 4;

/// Everything that lives as long as the agent does, and no configuration.
pub(super) struct House {
    /// Descriptors this process may have.
    descriptors: u64,
    /// What this process may do.
    pub(super) privileges: Privileges,
    /// Finds the local processes of connections.
    pub(super) finder: Arc<Finder>,
    pub(super) identity: Arc<Store>,
    pub(super) namers: Arc<Namers>,
    pub(super) streams: Arc<Streams>,
    pub(super) rights: Arc<Rights>,
    pub(super) pool: Arc<Pool>,
    /// The host names that capture rules are about.
    hosts: Arc<Hosts>,
    outbound_router: Arc<Router>,
    inbound_router: Arc<Router>,
    /// Streams at once, of both doors.
    pub(super) slots: Arc<Slots>,
    /// Accepted tunnels at once.
    pub(super) accepted: Arc<Slots>,
    /// Connections and tunnels: what a drain waits for.
    pub(super) work: TaskTracker,
    /// What serves them: ended after them.
    pub(super) chores: TaskTracker,
    /// From when on the doors accept.
    pub(super) opens: CancellationToken,
    /// No further stream begins.
    pub(super) draining: CancellationToken,
    /// Another process goes on with the doors; cancelled before `leaving`.
    pub(super) handed_on: CancellationToken,
    /// The doors close and tunnels are retired: the agent drains, or another process has its place.
    pub(super) leaving: CancellationToken,
    /// Whoever asks whether the agent is ready hears that it is not: it is leaving, or about to.
    pub(super) unready: CancellationToken,
    /// What tells the service manager ends: another process is the main one, or the house stops.
    pub(super) reign: CancellationToken,
    pub(super) stop: CancellationToken,
}

impl House {
    /// What `config` asks for at first; its tasks end with `stop`.
    pub(super) fn new(config: &Config, identity: Arc<Store>, stop: CancellationToken) -> Result<Self, StartError> {
        let descriptors = sys::limits::raise_descriptors()
            .map_err(|error| StartError::System("reading the descriptor limit", error))?;
        metrics::descriptors(descriptors);
        let privileges = privileges::own()?;
        let capacity = capacity(config, descriptors);
        let (work, chores) = (TaskTracker::new(), TaskTracker::new());
        let namers = Arc::new(Namers::new(settings(config, &privileges), chores.clone(), stop.clone()));
        let streams = Streams::new();
        let pool_limits = pool_limits(config, descriptors);
        let hosts = Hosts::new(Arc::clone(&namers));
        hosts.follow(&captures(config));
        let draining = CancellationToken::new();
        let leaving = draining.child_token();
        Ok(Self {
            descriptors,
            privileges,
            finder: Finder::new(),
            rights: Rights::new(grounds(config, &hosts), Arc::clone(&streams)),
            pool: Pool::new(Arc::clone(&identity), Arc::clone(&streams), pool_limits, work.clone()),
            outbound_router: Arc::new(Router::new(outbound_table(config), peers(config), Arc::clone(&namers))),
            inbound_router: Arc::new(Router::new(inbound_table(config), Peers::default(), Arc::clone(&namers))),
            hosts,
            slots: Slots::new(capacity.streams),
            accepted: Slots::new(capacity.tunnels),
            identity,
            namers,
            streams,
            work,
            chores,
            opens: CancellationToken::new(),
            handed_on: CancellationToken::new(),
            unready: leaving.child_token(),
            leaving,
            draining,
            reign: stop.child_token(),
            stop,
        })
    }

    /// The limits that follow from the descriptors.
    pub(super) fn capacity(&self, config: &Config) -> Capacity {
        capacity(config, self.descriptors)
    }

    /// What gives rights by this configuration.
    pub(super) fn grounds(&self, config: &Config) -> Grounds {
        grounds(config, &self.hosts)
    }

    /// The outbound side by this configuration, whose law has the number `law`. What it shares with `before` goes on.
    pub(super) fn outbound(&self, config: &Config, law: u64, before: Option<(&Config, &Outbound)>) -> Outbound {
        let limits = &config.limits;
        let copies = match before {
            Some((old, before)) if old.limits.eager_bytes == limits.eager_bytes => Arc::clone(&before.copies),
            _ => Arc::new(Semaphore::new(limits.eager_bytes.min(Semaphore::MAX_PERMITS))),
        };
        Outbound {
            router: Arc::clone(&self.outbound_router),
            law,
            rights: Arc::clone(&self.rights),
            capture: capture(config, &self.hosts),
            whose: Whose {
                finder: Arc::clone(&self.finder),
                rules: workloads(config),
                always: config.outbound.as_ref().is_some_and(|outbound| outbound.find_workloads),
            },
            identity: Arc::clone(&self.identity),
            pool: Arc::clone(&self.pool),
            streams: Arc::clone(&self.streams),
            copies,
            opening: OpenLimits { all: limits.open, handshake: limits.handshake, answer: limits.answer },
            limits: relay_limits(limits),
            options: socket_options(config, &self.privileges),
        }
    }

    /// The inbound side, going by `rules`.
    pub(super) fn inbound(&self, config: &Config, rules: Rules) -> Inbound {
        let (limits, capacity) = (&config.limits, self.capacity(config));
        Inbound {
            rules: ArcSwap::from_pointee(rules),
            rights: Arc::clone(&self.rights),
            identity: Arc::clone(&self.identity),
            streams: Arc::clone(&self.streams),
            slots: Arc::clone(&self.slots),
            unproven: Crowd::new(usize::MAX, unproven(capacity.tunnels)),
            handshakes: Crowd::new(limits.handshakes, limits.handshakes_per_source),
            tunnels_per_peer: Crowd::new(usize::MAX, capacity.tunnels_per_peer),
            draining: self.draining.clone(),
            leaving: self.leaving.clone(),
        }
    }

    /// When a door that is opened now is served.
    pub(super) fn hours(&self) -> Hours {
        Hours { opens: self.opens.clone(), closes: self.leaving.child_token(), handed_on: self.handed_on.clone() }
    }

    /// Lets another process go on with the doors: what is open here goes on to its end, and what waits at the doors is left
    /// to that one.
    pub(super) fn hand_on(&self) {
        self.handed_on.cancel();
        self.reign.cancel();
        self.leaving.cancel();
        self.pool.close();
    }

    /// What the inbound side goes by. A service that `before` has under one of its names keeps its streams' places. `doors`
    /// are those of this agent itself.
    pub(super) fn rules(&self, config: &Config, law: u64, doors: Vec<SocketAddr>, before: Option<&Rules>) -> Rules {
        let limits = &config.limits;
        let policy = policy(config);
        let bounds = bounds(&policy, before.map(|rules| (&*rules.policy, &rules.services.bounds[..])), limits.connect);
        Rules {
            law,
            services: Services {
                router: Arc::clone(&self.inbound_router),
                bounds,
                doors,
                own: OwnAddresses::default(),
                route_mark: config.netfilter.route_mark,
                streams: Arc::clone(&self.streams),
            },
            policy: Arc::clone(&policy),
            handshake: limits.handshake,
            idle: IdleLimits {
                idle: limits.tunnel_idle_acceptor,
                age: limits.tunnel_age,
                frame: limits.open_frame,
                spread: limits.retire_spread,
            },
            limits: relay_limits(limits),
            options: socket_options(config, &self.privileges),
        }
    }

    /// Lets the tables and the names' settings be those of `next`. What names lead to is kept where nothing has changed.
    pub(super) fn route_by(&self, old: &Config, next: &Config) {
        self.namers.reload(settings(next, &self.privileges));
        self.hosts.follow(&captures(next));
        let (was, is) = (outbound_table(old), outbound_table(next));
        if !same(&was, &is) || peers(old) != peers(next) {
            self.outbound_router.change(is, peers(next));
        }
        let (was, is) = (inbound_table(old), inbound_table(next));
        if !same(&was, &is) {
            self.inbound_router.change(is, Peers::default());
        }
    }

    /// Lets every count that outlives a reload be bounded as `config` says.
    pub(super) fn bound_by(&self, config: &Config, inbound: &Inbound) {
        let (limits, capacity) = (&config.limits, self.capacity(config));
        self.slots.resize(capacity.streams);
        self.accepted.resize(capacity.tunnels);
        self.pool.bound_by(pool_limits(config, self.descriptors));
        inbound.unproven.resize(usize::MAX, unproven(capacity.tunnels));
        inbound.handshakes.resize(limits.handshakes, limits.handshakes_per_source);
        inbound.tunnels_per_peer.resize(usize::MAX, capacity.tunnels_per_peer);
    }
}

/// The judge of a file; of one without an inbound side, one that admits nobody.
pub(super) fn policy(config: &Config) -> Arc<Policy> {
    Arc::new(config.inbound.as_ref().map_or_else(Policy::default, |inbound| inbound.policy.clone()))
}

/// The rules for peers of a file; of one without an outbound side, none.
pub(super) fn peers(config: &Config) -> Peers {
    config.outbound.as_ref().map_or_else(Peers::default, |outbound| outbound.peers.clone())
}

/// The rules for single processes.
fn workloads(config: &Config) -> Arc<Workloads> {
    Arc::new(config.outbound.as_ref().map_or_else(Workloads::default, |outbound| outbound.workloads.clone()))
}

fn grounds(config: &Config, hosts: &Arc<Hosts>) -> Grounds {
    let (capture, table) = (capture(config, hosts), outbound_table(config));
    Grounds {
        policy: policy(config),
        peers: Arc::new(peers(config)),
        workloads: workloads(config),
        may_pass: Arc::new(move |original, _| match &capture {
            Some(capture) => capture.may_pass(original, &table),
            None => Err("there is no [outbound.redirect]".to_owned()),
        }),
    }
}

/// What captured connections ask for, in a file with a door for them.
fn capture(config: &Config, hosts: &Arc<Hosts>) -> Option<Capture> {
    let outbound = config.outbound.as_ref()?;
    Some(Capture::new(outbound.redirect.as_ref()?, &outbound.captures, hosts))
}

/// The rules that name captured connections, in a file with a door for them.
fn captures(config: &Config) -> Captures {
    let outbound = config.outbound.as_ref().filter(|outbound| outbound.redirect.is_some());
    outbound.map_or_else(Captures::default, |outbound| outbound.captures.clone())
}

fn outbound_table(config: &Config) -> Dtab {
    config.outbound.as_ref().map_or_else(Dtab::default, |outbound| outbound.dtab.clone())
}

fn inbound_table(config: &Config) -> Dtab {
    config.inbound.as_ref().map_or_else(Dtab::default, |inbound| inbound.dtab.clone())
}

/// Whether two tables say the same at the same places: a person is shown the rules with their places in the file.
fn same(was: &Dtab, is: &Dtab) -> bool {
    let places = |table: &Dtab| table.entries().iter().map(Dentry::place).collect::<Vec<_>>();
    was == is && places(was) == places(is)
}

/// Connections of one address that may wait to prove who they are: half of all, so that others get in.
fn unproven(tunnels: usize) -> usize {
    (tunnels / 2).max(1)
}

fn settings(config: &Config, privileges: &Privileges) -> Settings {
    let dns = &config.dns;
    let zone = |zone: &adit_config::Zone| Zone { name: zone.name.clone(), servers: zone.servers.clone() };
    Settings {
        servers: dns.servers.clone(),
        zones: dns.zones.iter().map(zone).collect(),
        folder: config.fs.folder.clone(),
        mark: mark(config, privileges),
        min_ttl: dns.min_ttl,
        max_ttl: dns.max_ttl,
        negative_ttl: dns.negative_ttl,
        timeout: dns.timeout,
        ..Settings::default()
    }
}

/// What the descriptors that the doors leave are enough for.
fn capacity(config: &Config, descriptors: u64) -> Capacity {
    let listeners = config.outbound.as_ref().map_or(0, |outbound| outbound.listeners.len());
    let doors = u64::try_from(listeners).unwrap_or(u64::MAX).saturating_mul(DESCRIPTORS_OF_DOOR);
    config.limits.resolved(descriptors.saturating_sub(doors.min(descriptors / 2)))
}

fn pool_limits(config: &Config, descriptors: u64) -> PoolLimits {
    let (limits, capacity) = (&config.limits, capacity(config, descriptors));
    PoolLimits {
        idle: limits.tunnel_idle_dialer,
        age: limits.tunnel_age,
        of_key: capacity.tunnels_per_peer,
        all: capacity.tunnels,
        frame: limits.open_frame,
    }
}

fn socket_options(config: &Config, privileges: &Privileges) -> SocketOptions {
    let limits = &config.limits;
    SocketOptions {
        mark: mark(config, privileges),
        keepalive_idle: limits.keepalive_idle,
        keepalive_interval: limits.keepalive_interval,
        keepalive_count: limits.keepalive_count,
        user_timeout: limits.user_timeout,
    }
}

fn relay_limits(limits: &adit_config::Limits) -> relay::Limits {
    relay::Limits {
        idle: limits.idle,
        half_closed: limits.half_closed,
        stalled: limits.stalled,
        unread: limits.unread,
        life: limits.life,
        frame: limits.open_frame,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_stands_elsewhere_in_its_file_is_another_to_whoever_is_shown_its_places() {
        let table = |text| Dtab::parse(text).unwrap();
        assert!(same(&table("/a => /b"), &table("/a => /b ; # no rule")));
        assert!(!same(&table("/a => /b"), &table("\n/a => /b")));
        assert!(!same(&table("/a => /b"), &table("/a => /c")));
    }
}
