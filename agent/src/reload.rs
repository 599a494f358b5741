//! The configuration again: on SIGHUP, when somebody asks at the admin socket, and when its file has changed. Each time it
//! is read and checked whole, handed to who applies it, and what came of it is told in the log, the metrics, the status
//! page and the answer. One reload at a time; what it does to the agent is `app`'s to know.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use adit_config::{Config, Problem, Problems, Warning};
use tokio::{
    signal::unix::Signal,
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet, spawn_blocking},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    admin::{Followed, Loaded, Outcome, Reloaded, View, Wish},
    sys::notify,
    telemetry::metrics,
    watch::Watched,
};

/// How often it is looked whether the file has changed.
const LOOK: Duration = Duration::from_secs(1);

/// How often a file is read that changes under whoever reads it, and how long its writer is left alone in between.
const READS: usize = 10;
const REST: Duration = Duration::from_millis(50);

/// The file that the configuration comes from.
#[derive(Debug)]
pub struct Source {
    file: PathBuf,
    watched: Mutex<Watched>,
}

/// What was applied.
#[derive(Debug, Default)]
pub struct Applied {
    /// What changed, a line each; none when the file says what is in force.
    pub changes: Vec<String>,
    /// What waits for a restart, a line each.
    pub waits: Vec<String>,
    /// What an operator should know of, a line each.
    pub warnings: Vec<String>,
    /// Streams that ended, for their right is gone.
    pub revoked: usize,
    /// Doors that are closing: each is closed once its task has ended.
    pub closing: Vec<JoinHandle<()>>,
}

/// Why a configuration was not applied: one line for each problem.
enum Fault {
    /// The file itself. If it could be read, it stays so until somebody changes it.
    File(Problems),
    /// What the file needs of the world, which may be there a moment later.
    World(String),
}

/// What a reload is for.
enum Cause {
    /// SIGHUP.
    Signal,
    /// Somebody asked, and waits for the answer.
    Asked(oneshot::Sender<Reloaded>),
    /// The agent itself, at an upgrade.
    Own(oneshot::Sender<()>),
    /// The file is another, and has been the same for a look.
    Changed,
    /// The last one failed for a reason that may be gone.
    Again,
}

/// What the looks at the file have come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It is as it was.
    Still,
    /// It has changed since the look before: somebody may be writing it.
    Moving,
}

impl Source {
    /// Takes a first look at the file: what changes from now on is a change.
    pub fn new(file: PathBuf) -> Self {
        let watched = Mutex::new(Watched::new([file.clone()]));
        Self { file, watched }
    }

    /// Where it is.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Reads it.
    ///
    /// # Errors
    /// Every problem it has.
    pub fn load(&self) -> Result<(Config, Vec<Warning>), Problems> {
        // Looked at before it is read: what is written in between is then seen the next time.
        self.has_changed();
        Config::load(&self.file)
    }

    /// Reads it again, under a running agent. What changes meanwhile is not believed: half a file may well be a file, one
    /// that gives fewer rights.
    fn load_again<T>(&self, load: impl Fn(&Path) -> Result<T, Problems>) -> Result<T, Problems> {
        for _ in 0..READS {
            self.has_changed();
            // Who opens a pipe waits for its writer, perhaps for ever. What is no file can be read once, at the start.
            if fs::metadata(&self.file).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
                return Err(self.problem("is no regular file, and is not read again", "put the file back in its place"));
            }
            let loaded = load(&self.file);
            if self.watched().are_still() {
                return loaded;
            }
            thread::sleep(REST);
        }
        Err(self.problem("is being written all the time", "write a file beside it, and rename that over it"))
    }

    fn problem(&self, message: &str, help: &str) -> Problems {
        let (file, message, help) = (self.file.clone(), message.to_owned(), help.to_owned());
        Problems(vec![Problem { file, line: 0, column: 0, message, help }])
    }

    /// Whether the file is another than at the last look.
    pub fn has_changed(&self) -> bool {
        !self.watched().changed().is_empty()
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reloads whenever there is a cause, until `stop`. `apply` puts a configuration in force, all of it or nothing, and may
/// block.
pub async fn follow<E: fmt::Display>(
    source: Source,
    view: Arc<View>,
    mut asked: mpsc::Receiver<Wish>,
    mut hangup: Signal,
    stop: CancellationToken,
    apply: impl Fn(Config) -> Result<Applied, E> + Send + Sync + 'static,
) {
    let (source, apply) = (Arc::new(source), Arc::new(apply));
    let mut reloads = Reloads { view, fault: None, untold: None, unheard: Arc::default(), passing: JoinSet::new() };
    let mut look = Look::Still;
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let cause = tokio::select! {
            () = stop.cancelled() => return,
            _ = hangup.recv() => Cause::Signal,
            Some(wish) = asked.recv() => match wish {
                Wish::Told(answer) => Cause::Asked(answer),
                Wish::Done(done) => Cause::Own(done),
            },
            _ = tick.tick() => {
                let before = look;
                let Some(now) = stop.run_until_cancelled(look_at(&source)).await else { return };
                look = now;
                match (before, look) {
                    (Look::Moving, Look::Still) => Cause::Changed,
                    (Look::Still, Look::Still) if reloads.may_heal() => Cause::Again,
                    (_, Look::Moving) | (Look::Still, Look::Still) => continue,
                }
            }
        };
        look = Look::Still;
        let by_signal = matches!(cause, Cause::Signal);
        if by_signal {
            notify::reloading();
        }
        let Some(turn) = stop.run_until_cancelled(Arc::clone(&reloads.view.turn).lock_owned()).await else { return };
        let (from, put) = (Arc::clone(&source), Arc::clone(&apply));
        // Files may be on a network mount, and the agent's keys are among them.
        let read = spawn_blocking(move || {
            let _turn = turn;
            read_and_apply(&from, put.as_ref())
        });
        // A read that hangs, on a mount whose server is gone, must not keep the agent from its end; nor one of TLS files.
        let Some(read) = stop.run_until_cancelled(read).await else { return };
        let result = read.unwrap_or_else(|panicked| Err(Fault::World(panicked.to_string())));
        let finished = stop.run_until_cancelled(reloads.finish(&source.file, result, cause)).await;
        if finished.is_none() {
            return;
        }
        if by_signal {
            notify::reloaded();
        }
    }
}

