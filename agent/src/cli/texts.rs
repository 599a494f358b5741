//! `adit completions` and `adit man`: what packages ship beside the binary, made from the command line's own definition,
//! so that it cannot say anything else.

use std::{
    error::Error,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

/// Print the completions of a shell.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Write the manual pages.
#[derive(Debug, Args)]
pub(super) struct Manual {
    /// The folder to write every page into; without it, adit(1) is printed.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Completions {
    pub(super) fn run(self, mut command: Command) -> Result<ExitCode, Box<dyn Error>> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "adit", &mut script);
        io::stdout().write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Manual {
    pub(super) fn run(self, command: Command) -> Result<ExitCode, Box<dyn Error>> {
        let command = built(command);
        match self.dir {
            None => {
                let mut text = Vec::new();
                page(&command).render(&mut text)?;
                io::stdout().write_all(&text)?;
            }
            Some(dir) => {
                let failed = |error| format!("{}: {error}", dir.display());
                fs::create_dir_all(&dir).and_then(|()| write_pages(&command, &dir)).map_err(failed)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// With what subcommands inherit and their full names, and without `help`, which says what the pages say.
fn built(command: Command) -> Command {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    command
}

/// The page of this command, and of each one below it: adit(1), adit-ca(1), adit-ca-init(1).
fn write_pages(command: &Command, dir: &Path) -> io::Result<()> {
    page(command).generate_to(dir)?;
    command.get_subcommands().try_for_each(|command| write_pages(command, dir))
}

fn page(command: &Command) -> Man {
    Man::new(command.clone()).source(concat!("adit ", env!("CARGO_PKG_VERSION"))).manual("adit manual")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, ValueEnum};

    use super::*;
    use crate::cli::Cli;

    /// Every command there is, `adit` itself among them.
    fn all(command: &Command) -> Vec<&Command> {
        let mut found = vec![command];
        found.extend(command.get_subcommands().flat_map(all));
        found
    }

    #[test]
    fn every_command_has_a_page_that_names_its_options() {
        let dir = tempfile::tempdir().unwrap();
        let command = built(Cli::command());
        write_pages(&command, dir.path()).unwrap();
        let commands = all(&command);
        assert!(commands.len() > 10, "there are more commands than {}", commands.len());
        for command in &commands {
            let file = dir.path().join(page(command).get_filename());
            let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            for option in command.get_arguments().filter_map(|argument| argument.get_long()) {
                let written = option.replace('-', "\\-");
                assert!(text.contains(&written), "{} says nothing of --{option}", file.display());
            }
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), commands.len());
    }

    #[test]
    fn every_command_is_completed_in_every_shell() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "adit", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in all(&built(Cli::command())) {
                let name = command.get_name();
                assert!(script.contains(name), "{shell} does not complete {name}");
            }
        }
    }
}
