//! What changes from one configuration to the next: which doors go on, open and close, what waits for a restart, and the
//! lines that tell a person. Pure: whoever applies it opens, swaps and closes. Sections are compared whole, so that a key
//! that is new in one of them is never forgotten here.

use std::fmt::Display;

use crate::config::{Config, Listener};
use crate::dtab::Dtab;
use crate::limits::Limits;
use crate::listen::{ListenAddr, TcpListen, UnixListen};
use crate::peers::{PeerMatch, PeerRule};
use crate::print;
use crate::redirect::Redirect;
use crate::service::Service;
use crate::tls::{Authorities, Spiffe};

mod capture;

/// From a configuration in force to the next.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// What is in force once this is applied: the new file, but for what waits for a restart.
    pub next: Config,
    /// What becomes of the doors.
    pub doors: Doors,
    /// What is applied beside the doors, a line each, in the order of the file's reference.
    pub lines: Vec<String>,
    /// What the new file says and only a restart applies, a line each.
    pub waits: Vec<String>,
}

/// For each door of the next configuration, in the order of its list, the door of the old one that goes on as it; `None`
/// is to be opened. What no door goes on as is closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Doors {
    /// By the place among `[[outbound.listener]]`.
    pub outbound: Vec<Option<usize>>,
    /// By the place in `[outbound.redirect] listen`.
    pub redirect: Vec<Option<usize>>,
    /// By the place in `[inbound] listen`.
    pub inbound: Vec<Option<usize>>,
    /// By the place in [`Admin::doors`](crate::Admin::doors).
    pub admin: Vec<Option<usize>>,
    /// What opens, leads elsewhere and closes, a line each.
    pub lines: Vec<String>,
}

impl Change {
    /// What leads from `old`, which is in force, to `new`, which has passed every check.
    #[must_use]
    pub fn between(old: &Config, new: Config) -> Change {
        let (next, waits) = settle(old, new);
        let mut lines = Lines(Vec::new());
        tls(old, &next, &mut lines);
        inbound(old, &next, &mut lines);
        outbound(old, &next, &mut lines);
        capture::lines(old, &next, &mut lines);
        lines.section("[dns]", &old.dns, &next.dns);
        lines.key("[fs] folder", old.fs.folder.display(), next.fs.folder.display());
        limits(&old.limits, &next.limits, &mut lines);
        lines.key("[log] level", old.log.level.as_str(), next.log.level.as_str());
        Change { doors: Doors::between(old, &next), next, lines: lines.0, waits }
    }

    /// Whether there is nothing to apply.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.doors.lines.is_empty() && self.lines.is_empty()
    }
}

impl Doors {
    /// Those of a configuration that is the first.
    #[must_use]
    pub fn all_new(config: &Config) -> Doors {
        let new = |count| vec![None; count];
        Doors {
            outbound: new(listeners(config).len()),
            redirect: new(redirect_doors(config).len()),
            inbound: new(inbound_doors(config).len()),
            admin: new(config.admin.doors().len()),
            lines: Vec::new(),
        }
    }

    fn between(old: &Config, next: &Config) -> Doors {
        let (was, is) = (old.admin.doors(), next.admin.doors());
        let mut doors = Doors {
            outbound: origins(listeners(old), listeners(next), |one, other| same_place(&one.listen, &other.listen)),
            redirect: origins(redirect_doors(old), redirect_doors(next), |_, _| false),
            inbound: origins(inbound_doors(old), inbound_doors(next), |_, _| false),
            admin: origins(&was, &is, |_, _| false),
            lines: Vec::new(),
        };
        let mut lines = Lines(Vec::new());
        lines.doors("[inbound]", &doors.inbound, inbound_doors(old), inbound_doors(next));
        fronts(listeners(old), listeners(next), &doors.outbound, &mut lines);
        lines.doors("[outbound.redirect]", &doors.redirect, redirect_doors(old), redirect_doors(next));
        lines.doors("[admin]", &doors.admin, &was, &is);
        doors.lines = lines.0;
        doors
    }
}

fn fronts(old: &[Listener], next: &[Listener], origins: &[Option<usize>], lines: &mut Lines) {
    let header = "[[outbound.listener]]";
    let shown = |listener: &Listener| format!("{} -> {}", listener.listen, listener.to);
    let (was, is): (Vec<_>, Vec<_>) = (old.iter().map(shown).collect(), next.iter().map(shown).collect());
    lines.doors(header, origins, &was, &is);
    for (origin, listener) in origins.iter().zip(next) {
        let turned = origin.map(|at| &old[at]).filter(|was| *was != listener);
        if let Some(was) = turned {
            let before = if was.to == listener.to { String::new() } else { format!(", it led to {} before", was.to) };
            lines.say(header, shown(listener), &format!("changed{before}; the door stays open"));
        }
    }
}

