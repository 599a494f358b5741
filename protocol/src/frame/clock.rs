//! The time a frame may take (PROTOCOL.md 2): what its receiver spent waiting for it, summed. Time is an argument; what
//! is due when the limit has passed is the caller's to do.

use std::time::{Duration, Instant};

/// Sums the waits for one begun frame at a time. A byte that comes does not put it back, so a drip cannot hold it for
/// ever; it stands still while the receiver does not read.
#[derive(Clone, Default, Debug)]
pub struct FrameClock {
    /// The frame whose time it is, as [`Decoder::awaited`](super::Decoder::awaited) numbers it.
    frame: u64,
    spent: Duration,
    /// Since when it runs.
    since: Option<Instant>,
}

impl FrameClock {
    /// The receiver waits and nothing is left to read: from now on it counts for the `awaited` frame, if there is one.
    pub fn run(&mut self, awaited: Option<u64>, now: Instant) {
        let Some(frame) = awaited else {
            self.since = None;
            return;
        };
        if frame != self.frame {
            *self = FrameClock { frame, ..FrameClock::default() };
        }
        self.since.get_or_insert(now);
    }

    /// Something came, or the receiver does not read any more.
    pub fn stop(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.spent += now.saturating_duration_since(since);
        }
    }

    /// Whether it runs: a clock that does not needs no stopping.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.since.is_some()
    }

    /// When the frame must be whole if nothing more comes; nothing while it stands still.
    #[must_use]
    pub fn deadline(&self, limit: Duration) -> Option<Instant> {
        self.since.map(|since| since + limit.saturating_sub(self.spent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn waits_add_up_and_a_byte_does_not_put_the_clock_back() {
        let start = Instant::now();
        let mut clock = FrameClock::default();
        clock.run(Some(3), start);
        clock.stop(start + seconds(4));
        assert_eq!(clock.deadline(LIMIT), None);
        clock.run(Some(3), start + seconds(10));
        assert_eq!(clock.deadline(LIMIT), Some(start + seconds(11)));
        clock.run(Some(3), start + seconds(12));
        assert_eq!(clock.deadline(LIMIT), Some(start + seconds(11)), "a second look starts no second wait");
    }

    #[test]
    fn each_frame_has_the_whole_time() {
        let start = Instant::now();
        let mut clock = FrameClock::default();
        clock.run(Some(0), start);
        clock.stop(start + seconds(4));
        clock.run(Some(1), start + seconds(4));
        assert_eq!(clock.deadline(LIMIT), Some(start + seconds(9)));
    }

    #[test]
    fn no_frame_begun_means_no_clock() {
        let start = Instant::now();
        let mut clock = FrameClock::default();
        clock.run(Some(0), start);
        clock.run(None, start + seconds(1));
        assert!(!clock.is_running());
    }
}
