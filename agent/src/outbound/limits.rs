//! The limits on opening a stream, and which of them ended an attempt: arithmetic over times, without a clock.

use std::time::Duration;

use adit_config::peers::Settings;

use crate::tunnel::{dial::DialError, retry::Failure};

/// The limits on opening a stream.
#[derive(Clone, Copy, Debug)]
pub struct OpenLimits {
    /// In all: look-up and every attempt.
    pub all: Duration,
    /// Connecting and shaking hands, each time.
    pub handshake: Duration,
    /// From OPEN to its answer, each time.
    pub answer: Duration,
}

impl OpenLimits {
    /// The same where `settings` hold.
    pub(super) fn under(self, settings: &Settings) -> Self {
        Self { handshake: settings.connect_timeout.unwrap_or(self.handshake), ..self }
    }

    /// How long one attempt may dial where `left` is left in all. While there are `others` to try it may take half of that:
    /// hosts that are silent must not take all the time of a stream for which a good one lives.
    pub(super) fn dialing(&self, left: Duration, others: bool) -> Duration {
        self.handshake.min(if others { left / 2 } else { left })
    }

    /// The limit that ended an attempt, if one did: the one in all when the attempt had less than its own.
    pub(super) fn reached(&self, failure: &Failure) -> Option<&'static str> {
        let (limit, own, name) = match failure {
            Failure::Silent { limit, .. } => (limit, self.answer, "answer"),
            Failure::Dial(DialError::ConnectTimeout(limit) | DialError::HandshakeTimeout(limit)) => {
                (limit, self.handshake, "handshake")
            }
            _ => return None,
        };
        Some(if *limit < own { "open" } else { name })
    }

    /// Whether a failure tells something of whom was asked. Silence does if it was waited for at least half as long as an
    /// attempt may wait, and not in what other attempts have left of the time in all: an acceptor may be waiting for its
    /// service, and say so later.
    pub(super) fn is_telling(&self, failure: &Failure) -> bool {
        match failure {
            Failure::Silent { limit, .. } => *limit * 2 >= self.answer.min(self.all),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_tells_something_once_it_has_lasted() {
        let seconds = Duration::from_secs;
        let silent = |seconds| Failure::Silent { limit: Duration::from_secs_f64(seconds), handed: false };
        let limits = OpenLimits { all: seconds(15), handshake: seconds(10), answer: seconds(10) };
        assert!(
            limits.is_telling(&silent(10.0)) && limits.is_telling(&silent(9.9)) && !limits.is_telling(&silent(4.98))
        );
        // also where there is less time in all than for an answer
        let limits = OpenLimits { all: seconds(5), ..limits };
        assert!(limits.is_telling(&silent(4.9)) && !limits.is_telling(&silent(1.0)));
    }

    #[test]
    fn silent_hosts_leave_time_for_one_that_lives() {
        let seconds = Duration::from_secs;
        let limits = OpenLimits { all: seconds(15), handshake: seconds(10), answer: seconds(10) };
        let mut left = limits.all;
        for _ in 0..3 {
            left -= limits.dialing(left, true);
        }
        assert!(left > seconds(1), "{left:?}");
        assert_eq!(limits.dialing(limits.all, false), seconds(10), "there is no other");
        assert_eq!(limits.dialing(seconds(3), false), seconds(3));
        assert_eq!(OpenLimits { handshake: seconds(2), ..limits }.dialing(limits.all, true), seconds(2));
    }
}
