//! adit, the agent: plain TCP in, mutual TLS between hosts, plain TCP out.
//!
//! Read `outbound`, `inbound` and `relay` first: they are the product. The floors are in DESIGN's
//! order; `scripts/floors` keeps an import from climbing.

pub mod addr;
pub mod balance;
pub mod identity;
pub mod naming;
pub mod router;
pub mod watch;