/// Takes over from the old configuration what cannot change while the agent runs, and says what that is.
fn settle(old: &Config, mut new: Config) -> (Config, Vec<String>) {
    let mut waits = Vec::new();
    if new.runtime != old.runtime {
        let threads = |config: &Config| print::threads(config.runtime);
        waits.push(format!("[runtime] threads: {} -> {}", threads(old), threads(&new)));
        new.runtime = old.runtime;
    }
    if new.log.format != old.log.format {
        waits.push(format!("[log] format: {} -> {}", old.log.format.as_str(), new.log.format.as_str()));
        new.log.format = old.log.format;
    }
    capture::settle(old, &mut new, &mut waits);
    for listener in new.outbound.iter_mut().flat_map(|outbound| &mut outbound.listeners) {
        if let ListenAddr::Unix(socket) = &mut listener.listen {
            let was = listeners(old).iter().filter_map(|listener| unix(&listener.listen));
            keep_access("[[outbound.listener]]", was, socket, &mut waits);
        }
    }
    if let Some(socket) = &mut new.admin.socket {
        keep_access("[admin]", old.admin.socket.iter(), socket, &mut waits);
    }
    (new, waits)
}

/// A socket file keeps the mode and the owner it was made with.
fn keep_access<'a>(
    header: &str,
    mut was: impl Iterator<Item = &'a UnixListen>,
    is: &mut UnixListen,
    waits: &mut Vec<String>,
) {
    if let Some(was) = was.find(|was| was.path == is.path && *was != is) {
        waits.push(format!("{header} unix:{}: mode, owner or group", is.path.display()));
        is.clone_from(was);
    }
}

fn unix(listen: &ListenAddr) -> Option<&UnixListen> {
    match listen {
        ListenAddr::Unix(socket) => Some(socket),
        ListenAddr::Tcp(_) | ListenAddr::Given(_) => None,
    }
}

/// Where one door cannot be opened while the other is. Of port 0 there is always another.
fn same_place(one: &ListenAddr, other: &ListenAddr) -> bool {
    match (one, other) {
        (ListenAddr::Tcp(one), ListenAddr::Tcp(other)) => one == other && one.port() != 0,
        (ListenAddr::Unix(one), ListenAddr::Unix(other)) => one.path == other.path,
        (ListenAddr::Given(one), ListenAddr::Given(other)) => one == other,
        (ListenAddr::Tcp(_) | ListenAddr::Unix(_) | ListenAddr::Given(_), _) => false,
    }
}

/// For each of `new`, the one of `old` that goes on as it: an equal one, else one at the same place.
fn origins<T: PartialEq>(old: &[T], new: &[T], same_place: impl Fn(&T, &T) -> bool) -> Vec<Option<usize>> {
    let mut free: Vec<bool> = vec![true; old.len()];
    let mut origins = vec![None; new.len()];
    let mut find = |origins: &mut Vec<Option<usize>>, goes_on: &dyn Fn(&T, &T) -> bool| {
        for (origin, new) in origins.iter_mut().zip(new).filter(|(origin, _)| origin.is_none()) {
            *origin = old.iter().zip(&free).position(|(old, free)| *free && goes_on(old, new));
            if let Some(taken) = origin {
                free[*taken] = false;
            }
        }
    };
    find(&mut origins, &|old, new| old == new);
    find(&mut origins, &same_place);
    origins
}

fn listeners(config: &Config) -> &[Listener] {
    config.outbound.as_ref().map_or(&[], |outbound| &outbound.listeners)
}

fn rules(config: &Config) -> &[PeerRule] {
    config.outbound.as_ref().map_or(&[], |outbound| &outbound.peers.rules)
}

fn services(config: &Config) -> &[Service] {
    config.inbound.as_ref().map_or(&[], |inbound| &inbound.policy.services)
}

/// The doors for captured connections.
fn inbound_doors(config: &Config) -> &[TcpListen] {
    config.inbound.as_ref().map_or(&[], |inbound| &inbound.listen)
}

fn redirect_doors(config: &Config) -> &[TcpListen] {
    redirect(config).map_or(&[], |redirect| &redirect.listen)
}

fn redirect(config: &Config) -> Option<&Redirect> {
    config.outbound.as_ref().and_then(|outbound| outbound.redirect.as_ref())
}

