//! One look-up, of a host's A and AAAA records or a service's SRV records, through hickory-resolver. It holds no answer:
//! the resolver's own cache is off, so that times to live are judged in one place. Names are taken as they are, never with
//! a search domain, so that a name means the same on every host.

use super::known::{Answer, Answers};
use super::marked::Marked;
use super::question::{Question, Record, Service};
use super::{Settings, Zone};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, lookup::Lookup, system_conf};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Look-ups under way at once at the servers of one zone; more of them wait their turn. Each zone has turns of its own, lest
/// one whose servers are silent, where a look-up takes its whole limit, stop the names of all others.
const LOOK_UPS_AT_ONCE: usize = 256;

/// Of these so many are of questions whose look-up before failed, so that those that will fail again leave turns to others.
const RETRIES_AT_ONCE: usize = LOOK_UPS_AT_ONCE / 4;

/// Queries on one connection to a server; hickory answers *busy* beyond. Both queries of every
/// look-up that may be under way fit.
const QUERIES_AT_ONCE: usize = 2 * LOOK_UPS_AT_ONCE;

/// A query is sent once and, half of the time gone, once more.
const RETRIES: usize = 1;

/// Asks DNS servers: of a zone its own, of all other names those of the settings or of the system.
pub(super) struct Dns {
    general: Servers,
    zones: Vec<(String, Servers)>,
    limit: Duration,
}

/// The servers of a zone, or of all other names.
struct Servers {
    /// Without a resolver every name is answered with why there is none.
    resolver: Result<Resolver<Marked>, String>,
    /// Their addresses, for messages.
    addresses: String,
    turns: Semaphore,
    retries: Semaphore,
}

impl Dns {
    /// Resolvers for these settings. One that cannot be made (no `/etc/resolv.conf`) is told to each name that needs it.
    pub(super) fn new(settings: &Settings) -> Self {
        let general = match settings.servers.as_slice() {
            [] => system(),
            servers => Ok(given(servers)),
        };
        let zone = |zone: &Zone| (zone.name.clone(), Servers::new(Ok(given(&zone.servers)), settings));
        Self {
            general: Servers::new(general, settings),
            zones: settings.zones.iter().map(zone).collect(),
            limit: settings.timeout,
        }
    }

    /// All that the question asks for, once it has its turn, and each query within the limit. `failures` of its look-ups in
    /// a row have failed before.
    pub(super) async fn look_up(&self, question: &Question, failures: u32) -> Answers {
        let (Question::Host(name) | Question::Srv(name)) = question;
        let servers = self.servers_of(name);
        // Neither is ever closed, so a turn always comes.
        let _retry = if failures > 0 { servers.retries.acquire().await.ok() } else { None };
        let _turn = servers.turns.acquire().await;
        let query = |kind| self.query(servers, name, kind);
        match question {
            Question::Host(_) => {
                let (v4, v6) = tokio::join!(query(RecordType::A), query(RecordType::AAAA));
                Answers(vec![v4, v6])
            }
            Question::Srv(_) => Answers(vec![query(RecordType::SRV).await]),
        }
    }

    async fn query(&self, servers: &Servers, name: &str, kind: RecordType) -> Answer {
        let resolver = match &servers.resolver {
            Ok(resolver) => resolver,
            Err(why) => return Answer::Failed(why.clone()),
        };
        let mut asked = match Name::from_ascii(name) {
            Ok(asked) => asked,
            Err(error) => return Answer::Failed(format!("'{name}' cannot be asked for: {error}")),
        };
        asked.set_fqdn(true);
        match timeout(self.limit, ask(resolver, asked, kind)).await {
            Ok(Answer::Failed(why)) => Answer::Failed(format!("{why} (asked {})", servers.addresses)),
            Ok(answer) => answer,
            Err(_) => {
                let (limit, asked) = (self.limit, &servers.addresses);
                Answer::Failed(format!("no DNS server answered the {kind} query within {limit:?} (asked {asked})"))
            }
        }
    }

    /// Of the zones that hold a name the longest has its servers.
    fn servers_of(&self, name: &str) -> &Servers {
        let holding = self.zones.iter().filter(|(zone, _)| holds(zone, name));
        holding.max_by_key(|(zone, _)| zone.len()).map_or(&self.general, |(_, servers)| servers)
    }
}

impl Servers {
    fn new(config: Result<(ResolverConfig, ResolverOpts), String>, settings: &Settings) -> Self {
        let shown = |server: &NameServerConfig| {
            let port = server.connections.first().map_or(53, |connection| connection.port);
            SocketAddr::new(server.ip, port).to_string()
        };
        let all = |(config, _): &(ResolverConfig, ResolverOpts)| {
            config.name_servers().iter().map(shown).collect::<Vec<_>>().join(", ")
        };
        Self {
            addresses: config.as_ref().map(all).unwrap_or_default(),
            resolver: config.and_then(|config| resolver(config, settings)),
            turns: Semaphore::new(LOOK_UPS_AT_ONCE),
            retries: Semaphore::new(RETRIES_AT_ONCE),
        }
    }
}

/// Whether a name is a zone's, or under it.
fn holds(zone: &str, name: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn resolver(
    (config, mut options): (ResolverConfig, ResolverOpts),
    settings: &Settings,
) -> Result<Resolver<Marked>, String> {
    options.cache_size = 0;
    options.attempts = RETRIES;
    options.timeout = settings.timeout / 2;
    options.max_active_requests = QUERIES_AT_ONCE;
    let builder = Resolver::builder_with_config(config, Marked::with(settings.mark));
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

/// One query; and where its answer has no record, without an SOA that says so, a second: aliases that lead in a circle, or
/// on for longer than hickory follows them, look like that as well, and are nobody's *no*.
async fn ask(resolver: &Resolver<Marked>, asked: Name, kind: RecordType) -> Answer {
    let (answer, last) = match resolver.lookup(asked.clone(), kind).await {
        Ok(lookup) => (found(&lookup, kind), last_alias(&lookup).unwrap_or(asked)),
        Err(error) => (not_found(&error, kind), last_asked(&error).unwrap_or(asked)),
    };
    if answer == (Answer::Empty { ttl: None }) && is_alias(resolver, last).await {
        return Answer::Failed(format!("the {kind} query was led in a circle, or through too many aliases"));
    }
    answer
}

fn last_alias(lookup: &Lookup) -> Option<Name> {
    lookup.answers().iter().rev().find_map(|record| match &record.data {
        RData::CNAME(alias) => Some(alias.0.clone()),
        _ => None,
    })
}

fn last_asked(error: &NetError) -> Option<Name> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(no)) => Some(no.query.name().clone()),
        _ => None,
    }
}

async fn is_alias(resolver: &Resolver<Marked>, name: Name) -> bool {
    let lookup = resolver.lookup(name, RecordType::CNAME).await;
    lookup.is_ok_and(|lookup| last_alias(&lookup).is_some())
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
