//! `adit whois`: whose stream a local connection is, as a running agent says.

use std::{
    error::Error,
    fmt::Write as _,
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
};

use clap::Args;
use hyper::StatusCode;
use serde_json::Value;

use super::ask::{self, Door};
use crate::identity::text::printable;

/// Show whose stream a local connection is, by the address that its other side sees. Nobody has it: exit code 1.
#[derive(Debug, Args)]
pub(super) struct Whois {
    /// What a service sees as its client's address, or an application's own end of a connection that it made to a listener
    /// or that was captured: 127.0.0.1:53122.
    #[arg(value_name = "ADDRESS")]
    address: SocketAddr,
    #[command(flatten)]
    agent: ask::Where,
    /// Print the JSON as it comes.
    #[arg(long)]
    json: bool,
}

impl Whois {
    pub(super) fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let socket = self.agent.find_socket()?;
        let path = format!("/whois?address={}", ask::encoded(&self.address.to_string()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match runtime.block_on(ask::ask(&Door::Unix(socket), hyper::Method::GET, &path, ask::LIMIT))? {
            (StatusCode::OK, answer) => {
                let shown = if self.json { answer } else { page(&serde_json::from_str(&answer)?) };
                // A reader that went away takes nothing from the answer: it is in the exit code too.
                _ = io::stdout().write_all(shown.as_bytes());
                Ok(ExitCode::SUCCESS)
            }
            (_, answer) => Err(answer.trim_end().into()),
        }
    }
}

/// A paragraph for each stream. The agent that answers may be of another version: what is not there is left out.
fn page(whois: &Value) -> String {
    let streams = whois["streams"].as_array().map_or(&[][..], Vec::as_slice);
    streams.iter().map(paragraph).collect::<Vec<_>>().join("\n")
}

fn paragraph(stream: &Value) -> String {
    let text = |key: &str| stream[key].as_str().map(printable);
    let is_inbound = stream["direction"] == "inbound";
    // Identity is the certificate's; the rest is what the agent there says (PROTOCOL.md section 3).
    let by_its_word = |text: String| if is_inbound { format!("{text} (by that agent's word)") } else { text };
    let moved = format!("{} received, {} sent", stream["bytes_received"], stream["bytes_sent"]);
    let rows = [
        ("peer", text("peer")),
        ("agent", text("agent")),
        ("source", text("source").map(by_its_word)),
        ("original", text("original").map(by_its_word)),
        ("workload", text("workload").map(by_its_word)),
        ("to", text("to")),
        ("stream", text("id")),
        ("carrier", stream["predecessor"].as_u64().map(|pid| format!("process {pid}, of before an upgrade"))),
        ("since", text("since")),
        ("bytes", Some(moved)),
    ];
    let shown = |key| text(key).unwrap_or_default();
    let mut out = format!("{} {}\n", shown("direction"), shown("name"));
    for (title, value) in rows {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  {title:<9} {value}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_anothers_word_is_shown_as_such_and_what_is_missing_is_left_out() {
        let stream = json!({
            "direction": "inbound", "name": "/svc/redis", "peer": "a.example", "agent": "10.0.0.1:5",
            "source": "10.0.0.9:7", "workload": "web.service \u{202e}", "to": "127.0.0.1:6379", "id": "ab",
            "since": "2026-01-01T00:00:00Z", "bytes_received": 3, "bytes_sent": 4,
        });
        let expected = "\
inbound /svc/redis
  peer      a.example
  agent     10.0.0.1:5
  source    10.0.0.9:7 (by that agent's word)
  workload  web.service \\u{202e} (by that agent's word)
  to        127.0.0.1:6379
  stream    ab
  since     2026-01-01T00:00:00Z
  bytes     3 received, 4 sent
";
        assert_eq!(page(&json!({ "streams": [stream] })), expected);
        let before = page(&json!({ "streams": [{ "direction": "outbound", "name": "/svc/x", "predecessor": 7 }] }));
        assert!(before.contains("\n  carrier   process 7, of before an upgrade\n"), "{before}");
        let own = json!({ "direction": "outbound", "name": "/svc/x", "source": "127.0.0.1:7", "bytes_received": 0, "bytes_sent": 0 });
        assert_eq!(
            page(&json!({ "streams": [own, own] })).matches("outbound /svc/x\n  source    127.0.0.1:7\n").count(),
            2
        );
    }
}
