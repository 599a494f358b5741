//! `[inbound]` and `[[inbound.service]]`: what the file says of the acceptor's side. Whether a service
//! can be asked for, and by whom it is, is checked elsewhere.

use std::net::SocketAddr;
use std::time::Duration;

use adit_protocol::Pattern;

use super::report::{At, Report};
use super::section::Section;
use super::{keys, outbound, value};
use crate::config::{Inbound, Strict};
use crate::dtab::Dtab;
use crate::identity::IdentityPattern;
use crate::policy::Policy;
use crate::service::{Reach, Service, Source, Target};

/// What `[inbound]` says.
pub(crate) struct InboundSpec {
    pub(crate) at: usize,
    pub(crate) listen: Vec<At<SocketAddr>>,
    pub(crate) dtab: Dtab,
    conceal: bool,
    pub(crate) services: Vec<ServiceSpec>,
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
}

pub(super) fn read<'a>(file: &Section<'a>, report: &mut Report) -> Option<InboundSpec> {
    let inbound = file.table("inbound", keys::INBOUND, report)?;
    let services = inbound.tables("service", keys::SERVICE, report);
    let example = "listen = [\"0.0.0.0:4143\"]";
    Some(InboundSpec {
        at: inbound.at,
        listen: inbound.need_list("listen", example, report, value::address),
        dtab: outbound::dtab(&inbound, report),
        conceal: inbound.read("conceal", report, value::boolean).is_some_and(|at| at.value),
        services: services.iter().map(|section| service(section, report)).collect(),
    })
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
    }
}

impl InboundSpec {
    pub(super) fn mean(self) -> Option<Inbound> {
        let services = self.services.into_iter().map(ServiceSpec::mean).collect::<Option<_>>()?;
        Some(Inbound {
            listen: self.listen.into_iter().map(|listen| listen.value).collect(),
            dtab: self.dtab,
            policy: Policy { services, captures: Vec::new(), conceal: self.conceal },
            strict: Strict::Off,
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
            source: Source::Agent,
        })
    }
}
