//! What a reload comes to: as `POST /reload` answers it and `adit reload` prints it, and as the status page remembers it.

use std::{path::PathBuf, time::Instant};

use serde::{Deserialize, Serialize};

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// What is new in the file is in force.
    Ok,
    /// The file says what is in force.
    Unchanged,
    /// The file cannot be in force; what was stays.
    Failed,
}

impl Outcome {
    /// The label in the metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
    }
}

/// The answer to who asked for a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// How it ended.
    pub outcome: Outcome,
    /// The file that was read.
    pub file: PathBuf,
    /// It was in force before somebody asked: the agent had seen the file's change.
    #[serde(default)]
    pub earlier: bool,
    /// What changed, a line each.
    pub changes: Vec<String>,
    /// Streams that ended, for the new rules do not give the right that they lived by.
    pub revoked: usize,
    /// What the file says and is not in force before a restart, a line each.
    pub waits: Vec<String>,
    /// What an operator should know of, a line each.
    pub warnings: Vec<String>,
    /// Why the file cannot be in force, a line each, as `adit check` prints them.
    pub problems: Vec<String>,
}

/// The file of the configuration in force.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Where it is.
    pub file: PathBuf,
    /// Since when what is in force is.
    pub since: Instant,
    /// Why what the file says now is not.
    pub fault: Option<String>,
    /// What it says and only a restart applies.
    pub waits: Vec<String>,
}
