//! One attempt to open a stream on a tunnel: OPEN leaves with what the application has already sent, and the answer is
//! waited for while more of it may follow (PROTOCOL.md section 4).
//!
//! What was sent before the answer is kept, so that another attempt can send it again.

use std::{io, sync::Arc, time::Duration};

use adit_protocol::{Answer, Kind, MAX_EAGER, Preamble, Violation};
use tokio::{
    io::Interest,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{dial::Dialed, retry::Failure};
use crate::{
    telemetry::metrics,
    wire::{
        channel::{Filled, PeerEnd},
        plain::Plain,
        tunnel::{Arrival, Role, Tunnel, Unsent},
    },
};

/// What the application said before the stream was open, kept for another attempt.
#[derive(Debug)]
pub struct Eager {
    bytes: Vec<u8>,
    fin: bool,
    /// The share of all streams' copies; without one nothing is read before the answer.
    permit: Option<OwnedSemaphorePermit>,
}

impl Eager {
    /// An empty copy, with room if `copies` (in bytes) has any left.
    pub fn new(copies: &Arc<Semaphore>) -> Self {
        let permit =
            u32::try_from(MAX_EAGER).ok().and_then(|room| Arc::clone(copies).try_acquire_many_owned(room).ok());
        if permit.is_none() {
            metrics::limit_reached("eager_bytes");
        }
        Self { bytes: Vec::new(), fin: false, permit }
    }

    /// A copy that stays empty and is already ended: a probe's.
    pub fn ended() -> Self {
        Self { bytes: Vec::new(), fin: true, permit: None }
    }

    /// How many bytes were read.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether the application's end was read.
    pub fn fin(&self) -> bool {
        self.fin
    }

    fn room(&self) -> usize {
        if self.permit.is_none() || self.fin { 0 } else { MAX_EAGER - self.bytes.len() }
    }

    /// Reads once what the application has sent. Returns how many bytes came; 0 with `fin` set at its end.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there or may be read; else the application's socket failed.
    pub fn read(&mut self, app: &Plain) -> io::Result<usize> {
        let room = self.room();
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut scrap = [0; 16 * 1024];
        let most = room.min(scrap.len());
        let count = app.try_read(&mut scrap[..most])?;
        self.bytes.extend_from_slice(&scrap[..count]);
        self.fin = count == 0;
        Ok(count)
    }
}

/// How long an acceptor may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From OPEN to its answer.
    pub answer: Duration,
    /// For a frame that was begun.
    pub frame: Duration,
}

/// Asks for the stream `preamble` on `dialed`, and waits for the answer. `app` is `None` for a probe.
///
/// # Errors
/// Why there is no stream. After `Refused` the tunnel may be used again, after anything else it may not.
pub async fn attempt(
    dialed: &mut Dialed,
    preamble: &Preamble,
    app: Option<&Plain>,
    eager: &mut Eager,
    patience: Patience,
) -> Result<Answer, Failure> {
    let tunnel = &mut dialed.tunnel;
    let spoken = dialed.recycled || !tunnel.channel.opened().is_empty();
    let mut attempt = Attempt { handed: !eager.bytes.is_empty() || eager.fin, spoken };
    tunnel.open(preamble, &eager.bytes, eager.fin).map_err(|unsent| attempt.unsent(tunnel, &unsent))?;
    let deadline = Instant::now() + patience.answer;
    loop {
        let flushed = tunnel.channel.flush();
        if let Some(answer) = attempt.read_answer(tunnel)? {
            return Ok(answer);
        }
        // What has arrived was read first: it may say why the write failed.
        let flushed = flushed.map_err(|error| attempt.lost(PeerEnd::Bare(Some(error.kind()))))?;
        if flushed && attempt.pass_on(tunnel, app, eager)? {
            continue;
        }
        tunnel.check_frame(patience.frame).map_err(broken)?;
        attempt.wait(tunnel, app, eager, deadline, patience).await?;
    }
}

struct Attempt {
    /// DATA or FIN was handed to TLS.
    handed: bool,
    /// An application byte was read on the tunnel.
    spoken: bool,
}

