//! A relay carries the bytes of one open stream between a plain socket and a tunnel, both ways at once, until both have
//! ended or something breaks.
//!
//! It goes in turns: move everything that can move without waiting, then wait for what could move more. Half-close
//! passes through; every failure ends in an abort of both sides, so that no part of a stream is ever taken for the whole
//! (PROTOCOL.md section 4). It does not know who the peer is, or why the stream was allowed.

mod abort;
mod clock;
mod pass;
mod waiting;

pub use abort::{abort, broke_protocol, count, truncated};
pub use pass::pass;

use std::{
    future::Future,
    io,
    pin::Pin,
    time::{Duration, Instant},
};

use abort::{failed, internal, local_reset};
use adit_protocol::{HEADER_LEN, Kind, Phase};
use clock::{Alarm, Clock, Overdue};
use waiting::{Waiting, lacks_acknowledgement};

use crate::{
    end::{End, Ending, Side},
    flight::What,
    streams::Stream,
    wire::{
        buffer::{BULK, Buffer},
        channel::Filled,
        plain::Plain,
        tunnel::{Arrival, Role, Tunnel, Unsent},
    },
};

/// How many turns a stream of bulk takes before it lets others run.
const TURNS_BEFORE_YIELD: u32 = 8;

/// The limits on a stream that is open.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Nothing moved, both ways open; off by default.
    pub idle: Option<Duration>,
    /// Nothing moved, one way closed.
    pub half_closed: Option<Duration>,
    /// Bytes wait and their receiver's TCP acknowledges nothing.
    pub stalled: Option<Duration>,
    /// Bytes wait and a live receiver does not read them; off by default.
    pub unread: Option<Duration>,
    /// The greatest age of a stream; off by default.
    pub life: Option<Duration>,
    /// A frame that was begun must be whole.
    pub frame: Duration,
}

/// What has already happened to a stream when its relay begins.
#[derive(Debug, Default)]
pub struct Beginning {
    /// Bytes from the tunnel that the local socket has not got yet.
    pub early: Buffer,
    /// The tunnel's FIN was already read.
    pub fin_received: bool,
    /// Our FIN was already sent: the local socket's end was read.
    pub fin_sent: bool,
}

/// Relays until the stream is over. After `Ok` the tunnel is idle and the local socket was closed cleanly; after `Err`
/// both were aborted.
///
/// # Errors
/// Why, and by whose doing, the stream was aborted.
pub async fn relay(
    local: Plain,
    mut tunnel: Tunnel,
    beginning: Beginning,
    stream: &Stream,
    limits: &Limits,
    stop: impl Future<Output = Ending>,
) -> Result<Tunnel, Ending> {
    let lending = stream.flight.lends(&local, tunnel.channel.socket());
    let mut relay = Relay::new(&local, &mut tunnel, beginning, stream, limits);
    let relayed = relay.run(stop).await;
    drop(lending);
    match relayed {
        Ok(()) => {
            local.close();
            Ok(tunnel)
        }
        Err(ending) => {
            local.abort();
            Box::pin(abort(tunnel, &ending)).await;
            Err(ending)
        }
    }
}

struct Relay<'a> {
    local: &'a Plain,
    tunnel: &'a mut Tunnel,
    stream: &'a Stream,
    limits: &'a Limits,
    /// Bytes for the local socket that came before the relay began.
    early: Buffer,
    /// Room for one read of the local socket.
    outgoing: Buffer,
    fin_received: bool,
    fin_sent: bool,
    done_sent: bool,
    local_failed: Option<String>,
    /// A failed local socket was looked at once more.
    heard_out: bool,
    tunnel_failed: bool,
    clock: Clock,
}

/// What a turn found.
enum Turn {
    /// Both ways have ended and the peer knows.
    Over,
    /// Bytes moved: there may be more.
    Moved,
    /// Nothing can move without waiting.
    Stuck,
}