async fn look_at(source: &Arc<Source>) -> Look {
    let source = Arc::clone(source);
    match spawn_blocking(move || source.has_changed()).await {
        Ok(true) => Look::Moving,
        Ok(false) | Err(_) => Look::Still,
    }
}

fn read_and_apply<E: fmt::Display>(
    source: &Source,
    apply: &impl Fn(Config) -> Result<Applied, E>,
) -> Result<Applied, Fault> {
    let (config, warnings) = source.load_again(Config::load).map_err(Fault::File)?;
    let mut applied = apply(config).map_err(|error| Fault::World(error.to_string()))?;
    applied.warnings.splice(0..0, warnings.iter().map(ToString::to_string));
    Ok(applied)
}

/// What is remembered from reload to reload.
struct Reloads {
    view: Arc<View>,
    fault: Option<Fault>,
    /// The last change that nobody had asked for: who asks then, having edited the file, wants to know of it.
    untold: Option<Reloaded>,
    /// What became of streams of agents before this one, and nobody was told; held by whoever asks them now, for what the
    /// earlier one hears is told to the later.
    unheard: Arc<tokio::sync::Mutex<Vec<Followed>>>,
    /// Those who hear from agents before this one what came of it, which keeps no other reload waiting.
    passing: JoinSet<()>,
}

impl Reloads {
    /// Whether the same file may come to another end. One that could not be read at all, for want of a descriptor perhaps,
    /// looks the same when it can be.
    fn may_heal(&self) -> bool {
        match &self.fault {
            Some(Fault::File(problems)) => problems.iter().any(|problem| problem.line == 0),
            Some(Fault::World(_)) => true,
            None => false,
        }
    }

    async fn finish(&mut self, file: &Path, result: Result<Applied, Fault>, cause: Cause) {
        let mut reloaded = match result {
            Ok(applied) => self.succeed(file, applied).await,
            Err(fault) => self.fail(file, fault, &cause),
        };
        if matches!(cause, Cause::Asked(_) | Cause::Signal) {
            reloaded.problems.extend(self.look_at_credentials().await);
        }
        match cause {
            Cause::Asked(answer) => {
                let untold = self.untold.take().filter(|_| reloaded.outcome == Outcome::Unchanged);
                let problems = reloaded.problems.clone();
                self.pass_on(Reloaded { problems, ..untold.unwrap_or(reloaded) }, Some(answer));
            }
            Cause::Own(done) => {
                // Who waited may have done so for long enough.
                let _ = done.send(());
                self.pass_on_untold(reloaded);
            }
            Cause::Signal | Cause::Changed | Cause::Again => self.pass_on_untold(reloaded),
        }
    }

    /// Takes up TLS files that have changed, without waiting for the next look at them; what keeps those that are there from
    /// being in force, and the agent from starting anew.
    async fn look_at_credentials(&self) -> Option<String> {
        let identity = Arc::clone(&self.view.identity);
        let look = spawn_blocking(move || {
            // It stays as a fault.
            let _ = identity.reload_if_changed();
            identity.fault()
        });
        let fault = look.await.ok().flatten()?;
        Some(format!("[tls]: what is on disk is not in force, but what was read before: {fault}"))
    }

    fn pass_on_untold(&mut self, reloaded: Reloaded) {
        if reloaded.outcome == Outcome::Ok {
            self.untold = Some(Reloaded { earlier: true, ..reloaded.clone() });
        }
        self.pass_on(reloaded, None);
    }

