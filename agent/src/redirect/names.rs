//! What a file calls users, groups, control groups and interfaces, made safe: numbers for accounts, and for the others
//! only what can be nothing but a name in a rule of nft or iptables.

use std::{error::Error, fmt, io};

/// A user or a group, by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Account<'a> {
    /// A user.
    User(&'a str),
    /// A group.
    Group(&'a str),
}

/// The number of an account; none if nobody has that name.
pub type LookUp<'a> = &'a dyn Fn(Account<'_>) -> io::Result<Option<u32>>;

/// Why the rules that a file asks for cannot be written down.
#[derive(Debug)]
pub enum PlanError {
    /// No user or group of this host.
    NoAccount {
        /// Which part of the file names it.
        place: String,
        /// `user` or `group`.
        what: &'static str,
        /// What it says.
        name: String,
    },
    /// Whether there is one could not be found out.
    LookUp(String, io::Error),
    /// It cannot be the name of one.
    Name {
        /// Which part of the file names it.
        place: String,
        /// What it should be the name of.
        what: &'static str,
        /// What it says.
        name: String,
    },
}

/// The longest name of an interface: IFNAMSIZ of linux/if.h, less its closing zero.
const INTERFACE: usize = 15;

/// The number of a user or group, which may be named by its number.
pub(super) fn number(place: &str, account: Account<'_>, look_up: LookUp<'_>) -> Result<u32, PlanError> {
    let (what, name) = match account {
        Account::User(name) => ("user", name),
        Account::Group(name) => ("group", name),
    };
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let failed = |error| PlanError::LookUp(format!("{place}: looking up {what} {name:?}"), error);
    let missing = || PlanError::NoAccount { place: place.to_owned(), what, name: name.to_owned() };
    look_up(account).map_err(failed)?.ok_or_else(missing)
}

/// A control group's path below the mount of cgroup2, without a leading `/`. Every character that a unit's name may have
/// is let through (systemd.unit(5)), and none that could end a quoted word.
pub(super) fn cgroup(place: &str, name: &str) -> Result<String, PlanError> {
    let trimmed = name.trim_matches('/');
    let known = |c: char| c.is_alphanumeric() || "/:-_.@\\+=,~".contains(c);
    let whole = |part: &str| !part.is_empty() && part != "." && part != "..";
    if trimmed.split('/').all(whole) && trimmed.chars().all(known) {
        return Ok(trimmed.to_owned());
    }
    Err(PlanError::Name { place: place.to_owned(), what: "control group", name: name.to_owned() })
}

/// An interface. Neither `*` nor `+`, which the tools take for more than they are.
pub(super) fn interface(place: &str, name: &str) -> Result<String, PlanError> {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    if (1..=INTERFACE).contains(&name.len()) && !name.starts_with('-') && name.chars().all(known) {
        return Ok(name.to_owned());
    }
    Err(PlanError::Name { place: place.to_owned(), what: "interface", name: name.to_owned() })
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAccount { place, what, name } => {
                write!(
                    f,
                    "{place}: this host has no {what} {name:?}; add it, or write the number of one of a directory"
                )
            }
            Self::LookUp(what, error) => write!(f, "{what}: {error}"),
            Self::Name { place, what, name } => {
                write!(f, "{place}: {name:?} cannot be the name of a {what} in a rule; check how it is written")
            }
        }
    }
}

impl Error for PlanError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::LookUp(_, error) => Some(error),
            Self::NoAccount { .. } | Self::Name { .. } => None,
        }
    }
}
