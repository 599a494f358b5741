//! The limits in force, for `/status`: what the file says or leaves to its defaults, with `"auto"` settled by the
//! descriptor limit. Times are seconds; a limit that is off is null.

use std::time::Duration;

use adit_config::{Capacity, Limits};
use serde::Serialize;

/// Every limit, under the key that sets it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct InForce {
    streams: usize,
    tunnels: usize,
    tunnels_per_peer: usize,
    handshakes: usize,
    handshakes_per_source: usize,
    eager_bytes: usize,
    warm: usize,
    keepalive_count: u32,
    handshake: f64,
    open_frame: f64,
    connect: f64,
    answer: f64,
    open: f64,
    idle: Option<f64>,
    half_closed: Option<f64>,
    stalled: Option<f64>,
    unread: Option<f64>,
    life: Option<f64>,
    tunnel_idle_dialer: f64,
    tunnel_idle_acceptor: f64,
    tunnel_age: Option<f64>,
    keepalive_idle: f64,
    keepalive_interval: f64,
    user_timeout: Option<f64>,
    drain: Option<f64>,
    upgrade_ready: f64,
    upgrade_drain: Option<f64>,
    retire_spread: f64,
}

impl InForce {
    pub(super) fn of(limits: &Limits, capacity: Capacity) -> Self {
        // Without `..`: a limit that is new in the file cannot be forgotten here.
        let Limits {
            handshake,
            open_frame,
            connect,
            answer,
            open,
            idle,
            stalled,
            unread,
            half_closed,
            life,
            tunnels: _,
            tunnels_per_peer: _,
            handshakes,
            handshakes_per_source,
            eager_bytes,
            streams: _,
            tunnel_idle_dialer,
            tunnel_idle_acceptor,
            tunnel_age,
            warm,
            keepalive_idle,
            keepalive_interval,
            keepalive_count,
            drain,
            upgrade_ready,
            upgrade_drain,
            retire_spread,
            user_timeout,
        } = *limits;
        let Capacity { tunnels, tunnels_per_peer, streams } = capacity;
        let seconds = |limit: Option<Duration>| limit.map(|limit| limit.as_secs_f64());
        Self {
            streams,
            tunnels,
            tunnels_per_peer,
            handshakes,
            handshakes_per_source,
            eager_bytes,
            warm,
            keepalive_count,
            handshake: handshake.as_secs_f64(),
            open_frame: open_frame.as_secs_f64(),
            connect: connect.as_secs_f64(),
            answer: answer.as_secs_f64(),
            open: open.as_secs_f64(),
            idle: seconds(idle),
            half_closed: seconds(half_closed),
            stalled: seconds(stalled),
            unread: seconds(unread),
            life: seconds(life),
            tunnel_idle_dialer: tunnel_idle_dialer.as_secs_f64(),
            tunnel_idle_acceptor: tunnel_idle_acceptor.as_secs_f64(),
            tunnel_age: seconds(tunnel_age),
            keepalive_idle: keepalive_idle.as_secs_f64(),
            keepalive_interval: keepalive_interval.as_secs_f64(),
            user_timeout: seconds(user_timeout),
            drain: seconds(drain),
            upgrade_ready: upgrade_ready.as_secs_f64(),
            upgrade_drain: seconds(upgrade_drain),
            retire_spread: retire_spread.as_secs_f64(),
        }
    }
}
