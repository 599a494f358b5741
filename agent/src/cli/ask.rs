//! Asking a running agent at its admin door: one request over its unix socket or its TCP port. What comes back is text; what
//! it means is the caller's to know.

use std::{
    error::Error,
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use adit_config::{Admin, Config, Problems};
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinSet,
};

/// How long an answer may take: an agent that lives answers within milliseconds, from a thread of its own.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// The longest answer that is read: ten thousand names and endpoints stay far below.
const LONGEST: usize = 64 << 20;

/// Where an agent answers its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
}

/// What the file says of the agent's admin doors. A file that is wrong elsewhere still tells: the agent runs by an earlier
/// one, and knows best what is wrong with this.
///
/// # Errors
/// Every problem of the file, if it does not say where the agent answers.
pub(super) fn admin_of(file: &Path) -> Result<Admin, Problems> {
    match Config::load(file) {
        Ok((config, _)) => Ok(config.admin),
        Err(problems) => match Config::admin_of(file) {
            Some(admin) if admin.socket.is_some() || admin.listen.is_some() => Ok(admin),
            Some(_) | None => Err(problems),
        },
    }
}

/// Where a command finds the agent that it asks.
#[derive(Debug, Args)]
pub(super) struct Where {
    /// The configuration file, whose admin section says where the agent answers.
    #[arg(long, short, value_name = "FILE", default_value = "/etc/adit/adit.toml")]
    pub(super) config: PathBuf,
    /// Ask at this admin socket, and read no configuration.
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
}

impl Where {
    /// The admin socket: the one given, or else the file's.
    ///
    /// # Errors
    /// As of [`socket_of`].
    pub(super) fn find_socket(&self) -> Result<PathBuf, Box<dyn Error>> {
        self.socket.clone().map_or_else(|| socket_of(&self.config), Ok)
    }
}

/// The admin socket that the file names.
///
/// # Errors
/// The file opens none, or does not say.
fn socket_of(file: &Path) -> Result<PathBuf, Box<dyn Error>> {
    match admin_of(file)?.socket {
        Some(socket) => Ok(socket.path),
        None => {
            let file = file.display();
            Err(format!("{file} opens no admin socket: add `socket = \"/run/adit/admin.sock\"` to [admin]").into())
        }
    }
}

/// Why there is no answer: one line.
#[derive(Debug)]
pub(super) struct AskError {
    door: Door,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Connect(io::Error),
    Talk(String),
    Status(StatusCode),
    Late(Duration),
}

/// The body of the answer to GET `path`.
///
/// # Errors
/// Nobody listens there, or no good answer came within 5 s.
pub(super) async fn get(door: &Door, path: &str) -> Result<String, AskError> {
    match ask(door, Method::GET, path, LIMIT).await? {
        (StatusCode::OK, body) => Ok(body),
        (status, _) => Err(AskError { door: door.clone(), cause: Cause::Status(status) }),
    }
}

/// The answer to a request without a body: its status and its own body.
///
/// # Errors
/// Nobody listens there, or no answer came within `limit`.
pub(super) async fn ask(
    door: &Door,
    method: Method,
    path: &str,
    limit: Duration,
) -> Result<(StatusCode, String), AskError> {
    send(door, method, path, Bytes::new(), limit).await
}

/// The same for a request with a body.
///
/// # Errors
/// As above.
pub(super) async fn send(
    door: &Door,
    method: Method,
    path: &str,
    body: Bytes,
    limit: Duration,
) -> Result<(StatusCode, String), AskError> {
    let asked = tokio::time::timeout(limit, fetch(door, method, path, body)).await;
    asked.unwrap_or(Err(Cause::Late(limit))).map_err(|cause| AskError { door: door.clone(), cause })
}

async fn fetch(door: &Door, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, String), Cause> {
    let request = Request::builder().method(method).uri(path).header("host", "adit").body(Full::new(body));
    let request = request.map_err(|error| Cause::Talk(error.to_string()))?;
    match door {
        Door::Unix(file) => talk(UnixStream::connect(file).await.map_err(Cause::Connect)?, request).await,
        Door::Tcp(address) => talk(TcpStream::connect(address).await.map_err(Cause::Connect)?, request).await,
    }
}

async fn talk(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, String), Cause> {
    let (mut sender, _driver) = shake(socket).await?;
    exchange(&mut sender, request).await
}

/// A connection that requests can be sent on. Dropping the set ends it.
type Talking = (http1::SendRequest<Full<Bytes>>, JoinSet<hyper::Result<()>>);

async fn shake(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Talking, Cause> {
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|error| said(&error))?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    Ok((sender, driver))
}

async fn exchange(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, String), Cause> {
    let answer = sender.send_request(request).await.map_err(|error| said(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    let body = body.map_err(|error| Cause::Talk(error.to_string()))?;
    let text = String::from_utf8(body.to_bytes().into());
    Ok((status, text.map_err(|_| Cause::Talk("the answer is not text".to_owned()))?))
}

fn said(error: &hyper::Error) -> Cause {
    Cause::Talk(error.to_string())
}

/// A line to an admin socket that is kept between one question and the next: the agent notes a caller once, and not each time.
pub(super) struct Line {
    socket: PathBuf,
    open: Option<Talking>,
}

impl Line {
    /// To the agent behind a socket; it is opened by the first question.
    pub(super) fn to(socket: PathBuf) -> Self {
        Self { socket, open: None }
    }

    /// The body of the answer to GET `path`. A line that has broken meanwhile is opened anew by the next question.
    ///
    /// # Errors
    /// As of [`get`].
    pub(super) async fn get(&mut self, path: &str) -> Result<String, AskError> {
        let cause = match tokio::time::timeout(LIMIT, self.try_get(path)).await {
            Ok(Ok((StatusCode::OK, body))) => return Ok(body),
            Ok(Ok((status, _))) => Cause::Status(status),
            Ok(Err(cause)) => cause,
            Err(_) => Cause::Late(LIMIT),
        };
        self.open = None;
        Err(AskError { door: Door::Unix(self.socket.clone()), cause })
    }

    async fn try_get(&mut self, path: &str) -> Result<(StatusCode, String), Cause> {
        // The agent closes a line on which nothing is asked for a while.
        let kept = self.open.take().filter(|(sender, _)| !sender.is_closed());
        let open = match kept {
            Some(open) => open,
            None => shake(UnixStream::connect(&self.socket).await.map_err(Cause::Connect)?).await?,
        };
        let (sender, _) = self.open.insert(open);
        let request = Request::builder().uri(path).header("host", "adit").body(Full::default());
        exchange(sender, request.map_err(|error| Cause::Talk(error.to_string()))?).await
    }
}

/// With `%` and two digits for what means something else in a query (RFC 3986, 2.1).
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(file) => write!(f, "unix:{}", file.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let door = &self.door;
        match &self.cause {
            Cause::Connect(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "{door}: {error}; ask as root, or as a member of the socket's group")
            }
            Cause::Connect(error) => write!(f, "no agent answers at {door}: {error}"),
            Cause::Talk(error) => write!(f, "{door} answers, but not as an adit agent does: {error}"),
            Cause::Status(status) => write!(f, "the agent at {door} answers {status}"),
            Cause::Late(limit) => write!(f, "no answer from {door} within {limit:?}"),
        }
    }
}

impl std::error::Error for AskError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_so_that_a_query_carries_it_whole() {
        assert_eq!(encoded("/s#/a%b+c@d$/x-y_z.1:2"), "/s%23/a%25b%2Bc%40d%24/x-y_z.1%3A2");
    }
}
