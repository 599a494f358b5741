//! adit, the agent: plain TCP in, mutual TLS between hosts, plain TCP out.
//!
//! Read `outbound`, `inbound` and `relay` first: they are the product. The floors are in `scripts/floors`, which keeps an
//! import from climbing.

pub mod addr;
pub mod admin;
pub mod app;
pub mod balance;
pub mod cli;
pub mod crowd;
pub mod end;
pub mod identity;
pub mod inbound;
pub mod listen;
pub mod naming;
pub mod outbound;
pub mod predecessors;
pub mod redirect;
pub mod relay;
pub mod reload;
pub mod router;
pub mod slots;
pub mod streams;
pub mod sys;
pub mod telemetry;
pub mod tunnel;
pub mod upgrade;
pub mod watch;
pub mod wire;
pub mod withdraw;
pub mod workload;
