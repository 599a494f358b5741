//! `adit redirect`: the rules in the kernel that bring connections to the agent, and keep others from going round it.

mod confirm;
mod last_good;
mod page;

use std::{
    error::Error,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use adit_config::Config;
use clap::{Args, Subcommand};

use tokio::signal::unix::{SignalKind, signal};

use crate::redirect::{self, Family, Installed, Iptables, Plan, RulesError, Tool, iptables, nft};

/// What `status` ends with if anything is not as the file asks for.
const DIFFERS: u8 = 3;

/// Print, apply, remove or show the rules in the kernel that bring connections to the agent.
#[derive(Debug, Args)]
pub(super) struct Redirect {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the rules that the configuration asks for, as nft or iptables-restore reads them.
    Print(Print),
    /// Install the rules, in the place of those that are installed: all of them, or none.
    ///
    /// They stay until `remove`, or until the host starts again, whether an agent runs or not: what they bring to an agent
    /// that is down is refused. Start the agent first, and apply them again after a change of the file that they follow,
    /// which `status` tells.
    Apply(Apply),
    /// Take every rule of adit's away, whichever tool installed it and whatever the file says.
    ///
    /// From then on applications connect past the agent, in plaintext, and `strict` ports are open.
    Remove(Remove),
    /// Say what is installed, whether it is what the configuration asks for, and what the rules have counted.
    ///
    /// Ends with 0 if what is installed is as the file asks for, with 3 if not, and with 1 if that cannot be told.
    Status(Status),
}

/// With which tool.
#[derive(Clone, Debug, Args)]
struct With {
    /// Use iptables and ip6tables instead of nft; or this command, such as iptables-legacy.
    #[arg(long, value_name = "COMMAND", num_args = 0..=1, require_equals = true, default_missing_value = "iptables",
        value_parser = Iptables::parse)]
    iptables: Option<Iptables>,
}

#[derive(Debug, Args)]
struct Print {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    with: With,
}

#[derive(Debug, Args)]
struct Apply {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    with: With,
    /// Put back what was there before, unless somebody presses Enter within this time, such as 30s or 2m.
    #[arg(long, value_name = "TIME", value_parser = span)]
    confirm: Option<Duration>,
    /// Keep a copy of the configuration here once its rules are in place; and where they cannot be installed, install those of
    /// the copy unless there are rules in place, and fail all the same. A host that starts with a wrong file has the rules it
    /// had.
    #[arg(long, value_name = "FILE")]
    last_good: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Remove {
    #[command(flatten)]
    with: With,
    // An operator who has typed the option for `apply` types it for `remove`: it is taken, and the file is not read.
    /// Not read: the rules are found by what they are called.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Status {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    with: With,
}

#[derive(Debug, Args)]
struct From {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", default_value = "/etc/adit/adit.toml")]
    config: PathBuf,
}

impl With {
    /// The tool.
    fn tool(&self) -> Tool {
        self.iptables.clone().map_or(Tool::Nft, Tool::Iptables)
    }
}

impl Redirect {
    pub(super) fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        match self.command {
            Command::Print(print) => print.run(),
            Command::Apply(apply) => apply.run(),
            Command::Remove(remove) => remove.run(),
            Command::Status(status) => status.run(),
        }
    }
}

