//! The agent from the moment it is ready to its end: it lives until it is told to end, and then drains; or until another
//! process has its place, and then sees its last streams out.

use std::{future::pending, io, os::fd::OwnedFd, sync::Arc, time::Duration};

use tokio::{
    net::UnixStream,
    signal::unix::{Signal, SignalKind, signal},
    sync::{OwnedMutexGuard, mpsc},
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{apply::App, manager, rules::Release};
use crate::{
    admin::{NotUpgraded, UpgradeAsked, Upgraded},
    end::End,
    telemetry::metrics,
    upgrade::{Failed, Origin, Successor},
};

/// How long the last tasks may take once every stream was ended: an abort waits a second, a close five.
const LAST_TASKS: Duration = Duration::from_secs(6);
/// How long a reload may keep an upgrade waiting: longer only where the file is on a disk that does not answer.
const TURN: Duration = Duration::from_secs(10);
/// How long they may take that are owed at the admin doors.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The signals that end the agent.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(super) async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Lives to its end. Rules that it holds are taken away then, unless another process has them.
pub(super) async fn live(
    app: &App,
    origin: &Origin,
    mut upgrades: mpsc::Receiver<UpgradeAsked>,
    mut signals: Signals,
    release: Option<Release>,
) {
    loop {
        let asked = tokio::select! {
            () = signals.end() => break,
            Some(asked) = upgrades.recv() => asked,
        };
        let rules = release.as_ref().map(|Release(rules)| rules);
        if let Some(rules) = rules {
            rules.expect();
        }
        match upgrade(app, origin, &mut upgrades, &mut signals).await {
            Ok(next) => {
                drop(upgrades);
                if let Some(rules) = rules {
                    rules.leave();
                }
                see_out(app, next, asked, &mut signals).await;
                return last_answers(app).await;
            }
            Err(Failed::Ending) => {
                answer(asked, Err(Failed::Ending));
                break;
            }
            Err(why) => {
                error!("no upgrade, and this agent serves on: {why}");
                if let Some(rules) = rules.map(Arc::clone) {
                    // One that panicked has changed nothing.
                    let _ = spawn_blocking(move || rules.stand()).await;
                }
                answer(asked, Err(why));
            }
        }
    }
    drop(upgrades);
    drain(app, &mut signals).await;
    last_answers(app).await;
}

/// Whoever has asked for an upgrade, say, hears of it before the admin's thread ends.
async fn last_answers(app: &App) {
    let _ = timeout(LAST_ANSWERS, app.admin_answered()).await;
}

/// An agent that has this one's place.
struct Next {
    pid: u32,
    version: String,
    line: io::Result<OwnedFd>,
}

fn answer(asked: UpgradeAsked, made: Result<Upgraded, Failed>) {
    // Who asked may have gone.
    let _ = asked.send(made.map_err(|why| NotUpgraded::Failed(why.to_string())));
}

/// Starts a successor, and hands the place over to it once it is ready.
async fn upgrade(
    app: &App,
    origin: &Origin,
    others: &mut mpsc::Receiver<UpgradeAsked>,
    signals: &mut Signals,
) -> Result<Next, Failed> {
    info!(program = %origin.program().display(), "starting a successor");
    let copied = |error| Failed::System("copying descriptors for the successor", error);
    let sockets = app.copies().map_err(copied)?;
    let older = app.predecessors().lines().map_err(copied)?;
    let mut successor = origin.start(sockets, older).await?;
    let pid = successor.pid();
    let version = tokio::select! {
        ready = successor.ready(app.upgrade_ready_limit()) => ready?,
        never = refuse(others, pid) => never,
        () = signals.end() => return Err(Failed::Ending),
    };
    info!(pid, version, "the successor is ready");
    let older = app.predecessors().lines().map_err(copied)?;
    let turned = tokio::select! {
        turned = turn(app, &mut successor) => turned,
        never = refuse(others, pid) => never,
        () = signals.end() => Err(Failed::Ending),
    };
    let line = match turned {
        Ok(turn) => step_back(app, successor, turn).await,
        Err(failed) => Err(failed),
    };
    match line {
        Ok(line) => Ok(Next { pid, version, line: line.into_std().map(Into::into) }),
        Err(failed) => {
            app.add_predecessors(older);
            Err(failed)
        }
    }
}

/// Refuses whoever asks for another upgrade meanwhile.
async fn refuse<T>(others: &mut mpsc::Receiver<UpgradeAsked>, pid: u32) -> T {
    while let Some(asked) = others.recv().await {
        let busy = format!("an upgrade is under way: the new process is {pid}");
        let _ = asked.send(Err(NotUpgraded::Busy(busy)));
    }
    pending().await
}

/// No file is put in force while this lives: what the successor has read stays what is in force.
type Turn = OwnedMutexGuard<()>;

/// The moment itself. Both accept from its end until this one has stepped back, so that nobody waits.
async fn turn(app: &App, successor: &mut Successor) -> Result<Turn, Failed> {
    let turn = timeout(TURN, Arc::clone(&app.view().turn).lock_owned()).await;
    let turn = turn.map_err(|hangs| Failed::System("waiting for a reload, whose file cannot be read", hangs.into()))?;
    app.predecessors().leave().await;
    successor.go().await?;
    Ok(turn)
}

async fn step_back(app: &App, successor: Successor, _turn: Turn) -> Result<UnixStream, Failed> {
    manager::hand_over(successor.pid()).await;
    match successor.take_over().await {
        Ok(line) => {
            app.hand_on();
            Ok(line)
        }
        Err(failed) => {
            manager::take_back().await;
            Err(failed)
        }
    }
}

/// Sees the last streams out, after another process has taken this one's place: asked by that one over the line, and still
/// following the configuration, so that a right can be withdrawn.
async fn see_out(app: &App, next: Next, asked: UpgradeAsked, signals: &mut Signals) {
    let house = app.house();
    let streams = house.streams.count();
    let Next { pid, version, line } = next;
    info!(pid, version, streams, "another process serves from here on; this one ends with its last stream");
    answer(
        asked,
        Ok(Upgraded {
            pid,
            version,
            predecessor: std::process::id(),
            predecessor_version: VERSION.to_owned(),
            streams,
        }),
    );
    let asked = Asked::over(app, line);
    app.read_soon();
    house.work.close();
    let view = app.view();
    let told = tokio::select! {
        () = house.work.wait() => false,
        () = after(app.upgrade_drain_limit()) => {
            warn!(streams = house.streams.count(), "`upgrade_drain` is over; ending what is left");
            false
        }
        () = signals.end() => true,
        () = view.told_to_end.cancelled() => true,
    };
    if told {
        drain_until(app, signals, asked.alone.cancelled()).await;
    }
    let reset = reset_rest(app);
    asked.end().await;
    finish(app, reset).await;
}

/// The agent after this one, asking over the line.
struct Asked {
    /// Cancelled once it is gone, and has not said that it ends.
    alone: CancellationToken,
    over: CancellationToken,
    serving: JoinHandle<()>,
}

impl Asked {
    fn over(app: &App, line: io::Result<OwnedFd>) -> Self {
        let (alone, over) = (CancellationToken::new(), CancellationToken::new());
        let serving = line.and_then(|line| app.serve_line(line, over.clone()));
        let (told, gone, ours) = (app.view().told_to_end.clone(), alone.clone(), over.clone());
        let serving = tokio::spawn(async move {
            match serving {
                // However it ended, nobody asks any more.
                Ok(serving) => drop(serving.await),
                Err(error) => error!("the agent after this one cannot ask this one: {error}"),
            }
            if !told.is_cancelled() && !ours.is_cancelled() {
                warn!("the agent after this one is gone; its last streams are seen out all the same");
                gone.cancel();
            }
        });
        Self { alone, over, serving }
    }

    /// Answers what was asked, and no more.
    async fn end(self) {
        self.over.cancel();
        // An answer that does not come by then never does.
        let _ = timeout(LAST_TASKS, self.serving).await;
    }
}

/// Stops accepting, retires tunnels, waits for streams up to the deadline, ends what is left. Until then the configuration
/// is followed: a right can still be withdrawn.
async fn drain(app: &App, signals: &mut Signals) {
    // First of all: a manager may take seconds, in which the doors still accept.
    app.house().unready.cancel();
    manager::stopping(app).await;
    tokio::join!(app.predecessors().drain(), drain_until(app, signals, pending()));
    let reset = reset_rest(app);
    finish(app, reset).await;
    if timeout(LAST_TASKS, app.predecessors().all_gone()).await.is_err() {
        for one in app.predecessors().all() {
            error!(pid = one.pid, "a predecessor has not ended with this agent");
        }
    }
}

/// The same for an agent that is asked by none, or not any more: once `alone` is over, it waits for nothing.
async fn drain_until(app: &App, signals: &mut Signals, alone: impl Future<Output = ()>) {
    let house = app.house();
    info!(streams = house.streams.count(), "draining");
    metrics::draining();
    app.stop_accepting();
    house.work.close();
    let (left, predecessors) = (|| house.streams.count(), app.predecessors());
    tokio::select! {
        ((), ()) = async { tokio::join!(house.work.wait(), predecessors.all_gone()) } => {}
        () = after(app.drain_limit()) => warn!(streams = left(), "the drain's deadline came; ending what is left"),
        () = signals.end() => warn!(streams = left(), "told to end again; ending what is left"),
        () = alone => warn!(streams = left(), "the agent after this one is gone, and is not started again before this one ends; ending what is left"),
    }
}

/// Ends every stream that is left; how many.
fn reset_rest(app: &App) -> usize {
    let streams = &app.house().streams;
    let left = streams.count();
    streams.stop_all(End::Drained, "the agent drained and the deadline came");
    left
}

/// Waits for the last tasks, once so many streams were `reset`.
async fn finish(app: &App, reset: usize) {
    let house = app.house();
    house.stop.cancel();
    house.chores.close();
    let last = async {
        house.work.wait().await;
        house.chores.wait().await;
    };
    if timeout(LAST_TASKS, last).await.is_err() {
        error!("some connections did not end in time; they are dropped");
    }
    info!(reset, "drained");
}

async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => pending().await,
    }
}