    /// Has every agent before this one read the file too: who lives on from before an upgrade goes by the same one. What
    /// comes of it is the last part of the answer; nobody else waits for it.
    fn pass_on(&mut self, reloaded: Reloaded, answer: Option<oneshot::Sender<Reloaded>>) {
        while self.passing.try_join_next().is_some() {}
        let (view, unheard) = (Arc::clone(&self.view), Arc::clone(&self.unheard));
        self.passing.spawn(async move {
            let mut unheard = unheard.lock().await;
            let followed = match reloaded.outcome {
                Outcome::Ok | Outcome::Unchanged => followed(&view).await,
                Outcome::Failed => Vec::new(),
            };
            let predecessors = Followed::merged(std::mem::take(&mut *unheard), followed);
            match answer {
                // Who asked may have gone.
                Some(answer) => drop(answer.send(Reloaded { predecessors, ..reloaded })),
                None => *unheard = predecessors.into_iter().filter(|followed| followed.revoked > 0).collect(),
            }
        });
    }

    async fn succeed(&mut self, file: &Path, applied: Applied) -> Reloaded {
        let Applied { changes, waits, warnings, revoked, closing } = applied;
        for door in closing {
            // A door whose task panicked is closed too.
            let _ = door.await;
        }
        let outcome = if changes.is_empty() { Outcome::Unchanged } else { Outcome::Ok };
        match outcome {
            Outcome::Ok => info!(changes = changes.len(), revoked, "configuration reloaded"),
            Outcome::Unchanged | Outcome::Failed => info!("configuration read again; nothing new to apply"),
        }
        changes.iter().for_each(|change| info!("{change}"));
        warnings.iter().for_each(|warning| warn!("{warning}"));
        waits.iter().for_each(|waiting| warn!("only a restart applies {waiting}"));
        metrics::config_reloaded(outcome.label());
        metrics::config_fault(false);
        self.fault = None;
        let since = if outcome == Outcome::Ok { Instant::now() } else { self.view.config.load().since };
        self.view.config.store(Arc::new(Loaded { file: file.to_owned(), since, fault: None, waits: waits.clone() }));
        let file = file.to_owned();
        Reloaded {
            outcome,
            file,
            earlier: false,
            changes,
            revoked,
            waits,
            warnings,
            problems: Vec::new(),
            predecessors: Vec::new(),
        }
    }

    /// A fault that lasts is told once, but to whoever asks, and after each signal.
    fn fail(&mut self, file: &Path, fault: Fault, cause: &Cause) -> Reloaded {
        let text = fault.to_string();
        let known = self.fault.as_ref().is_some_and(|before| before.to_string() == text);
        if !(known && matches!(cause, Cause::Again | Cause::Asked(_))) {
            text.lines().for_each(|problem| error!("{problem}"));
            error!("configuration not reloaded; what was in force stays");
            metrics::config_reloaded(Outcome::Failed.label());
        }
        metrics::config_fault(true);
        self.fault = Some(fault);
        let before = self.view.config.load();
        self.view.config.store(Arc::new(Loaded { fault: Some(text.clone()), ..Loaded::clone(&before) }));
        Reloaded {
            outcome: Outcome::Failed,
            file: file.to_owned(),
            earlier: false,
            changes: Vec::new(),
            revoked: 0,
            waits: Vec::new(),
            warnings: Vec::new(),
            problems: text.lines().map(str::to_owned).collect(),
            predecessors: Vec::new(),
        }
    }
}

async fn followed(view: &View) -> Vec<Followed> {
    let answers = view.predecessors.reload().await;
    let followed: Vec<_> = answers.into_iter().map(|(pid, answer)| Followed::of(pid, answer)).collect();
    for Followed { pid, problems, .. } in &followed {
        for problem in problems {
            error!(pid, "a predecessor goes by an earlier file, also in whom it lets reach what: {problem}");
        }
    }
    followed
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(problems) => problems.fmt(f),
            Self::World(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_while_it_is_read_is_read_again_and_not_believed_before() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("adit.toml");
        fs::write(&file, "half").unwrap();
        let source = Source::new(file.clone());
        // given a writer who goes on while the first half is read
        let read = source.load_again(|file| {
            let text = fs::read_to_string(file).unwrap();
            if text == "half" {
                fs::write(file, "half and half").unwrap();
            }
            Ok(text)
        });
        assert_eq!(read.unwrap(), "half and half");
        assert!(!source.has_changed());
        // and one who never ends
        let grows = |file: &Path| {
            let text = fs::read_to_string(file).unwrap() + " more";
            fs::write(file, &text).unwrap();
            Ok(text)
        };
        let refused = source.load_again(grows).unwrap_err().to_string();
        assert!(refused.contains("is being written all the time; write a file beside it"), "{refused}");
        assert!(source.has_changed(), "the next look sees that it is another");
    }
}
