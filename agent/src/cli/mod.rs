//! The command line: argv to exit code. Every subcommand is a file here.

mod ask;
pub mod ca;
mod check;
mod delegate;
mod demo;
mod ping;
mod redirect;
mod reload;
mod run;
mod status;
mod texts;
mod upgrade;
mod whois;

use std::{error::Error, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

/// Wrap raw TCP between hosts in mutual TLS, with no change to any application.
#[derive(Debug, Parser)]
#[command(name = "adit", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until it is told to end (SIGTERM drains it).
    Run(run::Run),
    /// Check a configuration file: every problem, with its place.
    Check(check::Check),
    /// Let a running agent read its configuration again (so does SIGHUP, and a change of the file).
    Reload(reload::Reload),
    /// Start the program in a running agent's file in that one's place; no connection is refused or cut.
    Upgrade(upgrade::Upgrade),
    /// Show what a running agent serves, knows and carries.
    Status(status::Status),
    /// Show what a running agent would do with a name: every rewriting step, every answer, and where a stream would go.
    Delegate(delegate::Delegate),
    /// Show whose stream a local connection is: who is at its other end, by the address that a service sees.
    Whois(whois::Whois),
    /// Send a probe through the mesh: what a name resolves to, who answers, which rule admits, or the exact refusal.
    Ping(ping::Ping),
    /// Print, apply, remove or show the rules in the kernel that bring connections to the agent.
    Redirect(redirect::Redirect),
    /// Make a private CA, issue certificates with it, or show what is in one.
    Ca(ca::Ca),
    /// Show what adit does, on this host alone, in a few seconds.
    Demo(demo::Demo),
    /// Print the completions of a shell.
    Completions(texts::Completions),
    /// Write the manual pages, adit(1) and one for each subcommand.
    Man(texts::Manual),
}

impl Cli {
    /// Carries out what was asked for; an error is one line on standard error, and exit code 1.
    pub fn carry_out(self) -> ExitCode {
        let done: Result<ExitCode, Box<dyn Error>> = match self.command {
            Command::Run(run) => run.run(),
            Command::Check(check) => check.run(),
            Command::Reload(reload) => reload.run(),
            Command::Upgrade(upgrade) => upgrade.run(),
            Command::Status(status) => status.run(),
            Command::Delegate(delegate) => delegate.run(),
            Command::Whois(whois) => whois.run(),
            Command::Ping(ping) => ping.run(),
            Command::Redirect(redirect) => redirect.run(),
            Command::Demo(demo) => demo.run(),
            Command::Completions(completions) => completions.run(Self::command()),
            Command::Man(manual) => manual.run(Self::command()),
            Command::Ca(ca) => ca.run().map(|()| ExitCode::SUCCESS).map_err(Into::into),
        };
        done.unwrap_or_else(|error| {
            eprintln!("adit: {error}");
            ExitCode::FAILURE
        })
    }
}
