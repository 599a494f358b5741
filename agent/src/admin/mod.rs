//! The admin door: metrics, health and status, read-only over TCP (DESIGN's "Local trust").
//!
//! It has a thread and a runtime of its own, so that a busy data path cannot hide it.

mod limits;
mod pages;
mod status;

use std::{sync::Arc, thread, time::Instant};

use adit_config::{Admin, Capacity, Limits};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    runtime::Runtime,
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    identity::Store,
    inbound::Inbound,
    listen::{Accepted, Bound, Door, ListenError, Slots},
    naming::Namers,
    outbound::Outbound,
    streams::Streams,
    tunnel::pool::Pool,
};

/// Connections to the admin door at once.
const CONNECTIONS: usize = 64;
/// How long a client may take over its request's head.
const HEAD_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// What the pages are made of.
#[derive(Clone, Debug)]
pub struct View {
    /// The metrics.
    pub page: PrometheusHandle,
    /// The outbound side, if there is one.
    pub outbound: Option<Arc<Outbound>>,
    /// The inbound side, if there is one.
    pub inbound: Option<Arc<Inbound>>,
    /// Our credentials, and whom we trust.
    pub identity: Arc<Store>,
    /// What names resolve to.
    pub namers: Arc<Namers>,
    /// All live streams.
    pub streams: Arc<Streams>,
    /// Idle tunnels.
    pub pool: Arc<Pool>,
    /// Every door that is open, those of the admin itself once they are.
    pub doors: Vec<Bound>,
    /// The limits, as the file has them.
    pub limits: Limits,
    /// Those that follow from the descriptor limit.
    pub capacity: Capacity,
    /// When the agent started.
    pub since: Instant,
    /// The agent drains: not ready.
    pub draining: CancellationToken,
}

/// The admin door while it is open; dropping it leaves it open, `stop` closes it.
#[derive(Debug)]
pub struct Running {
    doors: Vec<Bound>,
    stop: CancellationToken,
}

impl Running {
    /// Where it listens.
    pub fn doors(&self) -> &[Bound] {
        &self.doors
    }

    /// Closes it.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

/// Opens the door where the configuration asks for one.
///
/// # Errors
/// The door that could not be opened.
pub fn start(config: &Admin, mut view: View) -> Result<Running, ListenError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ListenError::of("the admin door's runtime", error))?;
    let doors = match open(config, &runtime) {
        Ok(doors) => doors,
        Err(error) => {
            // This is called within another runtime, where a plain drop of this one would panic.
            runtime.shutdown_background();
            return Err(error);
        }
    };
    let bound: Vec<_> = doors.iter().map(|door| Bound::of("admin", door)).collect();
    view.doors.extend_from_slice(&bound);
    let stop = CancellationToken::new();
    let until = stop.clone();
    let view = Arc::new(view);
    let serving = thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async {
            for door in doors {
                let view = Arc::clone(&view);
                tokio::spawn(door.accept_each(
                    Slots { free: Arc::new(Semaphore::new(CONNECTIONS)), limit: "admin_connections" },
                    until.clone(),
                    move |accepted, place| {
                        let view = Arc::clone(&view);
                        tokio::spawn(async move {
                            match accepted {
                                Accepted::Tcp(socket, _) => serve(socket, view).await,
                                Accepted::Unix(socket) => {
                                    note_caller(&socket);
                                    serve(socket, view).await;
                                }
                            }
                            drop(place);
                        });
                    },
                ));
            }
            until.cancelled().await;
        });
    });
    serving.map_err(|error| ListenError::of("the admin door's thread", error))?;
    Ok(Running { doors: bound, stop })
}

fn open(config: &Admin, runtime: &Runtime) -> Result<Vec<Door>, ListenError> {
    let _within = runtime.enter();
    let tcp = config.listen.map(Door::tcp);
    let unix = config.socket.as_ref().map(Door::unix);
    tcp.into_iter().chain(unix).collect()
}

/// Who asks at the socket, as the kernel knows it (SO_PEERCRED, unix(7)): the operators' door keeps a record.
fn note_caller(socket: &UnixStream) {
    match socket.peer_cred() {
        Ok(caller) => info!(uid = caller.uid(), gid = caller.gid(), pid = caller.pid(), "a caller at the admin socket"),
        Err(error) => warn!("a caller at the admin socket, of whom the kernel says nothing: {error}"),
    }
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin, view: Arc<View>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let view = Arc::clone(&view);
        async move { Ok::<_, std::convert::Infallible>(pages::answer(request.method(), request.uri(), &view)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(socket), answer);
    if let Err(error) = connection.await {
        // A client that went away is no news to anybody.
        if !error.is_incomplete_message() && !error.is_timeout() {
            error!("the admin door: {error}");
        }
    }
}
