//! A real Prometheus that scrapes agents twice a second and judges them by the repository's alerts, and promtool.
//! A rule's patience (`for:`) is taken out of the copy it judges by: a test waits for no minutes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    address::Address,
    agent::Agent,
    end::End,
    process::{Finished, Program, on_a_free_port, run},
    wait::{LIMIT, until},
};

/// Short against every window of the rules, long against a scrape.
const INTERVAL: &str = "500ms";

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    _program: Program,
    address: Address,
    _dir: TempDir,
}

/// An alert that fires.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// The agent it is about, as it was named at the start.
    pub instance: String,
    /// What it says.
    pub summary: String,
}

/// A folder of the repository's `scripts`.
#[must_use]
pub fn scripts(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(folder)
}

/// The rules as they are shipped.
#[must_use]
pub fn rules() -> String {
    let file = scripts("prometheus").join("adit.rules.yml");
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()))
}

/// `promtool WORDS`, in this folder.
#[must_use]
pub fn promtool(dir: &Path, words: &[&str]) -> Finished {
    run(Command::new("promtool").args(words).current_dir(dir), LIMIT)
}

impl Prometheus {
    /// Starts it over these agents, each with the name that alerts shall call it, and waits until it has looked at each
    /// twice: an increase is seen from the second look on.
    #[must_use]
    pub fn watch(agents: &[(&str, &Agent)]) -> Self {
        let started = on_a_free_port(|port| Self::start_at(agents, port));
        until("Prometheus to have looked twice", LIMIT, || {
            let looks = started.query("min(count_over_time(up{job=\"adit\"}[1m]))");
            looks.is_some_and(|count| count >= 2.0).then_some(())
        });
        started
    }

    fn start_at(agents: &[(&str, &Agent)], port: u16) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("adit.rules.yml"), impatient(&rules()))?;
        fs::write(dir.path().join("prometheus.yml"), configuration(agents))?;
        let address = Address::parse(&format!("127.0.0.1:{port}"));
        let mut command = Command::new("prometheus");
        command.arg(format!("--web.listen-address={address}"));
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]).current_dir(dir.path());
        let mut program = Program::start("prometheus", &mut command, &dir.path().join("log"));
        let up = until("Prometheus to listen or to end", LIMIT, || {
            let ended = program.has_ended().map(|_| false);
            ended.or(End::try_connect(&address).ok().map(|_| true))
        });
        if !up {
            return Err(io::Error::other(program.log()));
        }
        Ok(Self { _program: program, address, _dir: dir })
    }

    /// The alerts that fire now.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        let answer = self.ask("/api/v1/alerts").unwrap_or_default();
        let all = answer["data"]["alerts"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let alert = |alert: &Value| Alert {
            name: text(&alert["labels"]["alertname"]),
            instance: text(&alert["labels"]["instance"]),
            summary: text(&alert["annotations"]["summary"]),
        };
        let mut firing: Vec<_> = all.filter(|alert| alert["state"] == "firing").map(alert).collect();
        firing.sort();
        firing
    }

    /// Waits until this alert fires for this agent; what it says.
    pub fn until_fires(&self, name: &str, instance: &str) -> Alert {
        let what = format!("{name} of {instance} to fire");
        until(&what, LIMIT, || self.alerts().into_iter().find(|alert| alert.name == name && alert.instance == instance))
    }

    /// The one value of an expression, if it has any.
    #[must_use]
    pub fn query(&self, expression: &str) -> Option<f64> {
        let answer = self.ask(&format!("/api/v1/query?query={}", encoded(expression)))?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    /// None while it is not ready.
    fn ask(&self, path: &str) -> Option<Value> {
        let mut end = End::try_connect(&self.address).ok()?;
        // HTTP/1.0: an answer in one piece, and then the end.
        end.try_send(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        let answer = String::from_utf8(end.receive_rest()).expect("Prometheus answers in text");
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }
}

/// Rules whose patience is nothing.
fn impatient(rules: &str) -> String {
    let line = |line: &str| match line.trim_start().starts_with("for:") {
        true => "        for: 0s\n".to_owned(),
        false => format!("{line}\n"),
    };
    rules.lines().map(line).collect()
}

fn configuration(agents: &[(&str, &Agent)]) -> String {
    let mut text = format!(
        "global:\n  scrape_interval: {INTERVAL}\n  scrape_timeout: {INTERVAL}\n  evaluation_interval: {INTERVAL}\n\
         rule_files: [adit.rules.yml]\nscrape_configs:\n  - job_name: adit\n    static_configs:\n"
    );
    for (name, agent) in agents {
        text += &format!("      - targets: [\"{}\"]\n        labels: {{ instance: {name} }}\n", agent.admin_address());
    }
    text
}

/// Percent-encoded as a query wants it (RFC 3986, 2.1).
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
