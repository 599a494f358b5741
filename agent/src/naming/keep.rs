//! The task that keeps the answer to one question fresh: look up, tell the watchers, wait, again; and forget the question
//! when nobody has watched it for a while. What an answer means is decided in `known`.

use super::known::{Answers, Known, Outcome};
use super::question::{Fact, Question};
use super::{Idle, Shared, tell};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

/// When the settings change, all questions are asked anew, spread over this long.
const ASK_ANEW: Duration = Duration::from_secs(1);

/// A question that is kept.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) question: Question,
    known: Mutex<Known>,
    told: watch::Sender<Fact>,
}

impl Entry {
    /// An entry of which nothing is known, and its first watcher.
    pub(super) fn new(question: Question) -> (Arc<Self>, watch::Receiver<Fact>) {
        let (told, receiver) = watch::channel(Fact::Pending);
        (Arc::new(Self { question, known: Mutex::default(), told }), receiver)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Fact> {
        self.told.subscribe()
    }

    pub(super) fn fact(&self) -> Fact {
        self.told.borrow().clone()
    }

    /// What is known is replaced part by part from one look-up; a panic elsewhere leaves the last.
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps an answer fresh until it is forgotten or the agent stops; whoever still waits then is told.
pub(super) async fn keep(shared: Arc<Shared>, entry: Arc<Entry>) {
    if shared.stop.run_until_cancelled(refresh(&shared, &entry)).await.is_none() {
        shared.questions().remove(&entry.question);
        if entry.fact() == Fact::Pending {
            tell(&entry.told, Fact::Failed("the agent is stopping".into()));
        }
    }
}

async fn refresh(shared: &Shared, entry: &Entry) {
    let mut idle = Idle::default();
    let mut anew = shared.anew.subscribe();
    while !forget(shared, entry, &mut idle) {
        let setup = shared.setup.load_full();
        let failures = entry.known().failures();
        let answers = setup.dns.look_up(&entry.question, failures).await;
        count(answers.outcome());
        let pause = take(entry, answers, &setup.settings);
        idle.note(entry.told.receiver_count(), Instant::now());
        tokio::select! {
            () = sleep(pause) => {}
            _ = anew.changed() => sleep(ASK_ANEW.mul_f64(fastrand::f64())).await,
        }
    }
}

fn take(entry: &Entry, answers: Answers, settings: &super::Settings) -> Duration {
    let mut known = entry.known();
    let before = known.failures();
    let pause = known.take(answers, settings, Instant::now(), fastrand::u64(..));
    let (fact, failures, why) = (known.fact(), known.failures(), known.last_error().map(str::to_owned));
    drop(known);
    report(&entry.question, &fact, before, failures, why.as_deref());
    tell(&entry.told, fact);
    pause
}

/// Says once when a name server begins to fail under an answer that is in use, and when that is over. Where nothing is in
/// use, the streams that are refused say it.
fn report(question: &Question, fact: &Fact, before: u32, failures: u32, why: Option<&str>) {
    match (fact, before, failures) {
        (Fact::Found(_), 0, 1..) => {
            warn!("{question}: {}; the last good answer stays in use", why.unwrap_or("the look-up failed"));
        }
        (Fact::Found(_), 1.., 0) => info!("{question}: answered again"),
        _ => {}
    }
}

/// Forgets the question if nobody has watched it for long enough. Under the map's lock, so that nobody
/// can begin to watch what is being forgotten.
fn forget(shared: &Shared, entry: &Entry, idle: &mut Idle) -> bool {
    let mut questions = shared.questions();
    let over = idle.is_over(entry.told.receiver_count(), shared.setup.load().settings.linger, Instant::now());
    if over {
        questions.remove(&entry.question);
    }
    over
}

fn count(outcome: Outcome) {
    let outcome = match outcome {
        Outcome::Found => "found",
        Outcome::Negative => "negative",
        Outcome::Failed => "failed",
    };
    metrics::counter!("adit_dns_lookups_total", "outcome" => outcome).increment(1);
}
