//! What a reload comes to: as `POST /reload` answers it and `adit reload` prints it, and as the status page remembers it.

use std::{path::PathBuf, time::Instant};

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::predecessors::{Answer, Silence};

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
    /// The agents before this one that still carry streams, and whether they go by it too.
    #[serde(default)]
    pub predecessors: Vec<Followed>,
}

/// What whoever wants the file read waits for.
#[derive(Debug)]
pub enum Wish {
    /// To be told what came of it.
    Told(oneshot::Sender<Reloaded>),
    /// That it was read: who asks next is told of it.
    Done(oneshot::Sender<()>),
}

/// What came of it at an agent before this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// Its process id.
    pub pid: i32,
    /// Streams of it that ended, for the new rules do not give the right that they lived by.
    pub revoked: usize,
    /// Why it goes by what it had, a line each; none where it follows.
    pub problems: Vec<String>,
}

impl Followed {
    /// What came of two readings: what `later` says holds, and the streams that ended are those of both. One that only
    /// `earlier` tells of has ended since.
    pub fn merged(earlier: Vec<Self>, mut later: Vec<Self>) -> Vec<Self> {
        for before in earlier {
            match later.iter_mut().find(|now| now.pid == before.pid) {
                Some(now) => now.revoked += before.revoked,
                None => later.push(Self { problems: Vec::new(), ..before }),
            }
        }
        later
    }

    /// What an answer to `POST /reload` says, which may be of another version.
    pub fn of(pid: i32, answer: Answer) -> Self {
        let (status, said) = match answer {
            Ok(answer) => answer,
            // Its streams are over.
            Err(Silence::Ended) => return Self { pid, revoked: 0, problems: Vec::new() },
            Err(why) => return Self { pid, revoked: 0, problems: vec![why.to_string()] },
        };
        let texts = |said: &Value| {
            let lines = said.as_array().into_iter().flatten().filter_map(Value::as_str);
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let problems = match (status, texts(&said["problems"])) {
            // One that ends reads no file any more, and its streams are being ended.
            (StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE, _) => Vec::new(),
            (_, problems) if problems.is_empty() => vec![format!("it answers {status}")],
            (_, problems) => problems,
        };
        let revoked = said["revoked"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or_default();
        Self { pid, revoked, problems }
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_predecessor_follows_only_if_it_says_so() {
        let of = |status, said| Followed::of(7, Ok((status, said)));
        let follows = of(StatusCode::OK, json!({ "outcome": "ok", "revoked": 2, "problems": [] }));
        assert_eq!(follows, Followed { pid: 7, revoked: 2, problems: Vec::new() });
        let fails = of(StatusCode::UNPROCESSABLE_ENTITY, json!({ "problems": ["one", "two"] }));
        assert_eq!(fails.problems, ["one", "two"]);
        let strange = of(StatusCode::NOT_FOUND, json!("what?"));
        assert_eq!(strange.problems, ["it answers 404 Not Found"]);
        for ending in [Ok((StatusCode::SERVICE_UNAVAILABLE, json!("ending"))), Err(Silence::Ended)] {
            assert!(Followed::of(7, ending).problems.is_empty());
        }
        assert_eq!(Followed::of(7, Err(Silence::Busy)).problems, ["it does not answer"]);
    }
    #[test]
    fn two_readings_are_told_as_one() {
        let one = |pid, revoked, problem: &str| {
            let problems = Some(problem).filter(|problem| !problem.is_empty()).map(str::to_owned);
            Followed { pid, revoked, problems: problems.into_iter().collect() }
        };
        let earlier = vec![one(1, 2, "bad"), one(2, 1, "bad")];
        assert_eq!(Followed::merged(earlier, vec![one(1, 3, "")]), [one(1, 5, ""), one(2, 1, "")]);
    }
}
