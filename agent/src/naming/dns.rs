//! One look-up of a host's A and AAAA records through hickory-resolver. It holds no answer: the
//! resolver's own cache is off, so that times to live are judged in one place. Names are taken as
//! they are, never with a search domain, so that a name means the same on every host.

use super::Settings;
use super::known::{Answer, Answers};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
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

/// Asks DNS servers.
pub(super) struct Dns {
    resolver: TokioResolver,
    limit: Duration,
}

impl Dns {
    /// A resolver for the servers of the settings, or of the system.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let (config, mut options) = match settings.servers.as_slice() {
            [] => system()?,
            servers => given(servers),
        };
        options.cache_size = 0;
        options.attempts = RETRIES;
        options.timeout = settings.timeout / 2;
        options.max_active_requests = QUERIES_AT_ONCE;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let built = builder.with_options(options).build();
        let resolver = built.map_err(|error| format!("the resolver cannot start: {error}"))?;
        Ok(Self { resolver, limit: settings.timeout })
    }

    /// Both families of a host, each within the limit.
    pub(super) async fn look_up(&self, host: &str) -> Answers {
        let mut name = match Name::from_ascii(host) {
            Ok(name) => name,
            Err(error) => {
                return Answers::failed(&format!("'{host}' cannot be asked for: {error}"));
            }
        };
        name.set_fqdn(true);
        let (v4, v6) =
            tokio::join!(self.query(name.clone(), RecordType::A), self.query(name.clone(), RecordType::AAAA));
        Answers { v4, v6 }
    }

    async fn query(&self, name: Name, kind: RecordType) -> Answer {
        match timeout(self.limit, self.resolver.lookup(name, kind)).await {
            Ok(Ok(lookup)) => found(&lookup),
            Ok(Err(error)) => not_found(&error, kind),
            Err(_) => Answer::Failed(format!("no DNS server answered the {kind} query within {:?}", self.limit)),
        }
    }
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

/// The addresses, and the shortest time to live on the way to them, CNAMEs included.
fn found(lookup: &Lookup) -> Answer {
    let ips = lookup.answers().iter().filter_map(|record| match &record.data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    });
    let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    Answer::Found { ips: ips.collect(), ttl: Duration::from_secs(ttl.into()) }
}

/// What an answer without addresses means: only *no such name* and *no such record* count.
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
