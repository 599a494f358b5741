//! Which local process a connection is of, and what the rules make of it: a certificate of its own, or a refusal. A pure
//! decision over the rules and over what is known of the process.

use std::fmt;

use adit_protocol::{Name, Pattern};

/// Every `[[outbound.workload]]`, in the order of the file; the first that matches decides.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Workloads {
    /// The rules.
    pub rules: Vec<WorkloadRule>,
}

/// One `[[outbound.workload]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkloadRule {
    /// Whose connections it is about.
    pub who: Who,
    /// To which names; empty is every name.
    pub names: Vec<Pattern>,
    /// What becomes of them.
    pub then: Then,
}

/// Whose connections a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Who {
    /// Of processes that fit every condition there is; of all connections where there is none.
    Process {
        /// The systemd unit.
        unit: Option<Glob>,
        /// The user, by name or number.
        user: Option<String>,
        /// The control group, from the root of cgroup2.
        cgroup: Option<Glob>,
    },
    /// Those whose process cannot be found.
    Unknown,
}

/// A text in which one `*` may stand for any other, also for none.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Glob {
    before: String,
    /// What follows the `*`, if there is one.
    after: Option<String>,
}

impl Glob {
    /// Reads one; `None` if it has a second `*`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Glob> {
        match text.split_once('*') {
            None => Some(Glob { before: text.to_owned(), after: None }),
            Some((_, after)) if after.contains('*') => None,
            Some((before, after)) => Some(Glob { before: before.to_owned(), after: Some(after.to_owned()) }),
        }
    }

    /// Whether it stands for every text that the other one stands for.
    pub(crate) fn covers(&self, other: &Glob) -> bool {
        match (&self.after, &other.after) {
            (_, None) => self.matches(&other.before),
            (None, Some(_)) => false,
            (Some(mine), Some(its)) => other.before.starts_with(self.before.as_str()) && its.ends_with(mine.as_str()),
        }
    }

    /// Whether it stands for this text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match &self.after {
            None => text == self.before,
            Some(after) => text.strip_prefix(self.before.as_str()).is_some_and(|rest| rest.ends_with(after.as_str())),
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.after {
            None => f.write_str(&self.before),
            Some(after) => write!(f, "{}*{after}", self.before),
        }
    }
}

/// What a rule says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Then {
    /// They show the certificate with this id.
    Certificate(String),
    /// They are refused.
    Deny,
    /// They go on as if no rule were there, and no later one is asked.
    Allow,
}

/// What is known of a local process that opened a connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Workload {
    /// The user's number, of the socket's owner.
    pub uid: u32,
    /// The user's name, where one is known.
    pub user: Option<String>,
    /// The control group, from the root of cgroup2, with a leading `/`.
    pub cgroup: Option<String>,
    /// The systemd unit, where the control group is one's.
    pub unit: Option<String>,
}

impl fmt::Display for Workload {
    /// As the preamble carries it (PROTOCOL.md section 3): `web.service (www-data)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.clone().unwrap_or_else(|| format!("uid {}", self.uid));
        match (&self.unit, &self.cgroup) {
            (Some(unit), _) => write!(f, "{unit} ({user})"),
            (None, Some(cgroup)) => write!(f, "{cgroup} ({user})"),
            (None, None) => write!(f, "({user})"),
        }
    }
}

/// What the rules make of one connection.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Ruling {
    /// It goes on, and shows this certificate if one is said.
    Goes(Option<String>),
    /// It is refused, by this rule, from 1, for this reason.
    Refused {
        /// The rule.
        rule: usize,
        /// Why.
        reason: String,
    },
}

impl Workloads {
    /// Judges a connection to `name`; `process` is `None` where it cannot be found.
    ///
    /// A rule that is reached and cannot be told to be about the connection or not refuses it: were it passed over, a
    /// process would only have to hide to get what a later rule gives, or what it has without one.
    pub fn judge(&self, name: &Name, process: Option<&Workload>) -> Ruling {
        for (number, rule) in (1..).zip(&self.rules).filter(|(_, rule)| rule.is_about(name)) {
            match rule.who.fits(process) {
                Fit::No => {}
                Fit::Yes => return rule.then.ruling(number, &rule.who),
                Fit::Untold(what) => {
                    let reason = format!("it is about {}, and {what} of this connection cannot be found", rule.who);
                    return Ruling::Refused { rule: number, reason };
                }
            }
        }
        Ruling::Goes(None)
    }
}

