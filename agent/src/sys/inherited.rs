//! Descriptors that this process was started with, by the rule of sd_listen_fds(3): which and how many, and what each is
//! called, stand in its environment.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

/// They were taken: a second taker would close what the first one uses.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes them, with their names, and takes the variables out of the environment, which children would misread; none where
/// they are another process's, or were taken before. Call it before there is a second thread.
///
/// # Errors
/// The variables contradict each other, or name descriptors that are not open.
pub fn take() -> io::Result<Vec<(String, OwnedFd)>> {
    if TAKEN.swap(true, Relaxed) {
        return Ok(Vec::new());
    }
    // SAFETY: nobody else reads or writes the environment, for there is no other thread yet; the caller sees to it.
    let given = unsafe { sd_notify::listen_fds_with_names_and_unset_env() };
    let given =
        given.map_err(|error| io::Error::new(error.kind(), format!("LISTEN_FDS (sd_listen_fds(3)): {error}")))?;
    // SAFETY: whoever started this process left these descriptors open for it (each was just found to be), and `TAKEN`
    // says that nobody owns them yet.
    Ok(given.map(|(descriptor, name)| (name, unsafe { OwnedFd::from_raw_fd(descriptor) })).collect())
}
