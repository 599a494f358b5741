//! The stream itself: connect, ask, hand on every set, and begin again whenever it ends, with a pause that grows. What it
//! is sent is bounded (tonic takes no message above 4 MiB) and comes from the host's own SPIFFE agent.

use std::{
    error::Error,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use spiffe::{WorkloadApiClient, WorkloadApiError, X509Context, transport::Endpoint};

use super::{Given, News};
use crate::identity::text::printable;

/// The first pause before another try, and the longest. A SPIFFE agent that is upgraded is gone for a second or so.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long it may take to connect, and then until the stream begins. A stream that has begun may be silent for as long as
/// its certificates live.
const CONNECT: Duration = Duration::from_secs(5);
const BEGIN: Duration = Duration::from_secs(30);

/// Of a fault, as many characters are told: its words are another program's.
const TOLD: usize = 400;

/// Follows the Workload API at `socket` for ever.
pub(super) async fn follow(socket: PathBuf, news: Arc<News>) {
    let mut pause = PAUSE;
    loop {
        let (good, fault) = once(&socket, &news).await;
        if good {
            pause = PAUSE;
        }
        news.broke(&socket, fault);
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One stream, to its end: whether it gave anything, and why it ended.
async fn once(socket: &Path, news: &News) -> (bool, String) {
    let mut good = false;
    let stream = match begin(socket).await {
        Ok(stream) => stream,
        Err(fault) => return (good, fault),
    };
    let mut stream = pin!(stream);
    loop {
        match stream.next().await {
            Some(Ok(context)) => {
                news.came(Given::new(socket, &context));
                good = true;
            }
            Some(Err(cause)) => return (good, told(&cause)),
            None => return (good, "it ended the stream".to_owned()),
        }
    }
}

async fn begin(socket: &Path) -> Result<impl Stream<Item = Result<X509Context, WorkloadApiError>> + use<>, String> {
    let endpoint = Endpoint::Unix(socket.to_owned());
    let client = tokio::time::timeout(CONNECT, WorkloadApiClient::connect(endpoint)).await;
    let client = client.map_err(|_| format!("no connection within {CONNECT:?}"))?.map_err(|cause| told(&cause))?;
    let stream = tokio::time::timeout(BEGIN, client.stream_x509_contexts()).await;
    stream.map_err(|_| format!("no stream within {BEGIN:?}"))?.map_err(|cause| told(&cause))
}

/// An error with its causes: what is on top often says only that something failed.
fn told(cause: &dyn Error) -> String {
    let mut text = cause.to_string();
    let mut next = cause.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    printable(&text).chars().take(TOLD).collect()
}
