//! The admin door: metrics, health and status, read-only over TCP; all else on the unix socket only (DESIGN's "Local
//! trust").
//!
//! It has a thread and a runtime of its own, so that a busy data path cannot hide it.

mod delegate;
mod gauges;
mod limits;
mod pages;
mod predecessors;
mod question;
mod reloaded;
mod status;
mod upgraded;
mod whois;
mod why;

pub use reloaded::{Followed, Loaded, Outcome, Reloaded, Wish};
pub use upgraded::{NotUpgraded, UpgradeAsked, Upgraded};

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    pin::pin,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use adit_config::{Capacity, Limits, ListenAddr};
use arc_swap::ArcSwap;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    runtime::Handle,
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use question::Refusal;

use crate::{
    identity::Store,
    inbound::Inbound,
    listen::{Accepted, Bound, Door, Held, Hours, Inherited, ListenError, Named, Room, Special},
    naming::Namers,
    outbound::Outbound,
    predecessors::{Predecessors, QUESTION},
    slots::Slots,
    streams::Streams,
    tunnel::pool::Pool,
};

/// Connections to one admin door at once.
const CONNECTIONS: usize = 64;
/// How long a client may take over its request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection over TCP may last in all, for there is room for few and anybody may come: then it is told to close.
const TCP_LIFE: Duration = Duration::from_secs(30);
/// How long a client may take over an answer that is under way then.
const LAST_ANSWER: Duration = Duration::from_secs(5);

/// What the pages are made of.
#[derive(Debug)]
pub struct View {
    /// The metrics.
    pub page: PrometheusHandle,
    /// Our credentials, and whom we trust.
    pub identity: Arc<Store>,
    /// What names resolve to.
    pub namers: Arc<Namers>,
    /// All live streams.
    pub streams: Arc<Streams>,
    /// Idle tunnels.
    pub pool: Arc<Pool>,
    /// What a reload replaces.
    pub now: ArcSwap<Now>,
    /// The configuration's file, and whether it is in force.
    pub config: ArcSwap<Loaded>,
    /// Where a reload is asked for; the answer comes once it is done.
    pub reload: mpsc::Sender<Wish>,
    /// Where an upgrade is asked for; the answer comes once it is made.
    pub upgrade: mpsc::Sender<UpgradeAsked>,
    /// Whose turn it is to say which file is in force: a reload, or the moment of an upgrade.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    /// The agents before this one that still carry streams.
    pub predecessors: Arc<Predecessors>,
    /// When the agent started.
    pub since: Instant,
    /// The agent accepts no more, or is about to stop: not ready.
    pub unready: CancellationToken,
    /// Another process goes on with the doors.
    pub handed_on: CancellationToken,
    /// The agent after this one was told to end, and has passed it on.
    pub told_to_end: CancellationToken,
}

/// What is in force now.
#[derive(Clone, Debug)]
pub struct Now {
    /// The outbound side, if the file has one.
    pub outbound: Option<Arc<Outbound>>,
    /// The inbound side, if the file has one.
    pub inbound: Option<Arc<Inbound>>,
    /// Every door that is open.
    pub doors: Vec<Bound>,
    /// The limits, as the file has them.
    pub limits: Limits,
    /// Those that follow from the descriptor limit.
    pub capacity: Capacity,
}

/// By which kind of door a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Anybody on this host, or wherever the door is exposed to.
    Tcp,
    /// Whom the socket's mode lets in.
    Unix,
    /// The agent that has taken this one's place, over the line between the two.
    Line,
}

/// The admin's thread, which serves the doors that are opened on it until `stop`.
#[derive(Debug)]
pub struct Running {
    runtime: Handle,
    view: Arc<View>,
    /// Connections at its doors.
    served: TaskTracker,
    /// Each ends with what was asked by then: whoever keeps one for further questions would never hear of the agent that
    /// serves by then.
    over: CancellationToken,
    stop: CancellationToken,
}

/// Starts the thread; no door is open yet.
///
/// # Errors
/// The system has no thread or no runtime for it.
pub fn start(view: Arc<View>) -> Result<Running, ListenError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ListenError::of("the admin door's runtime", error))?;
    let (handle, served) = (runtime.handle().clone(), TaskTracker::new());
    let (over, stop) = (CancellationToken::new(), CancellationToken::new());
    let running = Running { runtime: handle, view, served, over, stop };
    let until = running.stop.clone();
    let serving = thread::Builder::new().name("admin".to_owned()).spawn(move || runtime.block_on(until.cancelled()));
    serving.map_err(|error| ListenError::of("the admin door's thread", error))?;
    Ok(running)
}

