//! What the configuration file means: parsed once, cannot be wrong; no tokio, no clock.
#![forbid(unsafe_code)]

pub mod error;
pub mod identity;
pub mod limits;

pub use error::{Problem, Problems, Warning};
pub use identity::{Identity, IdentityError, IdentityPattern};
pub use limits::{Capacity, Limits};
