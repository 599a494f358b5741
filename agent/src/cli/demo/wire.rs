//! The wire between the demo's two agents, for one of its names: a forwarder that keeps a copy of every byte, and what
//! anybody who listens there could read from it. It knows TLS records by their headers and the ServerHello by RFC 8446;
//! it has no key.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::{CipherSuite, NamedGroup};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The most that is kept of one direction; the demo's own words are a few kilobytes.
const MOST: usize = 1 << 20;

/// Record types: change_cipher_spec, alert, handshake, application_data (RFC 8446, section 5.1).
const RECORD_TYPES: std::ops::RangeInclusive<u8> = 20..=23;
/// A record's header, and its greatest length (RFC 8446, section 5.2).
const HEADER: usize = 5;
const LONGEST: usize = (1 << 14) + 256;

/// The forwarder, while its runtime lives.
#[derive(Debug)]
pub(super) struct Tap {
    /// Where it listens.
    pub(super) address: SocketAddr,
    kept: Arc<Mutex<Vec<Recording>>>,
}

/// What crossed in one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Recording {
    /// From the dialing agent.
    pub(super) sent: Vec<u8>,
    /// From the accepting one.
    pub(super) received: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Way {
    Sent,
    Received,
}

impl Tap {
    /// Listens, and forwards each connection to `to`.
    pub(super) async fn start(to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let kept = Arc::<Mutex<Vec<Recording>>>::default();
        let recordings = Arc::clone(&kept);
        tokio::spawn(async move {
            while let Ok((dialer, _)) = listener.accept().await {
                // A connection that breaks is for the agents to notice.
                tokio::spawn(forward(dialer, to, Arc::clone(&recordings)));
            }
        });
        Ok(Self { address, kept })
    }

    /// All that has crossed so far, a recording for each connection.
    pub(super) fn recordings(&self) -> Vec<Recording> {
        lock(&self.kept).clone()
    }
}

async fn forward(dialer: TcpStream, to: SocketAddr, kept: Arc<Mutex<Vec<Recording>>>) -> io::Result<()> {
    let acceptor = TcpStream::connect(to).await?;
    dialer.set_nodelay(true)?;
    acceptor.set_nodelay(true)?;
    let place = {
        let mut kept = lock(&kept);
        kept.push(Recording::default());
        kept.len() - 1
    };
    let (from_dialer, to_dialer) = dialer.into_split();
    let (from_acceptor, to_acceptor) = acceptor.into_split();
    let sent = copy(from_dialer, to_acceptor, |bytes| keep(&kept, place, Way::Sent, bytes));
    let received = copy(from_acceptor, to_dialer, |bytes| keep(&kept, place, Way::Received, bytes));
    tokio::try_join!(sent, received).map(drop)
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    keep: impl Fn(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match from.read(&mut buffer).await? {
            0 => return to.shutdown().await,
            count => {
                keep(&buffer[..count])?;
                to.write_all(&buffer[..count]).await?;
            }
        }
    }
}

/// Keeps a copy; a byte that could not be kept is not forwarded either.
fn keep(kept: &Mutex<Vec<Recording>>, place: usize, way: Way, bytes: &[u8]) -> io::Result<()> {
    let mut kept = lock(kept);
    let recording = &mut kept[place];
    let copy = match way {
        Way::Sent => &mut recording.sent,
        Way::Received => &mut recording.received,
    };
    if copy.len() + bytes.len() > MOST {
        return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "more crossed the wire than the demo keeps"));
    }
    copy.extend_from_slice(bytes);
    Ok(())
}

impl Recording {
    /// How many bytes crossed, both ways.
    pub(super) fn len(&self) -> usize {
        self.sent.len() + self.received.len()
    }

    /// Whether `bytes` occur in it.
    pub(super) fn holds(&self, bytes: &[u8]) -> bool {
        [&self.sent, &self.received].iter().any(|way| way.windows(bytes.len()).any(|window| window == bytes))
    }

    /// How many TLS records it is; none if any byte of it is outside of one.
    pub(super) fn records(&self) -> Option<usize> {
        Some(records(&self.sent)? + records(&self.received)?)
    }

    /// The cipher suite and the key exchange group that were agreed on, which the ServerHello says in the clear.
    pub(super) fn agreed(&self) -> Option<(CipherSuite, NamedGroup)> {
        agreed(&self.received)
    }
}

fn records(mut bytes: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !bytes.is_empty() {
        let header = bytes.split_off(..HEADER)?;
        let length = number(&header[3..]);
        if !RECORD_TYPES.contains(&header[0]) || header[1] != 3 || length > LONGEST {
            return None;
        }
        bytes.split_off(..length)?;
        count += 1;
    }
    Some(count)
}

/// Reads a ServerHello (RFC 8446, section 4.1.3) at the head of what an acceptor sent.
fn agreed(mut bytes: &[u8]) -> Option<(CipherSuite, NamedGroup)> {
    const SERVER_HELLO: u8 = 2;
    const KEY_SHARE: usize = 51;
    let bytes = &mut bytes;
    bytes.split_off(..HEADER)?;
    if *bytes.split_off_first()? != SERVER_HELLO {
        return None;
    }
    // Its length, the legacy version and the random.
    bytes.split_off(..3 + 2 + 32)?;
    let session = usize::from(*bytes.split_off_first()?);
    bytes.split_off(..session)?;
    let suite = u16::try_from(number(bytes.split_off(..2)?)).ok()?;
    // The compression method, and the length of the extensions.
    bytes.split_off(..1 + 2)?;
    loop {
        let kind = number(bytes.split_off(..2)?);
        let length = number(bytes.split_off(..2)?);
        let body = bytes.split_off(..length)?;
        if kind == KEY_SHARE {
            let group = u16::try_from(number(body.get(..2)?)).ok()?;
            return Some((CipherSuite::from(suite), NamedGroup::from(group)));
        }
    }
}

/// A big-endian number of a few bytes.
fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn lock(kept: &Mutex<Vec<Recording>>) -> MutexGuard<'_, Vec<Recording>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ServerHello of TLS_AES_256_GCM_SHA384 with a key share of X25519, after a supported_versions extension.
    fn hello() -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0x13, 0x02, 0, 0, 16]);
        body.extend([0, 43, 0, 2, 3, 4]);
        body.extend([0, 51, 0, 6, 0, 0x1d, 0, 2, 9, 9]);
        let length = u8::try_from(body.len()).unwrap();
        let mut record = vec![22, 3, 3, 0, length + 4, 2, 0, 0, length];
        record.extend(body);
        record
    }

    #[test]
    fn a_server_hello_says_what_was_agreed() {
        let (suite, group) = agreed(&hello()).unwrap();
        assert_eq!((suite, group), (CipherSuite::TLS13_AES_256_GCM_SHA384, NamedGroup::X25519));
    }

    #[test]
    fn a_hello_cut_short_anywhere_agrees_on_nothing_and_is_no_whole_record() {
        let hello = hello();
        for end in 1..hello.len() {
            assert_eq!(records(&hello[..end]), None, "{end}");
            let _ = agreed(&hello[..end]);
        }
        assert_eq!(records(&hello), Some(1));
    }

    #[test]
    fn plaintext_is_no_record_and_is_found() {
        let recording = Recording { sent: b"GET / HTTP/1.1\r\n".to_vec(), received: hello() };
        assert_eq!(recording.records(), None);
        assert!(recording.holds(b"HTTP/1.1"));
        assert!(!recording.holds(b"HTTP/2"));
    }
}
