//! The limits the system sets this process.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on file descriptors to the hard one (getrlimit(2)); returns what it is then.
///
/// # Errors
/// The system's.
pub fn raise_descriptors() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.or(current).unwrap_or(u64::MAX))
}
