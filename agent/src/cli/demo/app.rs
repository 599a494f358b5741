//! The demo's application and the server it talks to: plain TCP, as any pair of programs that knows nothing of TLS. The
//! application's every wait is bounded by whoever calls it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// One read or write of bulk.
const BULK: usize = 256 << 10;

/// A server, while its runtime lives.
#[derive(Debug)]
pub(super) struct Server {
    /// Where it listens.
    pub(super) address: SocketAddr,
    callers: Arc<AtomicUsize>,
}

impl Server {
    /// A server that sends back what it gets.
    pub(super) async fn echo() -> io::Result<Self> {
        Self::start(echo).await
    }

    /// A server that reads to the end, and then answers how many bytes there were, as eight of its own.
    pub(super) async fn count() -> io::Result<Self> {
        Self::start(count).await
    }

    async fn start<F>(serve: fn(TcpStream) -> F) -> io::Result<Self>
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let callers = Arc::new(AtomicUsize::new(0));
        let heard = Arc::clone(&callers);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                heard.fetch_add(1, Relaxed);
                let _ = socket.set_nodelay(true);
                // How a caller ends is for the application to judge.
                tokio::spawn(serve(socket));
            }
        });
        Ok(Self { address, callers })
    }

    /// How many connections it has accepted.
    pub(super) fn callers(&self) -> usize {
        self.callers.load(Relaxed)
    }
}

async fn echo(mut socket: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        match socket.read(&mut buffer).await? {
            0 => return Ok(()),
            count => socket.write_all(&buffer[..count]).await?,
        }
    }
}

async fn count(mut socket: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BULK];
    let mut total: u64 = 0;
    loop {
        match socket.read(&mut buffer).await? {
            0 => return socket.write_all(&total.to_be_bytes()).await,
            count => total += count as u64,
        }
    }
}

/// Connects, says `words`, and hears as many bytes back; the connection stays open.
pub(super) async fn converse(address: SocketAddr, words: &[u8]) -> io::Result<(TcpStream, Vec<u8>)> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    socket.write_all(words).await?;
    let mut heard = vec![0; words.len()];
    socket.read_exact(&mut heard).await?;
    Ok((socket, heard))
}

/// Ends a conversation, and waits until the other side has ended it too.
pub(super) async fn part(mut socket: TcpStream) -> io::Result<()> {
    socket.shutdown().await?;
    socket.read_to_end(&mut Vec::new()).await.map(drop)
}

/// From connect() to the first byte of an echo.
pub(super) async fn first_byte(address: SocketAddr) -> io::Result<(Duration, TcpStream)> {
    let began = Instant::now();
    let (socket, _) = converse(address, b"?").await?;
    Ok((began.elapsed(), socket))
}

/// Sends zeroes for `span`, then ends its direction and hears how many arrived: bytes sent, bytes counted there, and the
/// time from the first to the answer.
pub(super) async fn pour(address: SocketAddr, span: Duration) -> io::Result<(u64, u64, Duration)> {
    let mut socket = TcpStream::connect(address).await?;
    let chunk = vec![0; BULK];
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < span {
        socket.write_all(&chunk).await?;
        sent += chunk.len() as u64;
    }
    socket.shutdown().await?;
    let mut counted = [0; 8];
    socket.read_exact(&mut counted).await?;
    Ok((sent, u64::from_be_bytes(counted), began.elapsed()))
}
