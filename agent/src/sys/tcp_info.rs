//! TCP_INFO (tcp(7), linux/tcp.h): what the kernel knows of a connection's other end, and what waits in its two queues.

use std::{
    io, mem,
    os::fd::{AsRawFd, RawFd},
    time::Duration,
};

use tokio::net::TcpStream;

/// What is read of TCP_INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// How long ago the peer last acknowledged anything; a live peer with a closed window answers window probes.
    pub last_ack: Duration,
    /// How long ago bytes came.
    pub last_received: Duration,
    /// How long ago bytes were sent.
    pub last_sent: Duration,
    /// The smoothed round trip.
    pub rtt: Duration,
    /// Segments on their way that nobody has acknowledged.
    pub unacked: u32,
    /// Bytes that were written and not yet sent once.
    pub unsent: u32,
    /// How often the oldest segment was sent again in vain, just now.
    pub retransmits: u32,
    /// Probes of a closed window that went unanswered, or were answered with a window that is still closed.
    pub probes: u32,
    /// Segments sent again since the connection began.
    pub retransmitted: u32,
    /// Segments sent since then.
    pub segments: u32,
    /// For how long in all something was to be sent.
    pub busy: Duration,
    /// Of that, held by the peer's window.
    pub held_by_window: Duration,
}

/// What waits in a socket's queues: bytes that came and were not read, and bytes that were written and not taken by the other
/// end (SIOCINQ and SIOCOUTQ: tcp(7), unix(7)). 0 where the kernel does not say.
pub fn queued(socket: RawFd) -> (u32, u32) {
    (count(socket, libc::FIONREAD), count(socket, libc::TIOCOUTQ))
}

fn count(socket: RawFd, which: libc::Ioctl) -> u32 {
    let mut count: libc::c_int = 0;
    // SAFETY: both requests write one int, which outlives the call; a number that is no socket is an error, not a fault.
    let status = unsafe { libc::ioctl(socket, which, &raw mut count) };
    if status == 0 { u32::try_from(count).unwrap_or(0) } else { 0 }
}

impl TcpInfo {
    /// Asks the kernel.
    ///
    /// # Errors
    /// The system's, on a socket that is not TCP.
    pub fn of(socket: &TcpStream) -> io::Result<Self> {
        Self::of_descriptor(socket.as_raw_fd())
    }

    /// The same, by the number of a descriptor.
    ///
    /// # Errors
    /// As above.
    pub fn of_descriptor(socket: RawFd) -> io::Result<Self> {
        // SAFETY: tcp_info is plain numbers, for which all zeroes is a value.
        let mut info: libc::tcp_info = unsafe { mem::zeroed() };
        let mut len = libc::socklen_t::try_from(mem::size_of::<libc::tcp_info>()).unwrap_or(0);
        // SAFETY: the pointer and the length describe `info`, which outlives the call; the kernel writes no more than
        // `len` bytes (an older one writes fewer, the rest stays zero).
        let status = unsafe {
            libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut len)
        };
        if status != 0 {
            return Err(io::Error::last_os_error());
        }
        let millis = |count: u32| Duration::from_millis(count.into());
        Ok(Self {
            last_ack: millis(info.tcpi_last_ack_recv),
            last_received: millis(info.tcpi_last_data_recv),
            last_sent: millis(info.tcpi_last_data_sent),
            rtt: Duration::from_micros(info.tcpi_rtt.into()),
            unacked: info.tcpi_unacked,
            unsent: info.tcpi_notsent_bytes,
            retransmits: info.tcpi_retransmits.into(),
            probes: info.tcpi_probes.into(),
            retransmitted: info.tcpi_total_retrans,
            segments: info.tcpi_segs_out,
            busy: Duration::from_micros(info.tcpi_busy_time),
            held_by_window: Duration::from_micros(info.tcpi_rwnd_limited),
        })
    }
}
