//! Another process, held by a descriptor (pidfd_open(2)): its number may be somebody else's one day, and this never is.

use std::{io, os::fd::OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{Interest, unix::AsyncFd};

/// The process.
#[derive(Debug)]
pub struct Process(AsyncFd<OwnedFd>);

impl Process {
    /// The process that has this number now; must run within the runtime.
    ///
    /// # Errors
    /// There is none, or no descriptor for it.
    pub fn hold(pid: Pid) -> io::Result<Self> {
        let held = pidfd_open(pid, PidfdFlags::empty())?;
        // SAFETY: an OwnedFd is one and the same descriptor, open, until it is dropped, and it is dropped with this.
        let registered = unsafe { AsyncFd::register_with_interest(held, Interest::READABLE) };
        Ok(Self(registered.map_err(io::Error::from)?))
    }

    /// Waits until it has ended.
    pub async fn ended(&self) {
        // It fails only once the runtime ends.
        let _ = self.0.readable().await;
    }

    /// Sends it a signal; one that has ended needs none.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(self.0.get_ref(), signal);
    }
}
