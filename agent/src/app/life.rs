//! The agent from the moment it is ready to its end: it lives until it is told to end, and then drains; or until another
//! process has its place, and then sees its last streams out.

use std::{future::pending, io, os::fd::OwnedFd, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::spawn_blocking,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{apply::App, rules::Release};
use crate::{
    admin::{NotUpgraded, UpgradeAsked, Upgraded},
    end::End,
    sys::notify,
    telemetry::metrics,
    upgrade::{Failed, Origin, Successor},
};

/// How long the last tasks may take once every stream was ended: an abort waits a second, a close five.
const LAST_TASKS: Duration = Duration::from_secs(6);
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
                return see_out(app, next, asked, &mut signals).await;
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
}

/// An agent that has this one's place.
struct Next {
    pid: u32,
    version: String,
    line: OwnedFd,
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
    hand_over(app, successor).await.map(|line| Next { pid, version, line })
}

/// Refuses whoever asks for another upgrade meanwhile.
async fn refuse<T>(others: &mut mpsc::Receiver<UpgradeAsked>, pid: u32) -> T {
    while let Some(asked) = others.recv().await {
        let busy = format!("an upgrade is under way: the new process is {pid}");
        let _ = asked.send(Err(NotUpgraded::Busy(busy)));
    }
    pending().await
}

/// The moment itself. Both accept until this one has stepped back, so that nobody waits.
async fn hand_over(app: &App, successor: Successor) -> Result<OwnedFd, Failed> {
    app.predecessors().leave().await;
    notify::main_pid(successor.pid());
    let line = successor.go().await?;
    app.hand_on();
    line.into_std().map(Into::into).map_err(|error| Failed::System("turning the line around", error))
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
    let alone = CancellationToken::new();
    match app.serve_line(line) {
        Ok(serving) => {
            let (told, alone) = (app.view().told_to_end.clone(), alone.clone());
            house.chores.spawn(async move {
                // However it ended, nobody asks any more.
                let _ = serving.await;
                if !told.is_cancelled() {
                    warn!("the agent after this one is gone; its last streams are seen out all the same");
                    alone.cancel();
                }
            });
        }
        Err(error) => error!("the agent after this one cannot ask this one: {error}"),
    }
    app.read_soon();
    house.work.close();
    let view = app.view();
    tokio::select! {
        () = house.work.wait() => return finish(app).await,
        () = after(app.upgrade_drain_limit()) => {
            warn!(streams = house.streams.count(), "`upgrade_drain` is over; ending what is left");
            return finish(app).await;
        }
        () = signals.end() => {}
        () = view.told_to_end.cancelled() => {}
    }
    drain_until(app, signals, alone.cancelled()).await;
}

/// Stops accepting, retires tunnels, waits for streams up to the deadline, ends what is left. Until then the configuration
/// is followed: a right can still be withdrawn.
async fn drain(app: &App, signals: &mut Signals) {
    notify::stopping(app.drain_limit().map(|limit| limit + LAST_TASKS));
    tokio::join!(app.predecessors().drain(), drain_until(app, signals, pending()));
    if tokio::time::timeout(LAST_TASKS, app.predecessors().all_gone()).await.is_err() {
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
    house.draining.cancel();
    house.work.close();
    let (left, predecessors) = (|| house.streams.count(), app.predecessors());
    tokio::select! {
        ((), ()) = async { tokio::join!(house.work.wait(), predecessors.all_gone()) } => {}
        () = after(app.drain_limit()) => warn!(streams = left(), "the drain's deadline came; ending what is left"),
        () = signals.end() => warn!(streams = left(), "told to end again; ending what is left"),
        () = alone => warn!(streams = left(), "the agent after this one is gone, and is not started again before this one ends; ending what is left"),
    }
    finish(app).await;
}

/// Ends what is left, and waits for the last tasks.
async fn finish(app: &App) {
    let house = app.house();
    house.streams.stop_all(End::Drained, "the agent drained and the deadline came");
    house.stop.cancel();
    house.chores.close();
    let last = async {
        house.work.wait().await;
        house.chores.wait().await;
    };
    if tokio::time::timeout(LAST_TASKS, last).await.is_err() {
        error!("some connections did not end in time; they are dropped");
    }
    info!("drained");
}

async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => pending().await,
    }
}
