//! What an upgrade comes to: as `POST /upgrade` answers it and `adit upgrade` prints it.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// The answer to who asked for an upgrade that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgraded {
    /// The new agent's process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The process of the agent that was asked, which drains now.
    pub predecessor: u32,
    /// The version of that one.
    pub predecessor_version: String,
    /// Its live streams.
    pub streams: usize,
}

/// Why there was none; the agent that was asked serves on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotUpgraded {
    /// It cannot be had now.
    Busy(String),
    /// It was tried.
    Failed(String),
}

/// Whoever waits for an upgrade.
pub type UpgradeAsked = oneshot::Sender<Result<Upgraded, NotUpgraded>>;
