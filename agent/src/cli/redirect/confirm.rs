//! `apply --confirm`: rules that go away by themselves. Who has cut his own connection to the host, or has lost it, cannot
//! confirm, and gets it back.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::redirect::{self, Plan, RulesError, Tool};

/// What ended the wait.
#[derive(Clone, Copy)]
enum Said {
    Yes,
    /// Why not.
    No(&'static str),
}

/// Installs the plan, and keeps it if somebody says so in time.
pub(super) fn apply(plan: &Plan, tool: &Tool, limit: Duration) -> Result<ExitCode, Box<dyn Error>> {
    if is_in_background() {
        return Err(
            "nobody can press Enter for what runs in the background of a terminal; run it in the foreground".into()
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the rules: a terminal that is gone right after them must not end this process in their place.
        let mut hangup = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut quit = signal(SignalKind::quit())?;
        // Stopped, it would put nothing back.
        let mut stop = signal(SignalKind::from_raw(libc::SIGTSTP))?;
        let before = redirect::apply(plan, tool)?;
        tell(&format!("the rules are in place; press Enter within {} s to keep them", limit.as_secs()));
        let entered = enter();
        let said = tokio::select! {
            () = entered => Said::Yes,
            () = tokio::time::sleep(limit) => Said::No("nobody confirmed in time"),
            _ = hangup.recv() => Said::No("the terminal is gone"),
            _ = interrupt.recv() => Said::No("interrupted"),
            _ = terminate.recv() => Said::No("told to end"),
            _ = quit.recv() => Said::No("interrupted"),
            _ = stop.recv() => Said::No("told to stop"),
        };
        finish(said, || redirect::put_back(&before, tool))
    })
}

fn finish(said: Said, put_back: impl FnOnce() -> Result<(), RulesError>) -> Result<ExitCode, Box<dyn Error>> {
    match said {
        Said::Yes => {
            tell("kept");
            Ok(ExitCode::SUCCESS)
        }
        Said::No(why) => {
            put_back()?;
            tell(&format!("{why}: what was there before is back in place"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// A terminal stops whoever reads from it in its background (termios(3)), and a stopped process puts nothing back.
fn is_in_background() -> bool {
    rustix::termios::tcgetpgrp(io::stdin()).is_ok_and(|group| group != rustix::process::getpgrp())
}

/// Ends once a line was entered; never, if standard input ends before: nobody has confirmed then.
async fn enter() {
    let (send, entered) = oneshot::channel();
    // A read from a terminal cannot be given up; the thread goes with the process.
    std::thread::spawn(move || {
        let mut line = String::new();
        if io::stdin().read_line(&mut line).is_ok_and(|read| read > 0) && line.ends_with('\n') {
            let _ = send.send(());
        }
    });
    if entered.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The terminal may be gone; what matters is done all the same.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
