//! What a delegation comes to, as plain values: the answer of `/delegate`, which `adit delegate` reads again.

use crate::balance::EndpointStatus;
use adit_config::peers::{Expectation, OnLeave, Settings, Verify};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The name that was asked about.
    pub name: String,
    /// `outbound` or `inbound`.
    pub side: String,
    /// The places of the rules are in the configuration's file, not in the table's own text.
    pub in_file: bool,
    /// The tree, each row before those below it; a list, for a tree can be deeper than a reader of JSON goes.
    pub rows: Vec<Row>,
    /// What would become of the next stream.
    pub outcome: Fate,
}

/// One row of the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// How far down it is; its parent is the last row before it that is less deep.
    pub depth: usize,
    /// Its weight, if it is a branch of a union.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// It stands behind a `!` or `$`: it is never reached and was not asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub behind_a_stop: bool,
    /// What it is.
    #[serde(flatten)]
    pub what: What,
}

/// What a row is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A logical name; the rules that match it follow, the first one counts most.
    Name {
        /// The name.
        name: String,
    },
    /// A logical name that no rule knows.
    Unknown {
        /// The name.
        name: String,
    },
    /// A rule; what it makes of the name follows.
    Rule {
        /// From 1, in the order of the table.
        number: usize,
        /// As it is written.
        text: String,
        /// Its line.
        line: usize,
        /// Its column.
        column: usize,
    },
    /// `|`, `||` or `&`; the branches follow.
    Choice {
        /// Which.
        sign: String,
    },
    /// `~`, `!` or `$`.
    Stop {
        /// Which.
        sign: String,
    },
    /// A name that leads nowhere by a fault of the rules.
    Wrong {
        /// The name.
        name: String,
        /// What is wrong.
        error: String,
    },
    /// A bound name.
    Bound(Box<Place>),
}

/// A bound name, with what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The bound name.
    pub name: String,
    /// What was left over of the logical name, which is ignored.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub residual: String,
    /// Whether streams go there.
    pub standing: Standing,
    /// `pending`, `bound`, `negative` or `failed`; none if nobody was asked.
    pub state: Option<String>,
    /// How long ago the answer was confirmed, in milliseconds; none for an address as written.
    pub age_ms: Option<u64>,
    /// How long until it is asked for again, in milliseconds.
    pub next_ms: Option<u64>,
    /// Why the last look-up failed.
    pub last_error: Option<String>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Who must answer there; on the inbound side nobody is expected.
    pub expects: Option<Expects>,
    /// The settings that rules give to these streams.
    pub settings: Vec<Setting>,
}

/// Whether streams to the name go to a bound name, as things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// All of them.
    Taken,
    /// A share of them, by weight.
    Drawn,
    /// They wait for its first answer.
    Waited,
    /// None: there is nothing.
    Absent,
    /// None: another branch comes first.
    PassedOver,
    /// None: all of it is down, and another branch is not.
    Down,
    /// None, ever: a `!` or `$` comes first.
    Behind,
    /// None: a fault of the rules elsewhere keeps the whole name from being routed.
    Unasked,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it is.
    pub address: String,
    /// `up`, `down` or `probation`.
    pub health: String,
    /// For how much longer it is left out, in milliseconds.
    pub down_for_ms: Option<u64>,
    /// Streams that hold it.
    pub open: usize,
    /// Its tier.
    pub tier: u16,
    /// Its share within its tier.
    pub weight: f64,
    /// Why it failed last.
    pub last_error: Option<String>,
}

/// Who must answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expects {
    /// By this rule.
    Rule {
        /// From 1, in the order of the file.
        rule: usize,
        /// The identity; none: it is not verified.
        identity: Option<String>,
        /// The name that is asked for there.
        asks_for: String,
    },
    /// No rule says so, and no stream goes there.
    Refused(String),
}

/// A setting that a rule gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The key in the file.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// What would become of the next stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It would go there.
    To {
        /// The endpoint.
        address: String,
        /// The bound name.
        bound: String,
        /// It is down, and tried for want of one that is up.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        down: bool,
    },
    /// It would be refused, and why.
    Refused(String),
    /// Not known before there is an answer.
    Pending(String),
}

impl From<EndpointStatus> for Endpoint {
    fn from(status: EndpointStatus) -> Self {
        Self {
            address: status.address,
            health: status.health.to_owned(),
            down_for_ms: status.down_for_ms,
            open: status.open,
            tier: status.tier,
            weight: status.weight,
            last_error: status.last_error,
        }
    }
}

impl Expects {
    pub(super) fn by(expectation: &Expectation) -> Self {
        let identity = match &expectation.verify {
            Verify::Identity(identity) => Some(identity.to_string()),
            Verify::None => None,
        };
        Self::Rule { rule: expectation.rule, identity, asks_for: expectation.name.to_string() }
    }
}

/// Those that are set, under the keys of the file.
pub(super) fn settings(settings: &Settings) -> Vec<Setting> {
    // Without `..`: a setting that is new cannot be forgotten here.
    let Settings { connect_timeout, idle, tunnel_idle, pool, warm, balancer, on_leave } = *settings;
    let time = |time: Duration| if time.is_zero() { "0s".to_owned() } else { format!("{time:?}") };
    let all = [
        ("connect_timeout", connect_timeout.map(time)),
        ("idle", idle.map(|idle| idle.map_or_else(|| "off".to_owned(), time))),
        ("tunnel_idle", tunnel_idle.map(time)),
        ("pool", pool.map(|count| count.to_string())),
        ("warm", warm.map(|count| count.to_string())),
        ("balancer", balancer.map(|kind| kind.as_str().to_owned())),
        (
            "on_leave",
            on_leave.map(|on_leave| match on_leave {
                OnLeave::Keep => "keep".to_owned(),
                OnLeave::After(after) => time(after),
            }),
        ),
    ];
    all.into_iter().filter_map(|(key, value)| Some(Setting { key: key.to_owned(), value: value? })).collect()
}
