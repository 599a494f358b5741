//! `/status`: what the agent serves, asks for, knows and carries, as JSON; of live streams the oldest hundred, or as many as
//! are asked for.

use std::time::{Duration, SystemTime};

use adit_config::{CaptureService, Policy};
use serde::Serialize;
use serde_json::Value;

use super::{
    Loaded, View,
    limits::InForce,
    predecessors::{self, Before},
};
use crate::{
    identity::{Credential, WorkloadStatus, text::date},
    inbound::Inbound,
    listen::Bound,
    outbound::capture::HostStatus,
    router::{Router, RouterStatus},
    streams::StreamStatus,
    tunnel::dial::Key,
};

/// Live streams, and peers with tunnels, that are listed.
pub(super) const LISTED: usize = 100;

/// Live streams that are listed for whoever asks for more.
pub(super) const MOST_LISTED: usize = 1000;

/// The whole page.
#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    pid: u32,
    uptime_seconds: u64,
    draining: bool,
    config: Config,
    listeners: Vec<Bound>,
    certificates: Vec<Certificate>,
    tls_fault: Option<String>,
    /// Where certificates and bundles come from, if not from files.
    #[serde(skip_serializing_if = "Option::is_none")]
    workload_api: Option<WorkloadApi>,
    services: Vec<Service>,
    names: Value,
    captured_hosts: Vec<HostStatus>,
    routes: Vec<Routes>,
    tunnels_idle: Vec<Idle>,
    tunnels_accepted: Vec<Accepted>,
    streams_live: usize,
    streams: Vec<StreamStatus>,
    predecessors: Vec<Before>,
    limits: InForce,
}

#[derive(Serialize)]
struct WorkloadApi {
    socket: String,
    age_seconds: Option<u64>,
    fault: Option<String>,
}

/// The configuration's file.
#[derive(Serialize)]
struct Config {
    file: String,
    age_seconds: u64,
    fault: Option<String>,
    waits_for_restart: Vec<String>,
}

#[derive(Serialize)]
struct Certificate {
    id: String,
    names: Vec<String>,
    serial: String,
    issuer: String,
    expires: String,
    expires_in_seconds: i64,
}

#[derive(Serialize)]
struct Service {
    name: Vec<String>,
    to: String,
    allow: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_streams: Option<u32>,
    /// Whose address it sees.
    source: &'static str,
}

/// The names in use of one side, and the endpoints behind them.
#[derive(Serialize)]
struct Routes {
    side: &'static str,
    #[serde(flatten)]
    router: RouterStatus,
}

#[derive(Serialize)]
struct Idle {
    address: String,
    expects: String,
    certificate: String,
    idle: usize,
}

#[derive(Serialize)]
struct Accepted {
    peer: String,
    tunnels: usize,
}

impl Status {
    pub(super) async fn of(view: &View, streams: usize) -> Self {
        let predecessors = predecessors::all(view).await;
        let now = view.now.load();
        let outbound = now.outbound.iter().map(|outbound| Routes::of("outbound", &outbound.router));
        let rules = now.inbound.as_ref().map(|inbound| inbound.rules.load_full());
        let inbound = rules.iter().map(|rules| Routes::of("inbound", &rules.services.router));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_seconds: view.since.elapsed().as_secs(),
            draining: view.unready.is_cancelled(),
            config: Config::of(&view.config.load()),
            listeners: now.doors.clone(),
            certificates: view.identity.snapshot().credentials().iter().map(Certificate::of).collect(),
            tls_fault: view.identity.fault().map(|fault| fault.to_string()),
            workload_api: view.identity.workload().map(WorkloadApi::of),
            services: rules.iter().flat_map(|rules| Service::all(&rules.policy)).collect(),
            names: serde_json::to_value(view.namers.status()).unwrap_or_default(),
            captured_hosts: now.outbound.as_ref().map_or_else(Vec::new, |outbound| outbound.captured_hosts()),
            routes: outbound.chain(inbound).collect(),
            tunnels_idle: view.pool.status().iter().map(|(key, idle)| Idle::of(key, *idle)).collect(),
            tunnels_accepted: now.inbound.as_ref().map_or_else(Vec::new, |inbound| Accepted::all(inbound)),
            streams_live: view.streams.count(),
            streams: view.streams.status(streams),
            predecessors,
            limits: InForce::of(&now.limits, now.capacity),
        }
    }
}

impl Config {
    fn of(loaded: &Loaded) -> Self {
        Self {
            file: loaded.file.display().to_string(),
            age_seconds: loaded.since.elapsed().as_secs(),
            fault: loaded.fault.clone(),
            waits_for_restart: loaded.waits.clone(),
        }
    }
}

impl WorkloadApi {
    fn of(workload: WorkloadStatus) -> Self {
        Self {
            socket: format!("unix:{}", workload.socket.display()),
            age_seconds: workload.received.map(|at| at.elapsed().unwrap_or_default().as_secs()),
            fault: workload.fault,
        }
    }
}

impl Certificate {
    fn of(credential: &Credential) -> Self {
        let now = SystemTime::now();
        let left = credential.not_after.duration_since(now).map(seconds);
        Self {
            id: credential.id.clone(),
            names: credential.names.clone(),
            serial: credential.serial.clone(),
            issuer: credential.issuer.clone(),
            expires: date(credential.not_after),
            expires_in_seconds: left.unwrap_or_else(|past| -seconds(past.duration())),
        }
    }
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

impl Service {
    /// As they stand in the file, and after them what is served to captured connections.
    fn all(policy: &Policy) -> impl Iterator<Item = Self> {
        policy.services.iter().map(Self::of).chain(policy.captures.iter().map(Self::of_capture))
    }

    fn of_capture(capture: &CaptureService) -> Self {
        Self {
            name: capture.ports.iter().map(|ports| format!("/dst/{{ip}}/{ports}")).collect(),
            to: "this host, where it was meant to go".to_owned(),
            allow: capture.allow.iter().map(ToString::to_string).collect(),
            certificate: capture.certificate.clone(),
            max_streams: capture.max_streams,
            source: capture.source.as_str(),
        }
    }

    fn of(service: &adit_config::Service) -> Self {
        Self {
            name: service.names.iter().map(ToString::to_string).collect(),
            to: service.to.to_string(),
            allow: service.allow.iter().map(ToString::to_string).collect(),
            certificate: service.certificate.clone(),
            max_streams: service.max_streams,
            source: service.source.as_str(),
        }
    }
}

impl Routes {
    fn of(side: &'static str, router: &Router) -> Self {
        Self { side, router: router.status() }
    }
}

impl Idle {
    fn of(key: &Key, idle: usize) -> Self {
        Self {
            address: key.address.to_string(),
            expects: key.expected(),
            certificate: key.credential.clone().unwrap_or_else(|| "default".to_owned()),
            idle,
        }
    }
}

impl Accepted {
    /// The peers with the most tunnels first.
    fn all(inbound: &Inbound) -> Vec<Self> {
        let crowds = inbound.tunnels_per_peer.counts().into_iter();
        let mut all: Vec<_> = crowds.map(|(peer, tunnels)| Self { peer, tunnels }).collect();
        all.sort_by(|one, other| other.tunnels.cmp(&one.tunnels).then_with(|| one.peer.cmp(&other.peer)));
        all.truncate(LISTED);
        all
    }
}
