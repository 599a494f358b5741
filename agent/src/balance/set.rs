//! The endpoints of one answer, and the choice among them: of two drawn by weight, the one that is less busy for its
//! weight. What may be drawn is kept as it changes, so that a choice costs the same whether tens or thousands are there,
//! and whoever is down. Pure; the time and the random numbers are arguments.

use super::endpoint::{Endpoint, EndpointStatus};
use super::health::{Admission, Health};
use super::weights::Weights;
use crate::addr::{Address, Weight, Weighted};
use crate::flight::Pick;
use adit_config::peers::{BalancerKind, OnLeave};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// How many streams an endpoint may owe, or be owed, so that the shares stay true. Two choices alone give a weight of 1
/// beside 9 far less than a tenth of short streams, for nothing is open when the next one comes; the debt is what
/// remembers. A debt of one or two streams is the rule, so at 4 the shares hold to a few streams in thousands (at 2 to half
/// a percent). It is bounded so that an endpoint that is slow, and so gets less than its share, saves up no claim: by 4 it
/// can have no more than 8 streams above what a quick one of its weight has.
const DEBT: f64 = 4.0;

/// The addresses as they were given last, with an endpoint for each.
#[derive(Debug, Default)]
pub(super) struct Set {
    addresses: Arc<[Weighted]>,
    slots: Vec<Slot>,
    places: HashMap<Address, usize>,
    /// The lowest first.
    tiers: Vec<Tier>,
    /// When the back-off of those that are down is over; what is outdated in here does no harm.
    back_offs: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Those that left while streams were on them: if they come back, their counts and health are still true.
    left: HashMap<Address, Weak<Endpoint>>,
}

/// Endpoints that a stream is to have none of, or others before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Without<'a> {
    /// It was there in vain: none of these.
    pub avoid: &'a [Address],
    /// They have refused its name lately: while any other is up, none of these.
    pub refused: &'a [Address],
}

/// What was drawn for one stream, by the places of the slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) at: usize,
    /// The other one, if another was drawn.
    other: Option<usize>,
}

/// An endpoint in its place.
#[derive(Debug)]
struct Slot {
    endpoint: Arc<Endpoint>,
    weight: u32,
    tier: usize,
    /// Its place within its tier.
    place: usize,
    /// At what time of its tier it has had its share.
    due: f64,
    picks: u64,
    /// It may be drawn.
    admitted: bool,
    /// The end of a back-off that is in the heap.
    back_off: Option<Instant>,
}

/// The endpoints that are as near as one another.
#[derive(Debug)]
struct Tier {
    number: u16,
    slots: Vec<usize>,
    /// Of those that would let a stream in.
    up: Weights,
    /// Of them all.
    all: Weights,
    /// What one thousandth of a weight has had since the answer came, in streams.
    time: f64,
}

impl Tier {
    /// How many streams a slot has had above its share; less than its share is below 0.
    fn ahead(&self, slot: &Slot) -> f64 {
        ((slot.due - self.time) * f64::from(slot.weight)).clamp(-DEBT, DEBT)
    }

    /// What the next stream adds to what everybody has had. Those that are down have no share.
    fn step(&self) -> f64 {
        let total = if self.up.total() > 0 { self.up.total() } else { self.all.total() };
        1.0 / total as f64
    }
}

impl Set {
    /// Takes these addresses instead of the ones before; what is known of those that stay or come back is kept. An
    /// address that is named twice counts as it was named first.
    pub(super) fn update(&mut self, addresses: &Arc<[Weighted]>, on_leave: OnLeave, now: impl FnOnce() -> Instant) {
        if Arc::ptr_eq(&self.addresses, addresses) {
            return;
        }
        let mut tiers: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        let (mut slots, mut places) = (Vec::with_capacity(addresses.len()), HashMap::with_capacity(addresses.len()));
        for Weighted { address, tier, weight } in addresses.iter() {
            if !places.contains_key(address) {
                let members = tiers.entry(*tier).or_default();
                slots.push(Slot { weight: weight.count(), place: members.len(), ..self.known(address, on_leave) });
                members.push(slots.len() - 1);
                places.insert(address.clone(), slots.len() - 1);
            }
        }
        self.part_from(&places);
        *self = Self {
            addresses: addresses.clone(),
            tiers: tiers.into_iter().map(|(number, slots)| Tier::of(number, slots)).collect(),
            slots,
            places,
            back_offs: BinaryHeap::new(),
            left: std::mem::take(&mut self.left),
        };
        self.settle(now());
    }

