//! One host of the demo: a folder with a configuration file and certificates, and an agent, which is this very executable
//! as `adit run`. Everything that is known of it comes through its own doors: ready file, log, `/status`, `/metrics`.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Child;

use super::{DemoError, LIMIT, until};
use crate::{
    cli::ask::{self, Door},
    sys::child::dies_with_parent,
};

/// A running agent; dropping it kills it.
#[derive(Debug)]
pub(super) struct Agent {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// The lines of its ready file.
    doors: Vec<Value>,
}

impl Agent {
    /// Starts the agent of the configuration file `DIR/NAME.toml` and waits until it is ready.
    pub(super) async fn start(name: &'static str, dir: &Path, config: &str) -> Result<Self, DemoError> {
        let at = |end: &str| dir.join(format!("{name}{end}"));
        let (file, ready, log) = (at(".toml"), at(".ready"), at(".log"));
        let io = |what: &str| DemoError::io(format!("starting agent {name}: {what}"));
        fs::write(&file, config).map_err(io("its file"))?;
        let executable = std::env::current_exe().map_err(io("this executable"))?;
        let mut command = Command::new(executable);
        command.arg("run").arg("--config").arg(file).arg("--ready-file").arg(&ready);
        // What a user's shell says of logs would change what is read from them here.
        command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&log).map_err(io("its log"))?);
        dies_with_parent(&mut command);
        // A group of its own: Ctrl-C at a terminal is for the demo alone, which then ends both agents.
        let mut command = tokio::process::Command::from(command);
        let child = command.kill_on_drop(true).process_group(0).spawn().map_err(io("its process"))?;
        let mut agent = Self { name, child, log, doors: Vec::new() };
        agent.doors = until(format!("agent {name} to be ready"), || agent.look_ready(&ready)).await??;
        Ok(agent)
    }

    /// Its doors once the ready file is there, or what it said before it ended.
    fn look_ready(&mut self, ready: &Path) -> Option<Result<Vec<Value>, DemoError>> {
        if let Ok(text) = fs::read_to_string(ready) {
            return Some(Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()));
        }
        let ended = self.child.try_wait().ok()??;
        Some(Err(DemoError::Broken(format!("agent {} ended ({ended}): {}", self.name, self.text().trim()))))
    }

    /// Where other agents reach it.
    pub(super) fn inbound(&self) -> Result<SocketAddr, DemoError> {
        self.door(|door| door["listener"] == "inbound")
    }

    /// Where an application reaches `name`, under a certificate of its own if one is told.
    pub(super) fn front(&self, name: &str, certificate: Option<&str>) -> Result<SocketAddr, DemoError> {
        self.door(|door| door["to"] == name && door["certificate"].as_str() == certificate)
    }

    fn door(&self, wanted: impl Fn(&Value) -> bool) -> Result<SocketAddr, DemoError> {
        let door = self.doors.iter().find(|door| wanted(door));
        let address = door.and_then(|door| door["address"].as_str()?.parse().ok());
        address.ok_or_else(|| DemoError::Broken(format!("agent {} did not open a door it was told to", self.name)))
    }

    /// A page of its admin door.
    pub(super) async fn page(&self, path: &str) -> Result<String, DemoError> {
        let door = Door::Tcp(self.door(|door| door["listener"] == "admin")?);
        ask::get(&door, path).await.map_err(|error| DemoError::Broken(error.to_string()))
    }

    /// A live stream to `name`, as the status page tells it.
    pub(super) async fn stream(&self, name: &str) -> Result<Value, DemoError> {
        let status: Value = serde_json::from_str(&self.page("/status").await?).unwrap_or_default();
        let mut streams = status["streams"].as_array().into_iter().flatten();
        let stream = streams.find(|stream| stream["name"] == name).cloned();
        stream.ok_or_else(|| DemoError::Broken(format!("agent {} carries no stream to {name}", self.name)))
    }

    /// A counter of its metrics page, 0 if it was never counted; `series` is its name with its labels.
    pub(super) async fn counter(&self, series: &str) -> Result<u64, DemoError> {
        let page = self.page("/metrics").await?;
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        Ok(value.unwrap_or(0))
    }

    /// The first line of its log, once there is one, that `wanted` picks.
    pub(super) async fn logged(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value, DemoError> {
        until(format!("agent {} to log {what}", self.name), || {
            let text = self.text();
            let mut lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
            lines.find(&wanted)
        })
        .await
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it to drain and waits for its end; true if it ended well.
    pub(super) async fn stop(&mut self) -> Result<bool, DemoError> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // An agent that has ended already says so below.
            let _ = kill_process(pid, Signal::TERM);
        }
        let ended = tokio::time::timeout(LIMIT, self.child.wait()).await;
        Ok(matches!(ended, Ok(Ok(status)) if status.success()))
    }
}