fn tls(old: &Config, next: &Config, lines: &mut Lines) {
    let (old, next) = (&old.tls, &next.tls);
    match (&old.authorities, &next.authorities) {
        (Authorities::Spiffe(old), Authorities::Spiffe(next)) => {
            let socket = |spiffe: &Spiffe| format!("unix:{}", spiffe.socket.display());
            lines.key("[tls] spiffe", socket(old), socket(next));
            lines.key("[tls] spiffe_wait", print::wait(old.wait), print::wait(next.wait));
        }
        (old, next) => lines.key("[tls] ca", old, next),
    }
    lines.section("[tls] crl", &old.crl, &next.crl);
    lines.entries("[[tls.certificate]]", &old.certificates, &next.certificates, |certificate| certificate.id.clone());
}

fn inbound(old: &Config, next: &Config, lines: &mut Lines) {
    let table = |config: &Config| config.inbound.as_ref().map_or_else(Dtab::default, |inbound| inbound.dtab.clone());
    lines.section("[inbound] dtab", &table(old), &table(next));
    let conceal = |config: &Config| config.inbound.as_ref().is_some_and(|inbound| inbound.policy.conceal);
    lines.key("[inbound] conceal", conceal(old), conceal(next));
    let strict = |config: &Config| {
        config.inbound.as_ref().map_or_else(|| "false".to_owned(), |inbound| print::strict(&inbound.strict))
    };
    lines.key("[inbound] strict", strict(old), strict(next));
    let names = |service: &Service| service.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    lines.entries("[[inbound.service]]", services(old), services(next), names);
}

fn outbound(old: &Config, next: &Config, lines: &mut Lines) {
    let table = |config: &Config| config.outbound.as_ref().map_or_else(Dtab::default, |outbound| outbound.dtab.clone());
    lines.section("[outbound] dtab", &table(old), &table(next));
    let about = |rule: &PeerRule| match &rule.matches {
        PeerMatch::Logical(name) => format!("name {name}"),
        PeerMatch::Bound(bound) => format!("bound {bound}"),
    };
    lines.entries("[[outbound.peer]]", rules(old), rules(next), about);
    let find = |config: &Config| config.outbound.as_ref().is_none_or(|outbound| outbound.find_workloads);
    lines.key("[outbound] find_workloads", find(old), find(next));
}

fn limits(old: &Limits, next: &Limits, lines: &mut Lines) {
    let (mut old, mut next) = (old.clone(), next.clone());
    for ((key, was, _), (_, is, _)) in old.rows().iter().zip(&next.rows()) {
        lines.key(&format!("[limits] {key}"), print::limit(was), print::limit(is));
    }
}

/// What is told so far.
struct Lines(Vec<String>);

impl Lines {
    fn say(&mut self, header: &str, what: impl Display, happens: &str) {
        self.0.push(format!("{header} {what}: {happens}"));
    }

    /// A key, by its value before and after.
    fn key(&mut self, key: &str, was: impl Display, is: impl Display) {
        let (was, is) = (was.to_string(), is.to_string());
        if was != is {
            self.0.push(format!("{key}: {was} -> {is}"));
        }
    }

    /// What is too long to be shown.
    fn section<T: PartialEq>(&mut self, header: &str, was: &T, is: &T) {
        if was != is {
            self.0.push(format!("{header}: changed"));
        }
    }

    /// The doors that open and those that close.
    fn doors<T: Display>(&mut self, header: &str, origins: &[Option<usize>], was: &[T], is: &[T]) {
        for (_, opened) in origins.iter().zip(is).filter(|(origin, _)| origin.is_none()) {
            self.say(header, opened, "opened");
        }
        for (_, closed) in was.iter().enumerate().filter(|(at, _)| !origins.contains(&Some(*at))) {
            self.say(header, closed, "closed");
        }
    }

    /// The entries of an array that are not what they were. Two may share what they are known by.
    fn entries<T: PartialEq>(&mut self, header: &str, was: &[T], is: &[T], name: impl Fn(&T) -> String) {
        let by_name = |old: &T, new: &T| name(old) == name(new);
        let origins = origins(was, is, by_name);
        let before = self.0.len();
        for (origin, entry) in origins.iter().zip(is) {
            match origin.map(|at| &was[at]) {
                None => self.say(header, name(entry), "added"),
                Some(old) if old != entry => self.say(header, name(entry), "changed"),
                Some(_) => {}
            }
        }
        for (_, gone) in was.iter().enumerate().filter(|(at, _)| !origins.contains(&Some(*at))) {
            self.say(header, name(gone), "removed");
        }
        if self.0.len() == before && was != is {
            self.0.push(format!("{header}: in another order"));
        }
    }
}

#[cfg(test)]
mod tests;
