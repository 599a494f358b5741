//! What is known of one host, and what a new answer changes about it. Pure; the time and the random
//! number are arguments. The rule that matters: only an authoritative *no* takes an address away,
//! a failure never does.

use super::{Addrs, Settings};
use crate::addr::{Address, Weighted};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// More addresses than this are cut off: an answer must not choose our memory.
pub(super) const MAX_ADDRESSES: usize = 1024;

/// After a failure a look-up is tried again this soon, then after twice as long, up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// What one query was answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Records.
    Found { ips: Vec<IpAddr>, ttl: Duration },
    /// The name exists, without a record of this kind; for how long, if the server says.
    Empty { ttl: Option<Duration> },
    /// The name does not exist, with no record of any kind.
    NoSuchName { ttl: Option<Duration> },
    /// No answer that counts, and why.
    Failed(String),
}

/// The answers to both queries of one look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) v4: Answer,
    pub(super) v6: Answer,
}

/// How a look-up went, as its metric says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Found,
    Negative,
    Failed,
}

/// What is known of a host: for each family the last answer that counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    v4: Option<Vec<IpAddr>>,
    v6: Option<Vec<IpAddr>>,
    /// When both families were last answered.
    confirmed: Option<Instant>,
    last_error: Option<String>,
    failures: u32,
}

impl Answers {
    /// The same failure for both.
    pub(super) fn failed(why: &str) -> Self {
        let answer = Answer::Failed(why.to_owned());
        Self { v4: answer.clone(), v6: answer }
    }

    pub(super) fn outcome(&self) -> Outcome {
        let both = [&self.v4, &self.v6];
        if both.iter().any(|answer| matches!(answer, Answer::Found { .. })) {
            Outcome::Found
        } else if self.is_gone() || self.failure().is_none() {
            Outcome::Negative
        } else {
            Outcome::Failed
        }
    }

    /// Why one of them failed.
    fn failure(&self) -> Option<&str> {
        match (&self.v4, &self.v6) {
            (Answer::Failed(why), _) | (_, Answer::Failed(why)) => Some(why),
            _ => None,
        }
    }

    /// Whether one of them says that the name does not exist, and none found it.
    fn is_gone(&self) -> bool {
        let gone = |answer: &Answer| matches!(answer, Answer::NoSuchName { .. });
        let found = |answer: &Answer| matches!(answer, Answer::Found { .. });
        (gone(&self.v4) || gone(&self.v6)) && !found(&self.v4) && !found(&self.v6)
    }

    /// For how long they hold: the shortest of what was found, else of what was not.
    fn ttl(&self, settings: &Settings) -> Duration {
        let found = |answer: &Answer| match answer {
            Answer::Found { ttl, .. } => Some(*ttl),
            _ => None,
        };
        let missing = |answer: &Answer| match answer {
            Answer::Empty { ttl } | Answer::NoSuchName { ttl } => *ttl,
            _ => None,
        };
        let least = |of: &dyn Fn(&Answer) -> Option<Duration>| [&self.v4, &self.v6].into_iter().filter_map(of).min();
        let ttl = least(&found).or_else(|| least(&missing)).unwrap_or(settings.negative_ttl);
        ttl.min(settings.max_ttl).max(settings.min_ttl)
    }
}

impl Known {
    /// Takes a look-up's answers over, and says how long to wait before the next look-up.
    pub(super) fn take(&mut self, answers: Answers, settings: &Settings, now: Instant, random: u64) -> Duration {
        let ttl = answers.ttl(settings);
        let gone = answers.is_gone();
        self.note_failure(answers.failure().filter(|_| !gone), now);
        renew(&mut self.v4, answers.v4, gone);
        renew(&mut self.v6, answers.v6, gone);
        match self.failures {
            0 => ahead_of(ttl, random),
            failures => retry_after(failures, random).min(ttl.max(FIRST_RETRY)),
        }
    }

    fn note_failure(&mut self, failure: Option<&str>, now: Instant) {
        self.last_error = failure.map(str::to_owned);
        match failure {
            Some(_) => self.failures = self.failures.saturating_add(1),
            None => {
                self.failures = 0;
                self.confirmed = Some(now);
            }
        }
    }

    /// What a stream may use of it, in a stable order.
    pub(super) fn addrs(&self, port: u16) -> Addrs {
        let mut ips: Vec<IpAddr> = [&self.v4, &self.v6].into_iter().flatten().flatten().copied().collect();
        ips.sort_unstable();
        ips.dedup();
        ips.truncate(MAX_ADDRESSES);
        match (&self.last_error, ips.is_empty()) {
            (_, false) => Addrs::Bound(with_port(&ips, port)),
            (Some(why), true) => Addrs::Failed(why.as_str().into()),
            (None, true) if self.confirmed.is_some() => Addrs::Neg,
            (None, true) => Addrs::Pending,
        }
    }

    /// How long ago both families were last answered.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.confirmed.map(|at| now.saturating_duration_since(at))
    }

    pub(super) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }
}

