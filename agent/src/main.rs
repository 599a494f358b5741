//! argv to exit code.

use std::process::ExitCode;

use adit::cli::Cli;
use clap::Parser;

fn main() -> ExitCode {
    Cli::parse().carry_out()
}
