//! Services and load in a process of their own, because a stream costs each of them a descriptor.
//!
//! It reports as JSON lines on standard output, and ends when its standard input does. `adit_tests::load` starts it
//! and reads what it says; the subcommands are described at [`serve`] and [`call`].

mod call;
mod serve;
mod socket;

use std::{env, io::Write, process::ExitCode, thread};

use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// One thread is enough for every scenario, and leaves a core for the agents.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["serve", what, at] => serve::serve(what, at).await,
        ["push", at, bytes] => call::push(at, number(bytes)).await,
        ["pull", at] => call::pull(at).await,
        ["idle", at, count] => call::idle(at, number(count)).await,
        ["storm", at, count, workers] => call::storm(at, number(count), number(workers)).await,
        ["steady", at, workers, requests] => call::steady(at, number(workers), number(requests)).await,
        _ => {
            eprintln!("adit-load: no such subcommand: {words:?}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("adit-load {words:?}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The lines of standard input, read by a thread of their own; the channel ends when the input does.
fn input() -> UnboundedReceiver<String> {
    let (send, lines) = unbounded_channel();
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Writes one report.
#[allow(clippy::needless_pass_by_value, reason = "every caller makes it with json!")]
fn report(event: Value) {
    let mut out = std::io::stdout().lock();
    // Nobody left to read is no failure: the test has ended.
    let _ = writeln!(out, "{event}").and_then(|()| out.flush());
}

fn number(text: &str) -> u64 {
    text.parse().expect("a count is a number")
}
