//! `adit delegate`: what routing would do with a name now, as a running agent says, by its own table or by an edited one.

mod page;

use std::{
    error::Error,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use adit_protocol::Name;
use clap::Args;
use hyper::{Method, StatusCode, body::Bytes};
use serde::Deserialize;

use super::ask::{self, Door};
use crate::router::delegate::{Fate, Report};

/// The longest table that is sent; the agent takes no longer one.
const LONGEST: u64 = 1 << 20;

/// How long the agent may take: it waits 2 s for first answers.
const LIMIT: Duration = Duration::from_secs(10);

/// Show what a running agent would do with a name: every rewriting step, every answer, where the next stream would go.
#[derive(Debug, Args)]
pub(super) struct Delegate {
    /// The logical name, such as /svc/redis.
    #[arg(value_name = "NAME", value_parser = |text: &str| Name::parse(text))]
    name: Name,
    #[command(flatten)]
    agent: ask::Where,
    /// By the inbound side's table, which is for services whose `to` is a name.
    #[arg(long)]
    inbound: bool,
    /// Try the table in this file, or on standard input (-), instead of the agent's; nothing is changed.
    #[arg(long, value_name = "FILE")]
    dtab: Option<PathBuf>,
    /// Print the JSON as it comes.
    #[arg(long)]
    json: bool,
}

/// What is wrong with a table that was to be tried.
#[derive(Deserialize)]
struct Mistakes {
    mistakes: Vec<String>,
}

impl Delegate {
    pub(super) fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let socket = self.agent.find_socket()?;
        let table = self.dtab.as_deref().map(read).transpose()?;
        let side = if self.inbound { "inbound" } else { "outbound" };
        let path = format!("/delegate?side={side}&name={}", ask::encoded(self.name.as_str()));
        let method = if table.is_some() { Method::POST } else { Method::GET };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let door = Door::Unix(socket);
        let asking = ask::send(&door, method, &path, table.unwrap_or_default(), LIMIT);
        match runtime.block_on(asking)? {
            (StatusCode::OK, answer) => {
                let report: Report = serde_json::from_str(&answer)?;
                let shown = if self.json { answer } else { page::page(&report) };
                // A reader that went away takes nothing from the answer: it is in the exit code too.
                _ = io::stdout().write_all(shown.as_bytes());
                Ok(if matches!(report.outcome, Fate::To { .. }) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            (StatusCode::UNPROCESSABLE_ENTITY, answer) => {
                let Mistakes { mistakes } = serde_json::from_str(&answer)?;
                let file = self.dtab.unwrap_or_default();
                mistakes.iter().for_each(|mistake| eprintln!("{}:{mistake}", shown_name(&file)));
                Ok(ExitCode::FAILURE)
            }
            (_, answer) => Err(answer.trim_end().into()),
        }
    }
}

/// The table to try.
fn read(file: &Path) -> Result<Bytes, String> {
    let mut text = Vec::new();
    let input: Box<dyn Read> = match file.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(File::open(file).map_err(|error| format!("{}: {error}", file.display()))?),
    };
    let read = input.take(LONGEST + 1).read_to_end(&mut text);
    read.map_err(|error| format!("{}: {error}", shown_name(file)))?;
    if text.len() as u64 > LONGEST {
        return Err(format!("{}: longer than 1 MiB, which no table is", shown_name(file)));
    }
    Ok(text.into())
}

fn shown_name(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}
