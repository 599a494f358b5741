//! One look-up, of a host's A and AAAA records or a service's SRV records, through hickory-resolver. It holds no answer:
//! the resolver's own cache is off, so that times to live are judged in one place. Names are taken as they are, never with
//! a search domain, so that a name means the same on every host.

use super::known::{Answer, Answers};
use super::question::{Question, Record, Service};
use super::{Settings, Zone};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{TokioResolver, lookup::Lookup, system_conf};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::timeout;

/// Queries on one connection to a server; hickory answers *busy* beyond. Both queries of every
/// look-up that may be under way fit.
const QUERIES_AT_ONCE: usize = 2 * super::LOOK_UPS_AT_ONCE;

/// A query is sent once and, half of the time gone, once more.
const RETRIES: usize = 1;

/// Asks DNS servers: of a zone its own, of all other names those of the settings or of the system.
pub(super) struct Dns {
    /// Without a resolver every name is answered with why there is none.
    general: Result<TokioResolver, String>,
    zones: Vec<(String, Result<TokioResolver, String>)>,
    limit: Duration,
}

impl Dns {
    /// Resolvers for these settings. One that cannot be made (no `/etc/resolv.conf`) is told to each name that needs it.
    pub(super) fn new(settings: &Settings) -> Self {
        let general = match settings.servers.as_slice() {
            [] => system(),
            servers => Ok(given(servers)),
        };
        let zone = |zone: &Zone| (zone.name.clone(), resolver(given(&zone.servers), settings));
        Self {
            general: general.and_then(|config| resolver(config, settings)),
            zones: settings.zones.iter().map(zone).collect(),
            limit: settings.timeout,
        }
    }

    /// All that the question asks for, each query within the limit.
    pub(super) async fn look_up(&self, question: &Question) -> Answers {
        match question {
            Question::Host(host) => {
                let (v4, v6) = tokio::join!(self.query(host, RecordType::A), self.query(host, RecordType::AAAA));
                Answers(vec![v4, v6])
            }
            Question::Srv(name) => Answers(vec![self.query(name, RecordType::SRV).await]),
        }
    }

    async fn query(&self, name: &str, kind: RecordType) -> Answer {
        let resolver = match self.resolver_of(name) {
            Ok(resolver) => resolver,
            Err(why) => return Answer::Failed(why.clone()),
        };
        let mut asked = match Name::from_ascii(name) {
            Ok(asked) => asked,
            Err(error) => return Answer::Failed(format!("'{name}' cannot be asked for: {error}")),
        };
        asked.set_fqdn(true);
        match timeout(self.limit, resolver.lookup(asked, kind)).await {
            Ok(Ok(lookup)) => found(&lookup, kind),
            Ok(Err(error)) => not_found(&error, kind),
            Err(_) => Answer::Failed(format!("no DNS server answered the {kind} query within {:?}", self.limit)),
        }
    }

    /// Of the zones that hold a name the longest has its resolver.
    fn resolver_of(&self, name: &str) -> &Result<TokioResolver, String> {
        let holding = self.zones.iter().filter(|(zone, _)| holds(zone, name));
        holding.max_by_key(|(zone, _)| zone.len()).map_or(&self.general, |(_, resolver)| resolver)
    }
}

/// Whether a name is a zone's, or under it.
fn holds(zone: &str, name: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn resolver(
    (config, mut options): (ResolverConfig, ResolverOpts),
    settings: &Settings,
) -> Result<TokioResolver, String> {
    options.cache_size = 0;
    options.attempts = RETRIES;
    options.timeout = settings.timeout / 2;
    options.max_active_requests = QUERIES_AT_ONCE;
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let built = builder.with_options(options).build();
    built.map_err(|error| format!("the resolver cannot start: {error}"))
}

/// What `/etc/resolv.conf` says.
fn system() -> Result<(ResolverConfig, ResolverOpts), String> {
    system_conf::read_system_conf()
        .map_err(|error| format!("/etc/resolv.conf cannot be used: {error}; name DNS servers in the configuration"))
}

/// These servers and nothing else of the system.
fn given(servers: &[SocketAddr]) -> (ResolverConfig, ResolverOpts) {
    let config = ResolverConfig::from_name_servers(servers.iter().copied().map(server).collect());
    let mut options = ResolverOpts::default();
    options.use_hosts_file = ResolveHosts::Never;
    (config, options)
}

/// A server by UDP, and by TCP for answers too long for that.
fn server(address: SocketAddr) -> NameServerConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server.connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
    server
}

/// The records of the kind that was asked for, and the shortest time to live on the way to them, CNAMEs included.
fn found(lookup: &Lookup, kind: RecordType) -> Answer {
    let records: Vec<Record> = lookup.answers().iter().filter_map(|record| told(&record.data, kind)).collect();
    let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    match records.is_empty() {
        // Aliases that end at a name without such a record, and no SOA to say for how long.
        true => Answer::Empty { ttl: None },
        false => Answer::Found { records, ttl: Duration::from_secs(ttl.into()) },
    }
}

/// A server may add what it was not asked for.
fn told(data: &RData, kind: RecordType) -> Option<Record> {
    match data {
        RData::A(a) if kind == RecordType::A => Some(Record::Ip(IpAddr::V4(a.0))),
        RData::AAAA(aaaa) if kind == RecordType::AAAA => Some(Record::Ip(IpAddr::V6(aaaa.0))),
        RData::SRV(srv) if kind == RecordType::SRV => Some(Record::Service(service(srv))),
        _ => None,
    }
}

fn service(srv: &SRV) -> Service {
    let target = srv.target.to_ascii().to_ascii_lowercase();
    let target = target.strip_suffix('.').unwrap_or(&target).into();
    Service { priority: srv.priority, weight: srv.weight, port: srv.port, target }
}

/// What an answer without records means: only *no such name* and *no such record* count.
fn not_found(error: &NetError, kind: RecordType) -> Answer {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(no)) if !is_referral(no) => {
            let ttl = no.negative_ttl.map(|ttl| Duration::from_secs(ttl.into()));
            match no.response_code {
                ResponseCode::NXDomain => Answer::NoSuchName { ttl },
                ResponseCode::NoError => Answer::Empty { ttl },
                code => Answer::Failed(format!("the DNS server answered the {kind} query with {code}")),
            }
        }
        NetError::Timeout => Answer::Failed(format!("no DNS server answered the {kind} query in time")),
        error => Answer::Failed(format!("the {kind} query failed: {error}")),
    }
}

/// A server that only points to others has said nothing about the name (RFC 2308, 2.2).
fn is_referral(no: &NoRecords) -> bool {
    no.response_code == ResponseCode::NoError && no.soa.is_none() && no.ns.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_holds_its_own_name_and_all_under_it_label_by_label() {
        for (zone, name, expected) in [
            ("consul", "consul", true),
            ("consul", "redis.service.consul", true),
            ("consul", "notconsul", false),
            ("service.consul", "redis.service.consul", true),
            ("service.consul", "consul", false),
        ] {
            assert_eq!(holds(zone, name), expected, "{name} in {zone}");
        }
    }
}
