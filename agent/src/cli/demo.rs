//! `adit demo`: the whole product in a few seconds, on loopback, for somebody who has never seen it. Two agents, a private
//! CA, an application and its server; real traffic, and every claim looked at before it is printed.
//!
//! It needs nothing but this executable, leaves nothing behind, and every wait in it has a limit.

mod agent;
mod app;
mod page;
mod wire;

use std::{
    error::Error,
    fmt, io,
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use clap::Args;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    signal::unix::{SignalKind, signal},
};

use crate::identity::{Authority, Existing, IssueError, Request};
use agent::Agent;
use app::{Server, converse, first_byte, part, pour};
use page::{Page, grouped, median, rate};
use wire::{Recording, Tap};

/// Any one step: a start, an answer, an end. The slowest takes well below a second on an idle machine.
const LIMIT: Duration = Duration::from_secs(10);
/// All of it.
const LIMIT_IN_ALL: Duration = Duration::from_secs(60);
/// Between two looks at what another process writes.
const PAUSE: Duration = Duration::from_millis(5);
/// How long bulk is sent, each way of going.
const POUR: Duration = Duration::from_secs(1);
/// Connections that each get a tunnel of their own, by being open at once.
const FRESH: usize = 16;
/// Connections one after another.
const RECYCLED: usize = 200;

/// The identities.
const WEB: &str = "web.demo.internal";
const BATCH: &str = "batch.demo.internal";
const DB: &str = "db.demo.internal";
/// The services: one whose tunnel is recorded, one for times, one for bulk.
const LEDGER: &str = "/svc/ledger";
const ECHO: &str = "/svc/echo";
const COUNT: &str = "/svc/count";

/// Show what adit does, on this host alone, in a few seconds.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Leave the folder with both configuration files, the certificates and the logs.
    #[arg(long)]
    keep: bool,
}

/// Why the demo did not come to its end: one line.
#[derive(Debug)]
pub(super) enum DemoError {
    /// A claim did not hold.
    Refuted(String),
    /// Something of the system failed.
    Io(String, io::Error),
    /// No certificate could be made.
    Issue(IssueError),
    /// Something took too long.
    Late(String),
    /// An agent did not do what the demo builds on.
    Broken(String),
    /// Told to end.
    Interrupted,
}

/// All that runs; dropping it ends the agents, then removes the folder.
struct Scene {
    a: Agent,
    b: Agent,
    tap: Tap,
    echo: Server,
    count: Server,
    dir: TempDir,
}

