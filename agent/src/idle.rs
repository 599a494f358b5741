//! An accepted tunnel between two streams: it waits for the next OPEN, and is retired when it has idled too long, is too
//! old, or the agent's certificate, bundle or life changes (PROTOCOL.md section 5). It is never just closed.

use std::{sync::Arc, time::Duration};

use adit_protocol::{Kind, Preamble, Refusal};
use tokio::{io::Interest, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    end::Ending,
    identity::Store,
    relay::{self, truncated},
    streams::random_below,
    wire::{
        channel::Filled,
        tunnel::{Arrival, Role, Tunnel},
    },
};

/// How long a retired tunnel is still read while it is idle (PROTOCOL.md section 5).
const RETIRED_LIMIT: Duration = Duration::from_secs(10);

/// The limits on an idle tunnel.
#[derive(Clone, Copy, Debug)]
pub struct IdleLimits {
    /// Idle for longer it is retired.
    pub idle: Duration,
    /// Older than this it is retired; off by default.
    pub age: Option<Duration>,
    /// A frame that was begun must be whole.
    pub frame: Duration,
    /// Over how long tunnels are retired when our own certificate was renewed.
    pub spread: Duration,
}

/// What came of waiting.
#[derive(Debug)]
pub enum IdleEnd {
    /// The next stream, or an ill-formed ask for one.
    Open(Result<Preamble, Refusal>),
    /// The dialer left, or the tunnel was retired and nothing came: to be closed.
    Over,
    /// The peer broke this rule.
    Broken(String),
}

/// Waits for the next OPEN on an idle tunnel.
pub async fn next_open(
    tunnel: &mut Tunnel,
    limits: &IdleLimits,
    born: Instant,
    credential_generation: u64,
    identity: &Arc<Store>,
    draining: &CancellationToken,
) -> IdleEnd {
    if is_retired(tunnel) {
        // RETIRE went before the stream that has just ended: the dialer will open no further one.
        return IdleEnd::Over;
    }
    let mut changed = identity.changed();
    let mut retire_at = Instant::now() + limits.idle;
    if let Some(age) = limits.age {
        retire_at = retire_at.min(born + age);
    }
    if identity.snapshot().credential_generation != credential_generation {
        retire_at = retire_at.min(Instant::now() + random_below(limits.spread));
    }
    loop {
        match read(tunnel) {
            Err(end) => return end,
            Ok(Some(opening)) => return IdleEnd::Open(opening),
            Ok(None) => {}
        }
        let retired = is_retired(tunnel);
        tokio::select! {
            ready = wait(tunnel, Some(retire_at)) => match ready {
                Ok(()) => {}
                Err(()) => return IdleEnd::Over,
            },
            Ok(()) = changed.changed(), if !retired => {
                // A renewed certificate of our own retires tunnels spread; a new bundle or list at once.
                let snapshot = identity.snapshot();
                let renewed = snapshot.credential_generation != credential_generation;
                let wait = if renewed { random_below(limits.spread) } else { Duration::ZERO };
                retire_at = retire_at.min(Instant::now() + wait);
            },
            () = draining.cancelled(), if !retired => retire_at = Instant::now(),
        }
        if tunnel.frame_deadline(limits.frame).is_some_and(|deadline| deadline <= std::time::Instant::now()) {
            return IdleEnd::Broken(format!("a frame was begun and not finished within {:?}", limits.frame));
        }
        if Instant::now() >= retire_at {
            if retired || tunnel.send(Kind::Retire).is_err() {
                return IdleEnd::Over;
            }
            retire_at = Instant::now() + RETIRED_LIMIT;
        }
    }
}

/// Reads what has arrived, until an OPEN or nothing is left.
fn read(tunnel: &mut Tunnel) -> Result<Option<Result<Preamble, Refusal>>, IdleEnd> {
    loop {
        match tunnel.arrival().map_err(|violation| IdleEnd::Broken(violation.to_string()))? {
            Some(Arrival::Open(opening)) => return Ok(Some(opening)),
            Some(Arrival::CloseQuietly) => return Err(IdleEnd::Over),
            Some(_) => {}
            None => match tunnel.fill() {
                Filled::Some => {}
                Filled::NotNow => return Ok(None),
                Filled::Ended => return Err(IdleEnd::Over),
            },
        }
    }
}

/// Waits until the tunnel can be read, flushing what is sealed, or until `until` or the begun frame's deadline.
///
/// # Errors
/// When the tunnel's socket can no longer be written.
pub async fn wait(tunnel: &mut Tunnel, until: Option<Instant>) -> Result<(), ()> {
    let flushed = tunnel.channel.flush().map_err(drop)?;
    let interest = if flushed { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
    // The frame's own clock is looked at by the caller; a second is how exact it needs to be.
    let tick = tunnel.frame_deadline(Duration::from_secs(1)).map(|_| Instant::now() + Duration::from_secs(1));
    let until = [until, tick].into_iter().flatten().min();
    let ready = tunnel.channel.ready(interest);
    match until {
        None => ready.await.map(drop).map_err(drop),
        Some(until) => match tokio::time::timeout_at(until, ready).await {
            Ok(ready) => ready.map(drop).map_err(drop),
            Err(_) => Ok(()),
        },
    }
}

/// The next thing that arrives, whatever time it takes; flushes what is sealed meanwhile.
///
/// # Errors
/// The rule the peer broke, or the tunnel's end.
pub async fn next_arrival(tunnel: &mut Tunnel) -> Result<Arrival, Ending> {
    loop {
        match tunnel.arrival().map_err(relay::broke_protocol)? {
            Some(arrival) => return Ok(arrival),
            None => match tunnel.fill() {
                Filled::Some => {}
                Filled::Ended => return Err(truncated(tunnel.channel.end())),
                Filled::NotNow => wait(tunnel, None).await.map_err(|()| truncated(tunnel.channel.end()))?,
            },
        }
    }
}

fn is_retired(tunnel: &Tunnel) -> bool {
    match tunnel.role() {
        Role::Acceptor(acceptor) => acceptor.retired(),
        Role::Dialer(dialer) => dialer.retired(),
    }
}
