//! `adit check`: what is wrong with a configuration file, all at once, before an agent has to find out.

use std::{error::Error, path::PathBuf, process::ExitCode};

use adit_config::Config;
use clap::Args;

use crate::identity::Store;

/// Check a configuration file.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration file.
    #[arg(value_name = "FILE", default_value = "/etc/adit/adit.toml")]
    file: PathBuf,
    /// Leave the certificates, keys and lists that it names unread, and its SPIFFE Workload API unasked.
    #[arg(long)]
    no_files: bool,
    /// Print the file with every default spelled out.
    #[arg(long)]
    print: bool,
}

impl Check {
    pub(super) fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let (config, warnings) = match Config::load(&self.file) {
            Ok(loaded) => loaded,
            Err(problems) => {
                eprintln!("{problems}");
                return Ok(ExitCode::FAILURE);
            }
        };
        for warning in &warnings {
            eprintln!("{warning}");
        }
        if !self.no_files {
            Store::load(&config.tls)?;
        }
        if self.print {
            print!("{}", config.to_toml());
        } else {
            println!("{}: no problem found{}", self.file.display(), count(warnings.len()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn count(warnings: usize) -> String {
    match warnings {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        more => format!(", {more} warnings"),
    }
}