impl Demo {
    pub(super) fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let shown = runtime.block_on(async {
            let interrupted = interrupted()?;
            tokio::select! {
                shown = tokio::time::timeout(LIMIT_IN_ALL, show(self.keep)) => {
                    shown.unwrap_or_else(|_| Err(DemoError::Late("the end of the demo".to_owned())))
                }
                () = interrupted => Err(DemoError::Interrupted),
            }
        });
        // The servers and the wire end with the runtime.
        runtime.shutdown_background();
        shown?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns once a signal asks this process to end.
fn interrupted() -> Result<impl Future<Output = ()>, DemoError> {
    let of = |kind| signal(kind).map_err(DemoError::io("waiting for signals"));
    let mut interrupt = of(SignalKind::interrupt())?;
    let mut terminate = of(SignalKind::terminate())?;
    let mut hangup = of(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// The story.
async fn show(keep: bool) -> Result<(), DemoError> {
    let began = Instant::now();
    let mut page = Page::default();
    page.line(&format!("adit {} demo: two agents on loopback, real traffic", env!("CARGO_PKG_VERSION")))?;
    page.line("")?;
    page.line("   application --> agent A ======= TLS 1.3 =======> agent B --> server")?;
    page.line("         plain TCP         both with certificates         plain TCP")?;
    let scene = Scene::set(&mut page, keep).await?;
    let words = format!("transfer 1,000.00 to account 4711, reference {:016x}\n", fastrand::u64(..));
    scene.authenticated(&mut page, words.as_bytes()).await?;
    scene.sealed(&mut page, words.as_bytes()).await?;
    scene.refused(&mut page).await?;
    scene.quick(&mut page).await?;
    scene.end(&mut page, keep).await?;
    page.line(&format!("\nAll {} claims held, in {:.1} s.", page.claims(), began.elapsed().as_secs_f64()))?;
    page.line("Next: README.md, \"A first set-up between two hosts\".")
}

impl Scene {
    /// The CA, the certificates, the server, the wire, and both agents.
    async fn set(page: &mut Page, keep: bool) -> Result<Self, DemoError> {
        page.heading("A private CA, two hosts, three identities, made just now")?;
        let dir = tempfile::Builder::new().prefix("adit-demo-").disable_cleanup(keep).tempdir();
        let dir = dir.map_err(DemoError::io("making a folder"))?;
        issue(dir.path())?;
        let echo = Server::echo().await.map_err(DemoError::io("starting the server"))?;
        let count = Server::count().await.map_err(DemoError::io("starting the server"))?;
        let b = Agent::start("B", dir.path(), &file_of_b(dir.path(), echo.address, count.address)).await?;
        let tap = Tap::start(b.inbound()?).await.map_err(DemoError::io("starting the wire"))?;
        let a = Agent::start("A", dir.path(), &file_of_a(dir.path(), b.inbound()?, tap.address)).await?;
        page.row("A shows", &format!("{WEB}, and {BATCH} on another port"))?;
        page.row("B shows", DB)?;
        page.row("B serves", &format!("{LEDGER}, to {WEB} alone"))?;
        page.row("files", &dir.path().display().to_string())?;
        Ok(Self { a, b, tap, echo, count, dir })
    }

    /// One conversation, kept open while both agents are asked who is at the other end.
    async fn authenticated(&self, page: &mut Page, words: &[u8]) -> Result<(), DemoError> {
        page.heading("Who was authenticated")?;
        let front = self.a.front(LEDGER, None)?;
        let (socket, heard) = within("the ledger's answer", converse(front, words)).await?;
        let (at_a, at_b) = (self.a.stream(LEDGER).await?, self.b.stream(LEDGER).await?);
        within("the end of the conversation", part(socket)).await?;
        page.row("agent A met", &shown(&at_a["peer"]))?;
        page.row("agent B met", &shown(&at_b["peer"]))?;
        page.row("stream", &format!("{}, the same in both logs", shown(&at_a["id"])))?;
        page.claim(heard == words, "the application said its words, and heard the server's answer")?;
        let proved = at_a["peer"] == DB && at_b["peer"] == WEB;
        page.claim(proved, "each agent proved to the other who it is, by its certificate")?;
        page.claim(at_a["id"].is_string() && at_a["id"] == at_b["id"], "one stream id joins the records of both hosts")
    }

    /// What the recorder on the wire has of that conversation.
    async fn sealed(&self, page: &mut Page, words: &[u8]) -> Result<(), DemoError> {
        page.heading("Plaintext in, TLS on the wire")?;
        let control = self.control(words).await?;
        // The tunnel lives on, and the last of its records may still be on their way through the recorder.
        let wire = until("all that crossed the wire to be TLS".to_owned(), || {
            self.tap.recordings().pop().filter(|wire| wire.records().is_some())
        });
        let wire = wire.await?;
        page.row("application", &format!("{} bytes to agent A", words.len()))?;
        page.dump(words, 4)?;
        page.row("on the wire", &format!("{} bytes between the agents", grouped(wire.len() as u64)))?;
        page.dump(&wire.sent, 4)?;
        let records = wire.records();
        let agreed = wire.agreed();
        let terms = agreed.map_or_else(String::new, |(suite, group)| format!("{}, {}", name(suite), name(group)));
        page.row("agreed on", &terms)?;
        page.claim(wire.sent.starts_with(&[22, 3]), "it begins with the header of a TLS handshake record")?;
        let whole = format!("every byte of it is in one of {} TLS records", records.unwrap_or(0));
        page.claim(records.is_some_and(|count| count > 0), &whole)?;
        page.claim(agreed.is_some(), "what was agreed on could be read there, as in any TLS")?;
        page.claim(!wire.holds(reference(words)), "the reference occurs nowhere in it")?;
        page.claim(control.holds(reference(words)), "the same recorder reads it at once when there is no adit")
    }

    /// The same words past the same recorder, without any agent: a recorder that finds nothing proves nothing.
    async fn control(&self, words: &[u8]) -> Result<Recording, DemoError> {
        let bare = Tap::start(self.echo.address).await.map_err(DemoError::io("starting the wire"))?;
        let (socket, _) = within("the server's own answer", converse(bare.address, words)).await?;
        within("the end of the conversation", part(socket)).await?;
        Ok(bare.recordings().pop().unwrap_or_default())
    }

    /// The same service, asked under an identity that its allow list does not hold.
    async fn refused(&self, page: &mut Page) -> Result<(), DemoError> {
        page.heading("Who may not")?;
        let before = self.echo.callers();
        let front = self.a.front(LEDGER, Some("batch"))?;
        let met = tokio::time::timeout(LIMIT, converse(front, b"let me in")).await;
        let met = met.map_err(|_| DemoError::Late("the refusal".to_owned()))?;
        let record = self.a.logged("the refusal", |line| shown(&line["end"]).starts_with("refused")).await?;
        page.row("asked", &format!("{LEDGER} as {BATCH}"))?;
        page.row("agent A logs", &shown(&record["message"]))?;
        let saw = met.as_ref().err().map_or_else(|| "an answer".to_owned(), ToString::to_string);
        page.row("app saw", &saw)?;
        let denied = shown(&record["end"]).contains("denied") && shown(&record["message"]).contains(BATCH);
        page.claim(denied, "agent B refused, and agent A's log says whom and by which rule")?;
        let reset = met.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
        page.claim(reset, "the application was reset, so it takes this for no empty answer")?;
        page.claim(self.echo.callers() == before, "the server never heard of it")
    }

    async fn quick(&self, page: &mut Page) -> Result<(), DemoError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let build = if cfg!(debug_assertions) { "a debug build: slow" } else { "release build" };
        page.heading(&format!("How fast, here and now ({cores} cores for all of it; {build})"))?;
        self.first_bytes(page).await?;
        self.bulk(page).await
    }

    async fn first_bytes(&self, page: &mut Page) -> Result<(), DemoError> {
        let echo = self.a.front(ECHO, None)?;
        let bare = one_after_another(self.echo.address).await?;
        let before = self.tunnels().await?;
        let fresh = at_once(echo).await?;
        let between = self.tunnels().await?;
        let recycled = one_after_another(echo).await?;
        let after = self.tunnels().await?;
        page.line(&format!("   time to first byte: median of {RECYCLED} connections ({FRESH} on fresh tunnels)"))?;
        page.line(&format!("      without adit           {:>12}", median(bare)))?;
        page.line(&format!("      on a recycled tunnel   {:>12}", median(recycled)))?;
        page.line(&format!("      on a fresh tunnel      {:>12}   with both its handshakes", median(fresh)))?;
        let news = (between.0 - before.0, after.0 - between.0, after.1 - between.1);
        let held = news == (FRESH as u64, 0, RECYCLED as u64);
        page.claim(held, &format!("{RECYCLED} connections in a row, on recycled tunnels: no handshake"))
    }

    async fn bulk(&self, page: &mut Page) -> Result<(), DemoError> {
        page.line("   bulk: one stream, one second")?;
        let (sent, counted, took) = within("the server's own count", pour(self.count.address, POUR)).await?;
        page.line(&format!("      without adit           {:>12}", rate(counted, took)))?;
        if sent != counted {
            return Err(DemoError::Broken(format!("{sent} bytes were sent without adit, and {counted} arrived")));
        }
        let (sent, counted, took) = within("the server's count", pour(self.a.front(COUNT, None)?, POUR)).await?;
        page.line(&format!("      through both agents    {:>12}", rate(counted, took)))?;
        page.claim(sent == counted, &format!("all {} bytes of it arrived, and the end after them", grouped(sent)))
    }

    /// How many streams agent A has put on a fresh tunnel, and on a recycled one.
    async fn tunnels(&self) -> Result<(u64, u64), DemoError> {
        let of = async |kind| self.a.counter(&format!("adit_tunnels_used_total{{kind=\"{kind}\"}}")).await;
        Ok((of("fresh").await?, of("recycled").await?))
    }

    async fn end(mut self, page: &mut Page, keep: bool) -> Result<(), DemoError> {
        page.heading("The end")?;
        let ended = self.a.stop().await? && self.b.stop().await?;
        page.claim(ended, "told to end, both agents drained and exited with 0")?;
        let path = self.dir.path().to_owned();
        if keep {
            return page.row("kept", &path.display().to_string());
        }
        self.dir.close().map_err(DemoError::io("removing the folder"))?;
        page.claim(!path.exists(), "nothing is left of it on this host")
    }
}

/// A CA of this run's own, and what it issues; its key never leaves the folder.
fn issue(dir: &Path) -> Result<(), DemoError> {
    let now = SystemTime::now();
    let authority = Authority::create(dir, "adit demo CA", 1, Existing::Keep, now)?;
    for name in [WEB, BATCH, DB] {
        let request = Request { dns: vec![name.to_owned()], days: 1, ..Request::default() };
        authority.issue(&request, now)?.write(&dir.join(name), Existing::Keep)?;
    }
    Ok(())
}

fn file_of_b(dir: &Path, echo: SocketAddr, count: SocketAddr) -> String {
    let service = |name: &str, to: SocketAddr| {
        format!("\n[[inbound.service]]\nname = \"{name}\"\nto = \"{to}\"\nallow = [\"{WEB}\"]\n")
    };
    let services = [service(LEDGER, echo), service(ECHO, echo), service(COUNT, count)].concat();
    format!("{}\n[inbound]\nlisten = [\"127.0.0.1:0\"]\n{services}", common(dir, DB))
}

/// Every name leads to agent B; the ledger's tunnel alone goes through the recorder.
fn file_of_a(dir: &Path, b: SocketAddr, tap: SocketAddr) -> String {
    let to = |address: SocketAddr| format!("/$/inet/{}/{}", address.ip(), address.port());
    let listener =
        |name: &str, more: &str| format!("\n[[outbound.listener]]\nlisten = \"127.0.0.1:0\"\nto = \"{name}\"\n{more}");
    let (cert, key) = pair(dir, BATCH);
    let listeners =
        [listener(LEDGER, ""), listener(LEDGER, "certificate = \"batch\"\n"), listener(ECHO, ""), listener(COUNT, "")];
    format!(
        "{}\n[[tls.certificate]]\nid = \"batch\"\ncert = {cert}\nkey = {key}\n\n\
         [outbound]\ndtab = \"/svc => {} ; {LEDGER} => {}\"\n\n\
         [[outbound.peer]]\nname = \"/svc/{{service}}\"\nidentity = \"{DB}\"\n{}",
        common(dir, WEB),
        to(b),
        to(tap),
        listeners.concat()
    )
}

/// What both files say.
fn common(dir: &Path, identity: &str) -> String {
    let (cert, key) = pair(dir, identity);
    let ca = quoted(&dir.join("ca.pem"));
    format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n\n[log]\nformat = \"json\"\n\n\
         [tls]\nca = {ca}\ncert = {cert}\nkey = {key}\n"
    )
}

fn pair(dir: &Path, identity: &str) -> (String, String) {
    let file = |end: &str| quoted(&dir.join(format!("{identity}.{end}")));
    (file("pem"), file("key"))
}

/// A path as a TOML string: JSON's escapes are TOML's too.
fn quoted(path: &Path) -> String {
    Value::from(path.display().to_string()).to_string()
}

async fn one_after_another(address: SocketAddr) -> Result<Vec<Duration>, DemoError> {
    let mut took = Vec::new();
    for _ in 0..RECYCLED {
        let (first, socket) = within("a first byte", first_byte(address)).await?;
        took.push(first);
        within("the end of a connection", part(socket)).await?;
    }
    Ok(took)
}

/// Connections that are all open before the first ends, so that none can use the tunnel of another.
async fn at_once(address: SocketAddr) -> Result<Vec<Duration>, DemoError> {
    let (mut took, mut open): (Vec<Duration>, Vec<TcpStream>) = Default::default();
    for _ in 0..FRESH {
        let (first, socket) = within("a first byte", first_byte(address)).await?;
        took.push(first);
        open.push(socket);
    }
    for socket in open {
        within("the end of a connection", part(socket)).await?;
    }
    Ok(took)
}

/// The part of the words that no other bytes can hold by chance.
fn reference(words: &[u8]) -> &[u8] {
    let words = words.trim_ascii_end();
    &words[words.len().saturating_sub(16)..]
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `TLS13_AES_256_GCM_SHA384`, as rustls and most tools write it.
fn name(what: impl fmt::Debug) -> String {
    format!("{what:?}")
}

async fn within<T>(what: &str, step: impl Future<Output = io::Result<T>>) -> Result<T, DemoError> {
    let done = tokio::time::timeout(LIMIT, step).await.map_err(|_| DemoError::Late(what.to_owned()))?;
    done.map_err(DemoError::io(what))
}

/// Looks again and again until `look` finds something.
async fn until<T>(what: String, mut look: impl FnMut() -> Option<T>) -> Result<T, DemoError> {
    let looking = async {
        loop {
            match look() {
                Some(found) => return found,
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    tokio::time::timeout(LIMIT, looking).await.map_err(|_| DemoError::Late(what))
}

impl DemoError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io(what, error)
    }
}

impl From<IssueError> for DemoError {
    fn from(error: IssueError) -> Self {
        Self::Issue(error)
    }
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuted(claim) => write!(f, "demo: this did not hold: {claim}"),
            Self::Io(what, error) => write!(f, "demo: {what}: {error}"),
            Self::Issue(error) => write!(f, "demo: {error}"),
            Self::Late(what) => write!(f, "demo: waited {LIMIT:?} for {what}, in vain"),
            Self::Broken(what) => write!(f, "demo: {what}"),
            Self::Interrupted => f.write_str("demo: told to end before its end"),
        }
    }
}

impl Error for DemoError {}
