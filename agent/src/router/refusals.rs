//! Endpoints that said lately that they have not got what a name asks for: an agent that is well, before a service that is
//! not. That speaks against the endpoint for this name, and for no other that leads there too.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use adit_protocol::Name;
use serde::Serialize;

use crate::{
    addr::Address,
    balance::{Admission, Health},
};

/// How long it is remembered how often one has refused in a row.
const KEPT: Duration = Duration::from_secs(60);
/// How often those that are old are looked for, at the most.
const SWEEP: Duration = Duration::from_secs(1);
/// So many are known at the most; then all are forgotten, which costs each of their names an attempt.
const MOST: usize = 16_384;
/// So many are told of, at the most.
const TOLD: usize = 100;

/// Those of one bound name.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    of: HashMap<Name, HashMap<Address, Refusal>>,
    /// As many as there are, or were before some were forgotten.
    count: usize,
    swept: Option<Instant>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// From when on it is asked again: by every stream, for each is answered at once and goes elsewhere.
    health: Health,
    /// In its own words.
    pub(super) why: Arc<str>,
}

/// One of them, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct RefusalStatus {
    /// The logical name.
    pub name: String,
    /// The endpoint.
    pub address: String,
    /// For how much longer it is left out for this name, in milliseconds.
    pub for_ms: u64,
    /// In its own words.
    pub why: String,
}

impl Refusal {
    /// For how much longer it is left alone, in milliseconds.
    pub(super) fn left_ms(&self, now: Instant) -> Option<u64> {
        match self.health {
            Health::Down { until, .. } => u64::try_from(until.saturating_duration_since(now).as_millis()).ok(),
            Health::Up | Health::Probation { .. } => None,
        }
    }

    fn is_closed(&self, now: Instant) -> bool {
        self.health.admission(now) == Admission::Closed
    }

    /// Whether nobody has asked it for long.
    fn is_old(&self, now: Instant) -> bool {
        matches!(self.health, Health::Down { until, .. } if now > until + KEPT)
    }
}

impl Known {
    /// Forgets those that are old, and all if there are too many still.
    fn make_room(&mut self, now: Instant) {
        if self.count < MOST && self.swept.is_some_and(|swept| now < swept + SWEEP) {
            return;
        }
        self.swept = Some(now);
        self.of.retain(|_, of_name| {
            of_name.retain(|_, refusal| !refusal.is_old(now));
            !of_name.is_empty()
        });
        self.count = self.of.values().map(HashMap::len).sum();
        if self.count >= MOST {
            self.of.clear();
            self.count = 0;
        }
    }
}

impl Refusals {
    /// The endpoint has refused `name`.
    pub(super) fn note(&self, name: &Name, address: &Address, why: &str, now: Instant, random: u64) {
        let mut known = self.known();
        known.make_room(now);
        let of_name = known.of.entry(name.clone()).or_default();
        let before =
            of_name.get(address).filter(|before| !before.is_old(now)).map_or(Health::Up, |before| before.health);
        let is_new = of_name.insert(address.clone(), Refusal { health: before.failed(now, random), why: why.into() });
        known.count += usize::from(is_new.is_none());
    }

    /// The endpoint has served `name`.
    pub(super) fn forget(&self, name: &Name, address: &Address) {
        if let Some(of_name) = self.known().of.get_mut(name) {
            of_name.remove(address);
        }
    }

    /// Those that are to be left alone by streams of `name` now, while there are others.
    pub(super) fn of(&self, name: &Name, now: Instant) -> Vec<(Address, Refusal)> {
        let known = self.known();
        let of_name = known.of.get(name).into_iter().flatten();
        let closed = of_name.filter(|(_, refusal)| refusal.is_closed(now));
        closed.map(|(address, refusal)| (address.clone(), refusal.clone())).collect()
    }

    /// Those of every name, the first of them.
    pub(super) fn status(&self, now: Instant) -> Vec<RefusalStatus> {
        let known = self.known();
        let each = known.of.iter().flat_map(|(name, of_name)| of_name.iter().map(move |one| (name, one)));
        let closed = each.filter(|(_, (_, refusal))| refusal.is_closed(now));
        let told = closed.take(TOLD).map(|(name, (address, refusal))| RefusalStatus {
            name: name.to_string(),
            address: address.to_string(),
            for_ms: refusal.left_ms(now).unwrap_or_default(),
            why: refusal.why.to_string(),
        });
        let mut told: Vec<_> = told.collect();
        told.sort_by(|one, other| (&one.name, &one.address).cmp(&(&other.name, &other.address)));
        told
    }

    /// Nothing in here can be left half done.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_of_one_name_and_one_endpoint_and_over_after_a_while_or_once_it_has_served() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let [one, other] = ["/svc/one", "/svc/other"].map(|name| Name::parse(name).unwrap());
        let [here, there] = ["10.0.0.1:1", "10.0.0.2:1"].map(|at| Address::Tcp(at.parse().unwrap()));
        refusals.note(&one, &here, "unavailable", now, 200);
        refusals.note(&one, &there, "unavailable", now, 200);
        assert_eq!((refusals.of(&one, now).len(), refusals.of(&other, now).len()), (2, 0));
        refusals.forget(&one, &there);
        let left = refusals.of(&one, now);
        assert_eq!((left.len(), &left[0].0, left[0].1.left_ms(now)), (1, &here, Some(1000)));
        assert!(refusals.of(&one, now + Duration::from_secs(1)).is_empty());
        // and the second in a row counts for longer
        let later = now + Duration::from_secs(2);
        refusals.note(&one, &here, "unavailable", later, 200);
        assert_eq!(refusals.of(&one, later)[0].1.left_ms(later), Some(2000));
        // but not after nobody has asked for long
        let much_later = later + Duration::from_secs(2) + KEPT + KEPT;
        refusals.note(&one, &here, "unavailable", much_later, 200);
        assert_eq!(refusals.of(&one, much_later)[0].1.left_ms(much_later), Some(1000));
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for_and_old_ones_make_room() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let here = Address::Tcp("10.0.0.1:1".parse().unwrap());
        let name = |number: usize| Name::parse(&format!("/svc/{number}")).unwrap();
        let count = || refusals.known().of.values().map(HashMap::len).sum::<usize>();
        for number in 0..MOST + 10 {
            refusals.note(&name(number), &here, "unavailable", now, 200);
            assert!(count() <= MOST);
        }
        assert_eq!((count(), refusals.status(now).len()), (10, 10));
        refusals.note(&name(0), &here, "unavailable", now + KEPT + KEPT, 200);
        assert_eq!(count(), 1);
    }
}
