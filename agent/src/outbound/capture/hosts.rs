//! The addresses of the host names that capture rules are about, kept fresh by the namers for as long as a rule names them.
//! An address that has left the answer counts for a while longer: applications keep addresses longer than DNS does.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use adit_config::{Captures, HostHas, dtab::Bound};
use adit_protocol::Name;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    addr::Address,
    naming::{Addrs, Namers},
};

/// Addresses of one name that are remembered; of more those that left first are forgotten. A name behind which machines come
/// and go all day has some hundreds an hour.
const MOST_REMEMBERED: usize = 4096;

/// The host names that are followed.
#[derive(Debug)]
pub struct Hosts {
    namers: Arc<Namers>,
    followed: Mutex<HashMap<String, Host>>,
}

/// One host name, followed until it is dropped.
#[derive(Debug)]
struct Host {
    known: watch::Receiver<Known>,
    _follows: DropGuard,
}

/// What is known of one host name.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Why nothing can be told yet; `None` once something was.
    lacks: Option<Lack>,
    /// Its addresses, and those that left: when.
    addresses: HashMap<IpAddr, Option<Instant>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Lack {
    Answer,
    Failed(Arc<str>),
}

/// A host name, as the status page shows it.
#[derive(Debug, Serialize)]
pub struct HostStatus {
    host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    addresses: Vec<IpAddr>,
    remembered: Vec<IpAddr>,
}

impl Hosts {
    /// None is followed yet.
    pub fn new(namers: Arc<Namers>) -> Arc<Self> {
        Arc::new(Self { namers, followed: Mutex::default() })
    }

    /// Follows the host names of these rules, and no others. What is known of those that stay is kept.
    pub fn follow(&self, rules: &Captures) {
        // It is the addresses that count, and the port of the first rule is the one that people expect to see.
        let wanted: BTreeMap<&str, u16> = rules.hosts().map(|(rule, host)| (host, rules.port_of(rule))).rev().collect();
        let mut followed = self.followed();
        followed.retain(|host, _| wanted.contains_key(host.as_str()));
        for (host, port) in wanted {
            if !followed.contains_key(host) {
                followed.extend(self.begin(host, port).map(|begun| (host.to_owned(), begun)));
            }
        }
    }

    fn begin(&self, host: &str, port: u16) -> Option<Host> {
        // The file's check has read the name.
        let bound = Bound::parse(&Name::parse(&format!("/#/dns/{host}/{port}")).ok()?).ok()?;
        let (tell, known) = watch::channel(Known { lacks: Some(Lack::Answer), ..Known::default() });
        let until = self.namers.stop().child_token();
        self.namers.tasks().spawn(follow(self.namers.watch(&bound), tell, until.clone()));
        Some(Host { known, _follows: until.drop_guard() })
    }

    /// Whether a host name has an address, or had it less than `remember` ago.
    pub fn has(&self, host: &str, ip: IpAddr, remember: Duration) -> HostHas {
        let Some(known) = self.known(host) else { return HostHas::Unknown };
        let has = known.borrow().has(ip, remember, Instant::now());
        match has {
            // Of the two queries one may have failed: that says nothing about the addresses of its kind.
            HostHas::No | HostHas::Never if self.namers.lacks(host, ip.is_ipv4()).is_some() => HostHas::Unknown,
            has => has,
        }
    }

    /// Waits until something is known of a host name's addresses of the kind that `ip` is of.
    ///
    /// # Errors
    /// Why nothing is, by `deadline` or at once.
    pub async fn told(&self, host: &str, ip: IpAddr, deadline: tokio::time::Instant) -> Result<(), String> {
        let Some(mut known) = self.known(host) else { return Err(format!("{host} is followed no more")) };
        let settled = known.wait_for(|known| known.lacks != Some(Lack::Answer));
        match tokio::time::timeout_at(deadline, settled).await {
            Ok(Ok(known)) => {
                let lack = match &known.lacks {
                    Some(Lack::Failed(why)) => Some(why.to_string()),
                    Some(Lack::Answer) | None => self.namers.lacks(host, ip.is_ipv4()),
                };
                lack.map_or(Ok(()), |why| Err(format!("the addresses of {host} could not be found out: {why}")))
            }
            Ok(Err(_)) => Err(format!("{host} is followed no more")),
            Err(_) => Err(format!("the addresses of {host} were not found out in time")),
        }
    }

    /// All of them, in their order.
    pub fn status(&self) -> Vec<HostStatus> {
        let mut all: Vec<_> =
            self.followed().iter().map(|(host, followed)| HostStatus::of(host, &followed.known.borrow())).collect();
        all.sort_by(|one, other| one.host.cmp(&other.host));
        all
    }

    fn known(&self, host: &str) -> Option<watch::Receiver<Known>> {
        self.followed().get(host).map(|host| host.known.clone())
    }

