//! Whether an endpoint may be given streams: up, down until a time, or on probation with one probe.
//! Pure: the time and the random number are arguments. It never talks to an endpoint; it only
//! believes what the leases tell.

use std::time::{Duration, Instant};

/// The first back-off: long enough for a service to restart, short enough not to be noticed.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);

/// The longest back-off: a host that comes back serves again within half a minute.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// What is known of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Nothing speaks against it.
    #[default]
    Up,
    /// It failed; it is left out until then, and one probe is admitted after.
    Down {
        /// When a probe may go.
        until: Instant,
        /// How often it failed in a row, at least once.
        failures: u32,
    },
    /// One probe is on its way; nobody else goes until it is back.
    Probation {
        /// How often it failed in a row before the probe.
        failures: u32,
    },
}

/// How a stream would be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// As any other.
    Free,
    /// As the one probe.
    Probe,
    /// Not at all, unless there is nowhere else to go.
    Closed,
}

impl Health {
    /// How a stream would be let in now.
    #[must_use]
    pub fn admission(self, now: Instant) -> Admission {
        match self {
            Self::Up => Admission::Free,
            Self::Down { until, .. } if now >= until => Admission::Probe,
            Self::Down { .. } | Self::Probation { .. } => Admission::Closed,
        }
    }

    /// After a probe was sent.
    #[must_use]
    pub fn probed(self) -> Self {
        match self {
            Self::Up => Self::Up,
            Self::Down { failures, .. } | Self::Probation { failures } => Self::Probation { failures },
        }
    }

    /// After a stream could not be opened. Streams that fail together count once: while it is down
    /// a failure says nothing new.
    #[must_use]
    pub fn failed(self, now: Instant, random: u64) -> Self {
        let failures = match self {
            Self::Up => 1,
            Self::Down { until, .. } if now < until => return self,
            Self::Down { failures, .. } | Self::Probation { failures } => failures.saturating_add(1),
        };
        Self::Down { until: now + back_off(failures, random), failures }
    }

    /// After a probe ended without telling how it went: the next one may go at once.
    #[must_use]
    pub fn abandoned(self, now: Instant) -> Self {
        match self {
            Self::Probation { failures } => Self::Down { until: now, failures },
            Self::Up | Self::Down { .. } => self,
        }
    }
}

/// Doubles with each failure up to the longest, then spreads by a fifth either way so that many
/// agents do not come back together.
fn back_off(failures: u32, random: u64) -> Duration {
    let doubled = FIRST_BACK_OFF.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    let steps = u32::try_from(random % 401).unwrap_or(0);
    doubled.min(LONGEST_BACK_OFF) * (800 + steps) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_out_until_the_back_off_is_over_and_then_lets_one_probe_in() {
        let now = Instant::now();
        let down = Health::Up.failed(now, 200);
        assert_eq!(down, Health::Down { until: now + FIRST_BACK_OFF, failures: 1 });
        assert_eq!(down.admission(now), Admission::Closed);
        assert_eq!(down.admission(now + FIRST_BACK_OFF), Admission::Probe);
        assert_eq!(down.probed().admission(now + LONGEST_BACK_OFF), Admission::Closed);
    }

    #[test]
    fn streams_that_fail_together_count_once() {
        let now = Instant::now();
        let down = Health::Up.failed(now, 0);
        assert_eq!(down.failed(now, 0), down);
    }

    #[test]
    fn an_abandoned_probe_makes_room_for_the_next() {
        let now = Instant::now();
        let left = Health::Probation { failures: 2 }.abandoned(now);
        assert_eq!(left.admission(now), Admission::Probe);
        assert_eq!(Health::Up.abandoned(now), Health::Up);
    }

    #[test]
    fn the_back_off_doubles_to_its_bound_and_spreads_by_a_fifth() {
        let seconds: Vec<u64> = (1..=7).map(|n| back_off(n, 200).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(back_off(u32::MAX, 200), LONGEST_BACK_OFF);
        assert_eq!(back_off(1, 0), Duration::from_millis(800));
        assert_eq!(back_off(1, 400), Duration::from_millis(1200));
    }
}
