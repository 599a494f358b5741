//! From an `Admitted` to a connected service: its target, filled in and looked up where it is a name, checked against
//! what it may reach and against our own doors, and connected within the limit, from the address that it shall see.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use adit_config::{Source, policy::Admitted, service::Backend};
use adit_protocol::{Code, Refusal};

use super::source;
use crate::{
    addr::Address,
    balance::Lease,
    router::{RouteError, Router, Way},
    slots::{Slot, Slots},
    streams::{OwnConnection, Registered, Streams},
    sys::ifaces::OwnAddresses,
    telemetry::metrics,
    wire::plain::{Bind, Connecting, Plain, SocketOptions},
};

/// Endpoints of one service that are tried for one stream.
const TRIES: usize = 3;

/// The services of this host.
#[derive(Debug)]
pub struct Services {
    /// From a name to the endpoints that serve it, for targets that are names.
    pub router: Arc<Router>,
    /// For each service in the file's order, and then for each capture, how many streams at once and how long connecting
    /// may take.
    pub bounds: Vec<Bounds>,
    /// The addresses this agent itself listens on.
    pub doors: Vec<SocketAddr>,
    /// The addresses of this host.
    pub own: OwnAddresses,
    /// The mark of what is sent from a client's address.
    pub route_mark: u32,
    /// All live streams: they are told of each connection that is made for one.
    pub streams: Arc<Streams>,
}

/// What bounds one service.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// What it is called in the metrics: its first name, as the file has it.
    pub label: Arc<str>,
    /// Streams at once.
    pub slots: Arc<Slots>,
    /// From judging to a connected socket.
    pub connect: Duration,
}

impl Bounds {
    /// Those of the service that the metrics call so.
    #[must_use]
    pub fn new(label: String, slots: Arc<Slots>, connect: Duration) -> Self {
        metrics::service_served(&label);
        Self { label: label.into(), slots, connect }
    }
}

/// Whom a service is connected for.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The stream.
    pub stream: &'a Registered,
    /// How many tunnels it has gone through.
    pub hops: u8,
    /// The client's address, as the service is to see it.
    pub client: SocketAddr,
}

/// Why a service was not reached.
enum Unreached {
    /// It did not take the connection, or nothing leads there.
    There(io::Error),
    /// The connection was never begun: it could not come from the client's address, which says nothing of the service.
    Here(io::Error),
}

/// What one stream has tried so far.
#[derive(Default)]
struct Tried {
    avoid: Vec<Address>,
    /// The ways all of whose endpoints are to be avoided.
    spent: Vec<Arc<Way>>,
    last: Option<Refusal>,
}

/// A service that was reached.
#[derive(Debug)]
pub struct Connected {
    /// Its socket.
    pub service: Plain,
    /// Where it is.
    pub to: Address,
    /// The stream's place among those of the service.
    pub _slot: Slot,
    /// Its lease on the endpoint.
    pub _lease: Option<Lease>,
    /// What keeps the connection known as ours.
    pub _own: Option<OwnConnection>,
}

impl Services {
    /// The address that a service is to see of a client at `source` by the word of the agent at `agent`.
    pub fn client(&self, admitted: &Admitted, source: Option<SocketAddr>, agent: SocketAddr) -> SocketAddr {
        match admitted.source() {
            Source::Agent => agent,
            // While nothing is known of this host's addresses, any may be one.
            Source::ProxyV1 | Source::ProxyV2 | Source::Transparent => {
                source::client(source, agent, |ip| self.own.has(ip).unwrap_or(true))
            }
        }
    }

    /// Connects to the admitted service.
    ///
    /// # Errors
    /// The refusal that says why not, for a peer that may know.
    pub async fn connect(
        &self,
        admitted: &Admitted,
        caller: Caller<'_>,
        options: &SocketOptions,
    ) -> Result<Connected, Refusal> {
        let bounds = &self.bounds[admitted.service()];
        let slot = bounds.slots.try_take().ok_or_else(|| {
            metrics::limit_reached("service_streams");
            Refusal::new(Code::Overloaded, "the service has too many streams")
        })?;
        match tokio::time::timeout(bounds.connect, self.reach(admitted, caller, options)).await {
            Ok(Ok(((service, own), to, lease))) => {
                metrics::service_connected(&bounds.label, "ok");
                Ok(Connected { service, to, _slot: slot, _lease: lease, _own: own })
            }
            Ok(Err(refusal)) => {
                metrics::service_connected(&bounds.label, "failed");
                Err(refusal)
            }
            Err(_) => {
                metrics::service_connected(&bounds.label, "timeout");
                metrics::limit_reached("connect");
                // Without the rules its answers go to the client, who knows nothing of them.
                let help = match admitted.source() {
                    Source::Transparent => "; source = \"transparent\" needs the rules of `adit redirect apply` there",
                    Source::Agent | Source::ProxyV1 | Source::ProxyV2 => "",
                };
                let reason = format!("the service did not connect within {:?}{help}", bounds.connect);
                Err(Refusal::new(Code::Timeout, reason))
            }
        }
    }

