//! `adit status`: what a running agent says of itself, for a person to read, or as the JSON it is.

mod page;

use std::{error::Error, io::Write, process::ExitCode};

use adit_config::{Admin, TcpListen};
use clap::Args;
use serde_json::Value;

use super::ask::{self, Door};

/// Show what a running agent serves, knows and carries.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    agent: ask::Where,
    /// Print the JSON as it comes.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let doors = match self.agent.socket {
            Some(socket) => vec![Door::Unix(socket)],
            None => doors(&ask::admin_of(&self.agent.config)?),
        };
        if doors.is_empty() {
            let file = self.agent.config.display();
            return Err(
                format!("{file} opens no admin door: add `socket = \"/run/adit/admin.sock\"` to [admin]").into()
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let text = runtime.block_on(first_answer(&doors))?;
        let shown = if self.json { text } else { page::page(&serde_json::from_str::<Value>(&text)?) };
        std::io::stdout().write_all(shown.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The socket first: it is there for this, and its permissions are checked.
fn doors(admin: &Admin) -> Vec<Door> {
    let socket = admin.socket.iter().map(|socket| Door::Unix(socket.path.clone()));
    let tcp = admin.listen.as_ref().and_then(TcpListen::address);
    socket.chain(tcp.map(Door::Tcp)).collect()
}

/// The status page of the first door that answers, or why none does.
async fn first_answer(doors: &[Door]) -> Result<String, String> {
    let mut failures = Vec::new();
    for door in doors {
        match ask::get(door, "/status").await {
            Ok(text) => return Ok(text),
            Err(error) => failures.push(error.to_string()),
        }
    }
    Err(failures.join("; "))
}
