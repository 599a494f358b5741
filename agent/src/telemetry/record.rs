//! The access record: one line when a stream has ended, the same on both hosts, joined by the stream's id.

use std::sync::atomic::Ordering::Relaxed;

use crate::{
    end::{End, Ending},
    streams::Stream,
    telemetry::metrics,
};

/// Writes the record of a stream that ended, and counts it.
pub fn ended(stream: &Stream, ending: &Ending) {
    stream.flight.ended(ending);
    metrics::stream_ended(stream.direction, ending);
    let sent = stream.sent.load(Relaxed);
    let received = stream.received.load(Relaxed);
    let met = stream.met();
    let (to, peer) = (met.to.as_deref().unwrap_or("-"), met.peer.as_deref().unwrap_or("-"));
    let seconds = stream.since.elapsed().as_secs_f64();
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                stream = %stream.id,
                direction = stream.direction.label(),
                name = %stream.name,
                from = %stream.came.from,
                original = stream.came.original.map(tracing::field::display),
                workload = stream.came.workload.as_deref(),
                to,
                peer,
                end = %ending.end,
                side = ending.side.label(),
                sent,
                received,
                seconds,
                "{}",
                if ending.detail.is_empty() { "stream closed" } else { ending.detail.as_str() },
            )
        };
    }
    match ending.end {
        End::Closed => line!(info),
        End::Internal | End::Protocol => line!(error),
        End::Refused(_)
        | End::Unreachable
        | End::Reset
        | End::Truncated
        | End::Idle
        | End::Stalled
        | End::Aged
        | End::Revoked
        | End::Drained => line!(warn),
    }
}
