//! The moment a right is withdrawn under a live stream: its peer's certificate is revoked, or the bundle that vouched
//! for it is gone.

use std::{sync::Arc, time::SystemTime};

use crate::{
    end::{End, Ending, Side},
    identity::{Peer, Role, Store},
};

/// Waits until `peer` is no longer good under the bundle and lists of the moment. Only what changed is looked at: a
/// certificate that expires ends no live stream, it only lets no further one begin.
pub async fn withdrawn(identity: &Arc<Store>, peer: &Peer, role: Role) -> Ending {
    let mut changed = identity.changed();
    loop {
        if changed.changed().await.is_err() {
            // The store is gone with the agent; nothing is withdrawn any more.
            return std::future::pending().await;
        }
        if let Err(revoked) = identity.snapshot().recheck(peer, role, SystemTime::now()) {
            return Ending::new(End::Revoked, Side::Agent, revoked.reason);
        }
    }
}