    /// The slot of an address in the next set, with the streams it is ahead as its due; where it stands is still to be
    /// said.
    fn known(&mut self, address: &Address, on_leave: OnLeave) -> Slot {
        if let Some(at) = self.places.get(address) {
            let slot = &self.slots[*at];
            let due = self.tiers[slot.tier].ahead(slot);
            return Slot { due, picks: slot.picks, admitted: slot.admitted, ..Slot::of(slot.endpoint.clone()) };
        }
        match self.left.remove(address).and_then(|left| left.upgrade()) {
            Some(back) => {
                back.tell_gone(false);
                Slot::of(back)
            }
            None => Slot::of(Arc::new(Endpoint::new(address.clone(), on_leave))),
        }
    }

    /// Remembers those that are not in the next set and have streams, for as long as they do.
    fn part_from(&mut self, next: &HashMap<Address, usize>) {
        self.left.retain(|_, left| left.strong_count() > 0);
        for Slot { endpoint, .. } in self.slots.drain(..) {
            if !next.contains_key(endpoint.address()) {
                endpoint.tell_gone(true);
                if Arc::strong_count(&endpoint) > 1 {
                    self.left.insert(endpoint.address().clone(), Arc::downgrade(&endpoint));
                }
            }
        }
    }

    /// Gives every slot of a new set its weight.
    fn settle(&mut self, now: Instant) {
        for at in 0..self.tiers.len() {
            for place in 0..self.tiers[at].slots.len() {
                let slot = self.tiers[at].slots[place];
                self.slots[slot].tier = at;
                self.tiers[at].all.set(place, self.slots[slot].weight);
                self.slots[slot].due /= f64::from(self.slots[slot].weight);
                self.admit(slot, now);
            }
        }
    }

    /// Lets a slot be drawn or not, by what is known of its endpoint now.
    fn admit(&mut self, at: usize, now: Instant) {
        let slot = &mut self.slots[at];
        let tier = &mut self.tiers[slot.tier];
        let health = slot.endpoint.health();
        let was_admitted = std::mem::replace(&mut slot.admitted, health.admission(now) != Admission::Closed);
        if slot.admitted && !was_admitted {
            // What it missed while it was away is nobody's debt.
            slot.due = slot.due.max(tier.time);
        }
        tier.up.set(slot.place, if slot.admitted { slot.weight } else { 0 });
        match health {
            Health::Down { until, .. } if !slot.admitted && slot.back_off != Some(until) => {
                slot.back_off = Some(until);
                self.back_offs.push(Reverse((until, at)));
            }
            Health::Up | Health::Down { .. } | Health::Probation { .. } => {}
        }
    }

    /// After the health of an endpoint changed.
    pub(super) fn refresh(&mut self, endpoint: &Arc<Endpoint>, now: Instant) {
        if let Some(at) = self.places.get(endpoint.address()).copied()
            && Arc::ptr_eq(&self.slots[at].endpoint, endpoint)
        {
            self.admit(at, now);
        }
    }

    /// Lets in those whose back-off is over.
    fn wake(&mut self, now: Instant) {
        while let Some(Reverse((until, at))) = self.back_offs.peek().copied()
            && until <= now
        {
            self.back_offs.pop();
            self.admit(at, now);
        }
    }

    /// Whether an endpoint would let a stream in.
    pub(super) fn is_admitting(&mut self, now: impl FnOnce() -> Instant) -> bool {
        let any_up = |set: &Self| set.tiers.iter().any(|tier| tier.up.total() > 0);
        // The clock is asked, and waking done, only where it may change the answer: each stream comes by here.
        any_up(self) || {
            self.wake(now());
            any_up(self)
        }
    }

