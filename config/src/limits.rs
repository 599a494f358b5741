//! Every limit the agent keeps, each with its default and the reason for it. A limit that may be off
//! is an `Option`; one that follows from the descriptor limit is `None` until [`Limits::resolved`].
//! Nothing here measures time: these are wishes, and the rooms that wait obey them.

use std::time::Duration;

/// How often a stream is tried before the application is told: PROTOCOL.md section 4. The protocol
/// fixes it, so it is no setting.
pub const ATTEMPTS: usize = 3;
/// How long an acceptor that said RETIRE goes on reading an idle tunnel: PROTOCOL.md section 5.
pub const RETIRE_READS: Duration = Duration::from_secs(10);
/// How long either side reads and discards after `close_notify`: PROTOCOL.md section 5.
pub const CLOSE_READS: Duration = Duration::from_secs(5);
/// How long and how much an acceptor discards after REFUSE: PROTOCOL.md section 4 (the eager 64 KiB
/// is `adit_protocol`'s `MAX_EAGER`).
pub const REFUSED_READS: Duration = Duration::from_secs(5);

/// Descriptors kept free of streams, beside one for each handshake that may be going on: listeners,
/// the admin door and its clients, DNS sockets, files being reloaded, the runtime's own.
const RESERVE: u64 = 64;

/// The `[limits]` section. `Default` is what an empty section means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// TLS handshake, from accept or connect to its end. 10 s: three retransmissions of a lost first
    /// flight (1 + 2 + 4 s) still fit, and a silent client holds one of few places.
    pub handshake: Duration,
    /// A control frame, from its first byte (or from when the reader waits for it) to its last. 5 s:
    /// OPEN is at most 4 KiB and leaves in one write, so only a lost packet can make it slow.
    pub open_frame: Duration,
    /// Connecting to the service behind the inbound side. 5 s: it is near; two lost SYNs (1 + 2 s)
    /// fit. A service may have its own `connect_timeout`.
    pub connect: Duration,
    /// The dialer's wait for ACCEPT or REFUSE after OPEN. 10 s: longer than the acceptor's connect
    /// limit, or the dialer would give up before it can hear why.
    pub answer: Duration,
    /// Opening a stream in all: look-up, handshake and all attempts. 15 s: one slow attempt and
    /// another quick one, and still less than most applications wait.
    pub open: Duration,
    /// A stream on which nothing moves in either direction. Off: databases hold quiet connections
    /// for days, and keepalive finds the dead.
    pub idle: Option<Duration>,
    /// Bytes wait for a peer that acknowledges nothing. 5 min: no live host is silent so long, and a
    /// reboot or a cut cable is over or noticed by then.
    pub stalled: Option<Duration>,
    /// Bytes wait for a peer that acknowledges but does not read. Off: a paused consumer is a right
    /// use of TCP.
    pub unread: Option<Duration>,
    /// One direction has ended and no byte moved in the other since. 1 h: a long answer after a
    /// finished request goes on moving bytes, so only what is forgotten reaches this.
    pub half_closed: Option<Duration>,
    /// A stream's greatest age. Off: nothing grows stale in a stream; rights and certificates are
    /// followed as they change.
    pub life: Option<Duration>,
    /// Tunnels in all, both directions. `None` (`"auto"`): half of what the descriptor limit leaves
    /// after a reserve, since a tunnel with a stream on it holds two descriptors.
    pub tunnels: Option<usize>,
    /// Accepted tunnels of one peer identity. `None` (`"auto"`): half of `tunnels`, so that one peer
    /// gone wild leaves room for all others.
    pub tunnels_per_peer: Option<usize>,
    /// Handshakes going on at once. 256: beyond it two cores only queue, and each holds about 30 KiB.
    pub handshakes: usize,
    /// Handshakes going on at once from one source address. 32: an eighth, so eight addresses must
    /// conspire to fill all places.
    pub handshakes_per_source: usize,
    /// Copies of eager bytes kept for a retry, in all. 64 MiB: a thousand streams at their full
    /// 64 KiB; beyond it OPEN goes without data, which costs one round trip and no memory.
    pub eager_bytes: usize,
    /// Streams in all, both directions. `None` (`"auto"`): as many as tunnels, for a stream has one
    /// to itself.
    pub streams: Option<usize>,
    /// An idle tunnel in the dialer's pool. 60 s: half the acceptor's, so the side that would use the
    /// tunnel closes it and no OPEN crosses a RETIRE.
    pub tunnel_idle_dialer: Duration,
    /// An idle tunnel at the acceptor, before it says RETIRE. 120 s: twice the dialer's; it ends only
    /// what a dialer forgot.
    pub tunnel_idle_acceptor: Duration,
    /// A tunnel's greatest age; older ones are retired once idle. Off: dates and revocation are
    /// checked at each OPEN, so age alone makes none worse.
    pub tunnel_age: Option<Duration>,
    /// Warm tunnels kept ready for each endpoint. 0: recycling gives most of the gain, and a warm
    /// tunnel costs memory on both hosts.
    pub warm: usize,
    /// Quiet time before the first keepalive probe. 60 s: shorter than the idle limits of the
    /// firewalls and address translators in common use.
    pub keepalive_idle: Duration,
    /// Time between keepalive probes. 15 s: with four of them a dead host is found within two minutes.
    pub keepalive_interval: Duration,
    /// Keepalive probes without an answer before the connection is dead. 4: three may be lost.
    pub keepalive_count: u32,
    /// How long a drain waits for streams before it resets them. 60 s: within the 90 s after which
    /// systemd kills a service that stops. `"off"` waits for ever.
    pub drain: Option<Duration>,
    /// How long a new agent may take, in an upgrade, until it is ready. 60 s: it reads files, which may be on a slow disk, and
    /// runs the tools that put rules in the kernel.
    pub upgrade_ready: Duration,
    /// How long an agent that was upgraded waits for its streams before it resets them. Off: nobody waits for its end, and
    /// the new agent serves all others meanwhile.
    pub upgrade_drain: Option<Duration>,
    /// Over how long tunnels are retired when one's own certificate is renewed. 60 s: PROTOCOL.md
    /// section 5; all at once would be a storm of handshakes.
    pub retire_spread: Duration,
    /// TCP_USER_TIMEOUT. Off: it also kills a healthy peer with a full window.
    pub user_timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            handshake: Duration::from_secs(10),
            open_frame: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(10),
            open: Duration::from_secs(15),
            idle: None,
            stalled: Some(Duration::from_secs(5 * 60)),
            unread: None,
            half_closed: Some(Duration::from_secs(60 * 60)),
            life: None,
            tunnels: None,
            tunnels_per_peer: None,
            handshakes: 256,
            handshakes_per_source: 32,
            eager_bytes: 64 << 20,
            streams: None,
            tunnel_idle_dialer: Duration::from_secs(60),
            tunnel_idle_acceptor: Duration::from_secs(120),
            tunnel_age: None,
            warm: 0,
            keepalive_idle: Duration::from_secs(60),
            keepalive_interval: Duration::from_secs(15),
            keepalive_count: 4,
            drain: Some(Duration::from_secs(60)),
            upgrade_ready: Duration::from_secs(60),
            upgrade_drain: None,
            retire_spread: Duration::from_secs(60),
            user_timeout: None,
        }
    }
}

