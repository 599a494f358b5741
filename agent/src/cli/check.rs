//! `adit check`: what is wrong with a configuration file, all at once, before an agent has to find out.

use std::{env, error::Error, path::PathBuf, process::ExitCode};

use adit_config::{Config, ListenAddr};
use clap::Args;

use crate::identity::{Store, credentials};

/// Check a configuration file.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration file.
    #[arg(value_name = "FILE", default_value = "/etc/adit/adit.toml")]
    file: PathBuf,
    /// The same, as other commands are told of it.
    #[arg(long, short, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Leave the certificates, keys and lists that it names unread, and its SPIFFE Workload API unasked.
    #[arg(long)]
    no_files: bool,
    /// Print the file with every default spelled out.
    #[arg(long)]
    print: bool,
}

impl Check {
    pub(super) fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let file = self.config.as_ref().unwrap_or(&self.file);
        let (config, warnings) = match Config::load(file) {
            Ok(loaded) => loaded,
            Err(problems) => {
                eprintln!("{problems}");
                return Ok(ExitCode::FAILURE);
            }
        };
        for warning in &warnings {
            eprintln!("{warning}");
        }
        let reads_files = !self.no_files && !lacks_credentials(&config);
        if reads_files {
            Store::load(&config.tls)?;
        }
        for note in unknown(&config) {
            eprintln!("{}: {note}", file.display());
        }
        if self.print {
            print!("{}", config.to_toml());
        } else {
            println!("{}: no problem found{}", file.display(), count(warnings.len()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether the file names credentials and this process was given none: then they are another's to read.
fn lacks_credentials(config: &Config) -> bool {
    config.tls.credential().is_some() && env::var_os(credentials::VARIABLE).is_none()
}

/// What only the agent can find out that systemd starts, a line each.
fn unknown(config: &Config) -> Vec<String> {
    let given = config.doors().into_iter().filter_map(|(section, listen)| match listen {
        ListenAddr::Given(_) => Some(format!(
            "not checked: whether systemd gives the socket {listen} of {section}, and where that listens; the agent says it \
             at its start"
        )),
        ListenAddr::Tcp(_) | ListenAddr::Unix(_) => None,
    });
    let unread = lacks_credentials(config).then(|| {
        "not checked: the files of [tls], among which are credentials of systemd, which this process was not given"
            .to_owned()
    });
    given.chain(unread).collect()
}

fn count(warnings: usize) -> String {
    match warnings {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        more => format!(", {more} warnings"),
    }
}