    /// Whether one of those that let streams in is none of these.
    pub(super) fn admits_besides(&mut self, others: &[Address], now: Instant) -> bool {
        self.wake(now);
        let others: HashSet<usize> = others.iter().filter_map(|address| self.places.get(address).copied()).collect();
        self.slots.iter().enumerate().any(|(at, slot)| slot.admitted && !others.contains(&at))
    }

    /// The endpoints of the lowest tier that has any which would let a stream in.
    pub(super) fn admitting(&mut self, now: Instant) -> Vec<Arc<Endpoint>> {
        self.wake(now);
        let Some(tier) = self.tiers.iter().find(|tier| tier.up.total() > 0) else { return Vec::new() };
        let up = tier.slots.iter().enumerate().filter(|(place, _)| tier.up.get(*place) > 0);
        up.map(|(_, at)| self.slots[*at].endpoint.clone()).collect()
    }

    /// The endpoint for one stream, and why this one.
    pub(super) fn pick(
        &mut self,
        kind: BalancerKind,
        without: Without<'_>,
        now: Instant,
        random: &mut impl FnMut() -> u64,
    ) -> Option<(Arc<Endpoint>, Pick)> {
        let Chosen { at, other } = self.choose(kind, without, now, random)?;
        let other = other.map(|other| count(self.slots[other].endpoint.open()));
        let of = count(self.slots.len());
        let slot = &mut self.slots[at];
        let tier = &mut self.tiers[slot.tier];
        let ahead = tier.ahead(slot) + 1.0;
        slot.due = tier.time + ahead / f64::from(slot.weight);
        slot.picks += 1;
        tier.time += tier.step();
        let open = count(slot.endpoint.open());
        let down = !slot.admitted;
        let refused = count(without.refused.len());
        let probe = slot.endpoint.probe(now);
        if probe {
            slot.admitted = false;
            tier.up.set(slot.place, 0);
        }
        Some((slot.endpoint.clone(), Pick { of, how: kind.as_str(), open, other, probe, down, refused }))
    }

    /// Where a stream would go now, and nothing changes by it. One that is up and has refused its name comes before one that
    /// is down: it answers at once, and may have the service by now.
    pub(super) fn choose(
        &mut self,
        kind: BalancerKind,
        without: Without<'_>,
        now: Instant,
        random: &mut impl FnMut() -> u64,
    ) -> Option<Chosen> {
        self.wake(now);
        // Nothing to avoid is the rule, and an empty list costs no memory.
        let tried = self.known_places(without.avoid);
        let mut refused = self.known_places(without.refused);
        refused.retain(|at| !tried.contains(at));
        let has_failed = !tried.is_empty();
        self.set_aside(&tried);
        self.set_aside(&refused);
        let mut chosen = self.draw_up(kind, has_failed, now, random);
        self.put_back(&refused);
        if chosen.is_none() && !refused.is_empty() {
            chosen = self.draw_up(kind, has_failed, now, random);
        }
        let chosen = chosen.or_else(|| self.draw(kind, |tier| &tier.all, now, random));
        self.put_back(&tried);
        chosen
    }

    fn known_places(&self, addresses: &[Address]) -> Vec<usize> {
        addresses.iter().filter_map(|address| self.places.get(address).copied()).collect()
    }

    /// Lets nothing draw these slots.
    fn set_aside(&mut self, slots: &[usize]) {
        for at in slots {
            let Slot { tier, place, .. } = self.slots[*at];
            self.tiers[tier].up.set(place, 0);
            self.tiers[tier].all.set(place, 0);
        }
    }

    /// Lets them be drawn again.
    fn put_back(&mut self, slots: &[usize]) {
        for at in slots {
            let Slot { tier, place, weight, admitted, .. } = self.slots[*at];
            self.tiers[tier].up.set(place, if admitted { weight } else { 0 });
            self.tiers[tier].all.set(place, weight);
        }
    }

