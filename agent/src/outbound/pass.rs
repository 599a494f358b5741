//! The life of a captured connection that no rule knows, where the file says `unmatched = "pass"`: on to where it was meant to
//! go, in plaintext. A file of its own, so that nothing else of the outbound side can come to it.

use std::{io, net::SocketAddr};

use adit_protocol::{Code, MAX_HOPS, RefusalCode};

use super::{Asks, Outbound, refuse};
use crate::{
    addr::Address,
    end::{End, Ending, Side},
    flight::What,
    listen::Accepted,
    relay,
    streams::{Direction, OwnConnection, Purpose, Right},
    telemetry::{metrics, record},
    wire::plain::{Connecting, Plain},
};

impl Outbound {
    /// Passes a connection on to where it was meant to go, in plaintext: no rule knows it, and the file says so.
    pub(super) async fn pass(&self, accepted: Accepted, asks: &Asks) {
        let Some((app, stream, preamble)) = self.begin(accepted, asks, Direction::Passed).await else { return };
        let Some(original) = asks.original else { return };
        if let Err(ending) = self.whose.judge(asks, stream.came.process.as_ref()) {
            return refuse(app, &stream, &ending);
        }
        // Should a rule of somebody else's bring our own connection back to the door, it ends here and not for want of sockets.
        if preamble.hops > MAX_HOPS {
            let looped = End::Refused(RefusalCode::Known(Code::Loop));
            let detail =
                format!("{original} leads back to this agent: {} hops are more than {MAX_HOPS}", preamble.hops);
            return refuse(app, &stream, &Ending::new(looped, Side::Agent, detail));
        }
        self.rights.rest(&stream, Right::Passed { original }, self.law);
        let connected = tokio::select! {
            connected = self.connect_plainly(original, stream.carried(preamble.hops)) => connected,
            ending = stream.stopped() => Err(ending),
        };
        let ending = match connected {
            Ok((far, _own)) => {
                metrics::stream_open_took(Direction::Passed, stream.since.elapsed());
                stream.tries(original.to_string());
                stream.flight.note(What::Connected(Address::Tcp(original)));
                relay::pass(app, far, &stream, &self.limits, stream.stopped()).await.err().unwrap_or(Ending::closed())
            }
            Err(ending) => {
                app.abort();
                ending
            }
        };
        record::ended(&stream, &ending);
    }

    /// The connection is known as ours, and marked as ours, lest it be captured again.
    async fn connect_plainly(
        &self,
        original: SocketAddr,
        carried: Purpose,
    ) -> Result<(Plain, Option<OwnConnection>), Ending> {
        let unreachable = |why: String| Ending::new(End::Unreachable, Side::Peer, why);
        let failed = |error: io::Error| unreachable(format!("connecting to {original}: {error}"));
        let begun = self.streams.own(carried, || {
            let connecting = Connecting::begin(&Address::Tcp(original), &self.options)?;
            let ends = connecting.ends();
            Ok((connecting, ends))
        });
        let (connecting, own) = begun.map_err(failed)?;
        let limit = self.opening.handshake;
        match tokio::time::timeout(limit, connecting.finish(&self.options)).await {
            Ok(Ok(far)) => Ok((far, own)),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(unreachable(format!("connecting to {original}: no answer within {limit:?}"))),
        }
    }
}
