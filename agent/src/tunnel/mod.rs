//! The road to another agent: dial a tunnel or take one from the pool, ask for a stream on it, and know whether and
//! where to ask again.

pub mod arrive;
pub mod attempt;
pub mod close;
pub mod dial;
pub mod pool;
pub mod retry;
