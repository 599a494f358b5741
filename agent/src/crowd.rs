//! How many of a thing there are at once, in all and of each key: handshakes by source address, tunnels by peer.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// A count with a limit in all, and one for each key.
pub struct Crowd<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    most: usize,
    most_each: usize,
    there: Mutex<There<K>>,
    freed: Notify,
}

struct There<K> {
    all: usize,
    each: HashMap<K, usize>,
}

/// A place in the crowd; dropping it makes room.
pub struct Place<K: Eq + Hash> {
    inner: Arc<Inner<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Crowd<K> {
    /// An empty crowd.
    pub fn new(most: usize, most_each: usize) -> Self {
        let there = Mutex::new(There { all: 0, each: HashMap::new() });
        Self { inner: Arc::new(Inner { most, most_each, there, freed: Notify::new() }) }
    }

    /// A place, as soon as there is one; the caller sets the limit on the time.
    pub async fn wait(&self, key: K) -> Place<K> {
        loop {
            let freed = self.inner.freed.notified();
            tokio::pin!(freed);
            // Enabled before the look, so that a place freed in between is not missed.
            freed.as_mut().enable();
            if let Some(place) = self.enter(key.clone()) {
                return place;
            }
            freed.await;
        }
    }

    /// How many there are of each key.
    pub fn counts(&self) -> Vec<(K, usize)> {
        self.inner.lock().each.iter().map(|(key, count)| (key.clone(), *count)).collect()
    }

    /// A place, unless there are too many in all or of this key.
    #[must_use]
    pub fn enter(&self, key: K) -> Option<Place<K>> {
        let mut there = self.inner.lock();
        if there.all >= self.inner.most {
            return None;
        }
        let of_key = there.each.entry(key.clone()).or_default();
        if *of_key >= self.inner.most_each {
            return None;
        }
        *of_key += 1;
        there.all += 1;
        drop(there);
        Some(Place { inner: Arc::clone(&self.inner), key })
    }
}

impl<K> Inner<K> {
    fn lock(&self) -> MutexGuard<'_, There<K>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut there = self.inner.lock();
        there.all -= 1;
        if let Some(of_key) = there.each.get_mut(&self.key) {
            *of_key -= 1;
            if *of_key == 0 {
                there.each.remove(&self.key);
            }
        }
        drop(there);
        self.inner.freed.notify_waiters();
    }
}

impl<K> fmt::Debug for Crowd<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crowd").field("most", &self.inner.most).field("most_each", &self.inner.most_each).finish()
    }
}

impl<K: Eq + Hash> fmt::Debug for Place<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each_key_and_come_back() {
        let crowd = Crowd::new(3, 2);
        let first = crowd.enter("a").unwrap();
        let _second = crowd.enter("a").unwrap();
        assert!(crowd.enter("a").is_none(), "two of a key are the most");
        let _third = crowd.enter("b").unwrap();
        assert!(crowd.enter("c").is_none(), "three in all are the most");
        drop(first);
        assert!(crowd.enter("c").is_some());
    }
}