    /// Each change of the map is one insertion or removal, so a panic elsewhere spoils nothing.
    fn followed(&self) -> MutexGuard<'_, HashMap<String, Host>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what is known of one name as it changes, until `stop`.
async fn follow(mut answers: watch::Receiver<Addrs>, tell: watch::Sender<Known>, stop: CancellationToken) {
    loop {
        let answer = answers.borrow_and_update().clone();
        tell.send_modify(|known| known.note(&answer, Instant::now()));
        match stop.run_until_cancelled(answers.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return,
        }
    }
}

impl Known {
    fn note(&mut self, answer: &Addrs, now: Instant) {
        let found: BTreeSet<IpAddr> = match answer {
            // What was known still counts.
            Addrs::Pending => return,
            Addrs::Failed(why) => {
                if self.lacks.is_some() {
                    self.lacks = Some(Lack::Failed(Arc::clone(why)));
                }
                return;
            }
            Addrs::Neg => BTreeSet::new(),
            Addrs::Bound(addresses) => addresses.iter().filter_map(|weighted| ip(&weighted.address)).collect(),
        };
        self.lacks = None;
        for (ip, left) in &mut self.addresses {
            if !found.contains(ip) {
                left.get_or_insert(now);
            }
        }
        self.addresses.extend(found.into_iter().map(|ip| (ip, None)));
        self.forget();
    }

    fn forget(&mut self) {
        while self.addresses.len() > MOST_REMEMBERED {
            let gone = self.addresses.iter().filter_map(|(ip, left)| left.map(|left| (left, *ip))).min();
            let Some((_, ip)) = gone else { return };
            self.addresses.remove(&ip);
        }
    }

    fn has(&self, ip: IpAddr, remember: Duration, now: Instant) -> HostHas {
        let counts = |left: &Option<Instant>| left.is_none_or(|left| now.duration_since(left) < remember);
        match (self.addresses.get(&ip), &self.lacks) {
            (Some(left), _) if counts(left) => HostHas::Yes,
            (_, None) if self.addresses.is_empty() => HostHas::Never,
            (_, None) => HostHas::No,
            (_, Some(_)) => HostHas::Unknown,
        }
    }
}

fn ip(address: &Address) -> Option<IpAddr> {
    match address {
        Address::Tcp(address) => Some(address.ip().to_canonical()),
        Address::Unix(_) => None,
    }
}

impl HostStatus {
    fn of(host: &str, known: &Known) -> Self {
        let of = |is_there: bool| {
            let mut some: Vec<_> =
                known.addresses.iter().filter(|(_, left)| left.is_none() == is_there).map(|(ip, _)| *ip).collect();
            some.sort();
            some
        };
        let fault = match &known.lacks {
            Some(Lack::Answer) => Some("nothing is known yet".to_owned()),
            Some(Lack::Failed(why)) => Some(why.to_string()),
            None if known.addresses.is_empty() => Some("it has never had an address".to_owned()),
            None => None,
        };
        Self { host: host.to_owned(), fault, addresses: of(true), remembered: of(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Weighted;

    const HOUR: Duration = Duration::from_secs(3600);

    fn answer(ips: &[&str]) -> Addrs {
        let plain = |ip: &&str| Weighted::plain(Address::Tcp((ip.parse::<IpAddr>().unwrap(), 1).into()));
        Addrs::Bound(ips.iter().map(plain).collect())
    }

    fn unknown() -> Known {
        Known { lacks: Some(Lack::Answer), ..Known::default() }
    }

    #[test]
    fn an_address_that_left_counts_for_a_while() {
        let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let (mut known, start) = (unknown(), Instant::now());
        known.note(&answer(&["10.0.0.1"]), start);
        known.note(&answer(&["10.0.0.2"]), start + HOUR);
        assert_eq!(known.has(a, HOUR, start + HOUR * 3 / 2), HostHas::Yes);
        assert_eq!(known.has(b, HOUR, start + HOUR * 9), HostHas::Yes);
        assert_eq!(known.has(a, HOUR, start + HOUR * 2), HostHas::No);
        // and one that comes back is there
        known.note(&answer(&["10.0.0.1"]), start + HOUR * 3);
        assert_eq!(known.has(a, HOUR, start + HOUR * 9), HostHas::Yes);
    }

    #[test]
    fn nothing_can_be_told_of_a_name_before_its_first_answer_and_all_after_it() {
        let (a, now) = ("10.0.0.1".parse().unwrap(), Instant::now());
        let mut known = unknown();
        assert_eq!(known.has(a, HOUR, now), HostHas::Unknown);
        known.note(&Addrs::Failed("servfail".into()), now);
        assert_eq!(known.has(a, HOUR, now), HostHas::Unknown);
        known.note(&Addrs::Neg, now);
        assert_eq!(known.has(a, HOUR, now), HostHas::Never);
        known.note(&answer(&["10.0.0.2"]), now);
        known.note(&Addrs::Neg, now);
        assert_eq!(known.has(a, HOUR, now), HostHas::No);
        known.note(&Addrs::Failed("servfail".into()), now);
        assert_eq!(known.has(a, HOUR, now), HostHas::No, "an answer was there");
    }

    #[test]
    fn of_too_many_those_that_left_first_are_forgotten() {
        let (mut known, start) = (unknown(), Instant::now());
        for second in 0..2 * MOST_REMEMBERED {
            let ip = IpAddr::from(std::net::Ipv4Addr::from_bits(u32::try_from(second).unwrap()));
            known.note(&answer(&[&ip.to_string()]), start + Duration::from_secs(second as u64));
        }
        assert_eq!(known.addresses.len(), MOST_REMEMBERED);
        let first: IpAddr = "0.0.0.0".parse().unwrap();
        assert_eq!(known.has(first, HOUR * 9, start + HOUR), HostHas::No);
    }
}
