//! A number of places that may change while some of them are taken: a limit that a reload can move. Those beyond a smaller
//! number go as they come back; nobody who has a place loses it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places, and how many there are.
pub struct Slots {
    free: Arc<Semaphore>,
    size: Mutex<Size>,
}

struct Size {
    most: usize,
    /// Taken places that are to go once they come back.
    owed: usize,
}

/// A place; dropping it makes room.
#[must_use]
pub struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    slots: Arc<Slots>,
}

impl Slots {
    /// So many places, all free.
    pub fn new(most: usize) -> Arc<Self> {
        let most = most.min(Semaphore::MAX_PERMITS);
        Arc::new(Self { free: Arc::new(Semaphore::new(most)), size: Mutex::new(Size { most, owed: 0 }) })
    }

    /// A place, if one is free.
    pub fn try_take(self: &Arc<Self>) -> Option<Slot> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Slot { permit: Some(permit), slots: Arc::clone(self) })
    }

    /// A place, as soon as there is one.
    pub async fn take(self: &Arc<Self>) -> Slot {
        match Arc::clone(&self.free).acquire_owned().await {
            Ok(permit) => Slot { permit: Some(permit), slots: Arc::clone(self) },
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        let size = self.size();
        (size.most + size.owed).saturating_sub(self.free.available_permits())
    }

    /// Lets there be `most` of them, from now on or as soon as enough have come back.
    pub fn resize(&self, most: usize) {
        let most = most.min(Semaphore::MAX_PERMITS);
        let mut size = self.size();
        if most >= size.most {
            let more = most - size.most;
            let kept = more.min(size.owed);
            size.owed -= kept;
            self.free.add_permits(more - kept);
        } else {
            let fewer = size.most - most;
            size.owed += fewer - self.free.forget_permits(fewer);
        }
        size.most = most;
    }

    /// Two numbers that are changed together under it, so a panic elsewhere spoils nothing.
    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut size = self.slots.size();
        let permit = self.permit.take();
        if size.owed > 0 {
            size.owed -= 1;
            permit.into_iter().for_each(OwnedSemaphorePermit::forget);
        }
        // Else it is given back here, under the lock: a resize in between would find it neither taken nor free.
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slots({} of {} taken)", self.taken(), self.size().most)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many places can be taken now.
    fn free(slots: &Arc<Slots>) -> usize {
        let taken: Vec<_> = std::iter::from_fn(|| slots.try_take()).collect();
        taken.len()
    }

    #[test]
    fn a_greater_number_is_there_at_once() {
        let slots = Slots::new(1);
        let first = slots.try_take().unwrap();
        assert!(slots.try_take().is_none());
        slots.resize(3);
        assert_eq!((free(&slots), slots.taken()), (2, 1));
        drop(first);
        assert_eq!((free(&slots), slots.taken()), (3, 0));
    }

    #[test]
    fn a_smaller_number_takes_nobodys_place_and_holds_once_enough_have_come_back() {
        let slots = Slots::new(4);
        let mut taken: Vec<_> = (0..3).map(|_| slots.try_take().unwrap()).collect();
        slots.resize(1);
        assert_eq!((free(&slots), slots.taken()), (0, 3));
        taken.truncate(1);
        assert_eq!((free(&slots), slots.taken()), (0, 1), "two of three are back, and gone");
        taken.clear();
        assert_eq!((free(&slots), slots.taken()), (1, 0));
    }

    #[test]
    fn a_number_that_comes_back_before_the_places_do_owes_nothing() {
        let slots = Slots::new(3);
        let taken: Vec<_> = (0..3).map(|_| slots.try_take().unwrap()).collect();
        slots.resize(1);
        slots.resize(2);
        slots.resize(5);
        assert_eq!((free(&slots), slots.taken()), (2, 3));
        drop(taken);
        assert_eq!((free(&slots), slots.taken()), (5, 0));
    }

    #[tokio::test]
    async fn who_waits_gets_the_place_that_is_added() {
        let slots = Slots::new(0);
        let waiting = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.take().await }
        });
        slots.resize(1);
        let slot = waiting.await.unwrap();
        assert_eq!(slots.taken(), 1);
        drop(slot);
        assert_eq!(slots.taken(), 0);
    }
}
