//! The moment a right is withdrawn under a live stream: its peer's certificate is revoked, or the bundle that vouched
//! for it is gone.

use std::sync::Arc;

use crate::{
    end::{End, Ending, Side},
    identity::{Peer, Role, Store},
};

/// Waits until `peer` is no longer good: looked at once now, and again whenever the certificates, bundle or lists change.
/// A certificate that merely expires ends no stream: renewal, of whichever certificate, would cut every long one.
pub async fn withdrawn(identity: &Arc<Store>, peer: &Peer, role: Role) -> Ending {
    // Subscribed before the first look, so that a change between the judge's look and this one is not missed.
    let mut changed = identity.changed();
    loop {
        if let Err(revoked) = identity.snapshot().stands(peer, role) {
            return Ending::new(End::Revoked, Side::Agent, revoked.reason);
        }
        if changed.changed().await.is_err() {
            // The store is gone with the agent; nothing is withdrawn any more.
            return std::future::pending().await;
        }
    }
}
