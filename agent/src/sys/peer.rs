//! The process at the other end of a unix socket, held by a descriptor, so that another that gets its number later is not
//! taken for it (SO_PEERPIDFD, unix(7), since Linux 6.5).

use std::{
    fs, io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use tokio::net::UnixStream;

/// The process that connected.
#[derive(Debug)]
pub struct PeerProcess {
    held: OwnedFd,
}

impl PeerProcess {
    /// Of the socket's other end.
    ///
    /// # Errors
    /// The system's; ENOPROTOOPT where the kernel is older.
    pub fn of(socket: &UnixStream) -> io::Result<Self> {
        let mut held: RawFd = -1;
        let mut len = libc::socklen_t::try_from(mem::size_of::<RawFd>()).unwrap_or(0);
        // SAFETY: the pointer and the length describe `held`, which outlives the call; the kernel writes a descriptor there,
        // or nothing.
        let status = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERPIDFD,
                (&raw mut held).cast(),
                &raw mut len,
            )
        };
        if status != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
        Ok(Self { held: unsafe { OwnedFd::from_raw_fd(held) } })
    }

    /// Its number, unless it is gone, or lives where this process sees none (pidfd_open(2): the line `Pid:` of its
    /// descriptor in proc_pid_fdinfo(5)).
    fn pid(&self) -> Option<u32> {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.held.as_raw_fd())).ok()?;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
        // -1 once it was waited for, 0 where it is in no namespace of ours.
        pid.trim().parse().ok().filter(|pid| *pid > 0)
    }

    /// What `/proc/PID/<file>` says of it, where `pid` is the number that the socket tells (SO_PEERCRED). Looked at
    /// afterwards whether it still has that number: then nobody else had it meanwhile.
    pub fn read(&self, pid: u32, file: &str) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        (self.pid() == Some(pid)).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_process_at_the_other_end_is_held() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = PeerProcess::of(&one).unwrap();
        assert_eq!(peer.pid(), Some(std::process::id()));
        assert!(peer.read(std::process::id(), "status").unwrap().starts_with("Name:"));
        assert_eq!(peer.read(std::process::id(), "no such file"), None);
        assert_eq!(peer.read(1, "status"), None, "that is another's number");
    }
}