    /// Where the admitted service would be connected: for a probe.
    ///
    /// # Errors
    /// The refusal that `connect` would give without connecting.
    pub async fn locate(&self, admitted: &Admitted) -> Result<String, Refusal> {
        let bounds = &self.bounds[admitted.service()];
        let located = tokio::time::timeout(bounds.connect, self.pick(admitted, &mut Tried::default())).await;
        let (address, _) = located.map_err(|_| Refusal::new(Code::Timeout, "the look-up took too long"))??;
        self.check(admitted, &address)?;
        Ok(match address {
            Address::Tcp(address) => format!("/$/inet/{}/{}", address.ip(), address.port()),
            Address::Unix(path) => format!("/$/unix{}", path.display()),
        })
    }

    async fn reach(
        &self,
        admitted: &Admitted,
        caller: Caller<'_>,
        options: &SocketOptions,
    ) -> Result<((Plain, Option<OwnConnection>), Address, Option<Lease>), Refusal> {
        let mut tried = Tried::default();
        loop {
            let (address, lease) = match self.pick(admitted, &mut tried).await {
                Ok(picked) => picked,
                // What happened at an endpoint says more than that there is no other.
                Err(none) => return Err(tried.last.unwrap_or(none)),
            };
            self.check(admitted, &address)?;
            let began = Instant::now();
            match self.connect_to(admitted, &address, caller, options).await {
                Ok(service) => {
                    lease.iter().for_each(|lease| lease.opened(began.elapsed()));
                    return Ok((service, address, lease));
                }
                Err(unreached) => {
                    let refusal = unavailable(&address, &unreached);
                    let Some(lease) = lease else { return Err(refusal) };
                    // What a peer says of its client must put no endpoint down for others.
                    if matches!(unreached, Unreached::There(_)) {
                        lease.failed(&refusal.reason);
                    }
                    tried.avoid.push(address);
                    if tried.avoid.len() == TRIES {
                        return Err(refusal);
                    }
                    tried.last = Some(refusal);
                }
            }
        }
    }

    /// The connection is known as ours before anybody can accept it: it may be one of our own doors, however it got there.
    async fn connect_to(
        &self,
        admitted: &Admitted,
        address: &Address,
        caller: Caller<'_>,
        options: &SocketOptions,
    ) -> Result<(Plain, Option<OwnConnection>), Unreached> {
        let own_ip = match address {
            Address::Tcp(tcp) if admitted.must_be_own() => Some(tcp.ip()),
            Address::Tcp(_) | Address::Unix(_) => None,
        };
        let bind = source::bind(admitted.source(), caller.client, self.route_mark, own_ip);
        let begun = self.streams.own(caller.stream.carried(caller.hops), || {
            let connecting = Connecting::begin_from(bind, address, options)?;
            let ends = connecting.ends();
            Ok((connecting, ends))
        });
        let (connecting, own) = begun.map_err(if bind == Bind::Any { Unreached::There } else { Unreached::Here })?;
        Ok((connecting.finish(options).await.map_err(Unreached::There)?, own))
    }

    /// An endpoint of the admitted service that was not tried, and no lease on one that the file gives.
    async fn pick(&self, admitted: &Admitted, tried: &mut Tried) -> Result<(Address, Option<Lease>), Refusal> {
        let target = admitted.target().map_err(|error| Refusal::new(Code::Unavailable, error.to_string()))?;
        let name = match target {
            Backend::Tcp(address) => return Ok((Address::Tcp(*address), None)),
            Backend::Unix(path) => return Ok((Address::Unix(path.clone()), None)),
            Backend::Name(name) => name,
        };
        loop {
            let way = self.router.route_past(&tried.spent, name).await.map_err(|error| unrouted(&error))?;
            match way.balancer().pick(&tried.avoid) {
                Some(lease) => return Ok((lease.address().clone(), Some(lease))),
                None => tried.spent.push(way),
            }
        }
    }

