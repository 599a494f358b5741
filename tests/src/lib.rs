//! The rig: what the scenarios in `tests/it` are built from.
//!
//! It knows the agent as an operator does, by its command line and its configuration file, and links no part of it.
//! Every wait has a limit, every port is the kernel's choice, and every process started here is ended here.
//! A scenario never skips silently: see [`skip`].

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a rig that cannot do its work must fail the test that asked, and a panic with a sentence is how"
)]

pub mod address;
pub mod agent;
pub mod authority;
pub mod cgroup;
pub mod churn;
pub mod cutter;
pub mod dns;
pub mod end;
pub mod field;
pub mod listener;
pub mod live;
pub mod load;
pub mod machine;
pub mod manager;
pub mod mesh;
pub mod mount;
pub mod netns;
pub mod pattern;
pub mod peer;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod promql;
pub mod proxy;
pub mod readme;
pub mod redis;
pub mod resp;
pub mod skip;
pub mod stopped;
mod unbound;
pub mod wait;
pub mod way;
pub mod workload_api;
pub mod zone;
