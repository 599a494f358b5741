//! How many of a thing there are at once, in all and of each key: handshakes by source address, tunnels by peer.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::slots::{Slot, Slots};

/// A count with a limit in all, and one for each key.
pub struct Crowd<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    all: Arc<Slots>,
    each: Mutex<Each<K>>,
}

struct Each<K> {
    most: usize,
    lines: HashMap<K, Arc<Slots>>,
}

/// A place in the crowd; dropping it makes room.
pub struct Place<K: Eq + Hash> {
    // Before the line, which is given up once nobody of its key is in it.
    _own: Slot,
    _of_all: Slot,
    _line: Line<K>,
}

/// Those of one key, in the order they came. A place that is freed wakes the next of them and nobody else: waking all who
/// wait, a burst of connections costs the square of its size.
struct Line<K: Eq + Hash> {
    inner: Arc<Inner<K>>,
    key: K,
    places: Arc<Slots>,
}

impl<K: Eq + Hash + Clone> Crowd<K> {
    /// An empty crowd.
    pub fn new(most: usize, most_each: usize) -> Self {
        let each = Mutex::new(Each { most: most_each, lines: HashMap::new() });
        Self { inner: Arc::new(Inner { all: Slots::new(most), each }) }
    }

    /// Other limits. Who is in the crowd stays in it.
    pub fn resize(&self, most: usize, most_each: usize) {
        self.inner.all.resize(most);
        let mut each = self.inner.each();
        each.most = most_each;
        each.lines.values().for_each(|places| places.resize(most_each));
    }

    /// A place, as soon as there is one; the caller sets the limit on the time.
    pub async fn wait(&self, key: K) -> Place<K> {
        let line = self.line(key);
        // First among those of its key, so that one key never fills the line of all.
        let own = line.places.take().await;
        let of_all = self.inner.all.take().await;
        Place { _own: own, _of_all: of_all, _line: line }
    }

    /// How many there are of each key.
    pub fn counts(&self) -> Vec<(K, usize)> {
        self.inner.each().lines.iter().map(|(key, places)| (key.clone(), places.taken())).collect()
    }

    /// A place, unless there are too many in all or of this key.
    #[must_use]
    pub fn enter(&self, key: K) -> Option<Place<K>> {
        let line = self.line(key);
        let own = line.places.try_take()?;
        let of_all = self.inner.all.try_take()?;
        Some(Place { _own: own, _of_all: of_all, _line: line })
    }

    fn line(&self, key: K) -> Line<K> {
        let mut each = self.inner.each();
        let Each { most, lines } = &mut *each;
        let places = lines.entry(key.clone()).or_insert_with(|| Slots::new(*most));
        Line { inner: Arc::clone(&self.inner), key, places: Arc::clone(places) }
    }
}

impl<K> Inner<K> {
    fn each(&self) -> MutexGuard<'_, Each<K>> {
        self.each.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Line<K> {
    fn drop(&mut self) {
        let mut each = self.inner.each();
        // The map's and ours: nobody else of this key is here, and under the lock nobody comes.
        if Arc::strong_count(&self.places) == 2 {
            each.lines.remove(&self.key);
        }
    }
}

impl<K> fmt::Debug for Crowd<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crowd").field("all", &self.inner.all).finish_non_exhaustive()
    }
}

impl<K: Eq + Hash> fmt::Debug for Place<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::Pin,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        task::{Context, Waker},
    };

    use tokio::task::{JoinSet, yield_now};

    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each_key_and_come_back() {
        let crowd = Crowd::new(3, 2);
        let first = crowd.enter("a").unwrap();
        let _second = crowd.enter("a").unwrap();
        assert!(crowd.enter("a").is_none(), "two of a key are the most");
        let _third = crowd.enter("b").unwrap();
        assert!(crowd.enter("c").is_none(), "three in all are the most");
        assert!(crowd.counts().contains(&("a", 2)));
        drop(first);
        assert!(crowd.enter("c").is_some());
    }

    #[tokio::test]
    async fn a_place_goes_to_who_waits_for_it_and_a_key_that_left_is_forgotten() {
        let crowd = Crowd::new(3, 1);
        let first = crowd.enter("a").unwrap();
        let mut next = Box::pin(crowd.wait("a"));
        let mut last = Box::pin(crowd.wait("a"));
        assert!(is_pending(next.as_mut()) && is_pending(last.as_mut()), "one of a key is the most");
        drop(crowd.wait("b").await);
        drop(first);
        let second = next.await;
        assert!(is_pending(last.as_mut()), "the second has the place");
        drop((second, last));
        assert!(crowd.inner.each().lines.is_empty());
    }

    #[test]
    fn other_limits_hold_for_keys_that_are_there_and_those_that_come() {
        let crowd = Crowd::new(2, 1);
        let _first = crowd.enter("a").unwrap();
        crowd.resize(10, 2);
        let _second = crowd.enter("a").unwrap();
        assert!(crowd.enter("a").is_none());
        assert!(crowd.enter("b").is_some());
    }

    fn is_pending<F: Future>(wait: Pin<&mut F>) -> bool {
        wait.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn a_burst_of_one_key_costs_what_it_is_long_and_not_its_square() {
        const BURST: usize = 20_000;
        let crowd = Arc::new(Crowd::new(256, 32));
        let looks = Arc::new(AtomicUsize::new(0));
        let mut all = JoinSet::new();
        for _ in 0..BURST {
            let (crowd, looks) = (Arc::clone(&crowd), Arc::clone(&looks));
            all.spawn(async move {
                let mut wait = Box::pin(crowd.wait("a"));
                let place = poll_fn(|context| {
                    looks.fetch_add(1, Relaxed);
                    wait.as_mut().poll(context)
                });
                let _place = place.await;
                yield_now().await;
            });
        }
        all.join_all().await;
        let looks = looks.load(Relaxed);
        assert!(looks <= 3 * BURST, "{looks} looks for {BURST} places");
    }
}