impl Attempt {
    fn read_answer(&mut self, tunnel: &mut Tunnel) -> Result<Option<Answer>, Failure> {
        loop {
            match tunnel.arrival().map_err(broken)? {
                Some(Arrival::Accept(answer)) => return Ok(Some(answer)),
                Some(Arrival::Refuse(refusal)) => {
                    finish_refused(tunnel);
                    return Err(Failure::Refused(refusal));
                }
                // RETIRE lets this stream go on; the state machine lets nothing else through before the answer.
                Some(_) => {}
                None => match tunnel.fill() {
                    Filled::Some => self.spoken |= !tunnel.channel.opened().is_empty(),
                    Filled::NotNow => return Ok(None),
                    Filled::Ended => {
                        return Err(self.lost(tunnel.channel.end().cloned().unwrap_or(PeerEnd::Bare(None))));
                    }
                },
            }
        }
    }

    /// Passes on what more the application has sent; true when there was something.
    fn pass_on(&mut self, tunnel: &mut Tunnel, app: Option<&Plain>, eager: &mut Eager) -> Result<bool, Failure> {
        let Some(app) = app else { return Ok(false) };
        let before = eager.len();
        match eager.read(app) {
            Ok(0) => {
                self.handed = true;
                tunnel.send(Kind::Fin).map_err(|unsent| self.unsent(tunnel, &unsent))?;
                Ok(true)
            }
            Ok(_) => {
                self.handed = true;
                tunnel.send_eager(&eager.bytes[before..]).map_err(|unsent| self.unsent(tunnel, &unsent))?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(Failure::Application(error.to_string())),
        }
    }

    async fn wait(
        &self,
        tunnel: &Tunnel,
        app: Option<&Plain>,
        eager: &Eager,
        deadline: Instant,
        patience: Patience,
    ) -> Result<(), Failure> {
        let due = tunnel.frame_deadline(patience.frame).map_or(deadline, |due| deadline.min(Instant::from_std(due)));
        let mut on_tunnel = Interest::READABLE;
        if tunnel.channel.unsent() > 0 {
            on_tunnel = on_tunnel.add(Interest::WRITABLE);
        }
        tokio::select! {
            ready = tunnel.channel.ready(on_tunnel) => {
                ready.map(|_| ()).map_err(|error| self.lost(PeerEnd::Bare(Some(error.kind()))))
            }
            gone = application(app, eager.room() > 0 && tunnel.channel.unsent() == 0) => gone,
            () = tokio::time::sleep_until(due) => {
                // Before the answer's time is over it is a begun frame's, which is looked at where frames are.
                let silent = Failure::Silent { limit: patience.answer, handed: self.handed };
                if due < deadline { Ok(()) } else { Err(silent) }
            }
        }
    }

    fn lost(&self, end: PeerEnd) -> Failure {
        Failure::Lost { end, handed: self.handed, spoken: self.spoken }
    }

    fn unsent(&self, tunnel: &Tunnel, unsent: &Unsent) -> Failure {
        match unsent {
            Unsent::Misuse(violation) => Failure::Protocol(format!("this agent was about to: {violation}")),
            Unsent::Tls => self.lost(tunnel.channel.end().cloned().unwrap_or(PeerEnd::Bare(None))),
        }
    }
}

fn broken(rule: Violation) -> Failure {
    metrics::rule_broken(&rule);
    Failure::Protocol(rule.to_string())
}

/// Waits until the application has more to read, where that is wanted, or has failed: also while it is not read.
async fn application(app: Option<&Plain>, read: bool) -> Result<(), Failure> {
    let Some(app) = app else { return std::future::pending().await };
    let interest = if read { Interest::READABLE | Interest::ERROR } else { Interest::ERROR };
    match app.ready(interest).await {
        Ok(ready) if ready.is_error() => {
            let why = app.take_error().map_or_else(|| "its socket failed".to_owned(), |error| error.to_string());
            Err(Failure::Application(why))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Application(error.to_string())),
    }
}

/// Our FIN, which after REFUSE is what makes the tunnel idle again.
fn finish_refused(tunnel: &mut Tunnel) {
    let refused = matches!(tunnel.role(), Role::Dialer(dialer) if !dialer.is_reusable() && !dialer.fin_sent());
    if refused {
        // If it fails, so does the tunnel, and the pool will not take it.
        let _ = tunnel.send(Kind::Fin);
    }
    let _ = tunnel.channel.flush();
}
