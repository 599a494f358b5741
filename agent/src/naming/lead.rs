//! The task that leads one bound name to addresses: it follows where the name's places are written and what is known of
//! their hosts, and tells the watchers what comes of both. It asks nobody itself.

use super::files::{self, Said};
use super::keep::Entry;
use super::place::{Host, Place, Places, compose, of_service};
use super::question::{Fact, Question};
use super::status::NameStatus;
use super::{Addrs, Idle, Shared, tell};
use adit_config::dtab::{self, Bound, Namer};
use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::warn;

/// A bound name that is followed.
#[derive(Debug)]
pub(super) struct Lead {
    bound: Bound,
    told: watch::Sender<Addrs>,
    parts: Mutex<Parts>,
}

/// What a lead rests on, for the status.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    /// The questions whose answers it is made of.
    pub(super) entries: Vec<Arc<Entry>>,
    /// The file it is written in.
    pub(super) file: Option<Said>,
    /// How many addresses were left out.
    pub(super) cut: usize,
}

impl Lead {
    /// A lead of which nothing is known, and its first watcher.
    pub(super) fn new(bound: Bound) -> (Arc<Self>, watch::Receiver<Addrs>) {
        let (told, receiver) = watch::channel(Addrs::Pending);
        (Arc::new(Self { bound, told, parts: Mutex::default() }), receiver)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Addrs> {
        self.told.subscribe()
    }

    pub(super) fn status(&self, now: Instant) -> NameStatus {
        NameStatus::of(self.bound.path(), &self.told.borrow(), &self.parts(), now)
    }

    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.parts().entries.iter().filter_map(|entry| entry.known().age(now)).max()
    }

    /// Lines of its file that say nothing.
    pub(super) fn bad_lines(&self) -> usize {
        self.parts().file.as_ref().map_or(0, |said| said.bad.count)
    }

    fn note(&self, parts: Parts) {
        let cut = parts.cut;
        let before = std::mem::replace(&mut *self.parts(), parts);
        // Once, however the number changes from answer to answer.
        if cut > 0 && before.cut == 0 {
            warn!("{}: more addresses than are taken; {cut} are left out", self.bound);
        }
    }

    /// Replaced whole; a panic elsewhere leaves the last.
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows a bound name until it is forgotten or the agent stops; whoever still waits then is told.
pub(super) async fn lead(shared: Arc<Shared>, lead: Arc<Lead>) {
    if shared.stop.run_until_cancelled(follow(&shared, &lead)).await.is_none() {
        shared.leads().remove(lead.bound.path());
        if *lead.told.borrow() == Addrs::Pending {
            lead.told.send_replace(Addrs::Failed("the agent is stopping".into()));
        }
    }
}

async fn follow(shared: &Arc<Shared>, lead: &Lead) {
    let mut source = Source::of(shared, lead.bound.namer());
    let mut hosts = Hosts::default();
    let mut idle = Idle::default();
    while !forget(shared, lead, &mut idle) {
        let places = source.places();
        hosts.want(shared, &places);
        let before = source.before(&lead.told.borrow());
        let (addrs, cut) = compose(&places, |name| hosts.fact(name), &before);
        lead.note(parts(&source, &hosts, cut));
        tell(&lead.told, addrs);
        let linger = shared.setup.load().settings.linger;
        tokio::select! {
            () = source.changed() => {}
            () = hosts.changed() => {}
            () = sleep(linger) => {}
        }
    }
}

fn parts(source: &Source, hosts: &Hosts, cut: usize) -> Parts {
    let mut entries: Vec<_> = hosts.0.values().map(|(entry, _)| entry.clone()).collect();
    let mut parts = Parts { cut, ..Parts::default() };
    match source {
        Source::Fixed(_) => {}
        Source::Service { entry, .. } => entries.push(entry.clone()),
        Source::File(said) => {
            let said = said.borrow().clone();
            parts.cut += said.cut;
            parts.file = Some(said);
        }
    }
    parts.cut += entries.iter().map(|entry| entry.known().cut()).sum::<usize>();
    parts.entries = entries;
    parts
}

/// Forgets the name if nobody has watched it for long enough. Under the map's lock, so that nobody can begin to watch what
/// is being forgotten.
fn forget(shared: &Shared, lead: &Lead, idle: &mut Idle) -> bool {
    let mut leads = shared.leads();
    let over = idle.is_over(lead.told.receiver_count(), shared.setup.load().settings.linger, Instant::now());
    if over {
        leads.remove(lead.bound.path());
    }
    over
}

/// Where a name's places are written.
enum Source {
    /// In the name itself.
    Fixed(Places),
    /// In SRV records.
    Service { entry: Arc<Entry>, records: watch::Receiver<Fact>, port: Option<u16> },
    /// In a file.
    File(watch::Receiver<Said>),
}

impl Source {
    fn of(shared: &Arc<Shared>, namer: &Namer) -> Self {
        match namer {
            Namer::Srv { name, port } => {
                let (entry, records) = shared.ask(Question::Srv(name.as_str().into()));
                Self::Service { entry, records, port: *port }
            }
            Namer::Fs { file } => Self::File(files::follow(shared, file)),
            Namer::Inet { host: dtab::Host::Name(host), port } | Namer::Dns { host, port } => {
                let place = Place::plain(Host::Name(host.as_str().into()), *port);
                Self::Fixed(Places::Known([place].into()))
            }
            Namer::Inet { host: dtab::Host::Ip(ip), port } => {
                Self::Fixed(Places::Known([Place::plain(Host::Ip(*ip), *port)].into()))
            }
            // A socket's path is its address: nobody follows it.
            Namer::Unix(_) => Self::Fixed(Places::Known([].into())),
        }
    }

