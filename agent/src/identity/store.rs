//! The snapshot in force, and its reload when a file changes or a Workload API gives another set: all of it or none. A
//! bad file or set keeps what was, says so in the log, the metric and the status, and is tried again. It
//! never cuts a tunnel; whoever holds one watches `changed`.

use std::{
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use adit_config::{Authorities, Tls};
use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    credentials,
    error::LoadError,
    settings,
    snapshot::Snapshot,
    spiffe::{Latest, Workload, WorkloadStatus},
};
use crate::watch::Watched;

/// Holds the [`Snapshot`] in force.
#[derive(Debug)]
pub struct Store {
    current: ArcSwap<Snapshot>,
    changed: watch::Sender<u64>,
    reload: Mutex<Reload>,
    /// Where certificates and bundles come from, if not from files.
    workload: ArcSwapOption<Workload>,
    /// Apart from the reload, during which it is asked for too.
    fault: Mutex<Option<LoadError>>,
}

/// How often a pair is read again that was found half written, and how long its writer is left alone before: who replaces a
/// key and then its certificate needs two steps for it.
const READS: usize = 10;
const REST: Duration = Duration::from_millis(50);

/// Held for the whole of a reload, so that two never cross.
#[derive(Debug)]
struct Reload {
    /// Which files: a new configuration may name others.
    tls: Tls,
    files: Watched,
}