/// Whether a connection is one that a rule or a condition is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fit {
    Yes,
    No,
    /// It cannot be told, for want of this.
    Untold(&'static str),
}

impl Fit {
    fn of(fits: bool) -> Fit {
        if fits { Fit::Yes } else { Fit::No }
    }

    /// Both: one that surely does not fit decides, whatever the other is.
    fn and(self, other: Fit) -> Fit {
        match (self, other) {
            (Fit::No, _) | (_, Fit::No) => Fit::No,
            (Fit::Untold(what), _) | (_, Fit::Untold(what)) => Fit::Untold(what),
            (Fit::Yes, Fit::Yes) => Fit::Yes,
        }
    }
}

impl WorkloadRule {
    fn is_about(&self, name: &Name) -> bool {
        self.names.is_empty() || self.names.iter().any(|pattern| pattern.matches(name).is_some())
    }
}

impl Who {
    /// Whether it is about every connection.
    #[must_use]
    pub fn is_anybody(&self) -> bool {
        matches!(self, Who::Process { unit: None, user: None, cgroup: None })
    }

    fn fits(&self, process: Option<&Workload>) -> Fit {
        match (self, process) {
            (who, _) if who.is_anybody() => Fit::Yes,
            (Who::Unknown, process) => Fit::of(process.is_none()),
            (Who::Process { .. }, None) => Fit::Untold("the process"),
            (Who::Process { unit, user, cgroup }, Some(process)) => {
                let all = [
                    user.as_deref().map(|user| process.is_of(user)),
                    cgroup.as_ref().map(|cgroup| process.is_in(cgroup)),
                    unit.as_ref().map(|unit| process.is_part_of(unit)),
                ];
                all.into_iter().flatten().fold(Fit::Yes, Fit::and)
            }
        }
    }
}

impl Workload {
    /// A rule's user is a number, which is always known, or a name, which another directory than this host's may have.
    fn is_of(&self, user: &str) -> Fit {
        match (user.parse::<u32>(), &self.user) {
            (Ok(uid), _) => Fit::of(uid == self.uid),
            (Err(_), Some(own)) => Fit::of(own == user),
            (Err(_), None) => Fit::Untold("the name of the user"),
        }
    }

    fn is_in(&self, cgroup: &Glob) -> Fit {
        self.cgroup.as_deref().map_or(Fit::Untold("the control group"), |own| Fit::of(cgroup.matches(own)))
    }

    /// A control group that is known and no unit's is of no unit.
    fn is_part_of(&self, unit: &Glob) -> Fit {
        match (&self.unit, &self.cgroup) {
            (Some(own), _) => Fit::of(unit.matches(own)),
            (None, Some(_)) => Fit::No,
            (None, None) => Fit::Untold("the control group"),
        }
    }
}

impl Then {
    fn ruling(&self, rule: usize, who: &Who) -> Ruling {
        match self {
            Then::Certificate(id) => Ruling::Goes(Some(id.clone())),
            Then::Allow => Ruling::Goes(None),
            Then::Deny => Ruling::Refused { rule, reason: format!("it denies {who}") },
        }
    }
}

impl fmt::Display for Who {
    /// `unit web.service, user www-data`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Who::Process { unit, user, cgroup } = self else {
            return f.write_str("processes that cannot be found");
        };
        let unit = unit.as_ref().map(|unit| format!("unit {unit}"));
        let user = user.as_ref().map(|user| format!("user {user}"));
        let cgroup = cgroup.as_ref().map(|cgroup| format!("control group {cgroup}"));
        match [unit, user, cgroup].into_iter().flatten().collect::<Vec<_>>().as_slice() {
            [] => f.write_str("every process"),
            all => f.write_str(&all.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests;
