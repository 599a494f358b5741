//! The bytes of a connection that is passed on in plaintext, both ways at once, between two plain sockets: for captured
//! connections that no rule names, where the file says so. As in a relay over a tunnel, half-close passes through and a
//! failure of one side is a reset of the other.

use std::{future::Future, io, pin::Pin, sync::atomic::AtomicU64, sync::atomic::Ordering::Relaxed, time::Instant};

use tokio::{io::Interest, net::TcpStream};

use super::{
    Limits, TURNS_BEFORE_YIELD,
    abort::{failed, internal},
    clock::{Alarm, Clock, Overdue},
    lacks_acknowledgement,
};
use crate::{
    end::{End, Ending, Side},
    streams::Stream,
    wire::{buffer::Buffer, plain::Plain},
};

/// Relays until both sides have ended; then both are closed cleanly.
///
/// # Errors
/// Why, and by whose doing, both were reset.
pub async fn pass(
    local: Plain,
    far: Plain,
    stream: &Stream,
    limits: &Limits,
    stop: impl Future<Output = Ending>,
) -> Result<(), Ending> {
    let mut pass =
        Pass { local: &local, far: &far, up: Way::default(), down: Way::default(), failed: None, clock: Clock::new() };
    pass.run(stream, limits, stop).await?;
    local.close();
    far.close();
    Ok(())
}

struct Pass<'a> {
    local: &'a Plain,
    far: &'a Plain,
    up: Way,
    down: Way,
    /// How a socket failed, while what can still be read of it is passed on.
    failed: Option<Ending>,
    clock: Clock,
}

/// One direction.
#[derive(Default)]
struct Way {
    /// Read and not yet written.
    waiting: Buffer,
    /// The reader's end was read.
    ended: bool,
    /// And passed on.
    shut: bool,
}

impl Way {
    /// Moves what can be moved without waiting; true when something did. An end that is read from a socket which is not
    /// `sound` is none: a failure is told once, and looks like an end thereafter.
    fn turn(&mut self, from: Edge<'_>, to: Edge<'_>, sound: bool, count: &AtomicU64) -> Result<bool, Ending> {
        let mut moved = self.write(to, count)?;
        if self.wants_to_read() {
            moved |= self.read(from, sound)?;
            moved |= self.write(to, count)?;
        }
        if self.ended && self.waiting.is_empty() && !self.shut {
            to.socket.shut();
            self.shut = true;
            moved = true;
        }
        Ok(moved)
    }

    fn read(&mut self, from: Edge<'_>, sound: bool) -> Result<bool, Ending> {
        match from.socket.try_read(self.waiting.room()) {
            Ok(0) if !sound => {
                self.waiting.filled(0);
                Ok(false)
            }
            Ok(count) => {
                self.waiting.filled(count);
                self.ended = count == 0;
                Ok(true)
            }
            Err(error) => {
                self.waiting.filled(0);
                from.unless_it_would_block(&error).map(|()| false)
            }
        }
    }

    fn write(&mut self, to: Edge<'_>, count: &AtomicU64) -> Result<bool, Ending> {
        let mut moved = false;
        while !self.waiting.is_empty() {
            match to.socket.try_write(self.waiting.data()) {
                Ok(written) => {
                    self.waiting.take(written);
                    count.fetch_add(written as u64, Relaxed);
                    moved = true;
                }
                Err(error) => return to.unless_it_would_block(&error).map(|()| moved),
            }
        }
        Ok(moved)
    }

    /// The socket that is to take what waits, if anything does.
    fn waits_for<'a>(&self, to: &'a Plain) -> Option<&'a TcpStream> {
        if self.waiting.is_empty() { None } else { to.as_tcp() }
    }

    fn wants_to_read(&self) -> bool {
        self.waiting.is_empty() && !self.ended
    }
}