/// The limits that follow from how many descriptors the process may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Tunnels in all; at least 1.
    pub tunnels: usize,
    /// Accepted tunnels of one peer identity; at least 1.
    pub tunnels_per_peer: usize,
    /// Streams in all; at least 1.
    pub streams: usize,
}

impl Limits {
    /// Settles what is `"auto"` by the descriptor limit (the soft `RLIMIT_NOFILE`). What the file
    /// says stands, however great: the operator may know better.
    #[must_use]
    pub fn resolved(&self, descriptor_limit: u64) -> Capacity {
        let tunnels = self.tunnels.unwrap_or_else(|| self.affordable(descriptor_limit));
        Capacity {
            tunnels,
            tunnels_per_peer: self.tunnels_per_peer.unwrap_or((tunnels / 2).max(1)),
            streams: self.streams.unwrap_or(tunnels),
        }
    }

    /// The reserve never takes more than half: with few descriptors a small agent still works.
    fn affordable(&self, descriptor_limit: u64) -> usize {
        let handshakes = u64::try_from(self.handshakes).unwrap_or(u64::MAX);
        let reserve = RESERVE.saturating_add(handshakes).min(descriptor_limit / 2);
        let pairs = (descriptor_limit - reserve) / 2;
        usize::try_from(pairs).unwrap_or(usize::MAX).max(1)
    }

