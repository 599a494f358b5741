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
        /// The systemd unit; one `*` stands for any text.
        unit: Option<String>,
        /// The user, by name or number.
        user: Option<String>,
        /// The control group, from the root of cgroup2; one `*` stands for any text.
        cgroup: Option<String>,
    },
    /// Those whose process cannot be found.
    Unknown,
}

/// What a rule says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Then {
    /// They show the certificate with this id.
    Certificate(String),
    /// They are refused.
    Deny,
    /// They go on as if no rule were there.
    Allow,
}

/// What is known of a local process that opened a connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Workload {
    /// The user's number, of the socket's owner.
    pub uid: u32,
    /// The user's name, where it has one.
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
    pub fn judge(&self, name: &Name, process: Option<&Workload>) -> Ruling {
        let _ = (name, process);
        Ruling::Goes(None)
    }
}
