//! The snapshot in force, and its reload when a file changes: all of the files or none of them. A
//! bad file keeps what was, says so in the log, the metric and the status, and is tried again. It
//! never cuts a tunnel; whoever holds one watches `changed`.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use adit_config::Tls;
use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{credentials, error::LoadError, settings, snapshot::Snapshot};
use crate::watch::Watched;

/// Holds the [`Snapshot`] in force.
#[derive(Debug)]
pub struct Store {
    current: ArcSwap<Snapshot>,
    changed: watch::Sender<u64>,
    reload: Mutex<Reload>,
}

/// Held for the whole of a reload, so that two never cross.
#[derive(Debug)]
struct Reload {
    /// Which files: a new configuration may name others.
    tls: Tls,
    files: Watched,
    fault: Option<LoadError>,
}

impl Store {
    /// Reads every file for the first time; the first that cannot be used is the error.
    pub fn load(tls: &Tls) -> Result<Self, LoadError> {
        let tls = credentials::found(tls)?;
        let files = Watched::new(files(&tls));
        let snapshot = Snapshot::load(&tls, SystemTime::now())?;
        settings::draw_randomness();
        Ok(Self {
            changed: watch::Sender::new(snapshot.generation),
            current: ArcSwap::from_pointee(snapshot),
            reload: Mutex::new(Reload { tls, files, fault: None }),
        })
    }

    /// What is in force now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The generation in force, as it changes. Compare a snapshot's `trust_generation` and
    /// `credential_generation` with the old one's to see what changed.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Why the files on disk are not in force, when the last reload failed.
    pub fn fault(&self) -> Option<LoadError> {
        self.lock().fault.clone()
    }

    /// Reads every file again, changed or not; true when something new is in force.
    pub fn reload(&self) -> Result<bool, LoadError> {
        self.reload_held(&mut self.lock())
    }

    /// Reloads when a file has changed, or while the last reload failed; false when nothing new is
    /// in force.
    pub fn reload_if_changed(&self) -> Result<bool, LoadError> {
        let mut reload = self.lock();
        match reload.fault.is_none() && reload.files.changed().is_empty() {
            true => Ok(false),
            false => self.reload_held(&mut reload),
        }
    }

    /// Looks at the files every `period` until cancelled.
    pub async fn watch(self: Arc<Self>, period: Duration, cancel: CancellationToken) {
        while cancel.run_until_cancelled(tokio::time::sleep(period)).await.is_some() {
            let store = self.clone();
            // The files may be on a network mount: never read them on a thread that moves bytes.
            let look = tokio::task::spawn_blocking(move || store.reload_if_changed());
            if let Err(panicked) = look.await {
                tracing::error!(%panicked, "the look at the TLS files failed");
            }
        }
    }

    /// Reads the files that `tls` names, in place of those that were named before. They are in force once the result is
    /// [put](Prepared::put); until then nobody else reloads, and dropping it changes nothing.
    pub fn prepare(&self, tls: &Tls) -> Result<Prepared<'_>, LoadError> {
        let reload = self.lock();
        let tls = credentials::found(tls)?;
        let files = Watched::new(files(&tls));
        let next = self.snapshot().next(&tls, SystemTime::now())?;
        Ok(Prepared { store: self, reload, tls, files, next })
    }

    fn reload_held(&self, reload: &mut Reload) -> Result<bool, LoadError> {
        reload.files.changed();
        match self.snapshot().next(&reload.tls, SystemTime::now()) {
            Ok(next) => {
                let ended = reload.fault.take().is_some();
                Ok(self.put(next, ended))
            }
            Err(fault) => {
                tell_fault(&fault, reload.fault.as_ref());
                reload.fault = Some(fault.clone());
                Err(fault)
            }
        }
    }

    fn put(&self, next: Option<Snapshot>, fault_ended: bool) -> bool {
        let Some(next) = next else {
            if fault_ended {
                tracing::info!("the TLS files are sound again, and say what is in force");
            }
            return false;
        };
        tell_success(&next);
        let generation = next.generation;
        self.current.store(Arc::new(next));
        self.changed.send_replace(generation);
        true
    }

    #[cfg(test)]
    pub(super) fn tls(&self) -> Tls {
        self.lock().tls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Reload> {
        self.reload.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Files of another `[tls]`, read and found good.
pub struct Prepared<'a> {
    store: &'a Store,
    reload: MutexGuard<'a, Reload>,
    tls: Tls,
    files: Watched,
    next: Option<Snapshot>,
}

impl Prepared<'_> {
    /// Puts them in force.
    pub fn put(mut self) {
        let ended = self.reload.fault.take().is_some();
        self.reload.tls = self.tls;
        self.reload.files = self.files;
        self.store.put(self.next, ended);
    }
}

fn files(tls: &Tls) -> Vec<PathBuf> {
    let pairs = tls.certificates.iter().flat_map(|one| [&one.cert, &one.key]);
    [&tls.ca].into_iter().chain(&tls.crl).chain(pairs).cloned().collect()
}

fn tell_success(next: &Snapshot) {
    count("ok");
    tracing::info!(
        generation = next.generation,
        trust = next.trust_generation,
        credentials = next.credential_generation,
        "TLS files reloaded"
    );
}

/// A fault that lasts is tried at every look, and told once.
fn tell_fault(fault: &LoadError, before: Option<&LoadError>) {
    if Some(fault) != before {
        count("failed");
        tracing::error!(%fault, "TLS files not reloaded; what was in force stays");
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("adit_tls_reloads_total", "outcome" => outcome).increment(1);
}
