//! `/status`: what the agent serves, asks for, knows and carries, as JSON; of live streams the oldest hundred.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value;

use super::View;
use crate::{identity::Credential, streams::StreamStatus, tunnel::dial::Key};

/// Live streams that are listed.
const STREAMS: usize = 100;

/// The whole page.
#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    draining: bool,
    certificates: Vec<Certificate>,
    tls_fault: Option<String>,
    services: Vec<Service>,
    names: Value,
    routes: Vec<Value>,
    tunnels_idle: Vec<Tunnels>,
    streams_live: usize,
    streams: Vec<StreamStatus>,
}

#[derive(Serialize)]
struct Certificate {
    id: String,
    identities: Vec<String>,
    serial: String,
    expires_in_seconds: i64,
}

#[derive(Serialize)]
struct Service {
    name: Vec<String>,
    to: String,
    allow: Vec<String>,
}

#[derive(Serialize)]
struct Tunnels {
    address: String,
    expects: String,
    certificate: String,
    idle: usize,
}

impl Status {
    pub(super) fn of(view: &View) -> Self {
        let routers =
            view.outbound.iter().map(|out| &out.router).chain(view.inbound.iter().map(|inb| &inb.services.router));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            draining: view.draining.is_cancelled(),
            certificates: view.identity.snapshot().credentials().iter().map(Certificate::of).collect(),
            tls_fault: view.identity.fault().map(|fault| fault.to_string()),
            services: view.inbound.iter().flat_map(|inbound| &inbound.policy.services).map(Service::of).collect(),
            names: serde_json::to_value(view.namers.status()).unwrap_or_default(),
            routes: routers.map(|router| serde_json::to_value(router.status()).unwrap_or_default()).collect(),
            tunnels_idle: view.pool.status().iter().map(|(key, idle)| Tunnels::of(key, *idle)).collect(),
            streams_live: view.streams.count(),
            streams: view.streams.status(STREAMS),
        }
    }
}

impl Certificate {
    fn of(credential: &Credential) -> Self {
        let left = match credential.not_after.duration_since(SystemTime::now()) {
            Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            Err(past) => -i64::try_from(past.duration().as_secs()).unwrap_or(i64::MAX),
        };
        Self {
            id: credential.id.clone(),
            identities: credential.identities.iter().map(ToString::to_string).collect(),
            serial: credential.serial.clone(),
            expires_in_seconds: left,
        }
    }
}

impl Service {
    fn of(service: &adit_config::Service) -> Self {
        Self {
            name: service.names.iter().map(ToString::to_string).collect(),
            to: service.to.to_string(),
            allow: service.allow.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Tunnels {
    fn of(key: &Key, idle: usize) -> Self {
        Self {
            address: key.address.to_string(),
            expects: match &key.verify {
                adit_config::Verify::Identity(identity) => identity.to_string(),
                adit_config::Verify::None => "nobody (verify = \"none\")".to_owned(),
            },
            certificate: key.credential.clone().unwrap_or_else(|| "default".to_owned()),
            idle,
        }
    }
}