impl<'a> Relay<'a> {
    fn new(
        local: &'a Plain,
        tunnel: &'a mut Tunnel,
        beginning: Beginning,
        stream: &'a Stream,
        limits: &'a Limits,
    ) -> Self {
        Self {
            local,
            tunnel,
            stream,
            limits,
            early: beginning.early,
            outgoing: Buffer::default(),
            fin_received: beginning.fin_received,
            fin_sent: beginning.fin_sent,
            done_sent: false,
            local_failed: None,
            heard_out: false,
            tunnel_failed: false,
            clock: Clock::new(),
        }
    }

    async fn run(&mut self, stop: impl Future<Output = Ending>) -> Result<(), Ending> {
        tokio::pin!(stop);
        if self.fin_sent {
            self.stream.flight.note(What::LocalFinished);
        }
        if self.fin_received {
            self.stream.flight.note(What::PeerFinished);
        }
        if self.fin_received && self.early.is_empty() {
            self.local.shut();
        }
        let mut turns = 0;
        let mut alarm = Alarm::default();
        loop {
            match self.turn()? {
                Turn::Over => return Ok(()),
                Turn::Moved => {
                    self.clock.moved();
                    turns += 1;
                    if turns == TURNS_BEFORE_YIELD {
                        turns = 0;
                        self.let_others_run(stop.as_mut()).await?;
                    }
                }
                Turn::Stuck => {
                    if self.local_failed.is_some() && !self.heard_out {
                        // A write can fail before the runtime has told that there is something to read.
                        self.heard_out = true;
                        tokio::task::yield_now().await;
                        continue;
                    }
                    self.broken_by_now()?;
                    self.wait(&mut alarm, stop.as_mut()).await?;
                }
            }
        }
    }

    /// A stream that always finds more to move never comes to wait: here it hears that it is to end.
    async fn let_others_run(&mut self, stop: Pin<&mut impl Future<Output = Ending>>) -> Result<(), Ending> {
        tokio::select! {
            biased;
            ending = stop => return Err(ending),
            () = tokio::task::yield_now() => {}
        }
        self.overdue()
    }

    /// Moves what can be moved without waiting, both ways.
    fn turn(&mut self) -> Result<Turn, Ending> {
        let down = self.tunnel_to_local()?;
        let up = self.local_to_tunnel()?;
        self.say_done()?;
        if self.is_over() {
            return Ok(Turn::Over);
        }
        Ok(if down || up { Turn::Moved } else { Turn::Stuck })
    }

    /// Takes what the tunnel has for the local socket; true when something moved.
    fn tunnel_to_local(&mut self) -> Result<bool, Ending> {
        let mut moved = self.write_early()?;
        if !self.early.is_empty() {
            return Ok(moved);
        }
        loop {
            if !self.write_payload(&mut moved)? {
                return Ok(moved);
            }
            match self.tunnel.arrival().map_err(broke_protocol)? {
                Some(arrival) => {
                    self.act(&arrival)?;
                    // The stream is whole: what stands behind DONE costs the tunnel only, and is the pool's to read.
                    if matches!(arrival, Arrival::Done) {
                        return Ok(true);
                    }
                }
                None if moved => return Ok(true),
                None => match self.tunnel.fill() {
                    Filled::Some => {}
                    Filled::NotNow => return Ok(moved),
                    Filled::Ended => return self.tunnel_ended().map(|()| moved),
                },
            }
        }
    }

