//! What the configuration file means: parsed once, cannot be wrong; no tokio, no clock.
#![forbid(unsafe_code)]