    /// What stays in use where the places' hosts cannot be found out: what was `told`, while there may be a place that was
    /// not there before. The one host of a name loses only what an authority took from it.
    fn before(&self, told: &Addrs) -> Addrs {
        match self {
            Self::Fixed(_) => Addrs::Pending,
            Self::Service { .. } | Self::File(_) => told.clone(),
        }
    }

    fn places(&mut self) -> Places {
        match self {
            Self::Fixed(places) => places.clone(),
            Self::Service { records, port, .. } => of_service(&records.borrow_and_update(), *port),
            Self::File(said) => said.borrow_and_update().places.clone(),
        }
    }

    async fn changed(&mut self) {
        let ended = match self {
            Self::Fixed(_) => true,
            Self::Service { records, .. } => records.changed().await.is_err(),
            Self::File(said) => said.changed().await.is_err(),
        };
        if ended {
            // Nothing changes any more.
            pending::<()>().await;
        }
    }
}

/// The hosts that a name's places are on.
#[derive(Default)]
struct Hosts(HashMap<Arc<str>, (Arc<Entry>, watch::Receiver<Fact>)>);

impl Hosts {
    /// From now on these are asked for, and no others.
    fn want(&mut self, shared: &Arc<Shared>, places: &Places) {
        let Places::Known(places) = places else { return };
        let mut kept = HashMap::new();
        for name in places.iter().filter_map(Place::name) {
            let (name, host) = match self.0.remove_entry(name) {
                Some(known) => known,
                None if kept.contains_key(name) => continue,
                None => (name.clone(), shared.ask(Question::Host(name.clone()))),
            };
            kept.insert(name, host);
        }
        kept.values_mut().for_each(|(_, receiver)| receiver.mark_unchanged());
        self.0 = kept;
    }

    fn fact(&self, name: &str) -> Fact {
        self.0.get(name).map_or(Fact::Neg, |(_, receiver)| receiver.borrow().clone())
    }

    /// Waits until more is known of one of them. Made anew at each turn, so that it costs something only then. None of
    /// them ends: its entry, which tells, is held here.
    async fn changed(&mut self) {
        let mut waits: Vec<_> = self.0.values_mut().map(|(_, receiver)| Box::pin(receiver.changed())).collect();
        poll_fn(|context| {
            let is_new = waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready());
            if is_new { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