impl Running {
    /// Opens a door, where nobody is served yet, by the socket that it inherits if there is one; those that are `closing`
    /// may stand in its way.
    ///
    /// # Errors
    /// What the system said, and what to do.
    pub fn open(
        &self,
        listen: &ListenAddr,
        exposed: bool,
        inherited: &Inherited,
        closing: &[&Held],
    ) -> Result<Named, ListenError> {
        let _within = self.runtime.enter();
        inherited.open(listen, exposed, &Special::default(), closing)
    }

    /// Whether its thread does what it is asked to, within this time.
    pub async fn answers(&self, within: Duration) -> bool {
        // By the clock, and so by what waits for sockets too.
        let asked = self.runtime.spawn(tokio::time::sleep(Duration::from_millis(1)));
        matches!(tokio::time::timeout(within, asked).await, Ok(Ok(())))
    }

    /// Serves at a door that was opened here, during its hours.
    pub fn serve(&self, door: Door, hours: Hours) -> JoinHandle<()> {
        let (view, served, over) = (Arc::clone(&self.view), self.served.clone(), self.over.clone());
        // Each its own: who crowds the TCP door keeps nobody from the socket.
        let room = Room { slots: Slots::new(CONNECTIONS), limit: "admin_connections" };
        self.runtime.spawn(door.accept_each(room, hours, move |accepted, slot| {
            let (view, over) = (Arc::clone(&view), over.clone());
            served.spawn(async move {
                match accepted {
                    Accepted::Tcp(socket, _) => serve(socket, By::Tcp, view, over).await,
                    Accepted::Unix(socket) => {
                        note_caller(&socket);
                        serve(socket, By::Unix, view, over).await;
                    }
                }
                drop(slot);
            });
        }))
    }

    /// Takes the line to an agent before this one, which is asked from this thread.
    ///
    /// # Errors
    /// The line is none.
    pub fn add_predecessor(&self, line: OwnedFd) -> io::Result<()> {
        let _within = self.runtime.enter();
        self.view.predecessors.add(line)
    }

    /// Answers the agent after this one over the line between the two. The task ends with the line, or once `over` is
    /// cancelled and what was asked is answered.
    ///
    /// # Errors
    /// The line is none.
    pub fn serve_line(&self, line: OwnedFd, over: CancellationToken) -> io::Result<JoinHandle<()>> {
        let stream = StdStream::from(line);
        stream.set_nonblocking(true)?;
        let _within = self.runtime.enter();
        let stream = UnixStream::from_std(stream)?;
        Ok(self.runtime.spawn(serve(stream, By::Line, Arc::clone(&self.view), over)))
    }

    /// Lets each connection at its doors end with what was asked by then.
    pub fn hand_on(&self) {
        self.over.cancel();
    }

    /// The same, and waits until they have.
    pub async fn answered(&self) {
        self.over.cancel();
        self.served.close();
        self.served.wait().await;
    }

    /// Ends the thread, with all it serves.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

/// Who asks at the socket, as the kernel knows it (SO_PEERCRED, unix(7)): the operators' door keeps a record.
fn note_caller(socket: &UnixStream) {
    match socket.peer_cred() {
        Ok(caller) => info!(uid = caller.uid(), gid = caller.gid(), pid = caller.pid(), "a caller at the admin socket"),
        Err(error) => warn!("a caller at the admin socket, of whom the kernel says nothing: {error}"),
    }
}

/// Answers to the connection's end; or, once `over` is cancelled, what was asked by then.
async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin, by: By, view: Arc<View>, over: CancellationToken) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let view = Arc::clone(&view);
        async move {
            let question = request.headers().get(QUESTION).filter(|_| by == By::Line).cloned();
            let mut answer = match request.uri().path() {
                "/delegate" => delegate::answer(request, by, &view).await,
                "/whois" => whois::answer(&request, by, &view).await.unwrap_or_else(Refusal::page),
                "/why" => why::answer(&request, by, &view).await.unwrap_or_else(Refusal::page),
                _ => pages::answer(request.method(), request.uri(), by, &view).await,
            };
            if let Some(question) = question {
                answer.headers_mut().insert(QUESTION, question);
            }
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let mut server = http1::Builder::new();
    // Over the line, the next question may come in a year.
    if by != By::Line {
        server.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    }
    let mut connection = pin!(server.serve_connection(TokioIo::new(socket), answer));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = over.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = sleep(TCP_LIFE), if by == By::Tcp => {
            connection.as_mut().graceful_shutdown();
            match timeout(LAST_ANSWER, connection).await {
                Ok(ended) => ended,
                // Who does not read has not been waiting for the answer.
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        // A client that went away is no news to anybody.
        if !error.is_incomplete_message() && !error.is_timeout() {
            error!("the admin door: {error}");
        }
    }
}
