//! The scenarios: one binary, a module for each kind. What they are built from is this package's library.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "every function here is a test's, and a panic is how a test fails"
)]

mod admin;
mod alerts;
mod bulk;
mod callers;
mod capture;
mod certificates;
mod check;
mod churn;
mod container;
mod crashes;
mod crowd;
mod cuts;
mod dashboard;
mod delegate;
mod demo;
mod doors;
mod files;
mod identities;
mod kubernetes;
mod metrics;
mod names;
mod peers;
mod pool;
mod postgres;
mod privileges;
mod redirect;
mod redis;
mod refusals;
mod reload;
mod rig;
mod rights;
mod settings;
mod sources;
mod spares;
mod srv;
mod starts;
mod status;
mod streams;
mod two_hosts;
mod upgrade;
mod workloads;
