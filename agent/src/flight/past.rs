//! The ended flights that are kept: a bounded number, and those that failed longer than those that went well. A busy host
//! ends thousands of good streams a minute; the one that somebody asks about at night is seldom among them.

use std::collections::VecDeque;

/// Good ones kept.
pub(super) const GOOD: usize = 256;

/// Failed ones kept. With at most about 16 KiB each (2 KiB are usual), the kept ones of both kinds stay under 16 MiB.
pub(super) const FAILED: usize = 768;

/// Ended flights, each kind in the order of their ends.
#[derive(Debug)]
pub struct Past<T> {
    good: VecDeque<T>,
    failed: VecDeque<T>,
}

impl<T> Default for Past<T> {
    fn default() -> Self {
        Self { good: VecDeque::new(), failed: VecDeque::new() }
    }
}

impl<T: Clone> Past<T> {
    /// Keeps one, and gives back the oldest of its kind where there is no more room: for the caller to drop, who holds a lock.
    pub fn keep(&mut self, flight: T, failed: bool) -> Option<T> {
        let (kept, most) = if failed { (&mut self.failed, FAILED) } else { (&mut self.good, GOOD) };
        let oldest = if kept.len() == most { kept.pop_front() } else { None };
        kept.push_back(flight);
        oldest
    }

    /// All of them, in no order that matters.
    pub fn all(&self) -> Vec<T> {
        self.good.iter().chain(&self.failed).cloned().collect()
    }
}
