//! One question to the kernel: whose is the socket between these two ends? Over sock_diag(7), as inet_diag has it
//! (linux/inet_diag.h), an exact look-up and never a walk over all sockets.
//!
//! Written here, and not taken from a crate: one question and one answer are needed, in safe code, and the crates made for
//! it know nothing of the attribute that tells the control group.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use socket2::{Domain, Protocol, Socket, Type};

/// linux/sock_diag.h: SOCK_DIAG_BY_FAMILY, of the question and of its answer.
const BY_FAMILY: u16 = 20;
/// linux/netlink.h: NLMSG_ERROR.
const ERROR: u16 = 2;
/// linux/netlink.h: NLM_F_REQUEST.
const REQUEST: u16 = 1;
/// linux/inet_diag.h: INET_DIAG_CGROUP_ID, since Linux 5.9.
const CGROUP_ID: u16 = 21;
/// linux/netlink.h: the bits of an attribute's kind (NLA_TYPE_MASK).
const KIND: u16 = 0x3fff;

/// The lengths of `nlmsghdr`, of the question and of what an answer always has: `inet_diag_req_v2`, `inet_diag_msg`.
const HEADER: usize = 16;
const QUESTION: usize = HEADER + 56;
const ANSWER: usize = HEADER + 72;
/// The attributes of one socket take some hundred bytes.
const ROOM: usize = 4096;

/// Whose a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// The user who made it.
    pub(super) uid: u32,
    /// The control group it was made in, by the number of its folder in cgroup2; none where the kernel does not tell.
    pub(super) cgroup: Option<u64>,
}

/// The ends of a socket as it has them itself: its own address first, IPv4 as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    own: (IpAddr, u16),
    other: (IpAddr, u16),
    /// The interface that link-local addresses are of; else 0.
    interface: u32,
}

impl Pair {
    pub(super) fn new(own: SocketAddr, other: SocketAddr) -> Self {
        let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        let interface = if let SocketAddr::V6(own) = own { own.scope_id() } else { 0 };
        Self { own: plain(own), other: plain(other), interface }
    }
}

/// Asks the kernel, one question at a time: it answers before the question is sent, so that nobody ever waits.
#[derive(Debug, Default)]
pub(super) struct Diag {
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    socket: Option<Socket>,
    number: u32,
}

impl Diag {
    /// Whose the socket with these ends is; `None` if there is none, or nobody holds it any more.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub(super) fn owner(&self, pair: Pair) -> io::Result<Option<Owner>> {
        // A panic under the lock leaves at worst a socket whose answers have other numbers.
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = line.ask(pair);
        if asked.is_err() {
            // What it may still say would be taken for the next answer.
            line.socket = None;
        }
        asked
    }
}

impl Line {
    fn ask(&mut self, pair: Pair) -> io::Result<Option<Owner>> {
        self.number = self.number.wrapping_add(1);
        let mut socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(open()?),
        };
        // To no address is to the kernel (netlink(7)); and only the kernel, or who may administer the network, can write to
        // a socket of this family.
        socket.write_all(&question(pair, self.number))?;
        let mut room = [0; ROOM];
        let len = socket.read(&mut room)?;
        answer(room.get(..len).unwrap_or_default(), pair, self.number)
    }
}

fn open() -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    Socket::new(Domain::from(libc::AF_NETLINK), kind, Some(Protocol::from(libc::NETLINK_SOCK_DIAG)))
}

/// `nlmsghdr` and `inet_diag_req_v2`.
fn question(pair: Pair, number: u32) -> Vec<u8> {
    // A socket of IPv6 that is connected to an IPv4 address is found as one of IPv4.
    let family = if pair.own.0.is_ipv4() && pair.other.0.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut out = Vec::with_capacity(QUESTION);
    out.extend(u32::try_from(QUESTION).unwrap_or(0).to_ne_bytes());
    out.extend([BY_FAMILY, REQUEST].map(u16::to_ne_bytes).as_flattened());
    out.extend([number, 0].map(u32::to_ne_bytes).as_flattened());
    out.extend([family, libc::IPPROTO_TCP, 0, 0].map(|byte| u8::try_from(byte).unwrap_or(0)));
    // Any state.
    out.extend(u32::MAX.to_ne_bytes());
    out.extend([pair.own.1, pair.other.1].map(u16::to_be_bytes).as_flattened());
    out.extend([octets(pair.own.0), octets(pair.other.0)].as_flattened());
    out.extend(pair.interface.to_ne_bytes());
    // INET_DIAG_NOCOOKIE: whichever socket it is.
    out.extend([u32::MAX, u32::MAX].map(u32::to_ne_bytes).as_flattened());
    out
}

/// An address in the room for one: IPv4 in its first four bytes.
fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Reads an answer: `nlmsghdr`, `inet_diag_msg` and attributes.
fn answer(bytes: &[u8], pair: Pair, number: u32) -> io::Result<Option<Owner>> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is cut off");
    let read = Reader(bytes);
    let (kind, of) = (read.short(4).ok_or_else(short)?, read.long(8).ok_or_else(short)?);
    if of != number {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel answers another question"));
    }
    if kind == ERROR {
        let code = read.long(HEADER).ok_or_else(short)?.cast_signed();
        return match code.wrapping_neg() {
            libc::ENOENT => Ok(None),
            code => Err(io::Error::from_raw_os_error(code)),
        };
    }
    if kind != BY_FAMILY || bytes.len() < ANSWER {
        return Err(short());
    }
    Ok(owner(&read, pair))
}

