//! The bytes of a connection that is passed on in plaintext, both ways at once, between two plain sockets: for captured
//! connections that no rule names, where the file says so. As in a relay over a tunnel, half-close passes through and a
//! failure of one side is a reset of the other.

use std::{future::Future, io, pin::Pin, time::Instant};

use tokio::{io::Interest, net::TcpStream};

use super::{
    Limits, TURNS_BEFORE_YIELD,
    abort::{failed, internal},
    clock::{Alarm, Clock, Overdue},
    waiting::lacks_acknowledgement,
};
use crate::{
    end::{End, Ending, Side},
    flight::What,
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
    let lending = stream.flight.lends(&local, &far);
    let passed = pass.run(stream, limits, stop).await;
    drop(lending);
    passed?;
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
    fn turn(&mut self, from: Edge<'_>, to: Edge<'_>, sound: bool, count: &impl Fn(usize)) -> Result<bool, Ending> {
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

    fn write(&mut self, to: Edge<'_>, count: &impl Fn(usize)) -> Result<bool, Ending> {
        let mut moved = false;
        while !self.waiting.is_empty() {
            match to.socket.try_write(self.waiting.data()) {
                Ok(written) => {
                    self.waiting.take(written);
                    count(written);
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
        let had_ended = (self.up.ended, self.down.ended);
        let (local, far) = (Edge::local(self.local), Edge::far(self.far));
        let up = self.up.turn(local, far, self.failed.is_none(), &|count| stream.sends(count));
        let up = self.note(up);
        if self.up.ended && !had_ended.0 {
            stream.flight.note(What::LocalFinished);
        }
        let down = self.down.turn(far, local, self.failed.is_none(), &|count| stream.receives(count));
        if self.down.ended && !had_ended.1 {
            stream.flight.note(What::PeerFinished);
        }
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

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        net::SocketAddr,
        sync::{Arc, atomic::Ordering::Relaxed},
        time::Duration,
    };

    use adit_protocol::Name;
    use socket2::SockRef;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::JoinHandle,
    };

    use super::*;
    use crate::{
        streams::{Came, Direction, Streams, new_id},
        wire::plain::SocketOptions,
    };

    const LIMITS: Limits =
        Limits { idle: None, half_closed: None, stalled: None, unread: None, life: None, frame: LONG };
    const LONG: Duration = Duration::from_secs(60);
    const OPTIONS: SocketOptions = SocketOptions {
        keepalive_idle: LONG,
        keepalive_interval: LONG,
        keepalive_count: 4,
        user_timeout: None,
        mark: None,
    };

    /// An application and a destination with a connection passed on between them, and what will be said of it.
    struct World {
        app: TcpStream,
        service: TcpStream,
        passed: JoinHandle<(Result<(), Ending>, u64, u64)>,
    }

    impl World {
        async fn new(limits: Limits) -> Self {
            let ((app, local), (service, far)) = (pair().await, pair().await);
            let name = Name::parse("/dst/10.0.0.2/1").unwrap();
            let stream = Streams::new().register(Direction::Passed, new_id(), name, Came::default());
            let passed = tokio::spawn(async move {
                let (local, far) = (Plain::tcp(local, &OPTIONS).unwrap(), Plain::tcp(far, &OPTIONS).unwrap());
                let ended = pass(local, far, &stream, &limits, pending()).await;
                (ended, stream.sent.load(Relaxed), stream.received.load(Relaxed))
            });
            Self { app, service, passed }
        }
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }

    #[tokio::test]
    async fn half_close_passes_through_and_the_answer_comes_after_it() {
        let World { mut app, mut service, passed } = World::new(LIMITS).await;
        app.write_all(b"ask").await.unwrap();
        app.shutdown().await.unwrap();
        let mut asked = Vec::new();
        service.read_to_end(&mut asked).await.unwrap();
        service.write_all(b"answer").await.unwrap();
        drop(service);
        let mut answer = Vec::new();
        app.read_to_end(&mut answer).await.unwrap();
        assert_eq!((&asked[..], &answer[..]), (&b"ask"[..], &b"answer"[..]));
        let (ended, sent, received) = passed.await.unwrap();
        assert_eq!((ended.is_ok(), sent, received), (true, 3, 6));
    }

    #[tokio::test]
    async fn much_goes_through_both_ways_at_once_unchanged() {
        const MUCH: usize = 8 << 20;
        let World { app, service, passed } = World::new(LIMITS).await;
        let bytes: Arc<Vec<u8>> = Arc::new((0..MUCH).map(|at| u8::try_from(at % 251).unwrap()).collect());
        let busy = |socket: TcpStream, bytes: Arc<Vec<u8>>| async move {
            let (mut read, mut write) = socket.into_split();
            let expected = Arc::clone(&bytes);
            let writes = async move {
                write.write_all(&bytes).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut all = Vec::new();
            let ((), read) = tokio::join!(writes, read.read_to_end(&mut all));
            read.unwrap();
            assert!(all == *expected);
        };
        tokio::join!(busy(app, Arc::clone(&bytes)), busy(service, bytes));
        assert_eq!(passed.await.unwrap().1, MUCH as u64);
    }

    #[tokio::test]
    async fn a_reset_of_one_side_is_a_reset_of_the_other_and_never_an_end() {
        for app_resets in [true, false] {
            let World { app, service, passed } = World::new(LIMITS).await;
            let (resets, mut hears) = if app_resets { (app, service) } else { (service, app) };
            SockRef::from(&resets).set_linger(Some(Duration::ZERO)).unwrap();
            drop(resets);
            let heard = hears.read(&mut [0]).await;
            assert_eq!(heard.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            let ending = passed.await.unwrap().0.unwrap_err();
            let side = if app_resets { Side::Local } else { Side::Peer };
            assert_eq!((ending.end, ending.side), (End::Reset, side), "{}", ending.detail);
        }
    }

    #[tokio::test]
    async fn a_quiet_connection_ends_by_the_idle_limit() {
        let limits = Limits { idle: Some(Duration::from_millis(10)), ..LIMITS };
        let World { mut app, service, passed } = World::new(limits).await;
        assert_eq!(passed.await.unwrap().0.unwrap_err().end, End::Idle);
        assert!(app.read(&mut [0]).await.is_err());
        drop(service);
    }
}
