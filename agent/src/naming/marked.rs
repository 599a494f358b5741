//! How the resolver makes its connections: as it would itself, but marked as the agent's own, lest a rule that captures TCP
//! to port 53 bring them to the agent.

use std::{future::Future, io, net::SocketAddr, pin::Pin, time::Duration};

use hickory_resolver::net::runtime::{RuntimeProvider, TokioRuntimeProvider, iocompat::AsyncIoTokioAsStd};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

/// The resolver's runtime, and the mark of its connections.
#[derive(Clone, Default)]
pub(super) struct Marked {
    pub(super) mark: Option<u32>,
    plain: TokioRuntimeProvider,
}

impl Marked {
    pub(super) fn with(mark: Option<u32>) -> Self {
        Self { mark, plain: TokioRuntimeProvider::default() }
    }
}

/// Where the resolver says none; its look-ups have limits of their own.
const CONNECT: Duration = Duration::from_secs(5);

type Made<T> = Pin<Box<dyn Send + Future<Output = Result<T, io::Error>>>>;

impl RuntimeProvider for Marked {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = <TokioRuntimeProvider as RuntimeProvider>::Timer;
    type Udp = <TokioRuntimeProvider as RuntimeProvider>::Udp;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> Self::Handle {
        self.plain.create_handle()
    }

    fn connect_tcp(&self, server: SocketAddr, from: Option<SocketAddr>, limit: Option<Duration>) -> Made<Self::Tcp> {
        let Some(mark) = self.mark else { return self.plain.connect_tcp(server, from, limit) };
        Box::pin(async move {
            let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            SockRef::from(&socket).set_mark(mark)?;
            if let Some(from) = from {
                socket.bind(from)?;
            }
            socket.set_nodelay(true)?;
            let connected = tokio::time::timeout(limit.unwrap_or(CONNECT), socket.connect(server)).await;
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(AsyncIoTokioAsStd)
        })
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Made<Self::Udp> {
        // No rule captures UDP.
        self.plain.bind_udp(local, server)
    }
}
