//! TCP_INFO (tcp(7), linux/tcp.h): what the kernel knows of a connection's other end.

use std::{io, mem, os::fd::AsRawFd, time::Duration};

use tokio::net::TcpStream;

/// What is read of TCP_INFO.
#[derive(Clone, Copy, Debug)]
pub struct TcpInfo {
    /// How long ago the peer last acknowledged anything; a live peer with a closed window answers window probes.
    pub last_ack: Duration,
}

impl TcpInfo {
    /// Asks the kernel.
    ///
    /// # Errors
    /// The system's, on a socket that is not TCP.
    pub fn of(socket: &TcpStream) -> io::Result<Self> {
        // SAFETY: tcp_info is plain numbers, for which all zeroes is a value.
        let mut info: libc::tcp_info = unsafe { mem::zeroed() };
        let mut len = libc::socklen_t::try_from(mem::size_of::<libc::tcp_info>()).unwrap_or(0);
        // SAFETY: the pointer and the length describe `info`, which outlives the call; the kernel writes no more than
        // `len` bytes (an older one writes fewer, the rest stays zero).
        let status = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut len,
            )
        };
        if status != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { last_ack: Duration::from_millis(info.tcpi_last_ack_recv.into()) })
    }
}
