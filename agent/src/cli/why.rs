//! `adit why`: what happened to a stream, as a running agent recorded it.

mod page;

use std::{
    error::Error,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Args;
use hyper::StatusCode;
use serde_json::Value;

use super::ask::{self, Door};

/// Show what happened to a stream, step by step, and why it failed or is slow. No such stream: exit code 1.
#[derive(Debug, Args)]
pub(super) struct Why {
    /// The stream's id, or so much of its beginning that no other is meant. Without it, the last streams, the newest last.
    #[arg(value_name = "STREAM")]
    stream: Option<String>,
    /// Only streams that failed.
    #[arg(long)]
    failed: bool,
    /// Only streams whose name begins so: /svc/redis.
    #[arg(long, value_name = "PREFIX")]
    name: Option<String>,
    /// So many streams at most, the last ones.
    #[arg(short, value_name = "N", default_value_t = 20)]
    n: usize,
    #[command(flatten)]
    agent: ask::Where,
    /// Print the JSON as it comes.
    #[arg(long)]
    json: bool,
}

impl Why {
    pub(super) fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let (door, path) = (Door::Unix(self.agent.find_socket()?), self.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asked = ask::ask(&door, hyper::Method::GET, &path, ask::LIMIT);
        let answer = match runtime.block_on(asked)? {
            (StatusCode::OK, answer) => answer,
            (_, answer) => return Err(answer.trim_end().into()),
        };
        let flights: Value = serde_json::from_str(&answer)?;
        let shown = match &self.stream {
            Some(stream) => {
                page::check_one(stream, &flights)?;
                page::timelines(&flights)
            }
            None => page::list(&flights),
        };
        // A reader that went away takes nothing from the answer.
        _ = io::stdout().write_all(if self.json { answer } else { shown }.as_bytes());
        Ok(ExitCode::SUCCESS)
    }

    fn path(&self) -> String {
        let mut path = format!("/why?n={}", self.n);
        for (key, value) in [("stream", &self.stream), ("name", &self.name)] {
            if let Some(value) = value {
                path += &format!("&{key}={}", ask::encoded(value));
            }
        }
        if self.failed {
            path += "&failed=1";
        }
        path
    }
}
