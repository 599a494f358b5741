//! What a stream costs at an endpoint: the time to open one, where a peak is believed at once and forgotten slowly (the
//! peak EWMA of Finagle). Pure; the time is an argument.

use std::time::{Duration, Instant};

/// How fast the past is forgotten: after this long, what was seen counts by a factor of e less. Finagle's own default;
/// long enough to outlast a burst, short enough that a host that got well is found within a minute.
const DECAY: Duration = Duration::from_secs(10);

/// What a failed open counts as: far more than an open on any network takes, so that whoever answers at all goes first,
/// and forgotten after about a minute, so that it is tried again.
const FAILED: Duration = Duration::from_secs(1);

/// What an endpoint counts as, in seconds, of which nothing is known and on which streams are already under way: one at a
/// time finds out, unless all are like it.
const UNKNOWN: f64 = 3600.0;

/// What is known of an endpoint's cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost(Option<Seen>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    seconds: f64,
    at: Instant,
}

impl Cost {
    /// A stream opened in this time.
    pub(super) fn opened(self, took: Duration, now: Instant) -> Self {
        // What is left of a peak stands until it is less than what is seen now.
        let seconds = took.as_secs_f64().max(self.known(now).unwrap_or(0.0));
        Self(Some(Seen { seconds, at: now }))
    }

    /// A stream did not open.
    pub(super) fn failed(self, now: Instant) -> Self {
        self.opened(FAILED, now)
    }

    /// In seconds, if anything is known. What nobody heard of decays, so that it is tried again.
    pub(super) fn known(self, now: Instant) -> Option<f64> {
        self.0.map(|seen| seen.seconds * seen.remains(now))
    }

    /// In seconds, for a choice, where so many streams are under way or open.
    pub(super) fn counts(self, now: Instant, open: usize) -> f64 {
        match (self.known(now), open) {
            (Some(seconds), _) => seconds,
            (None, 0) => 0.0,
            (None, _) => UNKNOWN,
        }
    }
}

impl Seen {
    /// What is left of it, from 1 down to 0.
    fn remains(self, now: Instant) -> f64 {
        (-now.saturating_duration_since(self.at).as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let now = Instant::now();
        let peak = Cost::default().opened(MILLI, now).opened(100 * MILLI, now);
        assert_eq!(peak.known(now), Some(0.1));
        let soon = peak.opened(MILLI, now + DECAY / 10);
        assert!(soon.known(now + DECAY / 10).unwrap() > 0.09);
        let late = peak.opened(MILLI, now + 10 * DECAY);
        assert_eq!(late.known(now + 10 * DECAY), Some(0.001));
    }

    #[test]
    fn silence_makes_it_cheaper() {
        let now = Instant::now();
        let seen = Cost::default().opened(100 * MILLI, now);
        let after = seen.known(now + DECAY).unwrap();
        assert!((after - 0.1 / std::f64::consts::E).abs() < 1e-9, "{after}");
    }

    #[test]
    fn a_failure_counts_as_a_peak() {
        let now = Instant::now();
        let failed = Cost::default().opened(MILLI, now).failed(now);
        assert_eq!(failed.known(now), Some(FAILED.as_secs_f64()));
    }

    #[test]
    fn the_unknown_is_free_for_one_and_dear_for_more() {
        let now = Instant::now();
        assert_eq!(Cost::default().counts(now, 0), 0.0);
        assert_eq!(Cost::default().counts(now, 1), UNKNOWN);
    }
}
