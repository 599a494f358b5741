//! Where a bound name's addresses come from, line by line, and what becomes of the lines once their hosts are known. Pure:
//! what is known of a host is an argument.

use super::Addrs;
use super::question::{Fact, Record, Service};
use crate::addr::{Address, Weight, Weighted};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// More addresses than this are cut off, of all places together.
pub(super) const MAX_ADDRESSES: usize = 1024;

/// One line: a host, its port, and its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) tier: u16,
    /// Of all the host's addresses together.
    pub(super) weight: Weight,
}

/// An address, or a name to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Ip(IpAddr),
    Name(Arc<str>),
}

/// What is known of a bound name's places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Places {
    /// Nothing yet.
    Pending,
    /// These; none at all means that there is nothing there.
    Known(Arc<[Place]>),
    /// It could not be found out, and nothing was known before.
    Failed(Arc<str>),
}

impl Place {
    /// One host, like any other.
    pub(super) fn plain(host: Host, port: u16) -> Self {
        Self { host, port, tier: 0, weight: Weight::ONE }
    }

    /// The name that has to be looked up for it.
    pub(super) fn name(&self) -> Option<&Arc<str>> {
        match &self.host {
            Host::Name(name) => Some(name),
            Host::Ip(_) => None,
        }
    }
}

/// The places of a service (RFC 2782): the priority is the tier. `port` goes before the records' own. A target of `.` is no
/// place: "the service is decidedly not available at this domain".
pub(super) fn of_service(fact: &Fact, port: Option<u16>) -> Places {
    let place = |record: &Record| match record {
        Record::Service(Service { target, .. }) if target.is_empty() => None,
        Record::Service(service) => Some(Place {
            host: Host::Name(service.target.clone()),
            port: port.unwrap_or(service.port),
            tier: service.priority,
            weight: Weight::thousandths(u32::from(service.weight) * 1000),
        }),
        Record::Ip(_) => None,
    };
    match fact {
        Fact::Pending => Places::Pending,
        // Port 0 is none that a connection can be made to.
        Fact::Found(records) => {
            Places::Known(records.iter().filter_map(place).filter(|place| place.port != 0).collect())
        }
        Fact::Neg => Places::Known([].into()),
        Fact::Failed(why) => Places::Failed(why.clone()),
    }
}

/// What may be used of the places, and how many addresses are beyond the bound. Where no address was there `before`, all is
/// waited for, lest a later tier serve alone for a moment; else what is not known yet, or could not be found out, is passed
/// over, or, where nothing else is known, what was said before stays.
pub(super) fn compose(places: &Places, known: impl Fn(&str) -> Fact, before: &Addrs) -> (Addrs, usize) {
    let places = match places {
        Places::Pending => return (before.clone(), 0),
        Places::Failed(why) => return (Addrs::Failed(why.clone()), 0),
        Places::Known(places) => places,
    };
    let mut found = Found { alone: places.len() == 1, ..Found::default() };
    for place in places.iter() {
        match &place.host {
            Host::Ip(ip) => found.add(place, &[*ip]),
            Host::Name(name) => found.take(place, &known(name)),
        }
    }
    found.addrs(before)
}

/// What has been found so far.
#[derive(Default)]
struct Found {
    /// There is one place only, whose weight is nobody's affair.
    alone: bool,
    at: HashMap<SocketAddr, usize>,
    all: Vec<Weighted>,
    pending: bool,
    failed: Option<Arc<str>>,
}

impl Found {
    fn take(&mut self, place: &Place, fact: &Fact) {
        match fact {
            Fact::Pending => self.pending = true,
            Fact::Neg => {}
            Fact::Failed(why) => self.failed = Some(why.clone()),
            Fact::Found(records) => {
                let ips: Vec<IpAddr> = records
                    .iter()
                    .filter_map(|record| match record {
                        Record::Ip(ip) => Some(*ip),
                        Record::Service(_) => None,
                    })
                    .collect();
                self.add(place, &ips);
            }
        }
    }

    /// A host's addresses share its weight, so that a host with three has no triple share.
    fn add(&mut self, place: &Place, ips: &[IpAddr]) {
        let count = if self.alone { 1 } else { u32::try_from(ips.len()).unwrap_or(u32::MAX) };
        for ip in ips {
            let address = SocketAddr::new(*ip, place.port);
            let weight = place.weight.shared_by(count);
            let one = Weighted { address: Address::Tcp(address), tier: place.tier, weight };
            match self.at.get(&address) {
                Some(at) => merge(&mut self.all[*at], one),
                None => {
                    self.at.insert(address, self.all.len());
                    self.all.push(one);
                }
            }
        }
    }

    fn addrs(mut self, before: &Addrs) -> (Addrs, usize) {
        match (self.all.is_empty(), before) {
            (none, before) if self.pending && (none || !matches!(before, Addrs::Bound(_))) => (before.clone(), 0),
            (true, Addrs::Bound(_)) if self.failed.is_some() => (before.clone(), 0),
            (true, _) => (self.failed.map_or(Addrs::Neg, Addrs::Failed), 0),
            (false, _) => {
                let cut = self.all.len().saturating_sub(MAX_ADDRESSES);
                // Of too many the nearest stay.
                self.all.sort_by_key(|one| one.tier);
                self.all.truncate(MAX_ADDRESSES);
                (Addrs::Bound(self.all.into()), cut)
            }
        }
    }
}

