//! Doors: each is opened once, none stands open to other hosts by oversight, and no service leads
//! back into one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use adit_protocol::Name;

use crate::dtab::{Bound, Dtab, Host, NameTree, Namer};
use crate::listen::{ListenAddr, TcpListen};
use crate::service::Target;
use crate::spec::Spec;
use crate::spec::report::{At, Report};

/// A listener of the file, of whatever section.
pub(super) struct Door {
    at: usize,
    what: &'static str,
    place: Place,
    /// A TCP door that must not be open to other hosts unless the file says so.
    guarded: bool,
}

#[derive(PartialEq)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A socket that the service manager gives by this name: where it listens shows when the agent starts.
    Given(String),
}

pub(super) fn check(spec: &Spec, report: &mut Report) {
    let doors = doors(spec);
    refuse_exposed(&doors, report);
    refuse_twice(&doors, report);
    refuse_own(spec, &doors, report);
}

pub(super) fn doors(spec: &Spec) -> Vec<Door> {
    let mut doors = Vec::new();
    for listen in spec.inbound.iter().flat_map(|inbound| &inbound.listen) {
        let place = Place::of_tcp(&listen.value);
        doors.push(Door { at: listen.at, what: "[inbound]", place, guarded: false });
    }
    for listener in spec.outbound.iter().flat_map(|outbound| &outbound.listeners) {
        let Some(listen) = &listener.listen else {
            continue;
        };
        let place = Place::of(&listen.value);
        let guarded = !listener.expose;
        doors.push(Door { at: listen.at, what: "[[outbound.listener]]", place, guarded });
    }
    for redirect in spec.outbound.iter().filter_map(|outbound| outbound.redirect.as_ref()) {
        for listen in &redirect.listen {
            let (place, guarded) = (Place::of_tcp(&listen.value), !redirect.expose);
            doors.push(Door { at: listen.at, what: "[outbound.redirect]", place, guarded });
        }
    }
    if let Some(listen) = &spec.admin.listen {
        let (place, guarded) = (Place::of_tcp(&listen.value), !spec.admin.expose);
        doors.push(Door { at: listen.at, what: "[admin]", place, guarded });
    }
    if let Some(socket) = &spec.admin.socket {
        let place = Place::Unix(socket.value.clone());
        doors.push(Door { at: socket.at, what: "[admin]", place, guarded: false });
    }
    doors
}

impl Door {
    /// Its port, if it is a TCP door that knows it.
    pub(super) fn port(&self) -> Option<u16> {
        match self.place {
            Place::Tcp(address) => Some(address.port()).filter(|port| *port != 0),
            Place::Unix(_) | Place::Given(_) => None,
        }
    }

    /// Whether other hosts cannot come to it, whatever is in their way.
    pub(super) fn is_near(&self) -> bool {
        match self.place {
            Place::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Place::Unix(_) => true,
            Place::Given(_) => false,
        }
    }

    pub(super) fn shown(&self) -> String {
        format!("{} listens on {}", self.what, self.place.shown())
    }
}

fn refuse_exposed(doors: &[Door], report: &mut Report) {
    for door in doors.iter().filter(|door| door.guarded) {
        let Place::Tcp(address) = door.place else {
            continue;
        };
        if !address.ip().to_canonical().is_loopback() {
            let message = format!("{} on {address} is open to other hosts", door.what);
            report.problem(door.at, message, "listen on 127.0.0.1 or [::1], or say `expose = true`");
        }
    }
}

fn refuse_twice(doors: &[Door], report: &mut Report) {
    for (index, door) in doors.iter().enumerate() {
        let Some(other) = doors[..index].iter().find(|other| other.place.clashes(&door.place)) else {
            continue;
        };
        let message = format!("{} already listens on {}", other.what, other.place.shown());
        report.problem(door.at, message, "give each listener its own address");
    }
}

fn refuse_own(spec: &Spec, doors: &[Door], report: &mut Report) {
    for inbound in spec.inbound.as_slice() {
        for to in inbound.services.iter().filter_map(|service| service.to.as_ref()) {
            let targets = Place::of_target(&to.value, &inbound.dtab);
            if let Some(door) = doors.iter().find(|door| targets.iter().any(|target| door.place.takes(target))) {
                own(door, to, report);
            }
        }
    }
}

