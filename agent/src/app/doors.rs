//! The doors of the agent: which are open, what each leads to, and the way to close one. First all that are new are opened,
//! which may fail; then they are served, which cannot, and those that are in no file any more are closed. A closed door's
//! streams go on.

use std::{io, net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use adit_config::{Config, Doors as Origins, ListenAddr, Listener, RedirectMode};
use arc_swap::ArcSwap;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::sides::House;
use crate::{
    admin,
    inbound::Inbound,
    listen::{Accepted, Bound, Door, Held, Hours, Inherited, ListenError, Room, Special, name_of},
    outbound::{Asks, Outbound},
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
}

/// A door that is open.
struct Open {
    bound: Bound,
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
    outbound: Vec<Option<Door>>,
    redirect: Vec<Option<Door>>,
    inbound: Vec<Option<Door>>,
    admin: Vec<Option<Door>>,
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
        let closing = before.closing(origins);
        let opened = || {
            Ok(Self {
                outbound: open_new(&origins.outbound, listeners, |listener| {
                    open_front(&listener.listen, before, &closing)
                })?,
                redirect: open_new(&origins.redirect, captured, |address| {
                    before.open_tcp(*address, &special, &closing).map(Door::abort_unless_closed)
                })?,
                inbound: open_new(&origins.inbound, tunnels, |address| {
                    before.open_tcp(*address, &Special::default(), &closing)
                })?,
                admin: open_new(&origins.admin, &config.admin.doors(), |listen| {
                    admin.open(listen, &before.inherited, &closing)
                })?,
            })
        };
        opened().map_err(|error: ListenError| error.beside(&before.bound()))
    }
}

fn open_new<T>(
    origins: &[Option<usize>],
    doors: &[T],
    open: impl Fn(&T) -> Result<Door, ListenError>,
) -> Result<Vec<Option<Door>>, ListenError> {
    let each = origins.iter().zip(doors);
    each.map(|(origin, door)| if origin.is_some() { Ok(None) } else { open(door).map(Some) }).collect()
}

fn open_front(listen: &ListenAddr, before: &Doors, closing: &[&Held]) -> Result<Door, ListenError> {
    match listen {
        ListenAddr::Tcp(address) => {
            before.open_tcp(*address, &Special::default(), closing).map(Door::abort_unless_closed)
        }
        ListenAddr::Unix(listen) => before.inherited.unix(listen).unwrap_or_else(|| Door::unix(listen)),
    }
}

impl Doors {
    /// None is open, and those that will be find their sockets among these.
    pub(super) fn inheriting(inherited: Inherited) -> Self {
        Self { inherited, ..Self::default() }
    }

    fn open_tcp(&self, address: SocketAddr, special: &Special, closing: &[&Held]) -> Result<Door, ListenError> {
        self.inherited.tcp(address, special).unwrap_or_else(|| Door::tcp_with(address, special, closing))
    }

    /// The addresses of those that are open, and of those that are to be.
    pub(super) fn addresses(&self, opened: &Opened) -> Vec<SocketAddr> {
        let open = self.all().filter_map(Open::address);
        let new = [&opened.outbound, &opened.redirect, &opened.inbound, &opened.admin].into_iter().flatten().flatten();
        open.chain(new.filter_map(Door::tcp_address)).collect()
    }

    /// All of them, as the ready file and the status page tell them.
    pub(super) fn bound(&self) -> Vec<Bound> {
        self.all().map(|open| open.bound.clone()).collect()
    }

    /// Their sockets for another process, each under the name by which the door finds it there. `config` is the one whose
    /// doors they are.
    ///
    /// # Errors
    /// There is no descriptor for one.
    pub(super) fn copies(&self, config: &Config) -> io::Result<Vec<(String, OwnedFd)>> {
        let held = |open: &Open| match &open.held {
            Ok(held) => held.copy(),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", open.bound.address))),
        };
        let names = addresses(config);
        self.all().zip(&names).map(|(open, name)| Ok((name_of(name), held(open)?))).collect()
    }

    /// Another process goes on with them: no file of theirs goes when they close, and operators ask there.
    pub(super) fn hand_on(&self) {
        self.all().filter_map(|open| open.held.as_ref().ok()).for_each(Held::goes_on_elsewhere);
        self.admin.iter().for_each(|open| open.stop.cancel());
    }

    /// Those that no door of the next configuration goes on as.
    fn closing(&self, origins: &Origins) -> Vec<&Held> {
        let fronts = self.outbound.iter().map(|front| &front.open);
        let fronts = fronts.enumerate().filter(|(at, _)| !origins.outbound.contains(&Some(*at)));
        let others =
            [(&self.redirect, &origins.redirect), (&self.inbound, &origins.inbound), (&self.admin, &origins.admin)];
        let others = others
            .into_iter()
            .flat_map(|(open, origins)| open.iter().enumerate().filter(|(at, _)| !origins.contains(&Some(*at))));
        fronts.chain(others).filter_map(|(_, open)| open.held.as_ref().ok()).collect()
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
        let mut opens = |before: Vec<Open>, origins: &[Option<usize>], doors: Vec<Option<Door>>, serve: &Serve<'_>| {
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
        for name in self.inherited.close_rest() {
            info!(name, "a socket that was given to the agent is closed: no door of the file is there");
        }
        (Self { outbound, redirect, inbound, admin, inherited: Inherited::default() }, closed)
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

/// Where the doors of a configuration are, in the order in which they are opened.
fn addresses(config: &Config) -> Vec<ListenAddr> {
    let outbound = config.outbound.as_ref();
    let fronts = outbound.into_iter().flat_map(|outbound| &outbound.listeners).map(|listener| listener.listen.clone());
    let redirect = outbound.and_then(|outbound| outbound.redirect.as_ref());
    let captured = redirect.into_iter().flat_map(|redirect| &redirect.listen);
    let tunnels = config.inbound.iter().flat_map(|inbound| &inbound.listen);
    let others = captured.chain(tunnels).map(|address| ListenAddr::Tcp(*address));
    fronts.chain(others).chain(config.admin.doors()).collect()
}

/// How a door is served once it is open.
type Serve<'a> = dyn Fn(Door) -> Open + 'a;

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
    fn serve(door: Door, listener: &Listener, house: &House, sides: &Sides) -> Self {
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
        Self { open: Open { bound, held, stop, serving }, asks, warm }
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

impl Open {
    /// Where it is, if it is a TCP door.
    fn address(&self) -> Option<SocketAddr> {
        self.held.as_ref().ok().and_then(Held::address)
    }

    fn captured(door: Door, house: &House, sides: &Sides) -> Self {
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
        Self { bound, held, stop, serving }
    }

    fn tunnels(door: Door, house: &House, sides: &Sides) -> Self {
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
        Self { bound, held, stop, serving }
    }

    /// It stays open while the agent drains.
    fn admin(door: Door, house: &House, sides: &Sides) -> Self {
        let hours = Hours { closes: CancellationToken::new(), ..house.hours() };
        let stop = hours.closes.clone();
        let (bound, held) = (Bound::of("admin", &door), door.held());
        let serving = sides.admin.serve(door, hours);
        Self { bound, held, stop, serving }
    }
}
