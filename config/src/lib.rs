//! What the configuration file means: parsed once, cannot be wrong; no tokio, no clock.
#![forbid(unsafe_code)]

pub mod dtab;

pub use dtab::{Bound, Dtab, NameTree};
