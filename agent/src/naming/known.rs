//! What is known of one question, and what a new answer changes about it. Pure; the time and the random
//! number are arguments. The rule that matters: only an authoritative *no* takes a record away,
//! a failure never does.

use super::Settings;
use super::question::{Fact, Record};
use std::time::{Duration, Instant};

/// More records than this are cut off: an answer must not choose our memory.
pub(super) const MAX_RECORDS: usize = 1024;

/// After a failure a look-up is tried again this soon, then after twice as long, up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// What one query was answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Records.
    Found { records: Vec<Record>, ttl: Duration },
    /// The name exists, without a record of this kind; for how long, if the server says.
    Empty { ttl: Option<Duration> },
    /// The name does not exist, with no record of any kind.
    NoSuchName { ttl: Option<Duration> },
    /// No answer that counts, and why.
    Failed(String),
}

/// The answers to all queries of one look-up: A and AAAA of a host, SRV of a service. Always as many for one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answers(pub(super) Vec<Answer>);

/// How a look-up went, as its metric says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Found,
    Negative,
    Failed,
}

/// What is known: for each query the last answer that counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    parts: Vec<Option<Vec<Record>>>,
    /// When all queries were last answered.
    confirmed: Option<Instant>,
    last_error: Option<String>,
    failures: u32,
    /// When the next look-up is due.
    next: Option<Instant>,
}

impl Answers {
    pub(super) fn outcome(&self) -> Outcome {
        if self.0.iter().any(Answer::is_found) {
            Outcome::Found
        } else if self.is_gone() || self.failure().is_none() {
            Outcome::Negative
        } else {
            Outcome::Failed
        }
    }

    /// Why one of them failed.
    fn failure(&self) -> Option<&str> {
        self.0.iter().find_map(|answer| match answer {
            Answer::Failed(why) => Some(why.as_str()),
            _ => None,
        })
    }

    /// Whether one of them says that the name does not exist, and none found it.
    fn is_gone(&self) -> bool {
        let gone = |answer: &Answer| matches!(answer, Answer::NoSuchName { .. });
        self.0.iter().any(gone) && !self.0.iter().any(Answer::is_found)
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
        let least = |of: &dyn Fn(&Answer) -> Option<Duration>| self.0.iter().filter_map(of).min();
        let ttl = least(&found).or_else(|| least(&missing)).unwrap_or(settings.negative_ttl);
        ttl.min(settings.max_ttl).max(settings.min_ttl)
    }
}

impl Answer {
    fn is_found(&self) -> bool {
        matches!(self, Self::Found { .. })
    }
}

impl Known {
    /// Takes a look-up's answers over, and says how long to wait before the next look-up.
    pub(super) fn take(&mut self, answers: Answers, settings: &Settings, now: Instant, random: u64) -> Duration {
        let ttl = answers.ttl(settings);
        let gone = answers.is_gone();
        self.note_failure(answers.failure().filter(|_| !gone), now);
        self.parts.resize(answers.0.len(), None);
        for (part, answer) in self.parts.iter_mut().zip(answers.0) {
            renew(part, answer, gone);
        }
        let pause = match self.failures {
            0 => ahead_of(ttl, random),
            failures => retry_after(failures, random).min(ttl.max(FIRST_RETRY)),
        };
        self.next = Some(now + pause);
        pause
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

    /// What may be used of it, in a stable order.
    pub(super) fn fact(&self) -> Fact {
        let mut records = self.records();
        records.truncate(MAX_RECORDS);
        let answered = !self.parts.is_empty() && self.parts.iter().all(Option::is_some);
        match &self.last_error {
            _ if !records.is_empty() => Fact::Found(records.into()),
            // The last word of an authority, whatever has failed since.
            _ if answered => Fact::Neg,
            Some(why) => Fact::Failed(why.as_str().into()),
            None => Fact::Pending,
        }
    }

    /// Why one of the queries, in the order they are asked in, was never answered, if it was not.
    pub(super) fn lacks(&self, query: usize) -> Option<&str> {
        let never = self.parts.get(query).is_none_or(Option::is_none);
        never.then(|| self.last_error.as_deref().unwrap_or("it was not looked up yet"))
    }

    /// How many records are beyond the bound.
    pub(super) fn cut(&self) -> usize {
        self.records().len().saturating_sub(MAX_RECORDS)
    }

    fn records(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.parts.iter().flatten().flatten().cloned().collect();
        records.sort_unstable();
        records.dedup();
        records
    }

    /// How long ago all queries were last answered.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.confirmed.map(|at| now.saturating_duration_since(at))
    }

    /// How long until the next look-up.
    pub(super) fn next_in(&self, now: Instant) -> Option<Duration> {
        self.next.map(|at| at.saturating_duration_since(now))
    }

    /// How many look-ups failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }
}