/// One address named twice: in its lowest tier, and there with all its shares.
fn merge(kept: &mut Weighted, other: Weighted) {
    match kept.tier.cmp(&other.tier) {
        std::cmp::Ordering::Less => {}
        std::cmp::Ordering::Equal => kept.weight = kept.weight.plus(other.weight),
        std::cmp::Ordering::Greater => *kept = other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tier weight host:port`, with a name that stands for what is known of it.
    fn place(tier: u16, weight: u32, host: &str) -> Place {
        let host = host.parse().map_or_else(|_| Host::Name(host.into()), Host::Ip);
        Place { host, port: 1, tier, weight: Weight::thousandths(weight * 1000) }
    }

    fn known(name: &str) -> Fact {
        let ips = |ips: &[&str]| Fact::Found(ips.iter().map(|ip| Record::Ip(ip.parse().unwrap())).collect());
        match name {
            "one" => ips(&["10.0.0.1"]),
            "two" => ips(&["10.0.0.2", "10.0.0.3"]),
            "gone" => Fact::Neg,
            "failed" => Fact::Failed("servfail".into()),
            _ => Fact::Pending,
        }
    }

    fn told(places: &[Place], before: &Addrs) -> String {
        match compose(&Places::Known(places.into()), known, before).0 {
            Addrs::Bound(all) => {
                let line = |one: &Weighted| format!("{} {} {}", one.tier, one.weight.value(), one.address);
                all.iter().map(line).collect::<Vec<_>>().join(", ")
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn places_become_addresses_once_their_hosts_are_known() {
        let old = Addrs::Bound([Weighted::plain(Address::Tcp("10.9.9.9:1".parse().unwrap()))].into());
        let rows: [(&[Place], &Addrs, &str); 16] = [
            (&[], &Addrs::Pending, "Neg"),
            (&[place(0, 1, "one")], &Addrs::Pending, "0 1 10.0.0.1:1"),
            (&[place(0, 3, "two")], &Addrs::Pending, "0 3 10.0.0.2:1, 0 3 10.0.0.3:1"),
            (
                &[place(0, 3, "two"), place(0, 2, "one")],
                &Addrs::Pending,
                "0 1.5 10.0.0.2:1, 0 1.5 10.0.0.3:1, 0 2 10.0.0.1:1",
            ),
            (&[place(0, 0, "one")], &Addrs::Pending, "0 0.001 10.0.0.1:1"),
            (&[place(9, 1, "one"), place(1, 1, "10.0.0.9")], &Addrs::Pending, "1 1 10.0.0.9:1, 9 1 10.0.0.1:1"),
            (&[place(2, 5, "one"), place(1, 7, "10.0.0.1")], &Addrs::Pending, "1 7 10.0.0.1:1"),
            (&[place(1, 5, "one"), place(1, 7, "10.0.0.1")], &Addrs::Pending, "1 12 10.0.0.1:1"),
            (&[place(0, 1, "gone"), place(1, 1, "one")], &Addrs::Pending, "1 1 10.0.0.1:1"),
            (&[place(0, 1, "gone")], &old, "Neg"),
            (&[place(0, 1, "gone"), place(0, 1, "failed")], &Addrs::Pending, "Failed(\"servfail\")"),
            (&[place(0, 1, "gone"), place(0, 1, "failed")], &old, "0 1 10.9.9.9:1"),
            (&[place(0, 1, "wait"), place(1, 1, "one")], &Addrs::Pending, "Pending"),
            (&[place(0, 1, "wait"), place(1, 1, "one")], &old, "1 1 10.0.0.1:1"),
            (&[place(0, 1, "wait"), place(1, 1, "one")], &Addrs::Neg, "Neg"),
            (&[place(0, 1, "wait")], &old, "0 1 10.9.9.9:1"),
        ];
        for (places, before, expected) in rows {
            assert_eq!(told(places, before), expected, "{places:?}");
        }
    }

    #[test]
    fn a_service_is_read_as_rfc_2782_has_it() {
        let record = |priority, weight, port, target: &str| {
            Record::Service(Service { priority, weight, port, target: target.into() })
        };
        let records: Arc<[Record]> =
            [record(1, 0, 80, "a"), record(2, 9, 0, "b"), record(3, 9, 80, ""), record(4, 9, 81, "c")].into();
        let expect = |port: [u16; 2]| {
            let place = |tier, weight, port, host: &str| Place {
                host: Host::Name(host.into()),
                port,
                tier,
                weight: Weight::thousandths(weight),
            };
            vec![place(1, 0, port[0], "a"), place(4, 9000, port[1], "c")]
        };
        let found = Fact::Found(records);
        assert_eq!(of_service(&found, None), Places::Known(expect([80, 81]).into()));
        let Places::Known(overridden) = of_service(&found, Some(4143)) else { panic!("not known") };
        assert!(overridden.len() == 3 && overridden.iter().all(|place| place.port == 4143));
        let none = Fact::Found([record(0, 0, 0, "")].into());
        assert_eq!(of_service(&none, None), Places::Known([].into()), "a target of `.`");
    }

    #[test]
    fn of_too_many_addresses_the_lowest_tiers_stay() {
        let far =
            (0..2000_u32).map(|number| Place { tier: 1, ..place(0, 1, &std::net::Ipv4Addr::from(number).to_string()) });
        let places: Vec<Place> = far.chain([place(0, 1, "one")]).collect();
        let (addrs, cut) = compose(&Places::Known(places.into()), known, &Addrs::Pending);
        let Addrs::Bound(all) = addrs else { panic!("not bound") };
        assert_eq!((all.len(), cut, all[0].tier), (MAX_ADDRESSES, 2001 - MAX_ADDRESSES, 0));
    }
}
