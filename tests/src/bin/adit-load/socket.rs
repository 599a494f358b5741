//! Either wire as one type, and the pattern that bulk is made of.

use std::{io, path::PathBuf};

use adit_tests::{address::Address, pattern::Pattern};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

/// The pattern both sides of a bulk transfer know.
const SEED: u64 = 2;

/// What a transfer holds at once.
const BUFFER: usize = 1 << 18;

/// A connected socket of either kind.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connected socket of either kind.
pub(crate) type Stream = Box<dyn Duplex>;

/// A listening socket of either kind.
pub(crate) enum Door {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Door {
    pub(crate) async fn open(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                // A storm of connections needs a longer queue than the default 1,024 allows for.
                let socket = socket2::Socket::new(socket2::Domain::for_address(*address), socket2::Type::STREAM, None)?;
                socket.set_reuse_address(true)?;
                socket.bind(&(*address).into())?;
                socket.listen(4096)?;
                socket.set_nonblocking(true)?;
                Ok(Self::Tcp(TcpListener::from_std(socket.into())?))
            }
            Address::Unix(path) => Ok(Self::Unix(UnixListener::bind(path)?, path.clone())),
        }
    }

    pub(crate) fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Unix(listener, _) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

pub(crate) async fn connect(address: &Address) -> io::Result<Stream> {
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
    }
}

/// Sends `count` bytes of the pattern, and ends this direction.
pub(crate) async fn send(stream: &mut Stream, count: u64) -> io::Result<()> {
    let pattern = Pattern::new(SEED);
    let mut at = 0;
    while at < count {
        let piece = pattern.piece(at, count - at);
        stream.write_all(piece).await?;
        at += piece.len() as u64;
    }
    stream.shutdown().await
}

/// Reads to the end; returns how many bytes of the pattern came.
pub(crate) async fn receive(stream: &mut Stream) -> io::Result<u64> {
    let pattern = Pattern::new(SEED);
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(at);
        }
        pattern.check(at, &buffer[..count]).map_err(io::Error::other)?;
        at += count as u64;
    }
}

/// Reads to the end of a direction that nothing should come from.
pub(crate) async fn expect_end(stream: &mut Stream) -> io::Result<()> {
    match stream.read(&mut [0; 1]).await? {
        0 => Ok(()),
        _ => Err(io::Error::other("a byte came where only an end should")),
    }
}
