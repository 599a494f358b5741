//! `adit upgrade`: has a running agent hand its place to the program that is in its file now, and says what came of it.

use std::{error::Error, process::ExitCode, time::Duration};

use clap::Args;
use hyper::{Method, StatusCode};

use super::ask::{self, Door};
use crate::admin::Upgraded;

/// How long an answer is waited for: the agent has a limit of its own for it, `upgrade_ready`, and answers then.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Start the program that is in the running agent's file now in that one's place, with its open listeners; no connection is
/// refused or cut. If it cannot start, the running one serves on: exit code 1, and why.
#[derive(Debug, Args)]
pub(super) struct Upgrade {
    #[command(flatten)]
    agent: ask::Where,
}

impl Upgrade {
    pub(super) fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let door = Door::Unix(self.agent.find_socket()?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match runtime.block_on(ask::ask(&door, Method::POST, "/upgrade", LIMIT))? {
            (StatusCode::OK, body) => {
                println!("{}", line(&serde_json::from_str(&body)?));
                Ok(ExitCode::SUCCESS)
            }
            (StatusCode::UNPROCESSABLE_ENTITY, why) => {
                eprintln!("{}", why.trim_end());
                Err("not upgraded: the new agent did not start, and the one before serves on".into())
            }
            (_, why) => Err(format!("not upgraded: {}", why.trim_end()).into()),
        }
    }
}

fn line(upgraded: &Upgraded) -> String {
    let Upgraded { pid, version, predecessor, predecessor_version, streams } = upgraded;
    let rest = match streams {
        0 => "has no stream left, and ends".to_owned(),
        1 => "ends with its last stream, of 1".to_owned(),
        many => format!("ends with its last stream, of {many}"),
    };
    format!("adit {version} serves as process {pid}; process {predecessor}, adit {predecessor_version}, {rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_who_serves_and_what_is_left() {
        let (version, before) = ("0.2.0".to_owned(), "0.1.0".to_owned());
        let upgraded = Upgraded { pid: 7, version, predecessor: 5, predecessor_version: before, streams: 2 };
        assert_eq!(
            line(&upgraded),
            "adit 0.2.0 serves as process 7; process 5, adit 0.1.0, ends with its last stream, of 2"
        );
    }
}
