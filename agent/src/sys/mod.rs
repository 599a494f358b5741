//! What std and the crates lack of the system: all unsafe code of the project is in this folder, each block with the
//! reason why it is sound.
#![allow(unsafe_code, reason = "the one folder that talks to the system below std")]

pub mod accounts;
pub mod caps;
pub mod child;
pub mod ifaces;
pub mod inherited;
pub mod lent;
pub mod limits;
pub mod memory;
pub mod notify;
pub mod peer;
pub mod process;
pub mod successor;
pub mod tcp_info;
