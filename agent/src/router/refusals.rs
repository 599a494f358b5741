//! Endpoints that said lately that they have not got what a name asks for: an agent that is well, before a service that is
//! not. That speaks against the endpoint for this name, and for no other that leads there too.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use adit_protocol::Name;

use crate::{
    addr::Address,
    balance::{Admission, Health},
};

/// How long it is remembered how often one has refused in a row.
const KEPT: Duration = Duration::from_secs(60);
/// So many are known at the most; then all are forgotten, which costs each of their names an attempt.
const MOST: usize = 16_384;

/// Those of one bound name.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<Name, HashMap<Address, Refusal>>>);

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// From when on it is asked again: by every stream, for each is answered at once and goes elsewhere.
    health: Health,
    /// In its own words.
    pub(super) why: String,
}

impl Refusal {
    /// For how much longer it is left alone, in milliseconds.
    pub(super) fn left_ms(&self, now: Instant) -> Option<u64> {
        match self.health {
            Health::Down { until, .. } => u64::try_from(until.saturating_duration_since(now).as_millis()).ok(),
            Health::Up | Health::Probation { .. } => None,
        }
    }

    /// Whether nobody has asked it for long.
    fn is_old(&self, now: Instant) -> bool {
        matches!(self.health, Health::Down { until, .. } if now > until + KEPT)
    }
}

impl Refusals {
    /// The endpoint has refused `name`.
    pub(super) fn note(&self, name: &Name, address: &Address, why: &str, now: Instant, random: u64) {
        let mut all = self.all();
        all.retain(|_, of_name| {
            of_name.retain(|_, refusal| !refusal.is_old(now));
            !of_name.is_empty()
        });
        if all.values().map(HashMap::len).sum::<usize>() >= MOST {
            all.clear();
        }
        let of_name = all.entry(name.clone()).or_default();
        let health = of_name.get(address).map_or(Health::Up, |before| before.health).failed(now, random);
        of_name.insert(address.clone(), Refusal { health, why: why.to_owned() });
    }

    /// The endpoint has served `name`.
    pub(super) fn forget(&self, name: &Name, address: &Address) {
        if let Some(of_name) = self.all().get_mut(name) {
            of_name.remove(address);
        }
    }

    /// Those that are to be left alone by streams of `name` now, while there are others.
    pub(super) fn of(&self, name: &Name, now: Instant) -> Vec<(Address, Refusal)> {
        let all = self.all();
        let of_name = all.get(name).into_iter().flatten();
        let closed = of_name.filter(|(_, refusal)| refusal.health.admission(now) == Admission::Closed);
        closed.map(|(address, refusal)| (address.clone(), refusal.clone())).collect()
    }

    /// Nothing in here can be left half done.
    fn all(&self) -> MutexGuard<'_, HashMap<Name, HashMap<Address, Refusal>>> {
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
}
