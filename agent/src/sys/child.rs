//! A child process that cannot outlive its parent.

use std::{io, os::unix::process::CommandExt, process::Command};

/// Has the kernel kill the child when the thread that starts it is gone, however that came (prctl(2),
/// PR_SET_PDEATHSIG): nothing of a demo stays behind, even when it is killed itself.
pub fn dies_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec the closure only calls prctl(2), which is async-signal-safe, and allocates nothing.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
}