impl Print {
    fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let plan = plan_of(&self.from.config)?;
        let text = match self.with.tool() {
            Tool::Nft => nft::script(&plan),
            Tool::Iptables(_) => Family::BOTH.iter().map(|family| chains(&plan, *family)).collect(),
        };
        let ways = plan.ways.iter().map(|way| format!("# {way}\n"));
        io::stdout().write_all((text + &ways.collect::<String>()).as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

fn chains(plan: &Plan, family: Family) -> String {
    let (name, command) = match family {
        Family::V4 => (family.as_str(), "iptables-restore"),
        Family::V6 => (family.as_str(), "ip6tables-restore"),
    };
    format!("# {name}: {command} --noflush\n{}", iptables::restore(plan, family))
}

impl Apply {
    fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let Some(kept) = &self.last_good else { return self.apply() };
        let text = last_good::text(&self.from.config);
        match self.apply() {
            Ok(ExitCode::SUCCESS) => {
                last_good::keep(kept, &self.from.config, &text?)?;
                Ok(ExitCode::SUCCESS)
            }
            // Nobody has confirmed them.
            Ok(other) => Ok(other),
            Err(fault) => Err(last_good::fall_back(kept, &*fault, &self.with.tool())),
        }
    }

    fn apply(&self) -> Result<ExitCode, Box<dyn Error>> {
        let plan = &plan_of(&self.from.config)?;
        if plan.is_empty() {
            eprintln!("{}: asks for no rules; what was installed of adit's is taken away", self.from.config.display());
        }
        let tool = self.with.tool();
        match self.confirm {
            None => {
                warn_of_unseen(&undisturbed(|| redirect::apply(plan, &tool))??);
                let (rules, chains, ways) = (plan.rules(), plan.chains.len(), plan.ways.len());
                println!("applied: rules {rules}, chains {chains}, routing rules and routes {ways}");
                Ok(ExitCode::SUCCESS)
            }
            Some(limit) => confirm::apply(plan, &tool, limit),
        }
    }
}

impl Remove {
    fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let removed = undisturbed(|| redirect::remove(&self.with.tool()))??;
        warn_of_unseen(&removed);
        let removed = removed.names();
        if removed.is_empty() {
            println!("nothing of adit's is installed");
        }
        removed.iter().for_each(|name| println!("removed {name}"));
        Ok(ExitCode::SUCCESS)
    }
}

impl Status {
    fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let plan = plan_of(&self.from.config)?;
        let report = redirect::look(&plan, &self.with.tool())?;
        // A reader that went away takes nothing from it: what was found is in the exit code.
        let _ = io::stdout().write_all(page::page(&plan, &report).as_bytes());
        Ok(if report.matches() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
    }
}

/// Does something to its end, or has it undone, whoever asks this process to end meanwhile: a key of the terminal ends the
/// tool that runs, and what had been done by then is put back.
fn undisturbed<T>(act: impl FnOnce() -> T) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let kinds = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate(), SignalKind::quit()];
        let _taken = kinds.into_iter().map(signal).collect::<io::Result<Vec<_>>>()?;
        Ok(act())
    })
}

fn warn_of_unseen(installed: &Installed) {
    for command in &installed.unseen {
        eprintln!("adit: warning: whether {command} has rules of adit's was not looked at, which only root may");
    }
}

fn plan_of(file: &Path) -> Result<Plan, Box<dyn Error>> {
    let (config, _) = Config::load(file)?;
    let plan = redirect::plan(&config).map_err(|error| in_file(file, error))?;
    plan.warnings.iter().for_each(|warning| eprintln!("{}: warning: {warning}", file.display()));
    Ok(plan)
}

fn in_file(file: &Path, error: RulesError) -> Box<dyn Error> {
    match error {
        RulesError::Plan(error) => format!("{}: {error}", file.display()).into(),
        other => other.into(),
    }
}

/// A time as the file writes it, in seconds or minutes.
fn span(text: &str) -> Result<Duration, String> {
    let number = |digits: &str| digits.parse::<u32>().ok().filter(|number| *number > 0);
    let seconds = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(digits), _) => number(digits).map(u64::from),
        (None, Some(digits)) => number(digits).map(|minutes| u64::from(minutes) * 60),
        (None, None) => None,
    };
    seconds.map(Duration::from_secs).ok_or_else(|| "it is no time like 30s or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_confirm_is_in_seconds_or_minutes() {
        assert_eq!(span("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "30", "0s", "-1s", "1h", "s", "1.5s", "99999999999s"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