impl Pass<'_> {
    async fn run(
        &mut self,
        stream: &Stream,
        limits: &Limits,
        stop: impl Future<Output = Ending>,
    ) -> Result<(), Ending> {
        tokio::pin!(stop);
        let (mut alarm, mut turns) = (Alarm::default(), 0);
        loop {
            let moved = self.turn(stream);
            if self.up.shut && self.down.shut {
                return Ok(());
            }
            if !moved && let Some(ending) = self.failed.take() {
                return Err(ending);
            }
            if !moved {
                self.wait(limits, &mut alarm, stop.as_mut()).await?;
                continue;
            }
            self.clock.moved();
            turns += 1;
            if turns == TURNS_BEFORE_YIELD {
                turns = 0;
                tokio::select! {
                    biased;
                    ending = stop.as_mut() => return Err(ending),
                    () = tokio::task::yield_now() => self.overdue(limits)?,
                }
            }
        }
    }

    fn turn(&mut self, stream: &Stream) -> bool {
        let (local, far) = (Edge::local(self.local), Edge::far(self.far));
        let up = self.up.turn(local, far, self.failed.is_none(), &stream.sent);
        let up = self.note(up);
        let down = self.down.turn(far, local, self.failed.is_none(), &stream.received);
        self.note(down) || up
    }

    /// Keeps the first failure; true when something moved.
    fn note(&mut self, turn: Result<bool, Ending>) -> bool {
        turn.unwrap_or_else(|ending| {
            self.failed.get_or_insert(ending);
            false
        })
    }

    async fn wait(
        &mut self,
        limits: &Limits,
        alarm: &mut Alarm,
        stop: Pin<&mut impl Future<Output = Ending>>,
    ) -> Result<(), Ending> {
        self.clock.waits(!self.up.waiting.is_empty() || !self.down.waiting.is_empty());
        alarm.set(self.clock.deadline(limits, self.is_half_closed()));
        tokio::select! {
            ready = self.local.ready(interest(&self.up, &self.down)) => {
                if ready.map_err(|error| internal(&error))?.is_error() {
                    self.failed.get_or_insert_with(|| Edge::local(self.local).failed());
                }
            }
            ready = self.far.ready(interest(&self.down, &self.up)) => {
                if ready.map_err(|error| internal(&error))?.is_error() {
                    self.failed.get_or_insert_with(|| Edge::far(self.far).failed());
                }
            }
            () = alarm.rings() => return self.overdue(limits),
            ending = stop => return Err(ending),
        }
        Ok(())
    }

    fn is_half_closed(&self) -> bool {
        self.up.ended || self.down.ended
    }

    fn overdue(&mut self, limits: &Limits) -> Result<(), Ending> {
        let now = Instant::now();
        match self.clock.overdue(limits, self.is_half_closed(), now) {
            None => Ok(()),
            Some(Overdue::Limit(end, detail)) => Err(Ending::new(end, Side::Agent, detail)),
            Some(Overdue::Unacknowledged) => {
                lacks_acknowledgement(self.down.waits_for(self.local), Side::Local, "the local side", limits)?;
                lacks_acknowledgement(self.up.waits_for(self.far), Side::Peer, "the destination", limits)?;
                self.clock.asked(now);
                Ok(())
            }
        }
    }
}

/// One end of the connection, as messages name it.
#[derive(Clone, Copy)]
struct Edge<'a> {
    socket: &'a Plain,
    side: Side,
    name: &'static str,
}

impl<'a> Edge<'a> {
    fn local(socket: &'a Plain) -> Self {
        Self { socket, side: Side::Local, name: "the local socket" }
    }

    fn far(socket: &'a Plain) -> Self {
        Self { socket, side: Side::Peer, name: "the destination's socket" }
    }

    fn failed(self) -> Ending {
        Ending::new(End::Reset, self.side, failed(self.name, self.socket.take_error()))
    }

    fn unless_it_would_block(self, error: &io::Error) -> Result<(), Ending> {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Ok(());
        }
        Err(Ending::new(End::Reset, self.side, format!("{} failed: {error}", self.name)))
    }
}

fn interest(reads: &Way, writes: &Way) -> Interest {
    let mut interest = Interest::ERROR;
    if reads.wants_to_read() {
        interest = interest.add(Interest::READABLE);
    }
    if !writes.waiting.is_empty() {
        interest = interest.add(Interest::WRITABLE);
    }
    interest
}