/// A part after its answer: a failure changes nothing, unless the name is gone altogether.
fn renew(part: &mut Option<Vec<Record>>, answer: Answer, gone: bool) {
    match answer {
        Answer::Found { records, .. } => *part = Some(records),
        Answer::Empty { .. } | Answer::NoSuchName { .. } => *part = Some(Vec::new()),
        Answer::Failed(_) if gone => *part = Some(Vec::new()),
        Answer::Failed(_) => {}
    }
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
    use std::net::IpAddr;

    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn found(ips: &[&str]) -> Answer {
        Answer::Found { records: ips.iter().map(|ip| Record::Ip(ip.parse().unwrap())).collect(), ttl: TTL }
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
            known.take(Answers(vec![v4, v6]), &Settings::default(), Instant::now(), 0);
        }
        match known.fact() {
            Fact::Found(all) => {
                let ip = |record: &Record| match record {
                    Record::Ip(ip) => ip.to_string(),
                    Record::Service(service) => service.target.to_string(),
                };
                all.iter().map(ip).collect::<Vec<_>>().join(" ")
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn one_of_two_queries_that_was_never_answered_is_lacked_until_it_is() {
        let (settings, now) = (Settings::default(), Instant::now());
        let failed = || Answer::Failed("servfail".to_owned());
        let mut known = Known::default();
        assert!(known.lacks(0).is_some() && known.lacks(1).is_some());
        let mut take = |v6| {
            known.take(Answers(vec![found(&["10.0.0.1"]), v6]), &settings, now, 0);
            (known.lacks(0).map(str::to_owned), known.lacks(1).map(str::to_owned))
        };
        assert_eq!(take(failed()), (None, Some("servfail".to_owned())));
        assert_eq!(take(empty()), (None, None));
        assert_eq!(take(failed()), (None, None), "it was answered once");
    }

    #[test]
    fn only_an_authoritative_no_takes_an_address_away() {
        let good = (found(&["10.0.0.1"]), found(&["::1"]));
        let rows = [
            (vec![], "Pending"),
            (vec![good.clone()], "10.0.0.1 ::1"),
            (vec![good.clone(), (failed(), failed())], "10.0.0.1 ::1"),
            (vec![good.clone(), (found(&["10.0.0.2"]), failed())], "10.0.0.2 ::1"),
            (vec![good.clone(), (empty(), failed())], "::1"),
            (vec![good.clone(), (empty(), empty())], "Neg"),
            (vec![good.clone(), (gone(), failed())], "Neg"),
            (vec![(failed(), failed())], "Failed(\"servfail\")"),
            (vec![(empty(), failed())], "Failed(\"servfail\")"),
            (vec![(found(&["10.0.0.1"]), failed())], "10.0.0.1"),
            (vec![(gone(), gone()), (failed(), failed())], "Neg"),
            (vec![(empty(), empty()), (failed(), empty())], "Neg"),
        ];
        for (answers, expected) in rows {
            assert_eq!(after(&answers), expected, "{answers:?}");
        }
    }

    #[test]
    fn an_answer_of_thousands_is_cut() {
        let records = (0..4000_u32).map(|n| Record::Ip(IpAddr::V4(n.into()))).collect();
        let answers = Answers(vec![Answer::Found { records, ttl: TTL }, empty()]);
        let mut known = Known::default();
        known.take(answers, &Settings::default(), Instant::now(), 0);
        let Fact::Found(records) = known.fact() else { panic!("not found") };
        assert_eq!((records.len(), known.cut()), (MAX_RECORDS, 4000 - MAX_RECORDS));
    }

    /// How long the next look-up waits, in milliseconds, with the least random number.
    fn pause(v4: Answer, v6: Answer) -> u128 {
        let answers = Answers(vec![v4, v6]);
        Known::default().take(answers, &Settings::default(), Instant::now(), 0).as_millis()
    }

    #[test]
    fn the_next_look_up_comes_ahead_of_expiry_within_the_bounds() {
        let found =
            |ttl| Answer::Found { records: vec![Record::Ip([10, 0, 0, 1].into())], ttl: Duration::from_secs(ttl) };
        assert_eq!(pause(found(60), empty()), 45_000);
        assert_eq!(pause(found(60), found(20)), 15_000);
        assert_eq!(pause(found(0), empty()), 750, "the least there is");
        assert_eq!(pause(found(1), empty()), 750);
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
        let outcome = |v4, v6| Answers(vec![v4, v6]).outcome();
        assert_eq!(outcome(found(&["10.0.0.1"]), failed()), Outcome::Found);
        assert_eq!(outcome(empty(), failed()), Outcome::Failed);
        assert_eq!(outcome(gone(), failed()), Outcome::Negative);
        assert_eq!(outcome(empty(), empty()), Outcome::Negative);
    }
}