    /// Every limit as key, value and what it is about, in the order of the struct: the one table that
    /// the reader, the printer and the reference share.
    pub(crate) fn rows(&mut self) -> [(&'static str, Row<'_>, &'static str); 28] {
        [
            ("handshake", Row::Wait(&mut self.handshake), "a TLS handshake, from accept or connect to its end"),
            (
                "open_frame",
                Row::Wait(&mut self.open_frame),
                "a control frame, from its first byte (or from when it is waited for) to its last",
            ),
            ("connect", Row::Wait(&mut self.connect), "connecting to a service, on the inbound side"),
            ("answer", Row::Wait(&mut self.answer), "a dialer's wait for the answer to its OPEN"),
            ("open", Row::Wait(&mut self.open), "opening a stream in all: look-up, handshake and every attempt"),
            ("idle", Row::MayBeOff(&mut self.idle), "a stream on which nothing moves in either direction"),
            ("stalled", Row::MayBeOff(&mut self.stalled), "bytes wait for a peer that acknowledges nothing"),
            ("unread", Row::MayBeOff(&mut self.unread), "bytes wait for a peer that acknowledges and does not read"),
            (
                "half_closed",
                Row::MayBeOff(&mut self.half_closed),
                "one direction has ended and nothing moved in the other since",
            ),
            ("life", Row::MayBeOff(&mut self.life), "a stream's greatest age"),
            (
                "tunnels",
                Row::Auto(&mut self.tunnels),
                "tunnels in all, both directions; auto: half of what the descriptor limit leaves",
            ),
            (
                "tunnels_per_peer",
                Row::Auto(&mut self.tunnels_per_peer),
                "accepted tunnels of one peer identity; auto: half of `tunnels`",
            ),
            ("handshakes", Row::Count(&mut self.handshakes), "handshakes at once"),
            (
                "handshakes_per_source",
                Row::Count(&mut self.handshakes_per_source),
                "handshakes at once from one source address",
            ),
            (
                "eager_bytes",
                Row::Bytes(&mut self.eager_bytes),
                "early bytes kept for a retry, in all streams; beyond it an OPEN carries none",
            ),
            ("streams", Row::Auto(&mut self.streams), "streams in all, both directions; auto: as many as `tunnels`"),
            ("tunnel_idle_dialer", Row::Wait(&mut self.tunnel_idle_dialer), "an idle tunnel in the dialer's pool"),
            (
                "tunnel_idle_acceptor",
                Row::Wait(&mut self.tunnel_idle_acceptor),
                "an idle tunnel at the acceptor, before it is retired",
            ),
            (
                "tunnel_age",
                Row::MayBeOff(&mut self.tunnel_age),
                "a tunnel's greatest age; an older one is retired once idle",
            ),
            ("warm", Row::MayBeZero(&mut self.warm), "tunnels kept ready for each endpoint"),
            (
                "keepalive_idle",
                Row::Keepalive(&mut self.keepalive_idle),
                "quiet time before the first TCP keepalive probe",
            ),
            ("keepalive_interval", Row::Keepalive(&mut self.keepalive_interval), "time between keepalive probes"),
            (
                "keepalive_count",
                Row::Probes(&mut self.keepalive_count),
                "keepalive probes without an answer before a connection is dead",
            ),
            (
                "drain",
                Row::MayBeOff(&mut self.drain),
                "how long a drain waits for streams before it resets them; off: for ever",
            ),
            (
                "upgrade_ready",
                Row::Wait(&mut self.upgrade_ready),
                "how long a new agent may take, in an upgrade, until it is ready; then it is killed",
            ),
            (
                "upgrade_drain",
                Row::MayBeOff(&mut self.upgrade_drain),
                "how long an agent that was upgraded waits for its streams before it resets them; off: for ever",
            ),
            (
                "retire_spread",
                Row::Wait(&mut self.retire_spread),
                "over how long tunnels are replaced when the agent's own certificate is renewed",
            ),
            (
                "user_timeout",
                Row::Unacknowledged(&mut self.user_timeout),
                "TCP_USER_TIMEOUT, which also kills a healthy peer with a full window",
            ),
        ]
    }
}

/// One limit, by how the file writes it.
pub(crate) enum Row<'a> {
    /// A duration above zero.
    Wait(&'a mut Duration),
    /// A duration above zero, or `"off"`.
    MayBeOff(&'a mut Option<Duration>),
    /// A number above zero, or `"auto"`.
    Auto(&'a mut Option<usize>),
    /// A number above zero.
    Count(&'a mut usize),
    /// A number, zero included.
    MayBeZero(&'a mut usize),
    /// A number of bytes, zero included, or `"64MiB"`.
    Bytes(&'a mut usize),
    /// A time that TCP_KEEPIDLE and TCP_KEEPINTVL take (tcp(7)): whole seconds, 1 to 32,767.
    Keepalive(&'a mut Duration),
    /// A number that TCP_KEEPCNT takes: 1 to 127.
    Probes(&'a mut u32),
    /// A time that TCP_USER_TIMEOUT takes, or `"off"`: milliseconds that fit the kernel's int.
    Unacknowledged(&'a mut Option<Duration>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_are_half_of_what_the_reserve_leaves() {
        let capacity = Limits::default().resolved(65_536);
        assert_eq!(capacity.tunnels, (65_536 - 64 - 256) / 2);
        assert_eq!(capacity.tunnels_per_peer, capacity.tunnels / 2);
        assert_eq!(capacity.streams, capacity.tunnels);
    }

    #[test]
    fn few_descriptors_or_endless_ones_still_give_a_capacity() {
        for limit in [0, 1, 2, 3, 256, 1024, u64::MAX] {
            let capacity = Limits::default().resolved(limit);
            assert!(capacity.tunnels >= 1 && capacity.tunnels_per_peer >= 1);
        }
        assert_eq!(Limits::default().resolved(256).tunnels, 64);
    }

    #[test]
    fn what_the_file_says_stands() {
        let limits = Limits { tunnels: Some(10), streams: Some(3), ..Limits::default() };
        let expected = Capacity { tunnels: 10, tunnels_per_peer: 5, streams: 3 };
        assert_eq!(limits.resolved(1024), expected);
    }

    #[test]
    fn the_defaults_do_not_contradict_each_other() {
        let limits = Limits::default();
        assert!(limits.connect < limits.answer && limits.answer < limits.open);
        assert!(limits.tunnel_idle_dialer < limits.tunnel_idle_acceptor);
        assert!(limits.handshakes_per_source < limits.handshakes);
    }
}
