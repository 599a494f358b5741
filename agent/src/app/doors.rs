//! The doors of the agent: which are open, what each leads to, and the way to close one. First all that are new are opened,
//! which may fail; then they are served, which cannot, and those that are in no file any more are closed. A closed door's
//! streams go on.

use std::{io, net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use adit_config::{Config, Doors as Origins, Listener, RedirectMode};
use arc_swap::ArcSwap;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{manager, sides::House};
use crate::{
    admin,
    inbound::Inbound,
    listen::{Accepted, Bound, Door, Held, Hours, Inherited, ListenError, Named, Room, Special},
    outbound::{Asks, Outbound},
    sys::notify,
};

/// Every door that is open, in the order of the file.
#[derive(Default)]
pub(super) struct Doors {
    outbound: Vec<Front>,
    redirect: Vec<Open>,
    inbound: Vec<Open>,
    admin: Vec<Open>,
    /// Sockets that listen already, for doors that are yet to be.
    inherited: Inherited,
    /// What those were called that no door took: the service manager may have copies.
    spare: Vec<String>,
}

/// A door that is open.
struct Open {
    bound: Bound,
    /// What its socket is called among those that are handed on.
    name: String,
    /// The service manager has a copy of it from the agent.
    is_kept: bool,
    /// Its socket.
    held: io::Result<Held>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// A door for applications.
struct Front {
    open: Open,
    /// What its next connection asks for.
    asks: Arc<ArcSwap<Asks>>,
    /// Ends what keeps its tunnels warm.
    warm: CancellationToken,
}

/// For each door of a configuration, the one that was opened for it; `None` where one that is open goes on.
pub(super) struct Opened {
    outbound: Vec<Option<Named>>,
    redirect: Vec<Option<Named>>,
    inbound: Vec<Option<Named>>,
    admin: Vec<Option<Named>>,
}

/// What the doors lead to.
pub(super) struct Sides {
    /// For the next connection of an application.
    pub(super) outbound: Arc<ArcSwap<Outbound>>,
    /// For tunnels.
    pub(super) inbound: Arc<Inbound>,
    /// For operators.
    pub(super) admin: admin::Running,
}

impl Opened {
    /// Opens every door of `config` that is not open yet, in place of those of `before` that will close. An error closes
    /// again what was opened. What the sockets of the agent are marked with stands beside the file that says it.
    pub(super) fn open(
        (config, mark): (&Config, Option<u32>),
        origins: &Origins,
        before: &Doors,
        admin: &admin::Running,
    ) -> Result<Self, ListenError> {
        let listeners = config.outbound.as_ref().map_or(&[][..], |outbound| &outbound.listeners);
        let redirect = config.outbound.as_ref().and_then(|outbound| outbound.redirect.as_ref());
        let captured = redirect.map_or(&[][..], |redirect| &redirect.listen);
        let special =
            Special { transparent: redirect.is_some_and(|redirect| redirect.mode == RedirectMode::Tproxy), mark };
        let tunnels = config.inbound.as_ref().map_or(&[][..], |inbound| &inbound.listen);
        let closing: Vec<_> = before.closing(origins).filter_map(|open| open.held.as_ref().ok()).collect();
        let opened = || {
            Ok(Self {
                outbound: open_new(&origins.outbound, listeners, |Listener { listen, expose, .. }| {
                    let opened = before.inherited.open(listen, *expose, &Special::default(), &closing);
                    opened.map(abort_unless_closed)
                })?,
                redirect: open_new(&origins.redirect, captured, |listen| {
                    let exposed = redirect.is_some_and(|redirect| redirect.expose);
                    let listen = listen.clone().into();
                    before.inherited.open(&listen, exposed, &special, &closing).map(abort_unless_closed)
                })?,
                // Tunnels come from other hosts.
                inbound: open_new(&origins.inbound, tunnels, |listen| {
                    before.inherited.open(&listen.clone().into(), true, &Special::default(), &closing)
                })?,
                admin: open_new(&origins.admin, &config.admin.doors(), |listen| {
                    admin.open(listen, config.admin.expose, &before.inherited, &closing)
                })?,
            })
        };
        opened().map_err(|error: ListenError| error.beside(&before.bound()))
    }
}

fn open_new<T>(
    origins: &[Option<usize>],
    doors: &[T],
    open: impl Fn(&T) -> Result<Named, ListenError>,
) -> Result<Vec<Option<Named>>, ListenError> {
    let each = origins.iter().zip(doors);
    each.map(|(origin, door)| if origin.is_some() { Ok(None) } else { open(door).map(Some) }).collect()
}

fn abort_unless_closed(opened: Named) -> Named {
    opened.with(Door::abort_unless_closed)
}

impl Doors {
    /// None is open, and those that will be find their sockets among these.
    pub(super) fn inheriting(inherited: Inherited) -> Self {
        Self { inherited, ..Self::default() }
    }

    /// The addresses of those that are open, and of those that are to be.
    pub(super) fn addresses(&self, opened: &Opened) -> Vec<SocketAddr> {
        let open = self.all().filter_map(Open::address);
        let new = [&opened.outbound, &opened.redirect, &opened.inbound, &opened.admin].into_iter().flatten().flatten();
        open.chain(new.filter_map(|opened| opened.door.tcp_address())).collect()
    }

    /// Those that listen already: who opens one of these need not be allowed to.
    pub(super) fn listening(&self) -> Vec<SocketAddr> {
        self.all().filter_map(Open::address).chain(self.inherited.addresses()).collect()
    }

    /// Lets the service manager have a copy of each, and of no other: from now on the agent is the one that serves.
    pub(super) fn keep(&mut self) {
        for open in self.all().filter(|open| open.is_kept) {
            match &open.held {
                Ok(held) => notify::keep(&open.name, held),
                Err(error) => warn!("the socket of {} would not outlive a crash: {error}", open.bound.address),
            }
        }
        let spare = std::mem::take(&mut self.spare);
        manager::let_go(spare.iter().map(String::as_str));
    }

    /// What the sockets are called that the service manager keeps a copy of.
    pub(super) fn kept(&self) -> Vec<String> {
        self.all().filter(|open| open.is_kept).map(|open| open.name.clone()).collect()
    }

    /// All of them, as the ready file and the status page tell them.
    pub(super) fn bound(&self) -> Vec<Bound> {
        self.all().map(|open| open.bound.clone()).collect()
    }

    /// Their sockets for another process, each under the name by which the door finds it there.
    ///
    /// # Errors
    /// There is no descriptor for one.
    pub(super) fn copies(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let held = |open: &Open| match &open.held {
            Ok(held) => held.copy(),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", open.bound.address))),
        };
        self.all().map(|open| Ok((open.name.clone(), held(open)?))).collect()
    }

    /// Another process goes on with them: no file of theirs goes when they close, and operators ask there.
    pub(super) fn hand_on(&self) {
        self.all().filter_map(|open| open.held.as_ref().ok()).for_each(Held::goes_on_elsewhere);
        self.admin.iter().for_each(|open| open.stop.cancel());
    }

    /// Those that no door of the next configuration goes on as.
    fn closing<'a>(&'a self, origins: &'a Origins) -> impl Iterator<Item = &'a Open> {
        let fronts = self.outbound.iter().map(|front| &front.open);
        let fronts = fronts.enumerate().filter(|(at, _)| !origins.outbound.contains(&Some(*at)));
        let others =
            [(&self.redirect, &origins.redirect), (&self.inbound, &origins.inbound), (&self.admin, &origins.admin)];
        let others = others
            .into_iter()
            .flat_map(|(open, origins)| open.iter().enumerate().filter(|(at, _)| !origins.contains(&Some(*at))));
        fronts.chain(others).map(|(_, open)| open)
    }

    fn all(&self) -> impl Iterator<Item = &Open> {
        let fronts = self.outbound.iter().map(|front| &front.open);
        fronts.chain(&self.redirect).chain(&self.inbound).chain(&self.admin)
    }

    /// Lets these be the doors of `config`: serves those that were opened for it, turns those that go on to where they lead
    /// now, and closes the others, whose tasks are returned.
    pub(super) fn turn(
        self,
        house: &House,
        sides: &Sides,
        config: &Config,
        origins: &Origins,
        opened: Opened,
    ) -> (Self, Vec<JoinHandle<()>>) {
        let listeners = config.outbound.as_ref().map_or(&[][..], |outbound| &outbound.listeners);
        // While the doors still accept: whoever came to a copy after that would be heard by nobody.
        manager::let_go(self.closing(origins).filter(|open| open.is_kept).map(|open| &*open.name));
        let mut closed = Vec::new();
        let mut serve = opened.outbound.into_iter().zip(listeners);
        let outbound = next(self.outbound, &origins.outbound, &mut closed, |before| {
            let (door, listener) = serve.next()?;
            match (before, door) {
                (Some(front), _) => Some(front.leads_to(listener)),
                (None, Some(door)) => Some(Front::serve(door, listener, house, sides)),
                (None, None) => None,
            }
        });
        let mut opens = |before: Vec<Open>, origins: &[Option<usize>], doors: Vec<Option<Named>>, serve: &Serve<'_>| {
            let mut doors = doors.into_iter();
            next(before, origins, &mut closed, |before| match (before, doors.next()?) {
                (Some(open), _) => Some(open),
                (None, door) => Some(serve(door?)),
            })
        };
        let redirect =
            opens(self.redirect, &origins.redirect, opened.redirect, &|door| Open::captured(door, house, sides));
        let inbound = opens(self.inbound, &origins.inbound, opened.inbound, &|door| Open::tunnels(door, house, sides));
        let admin = opens(self.admin, &origins.admin, opened.admin, &|door| Open::admin(door, house, sides));
        // Every door that is to be is open by now.
        let rest = self.inherited.close_rest();
        for name in &rest {
            info!(name, "a socket that was given to the agent is closed: no door of the file is there");
        }
        (Self { outbound, redirect, inbound, admin, inherited: Inherited::default(), spare: rest }, closed)
    }

    /// Keeps tunnels warm behind each door for applications, as the outbound side of now says, and no longer as the one
    /// before did.
    pub(super) fn keep_warm(&mut self, house: &House, outbound: &Arc<Outbound>, each: usize) {
        for front in &mut self.outbound {
            front.warm.cancel();
            front.warm = front.open.stop.child_token();
            let (outbound, asks, until) = (Arc::clone(outbound), front.asks.load_full(), front.warm.clone());
            house.chores.spawn(outbound.keep_warm(asks, each, until));
        }
    }
}

/// How a door is served once it is open.
type Serve<'a> = dyn Fn(Named) -> Open + 'a;

/// A list of doors in the order of the next file: `make` gives each, from the one that goes on as it, if one does. What is
/// left over is closed.
fn next<T: Closes>(
    before: Vec<T>,
    origins: &[Option<usize>],
    closed: &mut Vec<JoinHandle<()>>,
    mut make: impl FnMut(Option<T>) -> Option<T>,
) -> Vec<T> {
    let mut before: Vec<_> = before.into_iter().map(Some).collect();
    let made = origins.iter().filter_map(|origin| make(origin.and_then(|at| before.get_mut(at)?.take()))).collect();
    closed.extend(before.into_iter().flatten().map(Closes::close));
    made
}

/// What can be closed; the task ends once it is.
trait Closes {
    fn close(self) -> JoinHandle<()>;
}

impl Closes for Open {
    fn close(self) -> JoinHandle<()> {
        let Self { held, stop, serving, .. } = self;
        // First, so that the socket closes as the last waiting connection was taken from it, and not a moment later.
        drop(held);
        stop.cancel();
        serving
    }
}

impl Closes for Front {
    fn close(self) -> JoinHandle<()> {
        self.open.close()
    }
}

impl Front {
    fn serve(opened: Named, listener: &Listener, house: &House, sides: &Sides) -> Self {
        let Named { door, name, is_kept } = kept(opened, house);
        let hours = house.hours();
        let stop = hours.closes.clone();
        let asks = Arc::new(ArcSwap::from_pointee(asks(listener)));
        let bound = Bound::of("outbound", &door).leads_to(listener);
        let held = door.held();
        let room = Room { slots: Arc::clone(&house.slots), limit: "streams" };
        let (outbound, work, next) = (Arc::clone(&sides.outbound), house.work.clone(), Arc::clone(&asks));
        let serving = house.chores.spawn(door.accept_each(room, hours, move |accepted, slot| {
            let (outbound, asks) = (outbound.load_full(), next.load_full());
            work.spawn(async move {
                outbound.carry(accepted, &asks).await;
                drop(slot);
            });
        }));
        let warm = stop.child_token();
        Self { open: Open { bound, name, is_kept, held, stop, serving }, asks, warm }
    }

    fn leads_to(mut self, listener: &Listener) -> Self {
        self.asks.store(Arc::new(asks(listener)));
        self.open.bound = self.open.bound.leads_to(listener);
        self
    }
}

fn asks(listener: &Listener) -> Asks {
    Asks { to: listener.to.clone(), certificate: listener.certificate.clone(), original: None }
}

impl Bound {
    fn leads_to(self, listener: &Listener) -> Self {
        Self { to: Some(listener.to.to_string()), certificate: listener.certificate.clone(), ..self }
    }
}

/// Lets the service manager have a copy, before anybody is served: what waits in the queue outlives the agent. Until the
/// agent serves it is not the one whose word counts, and [`Doors::keep`] is for then.
fn kept(opened: Named, house: &House) -> Named {
    if opened.is_kept && house.opens.is_cancelled() {
        notify::keep(&opened.name, &opened.door.socket());
    }
    opened
}

impl Open {
    /// Where it is, if it is a TCP door.
    fn address(&self) -> Option<SocketAddr> {
        self.held.as_ref().ok().and_then(Held::address)
    }

    fn captured(opened: Named, house: &House, sides: &Sides) -> Self {
        let Named { door, name, is_kept } = kept(opened, house);
        let hours = house.hours();
        let stop = hours.closes.clone();
        let (bound, held) = (Bound::of("redirect", &door), door.held());
        let room = Room { slots: Arc::clone(&house.slots), limit: "streams" };
        let (outbound, work) = (Arc::clone(&sides.outbound), house.work.clone());
        let at = door.tcp_address();
        let serving = house.chores.spawn(door.accept_each(room, hours, move |accepted, slot| {
            let (outbound, Some(at)) = (outbound.load_full(), at) else { return };
            work.spawn(async move {
                outbound.carry_captured(accepted, at).await;
                drop(slot);
            });
        }));
        Self { bound, name, is_kept, held, stop, serving }
    }

    fn tunnels(opened: Named, house: &House, sides: &Sides) -> Self {
        let Named { door, name, is_kept } = kept(opened, house);
        let hours = house.hours();
        let stop = hours.closes.clone();
        let (bound, held) = (Bound::of("inbound", &door), door.held());
        let room = Room { slots: Arc::clone(&house.accepted), limit: "tunnels" };
        let (inbound, work) = (Arc::clone(&sides.inbound), house.work.clone());
        let serving = house.chores.spawn(door.accept_each(room, hours, move |accepted, slot| {
            let Accepted::Tcp(socket, from) = accepted else { return };
            let inbound = Arc::clone(&inbound);
            work.spawn(async move {
                inbound.serve(socket, from).await;
                drop(slot);
            });
        }));
        Self { bound, name, is_kept, held, stop, serving }
    }

    /// It stays open while the agent drains.
    fn admin(opened: Named, house: &House, sides: &Sides) -> Self {
        let Named { door, name, is_kept } = kept(opened, house);
        let hours = Hours { closes: CancellationToken::new(), ..house.hours() };
        let stop = hours.closes.clone();
        let (bound, held) = (Bound::of("admin", &door), door.held());
        let serving = sides.admin.serve(door, hours);
        Self { bound, name, is_kept, held, stop, serving }
    }
}
