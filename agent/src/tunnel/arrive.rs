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

/// The next thing that arrives, whatever time it takes, but for a frame that was begun, which has `frame`; flushes what
/// is sealed meanwhile.
///
/// # Errors
/// The rule the peer broke, or the tunnel's end.
pub async fn next_arrival(tunnel: &mut Tunnel, frame: Duration) -> Result<Arrival, Ending> {
    loop {
        match tunnel.arrival().map_err(relay::broke_protocol)? {
            Some(arrival) => return Ok(arrival),
            None => match tunnel.fill() {
                Filled::Some => {}
                Filled::Ended => return Err(truncated(tunnel.channel.end())),
                Filled::NotNow => {
                    tunnel.check_frame(frame).map_err(relay::broke_protocol)?;
                    wait(tunnel, None, frame).await.map_err(|()| truncated(tunnel.channel.end()))?;
                }
            },
        }
    }
}

/// Waits until the tunnel can be read, flushing what is sealed, or until `until` or the moment that a begun frame must be
/// whole; which of them it was is the caller's to look at.
///
/// # Errors
/// When the tunnel's socket can no longer be written.
pub async fn wait(tunnel: &mut Tunnel, until: Option<Instant>, frame: Duration) -> Result<(), ()> {
    let flushed = tunnel.channel.flush().map_err(drop)?;
    let interest = if flushed { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
    let due = tunnel.frame_deadline(frame).map(Instant::from_std);
    let until = [until, due].into_iter().flatten().min();
    let ready = tunnel.channel.ready(interest);
    match until {
        None => ready.await.map(drop).map_err(drop),
        Some(until) => match tokio::time::timeout_at(until, ready).await {
            Ok(ready) => ready.map(drop).map_err(drop),
            Err(_) => Ok(()),
        },
    }
}
