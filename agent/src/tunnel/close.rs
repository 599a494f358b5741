//! The clean close of a tunnel without a stream (PROTOCOL.md section 5, "To close"), for both sides.

use std::time::Duration;

use crate::wire::{channel::Channel, tunnel::Tunnel};

/// How long the peer's end is waited for.
pub const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// close_notify, shutdown(write), read and discard to the peer's end or the limit, close.
pub async fn close(mut tunnel: Tunnel) {
    tunnel.channel.seal_close();
    shut_and_drain(*tunnel.channel, CLOSE_LIMIT).await;
}

/// Writes what is sealed (an alert, say) as far as the socket takes it, shuts the write side, and reads and discards to
/// the peer's end, so that what was written is not lost to a reset.
pub async fn shut_and_drain(mut channel: Channel, limit: Duration) {
    if channel.flush().is_ok() {
        channel.shut();
        // Past the limit it is closed all the same.
        let _ = tokio::time::timeout(limit, channel.drain()).await;
    }
}
