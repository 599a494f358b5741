//! An accepted tunnel between two streams: it waits for the next OPEN, and is retired when it has idled too long, is too
//! old, or the agent's certificate, bundle or life changes (PROTOCOL.md section 5). It is never just closed.

use std::{sync::Arc, time::Duration};

use adit_protocol::{Kind, Preamble, Refusal, Violation};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    identity::{Snapshot, Store},
    streams::random_below,
    telemetry::metrics,
    tunnel::arrive::wait,
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

impl IdleLimits {
    /// The limit that a tunnel of this age has reached, if it is one that retires it.
    fn reached(&self, born: Instant, idle_since: Instant) -> Option<&'static str> {
        if self.age.is_some_and(|age| born.elapsed() >= age) {
            return Some("tunnel_age");
        }
        (idle_since.elapsed() >= self.idle).then_some("tunnel_idle_acceptor")
    }
}

/// What was in force when a tunnel was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Generations {
    /// Of our own certificates.
    pub(super) credential: u64,
    /// Of the bundle and the lists.
    pub(super) trust: u64,
}

impl Generations {
    /// When the tunnel is retired for what has changed since, if it ever is: for a new bundle or list at once, for a renewed
    /// certificate of our own within a while.
    fn retire_at(self, now: &Snapshot, limits: &IdleLimits) -> Instant {
        if now.trust_generation != self.trust {
            return Instant::now();
        }
        let renewed = now.credential_generation != self.credential;
        Instant::now() + if renewed { random_below(limits.spread) } else { limits.idle }
    }
}

/// What came of waiting.
#[derive(Debug)]
pub(super) enum IdleEnd {
    /// The next stream, or an ill-formed ask for one.
    Open(Result<Preamble, Refusal>),
    /// The dialer left, or the tunnel was retired and nothing came: to be closed.
    Over,
    /// A RESET that crossed the end of its stream: to be closed at once, with no word more.
    Reset,
    /// The peer broke this rule.
    Broken(Violation),
}

/// Waits for the next OPEN on an idle tunnel.
pub(super) async fn next_open(
    tunnel: &mut Tunnel,
    limits: &IdleLimits,
    born: Instant,
    made_under: Generations,
    identity: &Arc<Store>,
    leaving: &CancellationToken,
) -> IdleEnd {
    if is_retired(tunnel) {
        // RETIRE went before the stream that has just ended: the dialer will open no further one.
        return IdleEnd::Over;
    }
    let mut changed = identity.changed();
    let idle_since = Instant::now();
    let mut retire_at = idle_since + limits.idle;
    if let Some(age) = limits.age {
        retire_at = retire_at.min(born + age);
    }
    retire_at = retire_at.min(made_under.retire_at(&identity.snapshot(), limits));
    loop {
        match read(tunnel) {
            Err(Gone::Over) => return IdleEnd::Over,
            Err(Gone::Reset) => return IdleEnd::Reset,
            Err(Gone::Broken(rule)) => return IdleEnd::Broken(rule),
            Ok(Some(opening)) => return IdleEnd::Open(opening),
            Ok(None) => {}
        }
        if let Err(late) = tunnel.check_frame(limits.frame) {
            return IdleEnd::Broken(late);
        }
        let retired = is_retired(tunnel);
        tokio::select! {
            ready = wait(tunnel, Some(retire_at), limits.frame) => match ready {
                Ok(()) => {}
                Err(()) => return IdleEnd::Over,
            },
            Ok(()) = changed.changed(), if !retired => {
                retire_at = retire_at.min(made_under.retire_at(&identity.snapshot(), limits));
            },
            () = leaving.cancelled(), if !retired => retire_at = Instant::now(),
        }
        if Instant::now() >= retire_at {
            if retired || tunnel.send(Kind::Retire).is_err() {
                return IdleEnd::Over;
            }
            if let Some(limit) = limits.reached(born, idle_since) {
                metrics::limit_reached(limit);
            }
            retire_at = Instant::now() + RETIRED_LIMIT;
        }
    }
}

/// Reads what has arrived, until an OPEN or nothing is left.
fn read(tunnel: &mut Tunnel) -> Result<Option<Result<Preamble, Refusal>>, Gone> {
    loop {
        match tunnel.arrival().map_err(Gone::Broken)? {
            Some(Arrival::Open(opening)) => return Ok(Some(opening)),
            Some(Arrival::CloseQuietly) => return Err(Gone::Reset),
            Some(_) => {}
            None => match tunnel.fill() {
                Filled::Some => {}
                Filled::NotNow => return Ok(None),
                Filled::Ended => return Err(Gone::Over),
            },
        }
    }
}

/// Why no OPEN will come.
enum Gone {
    Over,
    Reset,
    Broken(Violation),
}

fn is_retired(tunnel: &Tunnel) -> bool {
    match tunnel.role() {
        Role::Acceptor(acceptor) => acceptor.retired(),
        Role::Dialer(dialer) => dialer.retired(),
    }
}
