//! Telling the service manager how it stands with the agent (sd_notify(3)). Without one, where `NOTIFY_SOCKET` is not set,
//! nothing is told; that one does not listen is for the log to say, and stops nothing.

use std::{
    env, io,
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use sd_notify::NotifyState;
use tracing::warn;

/// Another process is the main one: what this one says would be refused.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Whether there is a service manager that listens.
pub fn is_there() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

/// Every door is open, and every credential loaded; with a line on how it stands.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A line on how it stands.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// The configuration is being read again; [`reloaded`] says that it was.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!("the clock of the service manager's reload cannot be read: {error}"),
    }
}

/// The configuration was read again; what came of it, the log says.
pub fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// The agent drains, and ends within this time.
pub fn stopping(within: Option<Duration>) {
    tell(&[NotifyState::Stopping]);
    extend_timeout(within);
}

/// Whatever is under way may take this much longer.
pub fn extend_timeout(by: Option<Duration>) {
    let most = u32::MAX;
    let micros = by.map_or(most, |by| u32::try_from(by.as_micros()).unwrap_or(most));
    tell(&[NotifyState::ExtendTimeoutUsec(micros)]);
}

/// The agent lives; to be told at least every [`watchdog_period`].
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How long the service manager waits for a sign of life, if it waits for any of this process.
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Another process is the main one from now on; after this, this one says no more.
pub fn main_pid(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
    SILENT.store(true, Relaxed);
}

/// This process is the main one after all. Heard only if the manager has taken the other's end for no end of the service.
pub fn main_again() {
    SILENT.store(false, Relaxed);
    tell(&[NotifyState::MainPid(std::process::id())]);
}

/// Waits until the service manager has read all that it was told before (sd_notify_barrier(3)); `false` if it has not
/// within this time.
pub fn barrier(within: Duration) -> bool {
    if !is_there() {
        return true;
    }
    pass_barrier(within).unwrap_or_else(|error| {
        warn!("the service manager cannot be waited for: {error}");
        false
    })
}

/// The manager gets an end of a pipe, and closes it once it comes to it.
fn pass_barrier(within: Duration) -> io::Result<bool> {
    let (held, sent) = io::pipe()?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[sent.as_fd()])?;
    drop(sent);
    let until = Instant::now() + within;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&held, PollFlags::empty())], Some(&left)) {
            Ok(closed) => return Ok(closed > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Gives a copy of a descriptor to the service manager, which gives it back to whoever is started after a crash.
pub fn keep(name: &str, descriptor: &impl AsFd) {
    with(&[NotifyState::FdStore, NotifyState::FdName(name)], &[descriptor.as_fd()]);
}

/// Lets the service manager close what it keeps under this name.
pub fn keep_no_more(name: &str) {
    tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}

fn tell(state: &[NotifyState<'_>]) {
    with(state, &[]);
}

fn with(state: &[NotifyState<'_>], descriptors: &[BorrowedFd<'_>]) {
    if SILENT.load(Relaxed) {
        return;
    }
    let told = match descriptors {
        [] => sd_notify::notify(state),
        _ => sd_notify::notify_with_fds(state, descriptors),
    };
    if let Err(error) = told {
        warn!("the service manager was not told ({state:?}): {error}");
    }
}
