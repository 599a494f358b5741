//! One line, over which one request after another is made. What is asked is answered or the line ends: who does not wait
//! for an answer leaves the line to whoever asks next, and so its answer is awaited here all the same.

use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::UnixStream,
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
};
use tokio_util::sync::CancellationToken;

use super::{Answer, Silence};

/// Requests of one kind that wait for their turn.
const WAITING: usize = 16;
/// The longest answer that is kept; the rest of a longer one is read over, for the next answer comes after it.
const LONGEST: usize = 16 << 20;
/// What tells the answers to this agent's questions from those to the one before it, which did not wait long enough: the
/// answer has the same.
pub const QUESTION: &str = "adit-question";
/// How long whoever leaves the line waits for an answer that is under way.
const LAST_ANSWER: Duration = Duration::from_secs(5);

/// How many this process has asked.
static QUESTIONS: AtomicUsize = AtomicUsize::new(0);

/// Where requests go: those that have something done come before those that only look, however many look.
#[derive(Debug)]
pub(super) struct Asker {
    acts: mpsc::Sender<Ask>,
    looks: mpsc::Sender<Ask>,
    leave: CancellationToken,
}

/// Where they come from.
struct Asked {
    acts: mpsc::Receiver<Ask>,
    looks: mpsc::Receiver<Ask>,
}

struct Ask {
    request: Request<Empty<Bytes>>,
    question: String,
    answer: oneshot::Sender<Answer>,
}

impl Asker {
    /// What asks over this line, as long as the future runs: to the line's end, or until it is left.
    pub(super) fn new(line: UnixStream) -> (Self, impl Future<Output = ()> + Send) {
        let (acts, to_do) = mpsc::channel(WAITING);
        let (looks, to_look) = mpsc::channel(WAITING);
        let leave = CancellationToken::new();
        let asking = serve(line, Asked { acts: to_do, looks: to_look }, leave.clone());
        (Self { acts, looks, leave }, asking)
    }

    /// One request, and its answer as far as it is JSON.
    pub(super) async fn ask(&self, method: Method, path: String, limit: Duration) -> Answer {
        let asks = if method == Method::GET { &self.looks } else { &self.acts };
        let question = format!("{} {}", std::process::id(), QUESTIONS.fetch_add(1, Relaxed));
        let request = Request::builder().method(method).uri(path).header("host", "adit").header(QUESTION, &question);
        let (answer, answered) = oneshot::channel();
        let request = request.body(Empty::new()).map_err(|error| Silence::Broken(error.to_string()))?;
        asks.try_send(Ask { request, question, answer }).map_err(|refused| match refused {
            TrySendError::Full(_) => Silence::Busy,
            TrySendError::Closed(_) => Silence::Ended,
        })?;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Silence::Ended),
            Err(_) => Err(Silence::Late(limit)),
        }
    }

    /// Has the line left, once what was asked is answered.
    pub(super) async fn leave(&self) {
        self.leave.cancel();
        // Open as long as somebody asks.
        let _ = tokio::time::timeout(LAST_ANSWER, self.acts.closed()).await;
    }

    /// Whether the next agent goes on with the line.
    pub(super) fn is_left(&self) -> bool {
        self.leave.is_cancelled()
    }
}

impl Asked {
    async fn next(&mut self) -> Option<Ask> {
        tokio::select! {
            biased;
            Some(ask) = self.acts.recv() => Some(ask),
            ask = self.looks.recv() => ask,
        }
    }
}

async fn serve(line: UnixStream, mut asked: Asked, leave: CancellationToken) {
    let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(line)).await else { return };
    // Dropped, and never run to its end: that would shut the line down for the next agent too.
    let mut connection = pin!(connection);
    loop {
        let ask = tokio::select! {
            biased;
            () = leave.cancelled() => return,
            _ = &mut connection => return,
            ask = asked.next() => ask,
        };
        let Some(Ask { request, question, answer }) = ask else { return };
        let answering = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            if response.headers().get(QUESTION).is_none_or(|answers| answers != question.as_str()) {
                return Ok(None);
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Some((status, body(response.into_body()).await?)))
        };
        let mut answering = pin!(answering);
        let (answered, is_over) = tokio::select! {
            biased;
            answered = &mut answering => (answered, false),
            // The last answer may have come with the line's end.
            _ = &mut connection => (answering.await, true),
        };
        let (answered, is_over) = match answered {
            Ok(Some(answered)) => (Ok(answered), is_over),
            // From here on each answer would be that to an earlier question.
            Ok(None) => (Err(Silence::Ended), true),
            Err(_) if is_over => (Err(Silence::Ended), true),
            Err(error) => (Err(Silence::Broken(error.to_string())), false),
        };
        // Who asked may not wait any more.
        let _ = answer.send(answered);
        if is_over {
            return;
        }
    }
}

async fn body(mut body: hyper::body::Incoming) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
    let (mut bytes, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        length += data.len();
        if length <= LONGEST {
            bytes.extend_from_slice(&data);
        }
    }
    if length > LONGEST {
        return Err(format!("an answer of {length} bytes, of which {LONGEST} are read at the most").into());
    }
    Ok(serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned())))
}
