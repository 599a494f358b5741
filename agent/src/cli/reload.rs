//! `adit reload`: lets a running agent read its configuration again, and says what came of it.

use std::{error::Error, process::ExitCode, time::Duration};

use clap::Args;
use hyper::Method;

use super::ask::{self, Door};
use crate::admin::{Followed, Outcome, Reloaded};

/// How long a reload may take: it reads files, which may be on a slow disk, and waits for one that is under way.
const LIMIT: Duration = Duration::from_secs(60);

/// Let a running agent read its configuration again: all that is new in it takes effect, or nothing does.
#[derive(Debug, Args)]
pub(super) struct Reload {
    #[command(flatten)]
    agent: ask::Where,
}

impl Reload {
    pub(super) fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let from_file = self.agent.socket.is_none();
        let socket = match self.agent.socket {
            Some(socket) => socket,
            None => match ask::admin_of(&self.agent.config) {
                Ok(admin) => admin.socket.map(|socket| socket.path).ok_or_else(|| no_socket(&self.agent.config))?,
                Err(problems) => {
                    eprintln!("{problems}");
                    return Ok(ExitCode::FAILURE);
                }
            },
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let door = Door::Unix(socket);
        let asking = ask::ask(&door, Method::POST, "/reload", LIMIT);
        let (status, body) = runtime.block_on(asking).map_err(|error| match from_file {
            true => format!("{error}; where the file names another socket than before, ask at that one with --socket"),
            false => error.to_string(),
        })?;
        let Ok(reloaded) = serde_json::from_str::<Reloaded>(&body) else {
            return Err(format!("the agent answers {status}: {}", body.trim()).into());
        };
        Ok(tell(&reloaded))
    }
}

fn no_socket(file: &std::path::Path) -> String {
    let file = file.display();
    format!(
        "{file} opens no admin socket: add `socket = \"/run/adit/admin.sock\"` to [admin], or send the agent SIGHUP"
    )
}

/// What changed goes to standard output, what is wrong to standard error.
fn tell(reloaded: &Reloaded) -> ExitCode {
    for problem in &reloaded.problems {
        eprintln!("{problem}");
    }
    for warning in &reloaded.warnings {
        eprintln!("{warning}");
    }
    for waiting in &reloaded.waits {
        eprintln!("warning: only a restart applies {waiting}");
    }
    for change in &reloaded.changes {
        println!("{change}");
    }
    if reloaded.revoked > 0 {
        println!("live streams ended, for the right they lived by is withdrawn: {}", reloaded.revoked);
    }
    let behind = reloaded.predecessors.iter().filter(|followed| !tell_followed(followed)).count();
    // The file may be in force, and the certificates on disk not.
    let so_far = if reloaded.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    match reloaded.outcome {
        _ if behind > 0 => ExitCode::FAILURE,
        Outcome::Ok if reloaded.earlier => {
            eprintln!("{}: already in force, for the agent had seen that it changed", reloaded.file.display());
            so_far
        }
        Outcome::Ok => so_far,
        Outcome::Unchanged => {
            println!("{}: nothing new to apply", reloaded.file.display());
            so_far
        }
        Outcome::Failed => ExitCode::FAILURE,
    }
}

/// Whether a predecessor goes by the file.
fn tell_followed(followed: &Followed) -> bool {
    let Followed { pid, revoked, problems } = followed;
    if *revoked > 0 {
        println!("live streams of predecessor {pid} ended, for the right they lived by is withdrawn: {revoked}");
    }
    for problem in problems {
        eprintln!("predecessor {pid}: {problem}");
    }
    if !problems.is_empty() {
        eprintln!(
            "predecessor {pid} goes by what it read before, also in whom it lets reach what: what is new in the file holds \
             for its streams only once it has ended; `kill {pid}` drains it"
        );
    }
    problems.is_empty()
}
