//! Sockets and what is on them: lent buffers, TLS over TCP, the tunnel's frames, an application's plain socket.
//!
//! Every step here is one non-blocking call that says what came of it; waiting, limits and decisions belong to the
//! callers. Nothing here knows the configuration.

mod bind;
pub mod buffer;
pub mod channel;
pub mod plain;
mod records;
pub mod tunnel;
