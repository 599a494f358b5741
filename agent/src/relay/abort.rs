//! The end of a stream that is not whole: the abort of its tunnel, and the words for each way it comes to that. A file of
//! its own, for streams that never got as far as a relay end by it too.

use std::{io, time::Duration};

use adit_protocol::Violation;

use crate::{
    end::{End, Ending, Side},
    telemetry::metrics,
    wire::{channel::PeerEnd, tunnel::Tunnel},
};

/// How long an abort waits for the peer's end after RESET (PROTOCOL.md section 4, "Abort").
const ABORT_LIMIT: Duration = Duration::from_secs(1);

/// Aborts the stream on the tunnel, and the tunnel with it: RESET if it takes one at once, else a TCP reset.
pub async fn abort(mut tunnel: Tunnel, ending: &Ending) {
    if ending.end == End::Protocol {
        // To a peer that broke a rule nothing more is said, not even what was sealed already (PROTOCOL.md section 2).
        return tunnel.channel.reset();
    }
    let told = tunnel.channel.end().is_none()
        && tunnel.channel.unsent() == 0
        && tunnel.send_reset(ending.end.reset_code()).is_ok();
    if told && tunnel.channel.flush().unwrap_or(false) {
        tunnel.channel.shut();
        // Whether the peer's end came or the limit did: the reset below is right after both.
        let _ = tokio::time::timeout(ABORT_LIMIT, tunnel.channel.drain()).await;
    } else {
        // An alert of our own, when our TLS refused what came, is worth a try; then a TCP reset passes a full window.
        let _ = tunnel.channel.flush();
    }
    tunnel.channel.reset();
}

/// Counts what an ending means for the peer: a broken protocol is a metric of its own.
pub fn count(ending: &Ending, side: &'static str) {
    if ending.end == End::Protocol {
        metrics::violation(side);
    }
}

pub(super) fn local_reset(error: &io::Error) -> Ending {
    Ending::new(End::Reset, Side::Local, format!("the local socket failed: {error}"))
}

pub(super) fn failed(what: &str, error: Option<io::Error>) -> String {
    match error {
        Some(error) => format!("{what} failed: {error}"),
        None => format!("{what} failed"),
    }
}

pub(super) fn internal(error: &io::Error) -> Ending {
    Ending::new(End::Internal, Side::Agent, format!("waiting for the sockets failed: {error}"))
}

/// The peer broke this rule of the protocol.
pub fn broke_protocol(violation: Violation) -> Ending {
    metrics::rule_broken(&violation);
    Ending::new(End::Protocol, Side::Peer, format!("the peer broke the protocol: {violation}"))
}

/// The tunnel ended before DONE.
pub fn truncated(end: Option<&PeerEnd>) -> Ending {
    let detail = match end {
        None => "the tunnel's connection failed in the middle of the stream".to_owned(),
        Some(end) => format!("the tunnel ended in the middle of the stream: {end}"),
    };
    Ending::new(End::Truncated, Side::Peer, detail)
}
