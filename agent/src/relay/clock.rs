//! Since when nothing has moved in a stream, and which of its limits that makes due; a file of its own, for it is plain
//! arithmetic over times. It ends no stream and reads no socket.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use tokio::time::{Sleep, sleep_until};

use super::Limits;
use crate::end::End;

/// When bytes last moved.
pub(super) struct Clock {
    began: Instant,
    moved: Instant,
    /// Since when bytes have waited for a receiver without any moving.
    waiting: Option<Instant>,
    /// When the kernel was last asked whether that receiver lives.
    asked: Option<Instant>,
}

/// What is due.
pub(super) enum Overdue {
    /// The stream ends so, with these words.
    Limit(End, String),
    /// Bytes have waited long: the kernel is to be asked whether their receiver lives.
    Unacknowledged,
}

impl Clock {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { began: now, moved: now, waiting: None, asked: None }
    }

    pub(super) fn moved(&mut self) {
        self.moved = Instant::now();
        self.waiting = None;
        self.asked = None;
    }

    pub(super) fn waits(&mut self, waiting: bool) {
        if waiting {
            self.waiting.get_or_insert_with(Instant::now);
        } else {
            self.waiting = None;
            self.asked = None;
        }
    }

    pub(super) fn asked(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    pub(super) fn deadline(&self, limits: &Limits, half_closed: bool) -> Option<Instant> {
        let quiet = if half_closed { limits.half_closed } else { limits.idle };
        [
            quiet.map(|limit| self.moved + limit),
            limits.life.map(|limit| self.began + limit),
            self.waiting.zip(limits.unread).map(|(since, limit)| since + limit),
            self.asked.or(self.waiting).zip(limits.stalled).map(|(since, limit)| since + limit),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn overdue(&self, limits: &Limits, half_closed: bool, now: Instant) -> Option<Overdue> {
        let since = |start: Instant, limit: Duration| start + limit <= now;
        if let Some(life) = limits.life.filter(|limit| since(self.began, *limit)) {
            return Some(Overdue::Limit(End::Aged, format!("the stream is older than {life:?}")));
        }
        if let Some(limit) = limits.half_closed.filter(|limit| half_closed && since(self.moved, *limit)) {
            let detail = format!("half-closed, and nothing moved for {limit:?}");
            return Some(Overdue::Limit(End::Idle, detail));
        }
        if let Some(idle) = limits.idle.filter(|limit| !half_closed && since(self.moved, *limit)) {
            return Some(Overdue::Limit(End::Idle, format!("nothing moved for {idle:?}")));
        }
        let waiting = self.waiting?;
        if let Some(unread) = limits.unread.filter(|limit| since(waiting, *limit)) {
            return Some(Overdue::Limit(End::Stalled, format!("bytes were not read for {unread:?}")));
        }
        let asked = self.asked.unwrap_or(waiting);
        limits.stalled.filter(|limit| since(asked, *limit)).map(|_| Overdue::Unacknowledged)
    }
}

/// One timer a stream, armed only while there is a limit to watch, and moved only when it rings: a stream that moves
/// bytes does not touch it.
#[derive(Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    pub(super) fn set(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else {
            self.sleep = None;
            return;
        };
        match &mut self.sleep {
            None => self.sleep = Some(Box::pin(sleep_until(deadline))),
            // One that rings early only looks and is set again; one that would ring late must be moved.
            Some(sleep) if sleep.is_elapsed() || sleep.deadline() > deadline => sleep.as_mut().reset(deadline),
            Some(_) => {}
        }
    }

    pub(super) async fn rings(&mut self) {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn limits() -> Limits {
        Limits {
            idle: Some(MINUTE),
            half_closed: Some(2 * MINUTE),
            stalled: Some(MINUTE),
            unread: None,
            life: None,
            frame: MINUTE,
        }
    }

    fn ends(clock: &Clock, limits: &Limits, half_closed: bool, after: Duration) -> Option<End> {
        match clock.overdue(limits, half_closed, clock.moved + after) {
            Some(Overdue::Limit(end, _)) => Some(end),
            Some(Overdue::Unacknowledged) => Some(End::Stalled),
            None => None,
        }
    }

    #[test]
    fn a_quiet_stream_ends_by_the_limit_of_its_state() {
        let clock = Clock::new();
        assert_eq!(ends(&clock, &limits(), false, MINUTE / 2), None);
        assert_eq!(ends(&clock, &limits(), false, MINUTE), Some(End::Idle));
        assert_eq!(ends(&clock, &limits(), true, MINUTE), None);
        assert_eq!(ends(&clock, &limits(), true, 2 * MINUTE), Some(End::Idle));
        assert_eq!(clock.deadline(&limits(), true), Some(clock.moved + 2 * MINUTE));
    }

    #[test]
    fn its_age_ends_a_stream_that_moves() {
        let limits = Limits { life: Some(MINUTE), idle: None, ..limits() };
        let mut clock = Clock::new();
        clock.moved();
        assert_eq!(ends(&clock, &limits, false, MINUTE / 2), None);
        assert_eq!(ends(&clock, &limits, false, MINUTE), Some(End::Aged));
    }

    #[test]
    fn bytes_that_wait_are_asked_about_once_in_each_limit() {
        let limits = Limits { idle: None, ..limits() };
        let mut clock = Clock::new();
        assert_eq!(ends(&clock, &limits, false, 3 * MINUTE), None, "nothing waits");
        clock.waits(true);
        let since = clock.waiting.unwrap();
        assert!(matches!(clock.overdue(&limits, false, since + MINUTE), Some(Overdue::Unacknowledged)));
        clock.asked(since + MINUTE);
        assert!(clock.overdue(&limits, false, since + MINUTE * 3 / 2).is_none());
        assert!(matches!(clock.overdue(&limits, false, since + 2 * MINUTE), Some(Overdue::Unacknowledged)));
    }
}