    /// The last look before connecting: a target that was captured from the wire stays within its reach, that of a captured
    /// connection is this host, and no target is one of our own doors.
    fn check(&self, admitted: &Admitted, address: &Address) -> Result<(), Refusal> {
        match address {
            Address::Unix(_) if admitted.may_reach_unix() => Ok(()),
            Address::Tcp(tcp) if admitted.must_be_own() => self.check_own(admitted, *tcp),
            Address::Tcp(tcp) if self.is_own_door(*tcp) => Err(own_door(address)),
            Address::Tcp(tcp) if admitted.may_reach(*tcp) => Ok(()),
            Address::Tcp(_) | Address::Unix(_) => Err(Refusal::new(
                Code::Denied,
                format!("{} does not reach this far: its `reach` does not hold {address}", admitted.rule()),
            )),
        }
    }

    fn check_own(&self, admitted: &Admitted, address: SocketAddr) -> Result<(), Refusal> {
        let is_own = match admitted.source() {
            Source::Agent | Source::ProxyV1 | Source::ProxyV2 => self.own.has(address.ip()),
            Source::Transparent => self.own.has_now(address.ip()),
        };
        match is_own {
            // Whichever of this host's addresses the door is on (PROTOCOL.md section 6).
            Ok(true) if self.doors.iter().any(|door| door.port() == address.port()) => {
                Err(own_door(&Address::Tcp(address)))
            }
            Ok(true) => Ok(()),
            Ok(false) => {
                let rule = admitted.rule();
                Err(Refusal::new(Code::Unknown, format!("{rule}: {} is no address of this host", address.ip())))
            }
            Err(error) => Err(Refusal::new(Code::Unavailable, format!("asking for this host's addresses: {error}"))),
        }
    }

    fn is_own_door(&self, address: SocketAddr) -> bool {
        self.doors.iter().any(|door| door.port() == address.port() && takes(door.ip(), address.ip()))
    }
}

/// Whether a door on one address takes a connection to the other. Who connects to the unspecified address, or to an IPv4 one
/// written as IPv6, comes out at loopback, or at the IPv4 one.
fn takes(door: IpAddr, target: IpAddr) -> bool {
    let (door, target) = (door.to_canonical(), target.to_canonical());
    let here = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    // A door on IPv6's unspecified address takes IPv6 alone: it is opened so.
    let wild = (door.is_unspecified() && here(target)) || (target.is_unspecified() && here(door));
    door == target || (wild && door.is_ipv4() == target.is_ipv4())
}

fn own_door(address: &Address) -> Refusal {
    Refusal::new(Code::Loop, format!("{address} is a listener of this agent itself"))
}

fn unavailable(address: &Address, unreached: &Unreached) -> Refusal {
    let (Unreached::There(error) | Unreached::Here(error)) = unreached;
    let code = if error.kind() == io::ErrorKind::TimedOut { Code::Timeout } else { Code::Unavailable };
    Refusal::new(code, format!("connecting to the service at {address}: {error}"))
}

fn unrouted(error: &RouteError) -> Refusal {
    let code = match error {
        RouteError::NoSuchName { .. } | RouteError::Empty { .. } => Code::Unknown,
        RouteError::Forbidden { .. } => Code::Denied,
        _ => Code::Unavailable,
    };
    Refusal::new(code, format!("the service's own name: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_takes_what_the_kernel_would_bring_to_it() {
        let table = [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.1", "127.0.0.1", false),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("127.0.0.1", "0.0.0.0", true),
            ("127.0.0.1", "::", false),
            ("0.0.0.0", "::1", false),
            ("::", "127.0.0.1", false),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0", "127.0.0.2", true),
            ("0.0.0.0", "::ffff:127.0.0.1", true),
            ("0.0.0.0", "10.0.0.1", false),
            ("::1", "::", true),
        ];
        for (door, target, expected) in table {
            assert_eq!(takes(door.parse().unwrap(), target.parse().unwrap()), expected, "{door} for {target}");
        }
    }
}
