//! `adit top`: the streams, names, endpoints and identities of a running agent as they change. It asks the status page again
//! and again, and works out the rates itself; the agent does nothing for it that it would not do for `adit status`.

mod model;
mod screen;
mod view;

use std::{
    error::Error,
    io::{self, IsTerminal, Write as _},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::ask::{self, Line};
use model::{Model, Tab};

/// The shortest interval: more often, the agent would do little but answer.
const SHORTEST: Duration = Duration::from_millis(100);

/// The size of a frame that is printed where nothing says how wide a line may be.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// Show streams, names, endpoints and identities of a running agent as they change. Keys: 1 to 4 or Tab choose the table, < and
/// > the column to sort by, r turns the order round, / filters, space pauses, q quits.
#[derive(Debug, Args)]
pub(super) struct Top {
    #[command(flatten)]
    agent: ask::Where,
    /// Print one frame as text, and end: for what is no terminal.
    #[arg(long)]
    once: bool,
    /// The table to begin with.
    #[arg(long, value_enum, default_value_t = Tab::Streams)]
    table: Tab,
    /// Only rows that hold this text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
}

/// Where the agent is asked.
pub(super) struct Source {
    runtime: Runtime,
    line: Line,
}

impl Source {
    /// The status page of now.
    pub(super) fn look(&mut self) -> Result<Value, String> {
        let asked = self.line.get("/status?streams=1000");
        let text = self.runtime.block_on(asked).map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| format!("the agent's answer is no status page: {error}"))
    }
}

impl Top {
    pub(super) fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let is_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
        if !self.once && !is_terminal {
            return Err("adit top needs a terminal to draw on; `adit top --once` prints one frame as text".into());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut source = Source { runtime, line: Line::to(self.agent.find_socket()?) };
        let mut model = Model::new(self.table, self.filter);
        model.take(&source.look()?, Instant::now());
        if self.once {
            // Rates are between two looks.
            thread::sleep(self.interval);
            model.take(&source.look()?, Instant::now());
            let (width, height) = USUAL_SIZE;
            _ = io::stdout().write_all(view::text(&model, width, height)?.as_bytes());
            return Ok(ExitCode::SUCCESS);
        }
        screen::run(&mut source, model, self.interval)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let span = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    span.filter(|span| *span >= SHORTEST).ok_or_else(|| "a number of seconds, 0.1 at least".to_owned())
}
