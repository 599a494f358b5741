//! Telling the service manager how it stands with the agent (sd_notify(3)). Without one, where `NOTIFY_SOCKET` is not set,
//! nothing is told; that one does not listen is for the log to say, and stops nothing.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use sd_notify::NotifyState;
use tracing::warn;

/// Every door is open, and every credential loaded; with a line on how it stands.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A line on how it stands.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// The configuration is being read again; [`ready`] says that it was.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!("the clock of the service manager's reload cannot be read: {error}"),
    }
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

/// Another process is the main one from now on.
pub fn main_pid(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
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
    let told = match descriptors {
        [] => sd_notify::notify(state),
        _ => sd_notify::notify_with_fds(state, descriptors),
    };
    if let Err(error) = told {
        warn!("the service manager was not told ({state:?}): {error}");
    }
}