impl Store {
    /// Reads every file for the first time; the first that cannot be used is the error. A Workload API is waited for, up to
    /// `spiffe_wait`, and its thread follows it as long as this lives.
    pub fn load(tls: &Tls) -> Result<Self, LoadError> {
        let tls = credentials::found(tls)?;
        let mut files = Watched::new(files(&tls));
        let workload = workload(&tls, None)?;
        let latest = workload.as_ref().map(|workload| workload.latest());
        let given = latest.as_ref().and_then(|latest| latest.given.as_deref());
        let snapshot = whole(&mut files, || Snapshot::load(&tls, given, SystemTime::now()))?;
        took(workload.as_deref(), latest.as_ref());
        settings::draw_randomness();
        Ok(Self {
            changed: watch::Sender::new(snapshot.generation),
            current: ArcSwap::from_pointee(snapshot),
            reload: Mutex::new(Reload { tls, files }),
            workload: ArcSwapOption::new(workload),
            fault: Mutex::default(),
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

    /// Why the files on disk, or what a Workload API gave last, are not in force; or why nothing comes from it any more.
    pub fn fault(&self) -> Option<LoadError> {
        let fault = self.fault_held().clone();
        fault.or_else(|| self.workload.load().as_ref()?.fault())
    }

    /// The Workload API that certificates and bundles come from, if they come from one.
    pub fn workload(&self) -> Option<WorkloadStatus> {
        self.workload.load().as_ref().map(|workload| workload.status())
    }

    /// Reads every file again, changed or not; true when something new is in force.
    pub fn reload(&self) -> Result<bool, LoadError> {
        self.reload_held(&mut self.lock())
    }

    /// Reloads when a file has changed, or there is another set, or while the last reload failed; false when nothing new is
    /// in force.
    pub fn reload_if_changed(&self) -> Result<bool, LoadError> {
        let mut reload = self.lock();
        let has_news = self.workload.load().as_ref().is_some_and(|workload| workload.has_news());
        match self.fault_held().is_none() && reload.files.changed().is_empty() && !has_news {
            true => Ok(false),
            false => self.reload_held(&mut reload),
        }
    }

    /// Looks at the files every `period`, and takes each new set when it comes, until cancelled.
    pub async fn watch(self: Arc<Self>, period: Duration, cancel: CancellationToken) {
        while cancel.run_until_cancelled(self.until_look(period)).await.is_some() {
            let store = self.clone();
            // The files may be on a network mount: never read them on a thread that moves bytes.
            let look = tokio::task::spawn_blocking(move || store.reload_if_changed());
            if let Err(panicked) = look.await {
                tracing::error!(%panicked, "the look at the TLS files failed");
            }
        }
    }

    async fn until_look(&self, period: Duration) {
        let workload = self.workload.load_full();
        let news = async {
            match &workload {
                Some(workload) => workload.until_news().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            () = pin!(news) => {}
        }
    }

    /// Reads the files that `tls` names, in place of those that were named before. They are in force once the result is
    /// [put](Prepared::put); until then nobody else reloads, and dropping it changes nothing.
    /// A Workload API that is new is waited for before.
    pub fn prepare(&self, tls: &Tls) -> Result<Prepared<'_>, LoadError> {
        let workload = workload(tls, self.workload.load_full())?;
        let reload = self.lock();
        let tls = credentials::found(tls)?;
        let mut files = Watched::new(files(&tls));
        let latest = workload.as_ref().map(|workload| workload.latest());
        let given = latest.as_ref().and_then(|latest| latest.given.as_deref());
        let next = whole(&mut files, || self.snapshot().next(&tls, given, SystemTime::now()))?;
        Ok(Prepared { store: self, reload, tls, files, workload, latest, next })
    }

    fn reload_held(&self, reload: &mut Reload) -> Result<bool, LoadError> {
        reload.files.changed();
        let workload = self.workload.load_full();
        let latest = workload.as_ref().map(|workload| workload.latest());
        let given = latest.as_ref().and_then(|latest| latest.given.as_deref());
        took(workload.as_deref(), latest.as_ref());
        let Reload { tls, files } = reload;
        let read = || self.snapshot().next(tls, given, SystemTime::now());
        // A fault that is known has been waited for.
        let known = self.fault_held().is_some();
        match if known { read() } else { whole(files, read) } {
            Ok(next) => {
                let ended = self.fault_held().take().is_some();
                Ok(self.put(next, ended))
            }
            Err(fault) => {
                let before = self.fault_held().replace(fault.clone());
                tell_fault(&fault, before.as_ref());
                Err(fault)
            }
        }
    }

    fn put(&self, next: Option<Snapshot>, fault_ended: bool) -> bool {
        let Some(next) = next else {
            if fault_ended {
                tracing::info!("the TLS credentials are sound again, and say what is in force");
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

    fn fault_held(&self) -> MutexGuard<'_, Option<LoadError>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
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
    workload: Option<Arc<Workload>>,
    latest: Option<Latest>,
    next: Option<Snapshot>,
}

impl Prepared<'_> {
    /// Puts them in force.
    pub fn put(mut self) {
        let ended = self.store.fault_held().take().is_some();
        took(self.workload.as_deref(), self.latest.as_ref());
        self.store.workload.store(self.workload);
        self.reload.tls = self.tls;
        self.reload.files = self.files;
        self.store.put(self.next, ended);
    }
}

/// The Workload API of `tls`, which may be the one that is followed already.
fn workload(tls: &Tls, current: Option<Arc<Workload>>) -> Result<Option<Arc<Workload>>, LoadError> {
    match (&tls.authorities, current) {
        (Authorities::File(_), _) => Ok(None),
        (Authorities::Spiffe(spiffe), Some(current)) if current.is_of(spiffe) => Ok(Some(current)),
        (Authorities::Spiffe(spiffe), _) => Workload::start(spiffe).map(|started| Some(Arc::new(started))),
    }
}

fn took(workload: Option<&Workload>, latest: Option<&Latest>) {
    if let (Some(workload), Some(latest)) = (workload, latest) {
        workload.took(latest.number);
    }
}

/// What `read` makes of the files. One that fails is read again as long as its writer is at work: between a new key and its
/// certificate there is a moment in which they are no pair.
fn whole<T>(files: &mut Watched, read: impl Fn() -> Result<T, LoadError>) -> Result<T, LoadError> {
    let mut result = read();
    for _ in 0..READS {
        if result.is_ok() {
            break;
        }
        std::thread::sleep(REST);
        if files.changed().is_empty() {
            break;
        }
        result = read();
    }
    result
}

fn files(tls: &Tls) -> Vec<PathBuf> {
    let ca = match &tls.authorities {
        Authorities::File(ca) => Some(ca),
        Authorities::Spiffe(_) => None,
    };
    let pairs = tls.certificates.iter().flat_map(|one| [&one.cert, &one.key]);
    ca.into_iter().chain(&tls.crl).chain(pairs).cloned().collect()
}

fn tell_success(next: &Snapshot) {
    count("ok");
    tracing::info!(
        generation = next.generation,
        trust = next.trust_generation,
        credentials = next.credential_generation,
        "TLS credentials reloaded"
    );
}

/// A fault that lasts is tried at every look, and told once.
fn tell_fault(fault: &LoadError, before: Option<&LoadError>) {
    if Some(fault) != before {
        count("failed");
        tracing::error!(%fault, "TLS credentials not reloaded; what was in force stays");
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("adit_tls_reloads_total", "outcome" => outcome).increment(1);
}
