//! Rules in the kernel that bring connections to the agent, and keep others from going round it: what a configuration asks
//! for ([`Plan`], pure), how nft and iptables are told ([`nft`], [`iptables`]), and what of it is installed. It never sees
//! a connection; the doors that captured ones come to are elsewhere.
//!
//! Everything of ours is called `adit`, or tagged so; nothing else is ever touched.

mod choice;
mod command;
mod compare;
mod groups;
mod installed;
pub mod iptables;
mod lacks;
mod names;
pub mod nft;
mod plan;
mod rule;
#[cfg(test)]
mod tests;
mod tool;
mod ways;

pub use command::Iptables;
pub use compare::{Counter, Report, Set};
pub use groups::Groups;
pub use installed::{Installed, Since, Stamp, Tool};
pub use names::{Account, LookUp, PlanError};
pub use plan::Plan;
pub use rule::{Chain, Family, Hook, Marks, Rule, Test, Then};
pub use tool::ToolError;
pub use ways::Way;

use std::{
    error::Error,
    fmt,
    fs::{File, TryLockError},
    io,
    time::{Duration, Instant},
};

use adit_config::Config;

use crate::sys::{
    self,
    caps::{Capability, Privileges},
};

/// The longest that somebody else is waited for who changes the rules: five thousand of them take iptables some seconds.
const TURN: Duration = Duration::from_secs(10);
/// How often it is looked whether they have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Why rules were not installed, removed or looked at.
#[derive(Debug)]
pub enum RulesError {
    /// The file asks for what cannot be written down.
    Plan(PlanError),
    /// This process may not change or see them.
    Right,
    /// No rule can be made for a control group; why.
    Group(String),
    /// A tool refused, and everything is as it was.
    Tool(ToolError),
    /// A tool refused, and so did one that was to make things what they were.
    Half(ToolError, ToolError),
}

/// The plan of a configuration, with the accounts of this host.
///
/// # Errors
/// It asks for what cannot be written down.
pub fn plan(config: &Config) -> Result<Plan, RulesError> {
    Ok(Plan::of(config, &number)?)
}

fn number(account: Account<'_>) -> io::Result<Option<u32>> {
    let found = match account {
        Account::User(name) => sys::accounts::user(name),
        Account::Group(name) => sys::accounts::group(name),
    };
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// Installs a plan in the place of whatever of ours is installed; returns what that was, with which it can be put back.
///
/// # Errors
/// Then nothing has changed, unless the error says so.
pub fn apply(plan: &Plan, tool: &Tool) -> Result<Installed, RulesError> {
    replace(plan, tool, |before| before)
}

/// The same for who holds the rules from now on; returns their stamp, if it can be told.
///
/// # Errors
/// As of [`apply`].
pub fn hold(plan: &Plan, tool: &Tool) -> Result<Option<Stamp>, RulesError> {
    // Within one turn, or it might be that of another's who came in between.
    replace(plan, tool, |_| Stamp::of(tool).ok())
}

fn replace<T>(plan: &Plan, tool: &Tool, and: impl FnOnce(Installed) -> T) -> Result<T, RulesError> {
    check_right()?;
    if let Some(fault) = Groups::of(plan).fault() {
        return Err(RulesError::Group(fault));
    }
    let _turn = turn();
    let before = Installed::find(tool)?;
    before.replace(plan, tool)?;
    Ok(and(before))
}

/// Makes what is installed what it was when [`apply`] returned `before`.
///
/// # Errors
/// A tool refuses.
pub fn put_back(before: &Installed, tool: &Tool) -> Result<(), RulesError> {
    check_right()?;
    let _turn = turn();
    before.put_back(tool)
}

/// Takes away all that is ours, by whatever tool and from whatever file it came; returns what it was.
///
/// # Errors
/// A tool refuses.
pub fn remove(tool: &Tool) -> Result<Installed, RulesError> {
    check_right()?;
    let _turn = turn();
    let before = Installed::find(tool)?;
    if !before.is_empty() {
        Installed::default().put_back(tool)?;
    }
    Ok(before)
}

/// The stamp of the rules that are in place, and never of those that somebody is just about to replace.
///
/// # Errors
/// A tool refuses.
pub fn stamp(tool: &Tool) -> Result<Stamp, RulesError> {
    let _turn = turn();
    Ok(Stamp::of(tool)?)
}

/// What is installed, and whether it is what the plan says.
///
/// # Errors
/// A tool refuses, or this process may not ask.
pub fn look(plan: &Plan, tool: &Tool) -> Result<Report, RulesError> {
    check_right()?;
    let _turn = turn();
    compare::look(plan, tool)
}

/// Two who change the rules at once would each take away what the other has just put there, so they take turns in a network
/// namespace. Anybody in it may hold this lock, and is not waited for longer than any of us takes.
fn turn() -> io::Result<File> {
    let namespace = File::open("/proc/thread-self/ns/net")?;
    let end = Instant::now() + TURN;
    while let Err(TryLockError::WouldBlock) = namespace.try_lock() {
        if Instant::now() >= end {
            break;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(namespace)
}

fn check_right() -> Result<(), RulesError> {
    // Where it cannot be told, the tools will say.
    match Privileges::own() {
        Ok(own) if !own.has(Capability::NetAdmin) => Err(RulesError::Right),
        Ok(_) | Err(_) => Ok(()),
    }
}

impl From<ToolError> for RulesError {
    fn from(error: ToolError) -> Self {
        Self::Tool(error)
    }
}

impl From<PlanError> for RulesError {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(error) => error.fmt(f),
            Self::Right => f.write_str(
                "the rules of the kernel need CAP_NET_ADMIN: run this as root; an agent's unit gives it with \
                 AmbientCapabilities=CAP_NET_ADMIN",
            ),
            Self::Group(fault) => f.write_str(fault),
            Self::Tool(error) => error.fmt(f),
            Self::Half(error, second) => {
                write!(f, "{error}\nand what was there could not be put back whole: {second}")
            }
        }
    }
}

impl Error for RulesError {}