    /// Draws among those that let a stream in. One that has failed elsewhere is nobody's probe while anybody is up: a probe
    /// may cost it a whole limit, and a few of them all the time it has.
    fn draw_up(
        &mut self,
        kind: BalancerKind,
        has_failed: bool,
        now: Instant,
        random: &mut impl FnMut() -> u64,
    ) -> Option<Chosen> {
        let probes = if has_failed { self.probes(now) } else { Vec::new() };
        for at in &probes {
            let Slot { tier, place, .. } = self.slots[*at];
            self.tiers[tier].up.set(place, 0);
        }
        let chosen = self.draw(kind, |tier| &tier.up, now, random);
        for at in probes {
            let Slot { tier, place, weight, .. } = self.slots[at];
            self.tiers[tier].up.set(place, weight);
        }
        chosen.or_else(|| self.draw(kind, |tier| &tier.up, now, random))
    }

    /// The slots that may be drawn, and whose next stream is their one probe.
    fn probes(&self, now: Instant) -> Vec<usize> {
        let is_due = |slot: &Slot| {
            self.tiers[slot.tier].up.get(slot.place) > 0 && slot.endpoint.health().admission(now) == Admission::Probe
        };
        (0..self.slots.len()).filter(|at| is_due(&self.slots[*at])).collect()
    }

    /// Of two slots of the lowest tier that has any, the one whose next stream costs less.
    fn draw(
        &self,
        kind: BalancerKind,
        among: impl Fn(&Tier) -> &Weights,
        now: Instant,
        random: &mut impl FnMut() -> u64,
    ) -> Option<Chosen> {
        self.tiers.iter().find_map(|tier| {
            let (one, other) = among(tier).two(random)?;
            let score = |place: usize| self.score(kind, tier, &self.slots[tier.slots[place]], now);
            if one == other {
                return Some(Chosen { at: tier.slots[one], other: None });
            }
            let (less, more) = if score(one) <= score(other) { (one, other) } else { (other, one) };
            Some(Chosen { at: tier.slots[less], other: Some(tier.slots[more]) })
        })
    }

    /// What the next stream to a slot would cost, for its weight.
    fn score(&self, kind: BalancerKind, tier: &Tier, slot: &Slot, now: Instant) -> f64 {
        let streams = slot.endpoint.open() as f64 + 1.0;
        let cost = match kind {
            BalancerKind::Least => streams + tier.ahead(slot),
            // No debt: that a dear endpoint gets less than its share is what is wanted.
            BalancerKind::Ewma => streams * slot.endpoint.cost(now),
        };
        cost / f64::from(slot.weight)
    }

    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn address(&self, at: usize) -> &Address {
        self.slots[at].endpoint.address()
    }

    /// Streams that hold one of its endpoints now.
    pub(super) fn open(&self) -> usize {
        self.slots.iter().map(|slot| slot.endpoint.open()).sum()
    }

    /// Streams that hold one that left.
    pub(super) fn open_at_left(&self) -> usize {
        self.left.values().filter_map(Weak::upgrade).map(|left| left.open()).sum()
    }

    /// What is known of each of its endpoints.
    pub(super) fn healths(&self) -> impl Iterator<Item = Health> {
        self.slots.iter().map(|slot| slot.endpoint.health())
    }

    /// Its endpoints, in the order of their addresses.
    pub(super) fn status(&self, now: Instant) -> Vec<EndpointStatus> {
        let of = |slot: &Slot| {
            let weight = Weight::thousandths(slot.weight).value();
            slot.endpoint.status(self.tiers[slot.tier].number, weight, slot.picks, now)
        };
        self.slots.iter().map(of).collect()
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Slot {
    fn of(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, weight: 0, tier: 0, place: 0, due: 0.0, picks: 0, admitted: false, back_off: None }
    }
}

impl Tier {
    fn of(number: u16, slots: Vec<usize>) -> Self {
        let (up, all) = (Weights::nothing(slots.len()), Weights::nothing(slots.len()));
        Self { number, slots, up, all, time: 0.0 }
    }
}