/// What a table leads to is only warned of: it may be one branch of several, and the agent refuses a
/// stream that would come back to itself.
fn own(door: &Door, to: &At<Target>, report: &mut Report) {
    let message = format!("`to` leads back to this agent itself: {}", door.shown());
    let help = "write where the service itself is";
    match &to.value {
        Target::Name(name) if !is_bound(name.as_str()) => report.warn(to.at, message, help),
        Target::Name(_) | Target::Tcp(_) | Target::Unix(_) => report.problem(to.at, message, help),
    }
}

fn is_bound(name: &str) -> bool {
    Name::parse(name).is_ok_and(|name| name.is_bound())
}

impl Place {
    fn of(listen: &ListenAddr) -> Place {
        match listen {
            ListenAddr::Tcp(address) => Place::Tcp(*address),
            ListenAddr::Unix(unix) => Place::Unix(unix.path.clone()),
            ListenAddr::Given(name) => Place::Given(name.clone()),
        }
    }

    fn of_tcp(listen: &TcpListen) -> Place {
        Place::of(&listen.clone().into())
    }

    /// Where a target leads, as far as the file alone can say: host names and captures are the agent's to judge.
    fn of_target(target: &Target, dtab: &Dtab) -> Vec<Place> {
        match target {
            Target::Tcp(address) => vec![Place::Tcp(*address)],
            Target::Unix(path) => vec![Place::Unix(path.clone())],
            Target::Name(template) => {
                let name = Name::parse(template.as_str()).ok().filter(|_| template.is_literal());
                let tree = name.and_then(|name| dtab.look_up(&name).ok());
                tree.iter().flat_map(NameTree::leaves).filter_map(Place::of_bound).collect()
            }
        }
    }

    fn of_bound(bound: &Bound) -> Option<Place> {
        match bound.namer() {
            Namer::Inet { host: Host::Ip(ip), port } => Some(Place::Tcp(SocketAddr::new(*ip, *port))),
            Namer::Inet { host: Host::Name(name), port } => {
                (name == "localhost").then(|| Place::Tcp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), *port)))
            }
            Namer::Unix(path) => Some(Place::Unix(path.clone())),
            Namer::Dns { .. } | Namer::Srv { .. } | Namer::Fs { .. } => None,
        }
    }

    /// Whether the system would refuse to open both. Port 0 is another port each time.
    fn clashes(&self, other: &Place) -> bool {
        match (self, other) {
            (Place::Tcp(a), Place::Tcp(b)) => {
                let (left, right) = (a.ip(), b.ip());
                let wild = left.is_unspecified() || right.is_unspecified();
                let same_family = left.is_ipv4() == right.is_ipv4();
                a.port() == b.port() && a.port() != 0 && (left == right || (wild && same_family))
            }
            (Place::Unix(a), Place::Unix(b)) => a == b,
            (Place::Given(a), Place::Given(b)) => a == b,
            (Place::Tcp(_) | Place::Unix(_) | Place::Given(_), _) => false,
        }
    }

    /// Whether a connection to the target ends at this door. A door on every address takes what goes
    /// to loopback; which other addresses are this host's, the file cannot know.
    fn takes(&self, target: &Place) -> bool {
        match (self, target) {
            (Place::Tcp(door), Place::Tcp(target)) => {
                let (listen, goal) = (door.ip().to_canonical(), near(target.ip()));
                let wild = listen.is_unspecified() && goal.is_loopback();
                door.port() == target.port() && door.port() != 0 && (near(listen) == goal || wild)
            }
            (Place::Unix(door), Place::Unix(target)) => door == target,
            (Place::Tcp(_) | Place::Unix(_) | Place::Given(_), _) => false,
        }
    }

    fn shown(&self) -> String {
        match self {
            Place::Tcp(address) => address.to_string(),
            Place::Unix(path) => path.display().to_string(),
            Place::Given(name) => format!("systemd:{name}"),
        }
    }
}

/// Connecting to the unspecified address connects to loopback.
fn near(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}
