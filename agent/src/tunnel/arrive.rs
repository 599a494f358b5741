//! Waiting for what arrives on a tunnel that no relay reads: between streams, before an answer, after a refusal.

use std::time::Duration;

use tokio::{io::Interest, time::Instant};

use crate::{
    end::Ending,
    relay::{self, truncated},
    wire::{
        channel::Filled,
        tunnel::{Arrival, Tunnel},
    },
};

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