/// The owner in an answer that is whole.
fn owner(read: &Reader<'_>, pair: Pair) -> Option<Owner> {
    // Where no connection has these ends, the kernel also finds whoever listens at the first of them: somebody else.
    if read.pair()? != (pair.own, pair.other) {
        return None;
    }
    let (uid, inode) = (read.long(80)?, read.long(84)?);
    // A socket that was closed, with bytes still on their way, has no owner, and says user 0: that is not root.
    (inode != 0).then(|| Owner { uid, cgroup: read.attribute(CGROUP_ID) })
}

/// The bytes of an answer, by their places.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    fn short(&self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_ne_bytes)
    }

    fn long(&self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_ne_bytes)
    }

    /// `inet_diag_sockid`: the ends of the socket that was found.
    fn pair(&self) -> Option<((IpAddr, u16), (IpAddr, u16))> {
        let is_v4 = i32::from(*self.0.get(HEADER)?) == libc::AF_INET;
        let ip = |at| {
            let bytes: [u8; 16] = self.bytes(at)?;
            let v4: [u8; 4] = self.bytes(at)?;
            Some(if is_v4 { IpAddr::from(v4) } else { IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical() })
        };
        let port = |at| self.bytes(at).map(u16::from_be_bytes);
        Some(((ip(24)?, port(20)?), (ip(40)?, port(22)?)))
    }

    /// The number that an attribute (netlink(7), `nlattr`) of this kind holds.
    fn attribute(&self, kind: u16) -> Option<u64> {
        let mut at = ANSWER;
        loop {
            let (len, found) = (usize::from(self.short(at)?), self.short(at + 2)? & KIND);
            if found == kind {
                return self.bytes(at + 4).map(u64::from_ne_bytes);
            }
            // Each starts at a multiple of four; one shorter than its own header ends the walk.
            at += len.max(1).next_multiple_of(4);
            if len < 4 {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn own_uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    /// A connection: the application's end, and ours.
    fn connection(at: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(at).unwrap();
        let app = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (app, listener.accept().unwrap().0)
    }

    fn pair(ours: &TcpStream) -> Pair {
        Pair::new(ours.peer_addr().unwrap(), ours.local_addr().unwrap())
    }

    #[test]
    fn a_connections_user_is_found_by_both_its_ends_over_either_family() {
        let diag = Diag::default();
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let (_app, ours) = connection(at);
            assert_eq!(diag.owner(pair(&ours)).unwrap().unwrap().uid, own_uid(), "{at}");
        }
    }

    #[test]
    fn an_ipv6_socket_that_speaks_ipv4_is_found_as_the_ipv4_it_speaks() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{port}").parse().unwrap();
        let app = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        app.set_only_v6(false).unwrap();
        app.connect(&mapped.into()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        assert_eq!(Diag::default().owner(pair(&ours)).unwrap().unwrap().uid, own_uid());
    }

    #[test]
    fn a_socket_that_was_closed_is_nobodys_and_not_roots() {
        // given an application that closed with bytes still unread, so that the kernel keeps its socket a while
        let (app, ours) = connection("127.0.0.1:0");
        drop(app);
        // then it is not told to be anybody's
        assert_eq!(Diag::default().owner(pair(&ours)).unwrap(), None);
    }

    #[test]
    fn who_listens_at_an_address_is_not_who_connected_from_it() {
        // given a port that somebody of this host listens on, and a connection of another host's from the same port
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let elsewhere = SocketAddr::from(([192, 0, 2, 7], port));
        let asked = Pair::new(elsewhere, SocketAddr::from(([192, 0, 2, 8], 5432)));
        // then the listener's user is not taken for the other's
        assert_eq!(Diag::default().owner(asked).unwrap(), None);
    }

    #[test]
    fn ends_that_no_socket_has_are_nobodys() {
        let nowhere = |port| SocketAddr::from(([192, 0, 2, 1], port));
        assert_eq!(Diag::default().owner(Pair::new(nowhere(1), nowhere(2))).unwrap(), None);
    }

    #[test]
    fn an_answer_that_is_cut_off_or_of_another_question_is_an_error_and_never_a_user() {
        let (_app, ours) = connection("127.0.0.1:0");
        let pair = pair(&ours);
        let mut socket = &open().unwrap();
        socket.write_all(&question(pair, 7)).unwrap();
        let mut room = [0; ROOM];
        let len = socket.read(&mut room).unwrap();
        let whole = &room[..len];
        assert_eq!(answer(whole, pair, 7).unwrap().unwrap().uid, own_uid());
        assert!(answer(whole, pair, 8).is_err());
        for cut in 0..ANSWER {
            assert!(answer(&whole[..cut], pair, 7).is_err(), "{cut}");
        }
        // An attribute that says it has no length ends the walk.
        let mut endless = whole[..ANSWER].to_vec();
        endless.extend([0; 64]);
        assert_eq!(answer(&endless, pair, 7).unwrap().unwrap().cgroup, None);
    }
}
