//! `[inbound]`, `[[inbound.service]]` and `[[inbound.capture]]`: what the file says of the acceptor's side. Whether a service
//! can be asked for, and by whom it is, is checked elsewhere.

use std::time::Duration;

use adit_protocol::Pattern;
use toml::de::DeValue;

use super::report::{At, Report};
use super::section::{Section, Wrong};
use super::{keys, matches, outbound, value};
use crate::config::{Inbound, Strict};
use crate::dtab::Dtab;
use crate::identity::IdentityPattern;
use crate::listen::TcpListen;
use crate::net::Ports;
use crate::policy::Policy;
use crate::service::{CaptureService, Reach, Service, Source, Target};

/// What `[inbound]` says.
pub(crate) struct InboundSpec {
    pub(crate) at: usize,
    pub(crate) listen: Vec<At<TcpListen>>,
    pub(crate) dtab: Dtab,
    conceal: bool,
    pub(crate) strict: Option<At<Strict>>,
    pub(crate) services: Vec<ServiceSpec>,
    pub(crate) captures: Vec<CaptureServiceSpec>,
}

/// What one `[[inbound.service]]` says.
pub(crate) struct ServiceSpec {
    pub(crate) at: usize,
    pub(crate) names: Vec<At<Pattern>>,
    pub(crate) to: Option<At<Target>>,
    pub(crate) allow: Vec<At<IdentityPattern>>,
    /// The list is there and written empty.
    pub(crate) admits_nobody: bool,
    pub(crate) certificate: Option<At<String>>,
    pub(crate) reach: Vec<At<Reach>>,
    max_streams: Option<At<u32>>,
    pub(crate) connect_timeout: Option<At<Duration>>,
    pub(crate) source: Option<At<Source>>,
}

/// What one `[[inbound.capture]]` says.
pub(crate) struct CaptureServiceSpec {
    pub(crate) at: usize,
    pub(crate) ports: Vec<At<Ports>>,
    pub(crate) allow: Vec<At<IdentityPattern>>,
    /// The list is there and written empty.
    pub(crate) admits_nobody: bool,
    pub(crate) certificate: Option<At<String>>,
    max_streams: Option<At<u32>>,
    pub(crate) connect_timeout: Option<At<Duration>>,
    source: Option<At<Source>>,
}

pub(super) fn read<'a>(file: &Section<'a>, report: &mut Report) -> Option<InboundSpec> {
    let inbound = file.table("inbound", keys::INBOUND, report)?;
    let services = inbound.tables("service", keys::SERVICE, report);
    let captures = inbound.tables("capture", keys::INBOUND_CAPTURE, report);
    let example = "listen = [\"0.0.0.0:4143\"]";
    Some(InboundSpec {
        at: inbound.at,
        listen: inbound.need_list("listen", example, report, value::tcp_listen),
        dtab: outbound::dtab(&inbound, report),
        conceal: inbound.read("conceal", report, value::boolean).is_some_and(|at| at.value),
        strict: strict(&inbound, report),
        services: services.iter().map(|section| service(section, report)).collect(),
        captures: captures.iter().map(|section| capture(section, report)).collect(),
    })
}

/// True, false, or ports.
fn strict(section: &Section<'_>, report: &mut Report) -> Option<At<Strict>> {
    let at = section.place_of("strict");
    match section.field("strict")?.value {
        DeValue::Array(_) | DeValue::Integer(_) | DeValue::String(_) => {
            section.refuse_empty("strict", "write false, or the ports that only the agent may be reached by", report);
            let ports = section.list("strict", report, matches::ports);
            Some(At { at, value: Strict::Ports(ports.into_iter().map(|ports| ports.value).collect()) })
        }
        _ => {
            let help = "write true, false, or ports such as [5432, \"6000-6100\"]";
            let read = section.read("strict", report, |field| {
                value::boolean(field).map_err(|wrong| Wrong { help: help.to_owned(), ..wrong })
            })?;
            Some(At { at, value: if read.value { Strict::Services } else { Strict::Off } })
        }
    }
}

fn service(section: &Section<'_>, report: &mut Report) -> ServiceSpec {
    section.require("allow", "allow = [\"*.web.prod.internal\"]", report);
    ServiceSpec {
        at: section.at,
        names: section.need_list("name", "name = \"/svc/redis\"", report, value::pattern),
        to: section.need("to", "to = \"127.0.0.1:6379\"", report, value::target),
        allow: section.list("allow", report, value::identity_pattern),
        admits_nobody: section.is_empty_list("allow"),
        certificate: section.read("certificate", report, value::id),
        reach: section.list("reach", report, value::reach),
        max_streams: section.read("max_streams", report, value::count_u32),
        connect_timeout: section.read("connect_timeout", report, value::wait),
        source: section.read("source", report, |f| value::choice(f, &Source::WORDS)),
    }
}

fn capture(section: &Section<'_>, report: &mut Report) -> CaptureServiceSpec {
    section.require("allow", "allow = [\"*.web.prod.internal\"]", report);
    CaptureServiceSpec {
        at: section.at,
        ports: section.need_list("ports", "ports = [5432, \"6000-6100\"]", report, matches::ports),
        allow: section.list("allow", report, value::identity_pattern),
        admits_nobody: section.is_empty_list("allow"),
        certificate: section.read("certificate", report, value::id),
        max_streams: section.read("max_streams", report, value::count_u32),
        connect_timeout: section.read("connect_timeout", report, value::wait),
        source: section.read("source", report, |f| value::choice(f, &Source::WORDS)),
    }
}

impl InboundSpec {
    pub(super) fn mean(self) -> Option<Inbound> {
        let services = self.services.into_iter().map(ServiceSpec::mean).collect::<Option<_>>()?;
        let captures = self.captures.into_iter().map(CaptureServiceSpec::mean).collect();
        Some(Inbound {
            listen: self.listen.into_iter().map(|listen| listen.value).collect(),
            dtab: self.dtab,
            policy: Policy { services, captures, conceal: self.conceal },
            strict: self.strict.map_or(Strict::Off, |strict| strict.value),
        })
    }
}

impl ServiceSpec {
    fn mean(self) -> Option<Service> {
        Some(Service {
            names: self.names.into_iter().map(|name| name.value).collect(),
            to: self.to?.value,
            allow: self.allow.into_iter().map(|allow| allow.value).collect(),
            certificate: self.certificate.map(|id| id.value),
            reach: self.reach.into_iter().map(|reach| reach.value).collect(),
            max_streams: self.max_streams.map(|number| number.value),
            connect_timeout: self.connect_timeout.map(|wait| wait.value),
            source: self.source.map_or(Source::default(), |source| source.value),
        })
    }
}

impl CaptureServiceSpec {
    fn mean(self) -> CaptureService {
        CaptureService {
            ports: self.ports.into_iter().map(|ports| ports.value).collect(),
            allow: self.allow.into_iter().map(|allow| allow.value).collect(),
            certificate: self.certificate.map(|id| id.value),
            max_streams: self.max_streams.map(|number| number.value),
            connect_timeout: self.connect_timeout.map(|wait| wait.value),
            source: self.source.map_or(Source::default(), |source| source.value),
        }
    }
}
