//! What the service manager is told while the agent runs: how it stands, in one line, and that it lives; which sockets it is
//! to keep, and which no longer. What a manager does with it is in the unit; without one all of this is silent.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{apply::App, rounds::Rounds};
use crate::sys::notify;

/// How often the line is made; it is told when it has changed.
const LINE_PERIOD: Duration = Duration::from_secs(3);
/// A drain is given this much more time, each time: one that hangs is killed after it, however long a drain may take.
const DRAIN_STEP: Duration = Duration::from_secs(30);
/// How long the manager may take to close its copies of sockets. It takes a moment, and no door waits for a manager that
/// does not answer.
const LET_GO: Duration = Duration::from_secs(2);

/// Starts to tell it all, as long as this process is the main one.
pub(super) fn start(app: &Arc<App>) {
    if !notify::is_there() {
        return;
    }
    let (house, stop) = (app.house(), app.house().reign.clone());
    house.chores.spawn(tell(Arc::clone(app), stop.clone()));
    if let Some(limit) = notify::watchdog_period() {
        info!("the watchdog of the service manager waits {limit:?} for a sign of life");
        house.chores.spawn(feed(Arc::clone(app), limit, stop));
    }
}

/// Says that the agent drains. From then on whoever connects is refused, and not left to wait for the next agent: the
/// manager lets its copies of the sockets go.
pub(super) async fn stopping(app: &App) {
    let kept = app.kept();
    blocking(move || {
        notify::stopping(Some(DRAIN_STEP));
        let_go(kept.iter().map(String::as_str));
    })
    .await;
}

/// Lets the manager close its copies of these sockets, and waits until it has.
pub(super) fn let_go<'a>(names: impl Iterator<Item = &'a str>) {
    let count = names.map(notify::keep_no_more).count();
    if count > 0 && !notify::barrier(LET_GO) {
        warn!("the service manager has not closed its copies of {count} sockets within {LET_GO:?}");
    }
}

/// Says that another process is the main one, and waits until that is known: what that one says then is heard. From then on
/// this one says no more.
pub(super) async fn hand_over(pid: u32) {
    blocking(move || {
        notify::main_pid(pid);
        if !notify::barrier(LET_GO) {
            warn!("the service manager has not heard of the new process within {LET_GO:?}");
        }
    })
    .await;
}

/// Says that this process is the main one after all.
pub(super) async fn take_back() {
    blocking(notify::main_again).await;
}

async fn tell(app: Arc<App>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(LINE_PERIOD);
    let mut told = String::new();
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let standing = app.standing();
        let (line, is_draining) = (standing.to_string(), standing.is_draining);
        if line == told && !is_draining {
            continue;
        }
        told.clone_from(&line);
        blocking(move || {
            notify::status(&line);
            if is_draining {
                notify::extend_timeout(Some(DRAIN_STEP));
            }
        })
        .await;
    }
}

/// Says that the agent lives, as long as it does. It runs on the threads that carry streams, by their clock, so it says
/// nothing when none of them gets round, or none looks at its sockets any more; when a single one hangs; and when the
/// admin's thread does. (A thread that has nothing to do is none that hangs.)
async fn feed(app: Arc<App>, limit: Duration, stop: CancellationToken) {
    // Half of the limit is for what one look may take.
    let period = limit / 4;
    let mut tick = tokio::time::interval(period);
    let mut rounds = Rounds::default();
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let hanging = rounds.hanging(&Handle::current().metrics());
        if hanging > 0 {
            warn!(
                "{hanging} threads that carry streams have been at one task for {period:?}; the watchdog is told nothing"
            );
        } else if !app.admin_answers(period).await {
            warn!("the admin's thread has not answered within {period:?}; the watchdog is told nothing");
        } else {
            blocking(notify::alive).await;
        }
    }
}

/// A manager that is busy must not hold up a thread that carries streams.
async fn blocking(tell: impl FnOnce() + Send + 'static) {
    // It cannot fail but by a panic, of which the hook has told.
    let _ = tokio::task::spawn_blocking(tell).await;
}