/// A family after its answer: a failure changes nothing, unless the name is gone altogether.
fn renew(family: &mut Option<Vec<IpAddr>>, answer: Answer, gone: bool) {
    match answer {
        Answer::Found { ips, .. } => *family = Some(ips),
        Answer::Empty { .. } | Answer::NoSuchName { .. } => *family = Some(Vec::new()),
        Answer::Failed(_) if gone => *family = Some(Vec::new()),
        Answer::Failed(_) => {}
    }
}

fn with_port(ips: &[IpAddr], port: u16) -> Arc<[Weighted]> {
    ips.iter().map(|ip| Weighted::plain(Address::Tcp(SocketAddr::new(*ip, port)))).collect()
}

/// When to ask again: after 75 to 90 % of an answer's life, early enough for a retry before its end,
/// spread so that names learnt together are not asked for together.
fn ahead_of(ttl: Duration, random: u64) -> Duration {
    ttl * (750 + steps(random, 151)) / 1000
}

fn retry_after(failures: u32, random: u64) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    doubled.min(LONGEST_RETRY) * (800 + steps(random, 401)) / 1000
}

/// A random number below `count`.
fn steps(random: u64, count: u64) -> u32 {
    u32::try_from(random % count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn found(ips: &[&str]) -> Answer {
        Answer::Found { ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(), ttl: TTL }
    }

    fn empty() -> Answer {
        Answer::Empty { ttl: None }
    }

    fn gone() -> Answer {
        Answer::NoSuchName { ttl: Some(Duration::from_secs(9)) }
    }

    fn failed() -> Answer {
        Answer::Failed("servfail".into())
    }

    /// What is known after these answers, printed.
    fn after(all: &[(Answer, Answer)]) -> String {
        let mut known = Known::default();
        for (v4, v6) in all.iter().cloned() {
            known.take(Answers { v4, v6 }, &Settings::default(), Instant::now(), 0);
        }
        match known.addrs(1) {
            Addrs::Bound(all) => all.iter().map(|at| format!("{} ", at.address)).collect::<String>().trim().to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn only_an_authoritative_no_takes_an_address_away() {
        let good = (found(&["10.0.0.1"]), found(&["::1"]));
        let rows = [
            (vec![], "Pending"),
            (vec![good.clone()], "10.0.0.1:1 [::1]:1"),
            (vec![good.clone(), (failed(), failed())], "10.0.0.1:1 [::1]:1"),
            (vec![good.clone(), (found(&["10.0.0.2"]), failed())], "10.0.0.2:1 [::1]:1"),
            (vec![good.clone(), (empty(), failed())], "[::1]:1"),
            (vec![good.clone(), (empty(), empty())], "Neg"),
            (vec![good.clone(), (gone(), failed())], "Neg"),
            (vec![(failed(), failed())], "Failed(\"servfail\")"),
            (vec![(empty(), failed())], "Failed(\"servfail\")"),
            (vec![(found(&["10.0.0.1"]), failed())], "10.0.0.1:1"),
            (vec![(gone(), gone()), (failed(), failed())], "Failed(\"servfail\")"),
        ];
        for (answers, expected) in rows {
            assert_eq!(after(&answers), expected, "{answers:?}");
        }
    }

    #[test]
    fn an_answer_of_thousands_is_cut() {
        let ips = (0..4000_u32).map(|n| IpAddr::V4(n.into())).collect();
        let answers = Answers { v4: Answer::Found { ips, ttl: TTL }, v6: empty() };
        let mut known = Known::default();
        known.take(answers, &Settings::default(), Instant::now(), 0);
        let Addrs::Bound(addresses) = known.addrs(1) else { panic!("not bound") };
        assert_eq!(addresses.len(), MAX_ADDRESSES);
    }

    /// How long the next look-up waits, in milliseconds, with the least random number.
    fn pause(v4: Answer, v6: Answer) -> u128 {
        let answers = Answers { v4, v6 };
        Known::default().take(answers, &Settings::default(), Instant::now(), 0).as_millis()
    }

    #[test]
    fn the_next_look_up_comes_ahead_of_expiry_within_the_bounds() {
        let found = |ttl| Answer::Found { ips: vec![[10, 0, 0, 1].into()], ttl: Duration::from_secs(ttl) };
        assert_eq!(pause(found(60), empty()), 45_000);
        assert_eq!(pause(found(60), found(20)), 15_000);
        assert_eq!(pause(found(0), empty()), 750, "the least there is");
        assert_eq!(pause(found(86_400), empty()), 225_000, "the most there is");
        assert_eq!(pause(gone(), gone()), 6_750, "what the answer says");
        assert_eq!(pause(empty(), empty()), 3_750, "what the settings say");
        assert_eq!(ahead_of(TTL, 150), Duration::from_secs(54));
    }

    #[test]
    fn a_failed_look_up_is_tried_again_soon_then_seldom() {
        let waits: Vec<u64> = (1..=7).map(|n| retry_after(n, 200).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn an_outcome_is_what_a_stream_would_see() {
        let outcome = |v4, v6| Answers { v4, v6 }.outcome();
        assert_eq!(outcome(found(&["10.0.0.1"]), failed()), Outcome::Found);
        assert_eq!(outcome(empty(), failed()), Outcome::Failed);
        assert_eq!(outcome(gone(), failed()), Outcome::Negative);
        assert_eq!(outcome(empty(), empty()), Outcome::Negative);
    }
}