    fn write_early(&mut self) -> Result<bool, Ending> {
        let mut moved = false;
        while !self.early.is_empty() {
            match self.local.try_write(self.early.data()) {
                Ok(count) => {
                    self.early.take(count);
                    self.stream.receives(count);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
                Err(error) => return Ok(self.takes_no_more(&error)),
            }
        }
        if moved && self.fin_received {
            self.local.shut();
        }
        Ok(moved)
    }

    /// Writes the payload that waits; true when all of it went.
    fn write_payload(&mut self, moved: &mut bool) -> Result<bool, Ending> {
        while !self.tunnel.payload().is_empty() {
            match self.local.try_write(self.tunnel.payload()) {
                Ok(count) => {
                    self.tunnel.take_payload(count);
                    self.stream.receives(count);
                    *moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Ok(self.takes_no_more(&error)),
            }
        }
        Ok(true)
    }

    /// A write to the local socket failed: the stream is lost, but what can still be read of it is passed on first, for
    /// a service often answers and closes before it has read everything. Its end is never passed on (`local_ended`).
    fn takes_no_more(&mut self, error: &io::Error) -> bool {
        self.local_failed = Some(format!("the local socket failed: {error}"));
        false
    }

    fn act(&mut self, arrival: &Arrival) -> Result<(), Ending> {
        match arrival {
            Arrival::Fin => {
                self.fin_received = true;
                self.stream.flight.note(What::PeerFinished);
                self.local.shut();
                Ok(())
            }
            Arrival::Reset(code) => {
                Err(Ending::new((*code).into(), Side::Peer, format!("the peer sent RESET ({})", code.label())))
            }
            // The state machine lets these through only where they mean what the loop's end sees: DONE and RETIRE are
            // read from its phase. The others cannot come after ACCEPT.
            Arrival::Payload
            | Arrival::Done
            | Arrival::Retire
            | Arrival::Ignored
            | Arrival::Open(_)
            | Arrival::Accept(_)
            | Arrival::Refuse(_)
            | Arrival::CloseQuietly => Ok(()),
        }
    }

    /// The tunnel ended, which before DONE is an abort.
    fn tunnel_ended(&self) -> Result<(), Ending> {
        if self.is_over() {
            return Ok(());
        }
        Err(truncated(self.tunnel.channel.end()))
    }

    /// Takes what the local socket has for the tunnel; true when something moved. One bulk at a time: the next is read
    /// when the socket has taken this one, which is what bounds the memory of a stream whose peer is slow.
    fn local_to_tunnel(&mut self) -> Result<bool, Ending> {
        let before = self.tunnel.channel.unsent();
        if !self.flush()? {
            return Ok(self.tunnel.channel.unsent() < before);
        }
        if self.fin_sent {
            return Ok(before > 0);
        }
        self.outgoing.room()[..HEADER_LEN].fill(0);
        let room = self.outgoing.room();
        let most = room.len().min(BULK);
        match self.local.try_read(&mut room[HEADER_LEN..most]) {
            Ok(0) => self.local_ended(),
            Ok(count) => {
                self.outgoing.filled(HEADER_LEN + count);
                self.stream.sends(count);
                self.tunnel.send_data(&mut self.outgoing).map_err(|unsent| self.unsent(&unsent))?;
                self.flush().map(|_| true)
            }
            Err(error) => {
                self.outgoing.filled(0);
                if error.kind() == io::ErrorKind::WouldBlock { Ok(before > 0) } else { Err(local_reset(&error)) }
            }
        }
    }

    fn local_ended(&mut self) -> Result<bool, Ending> {
        self.outgoing.filled(0);
        if let Some(why) = &self.local_failed {
            return Err(Ending::new(End::Reset, Side::Local, why.clone()));
        }
        self.fin_sent = true;
        self.stream.flight.note(What::LocalFinished);
        self.tunnel.send(Kind::Fin).map_err(|unsent| self.unsent(&unsent))?;
        self.flush().map(|_| true)
    }

    /// The acceptor's last word, once both ways have ended (PROTOCOL.md section 4, DONE).
    fn say_done(&mut self) -> Result<(), Ending> {
        let both_ended = self.fin_received && self.fin_sent && self.early.is_empty();
        if both_ended && !self.done_sent && matches!(self.tunnel.role(), Role::Acceptor(_)) {
            self.done_sent = true;
            self.tunnel.send(Kind::Done).map_err(|unsent| self.unsent(&unsent))?;
            self.flush()?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        match self.tunnel.role() {
            Role::Dialer(dialer) => dialer.phase() == Phase::Idle,
            Role::Acceptor(acceptor) => acceptor.phase() == Phase::Idle && self.tunnel.channel.unsent() == 0,
        }
    }

    fn flush(&mut self) -> Result<bool, Ending> {
        match self.tunnel.channel.flush() {
            Ok(all) => Ok(all),
            // What has arrived is read first: it may say why.
            Err(_) => {
                self.tunnel_failed = true;
                Ok(false)
            }
        }
    }

    fn unsent(&self, unsent: &Unsent) -> Ending {
        match unsent {
            Unsent::Misuse(violation) => {
                Ending::new(End::Internal, Side::Agent, format!("tried to send a frame out of place: {violation}"))
            }
            Unsent::Tls => truncated(self.tunnel.channel.end()),
        }
    }

    /// A socket that failed ends the stream once nothing more of it can be passed on.
    fn broken_by_now(&self) -> Result<(), Ending> {
        if let Some(why) = &self.local_failed {
            return Err(Ending::new(End::Reset, Side::Local, why.clone()));
        }
        if self.tunnel_failed {
            return Err(truncated(self.tunnel.channel.end()));
        }
        Ok(())
    }

    async fn wait(&mut self, alarm: &mut Alarm, stop: Pin<&mut impl Future<Output = Ending>>) -> Result<(), Ending> {
        let waiting = self.waiting();
        self.clock.waits(waiting.any());
        alarm.set(self.deadline());
        let local = waiting.local_interest(self.fin_sent);
        let tunnel = waiting.tunnel_interest();
        tokio::select! {
            ready = self.local.ready(local) => {
                if ready.map_err(|error| internal(&error))?.is_error() {
                    self.local_failed = Some(failed("the local socket", self.local.take_error()));
                }
            }
            ready = self.tunnel.channel.ready(tunnel) => {
                if ready.map_err(|error| internal(&error))?.is_error() {
                    self.tunnel_failed = true;
                }
            }
            () = alarm.rings() => return self.overdue(),
            ending = stop => return Err(ending),
        }
        Ok(())
    }

    fn waiting(&self) -> Waiting {
        Waiting {
            for_local: !self.early.is_empty() || !self.tunnel.payload().is_empty(),
            for_tunnel: self.tunnel.channel.unsent() > 0,
        }
    }

    /// One way has ended, or both and the acceptor's DONE is still to come.
    fn is_half_closed(&self) -> bool {
        self.fin_received || self.fin_sent
    }

    fn deadline(&self) -> Option<Instant> {
        let frame = self.tunnel.frame_deadline(self.limits.frame);
        [frame, self.clock.deadline(self.limits, self.is_half_closed())].into_iter().flatten().min()
    }

    /// Looks which limit was passed, if one really was.
    fn overdue(&mut self) -> Result<(), Ending> {
        let now = Instant::now();
        self.tunnel.check_frame(self.limits.frame).map_err(broke_protocol)?;
        match self.clock.overdue(self.limits, self.is_half_closed(), now) {
            None => Ok(()),
            Some(Overdue::Unacknowledged) => self.look_for_stall(now),
            Some(Overdue::Limit(end, detail)) => Err(Ending::new(end, Side::Agent, detail)),
        }
    }

    /// Bytes have waited long: is their receiver's TCP alive?
    fn look_for_stall(&mut self, now: Instant) -> Result<(), Ending> {
        let waiting = self.waiting();
        let local = waiting.for_local.then(|| self.local.as_tcp()).flatten();
        let tunnel = waiting.for_tunnel.then(|| self.tunnel.channel.socket());
        lacks_acknowledgement(local, Side::Local, "the local side", self.limits)?;
        lacks_acknowledgement(tunnel, Side::Peer, "the peer", self.limits)?;
        self.clock.asked(now);
        Ok(())
    }
}
