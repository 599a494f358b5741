//! The callers: each makes one kind of load on an address, and reports what came of it.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use adit_tests::address::Address;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::timeout,
};

use crate::{
    report,
    socket::{Stream, connect, expect_end, receive, send},
};

/// The small request of the benchmarks.
const REQUEST: [u8; 64] = *b"sixty-four bytes, as a lookup in a cache might be. And its echo.";

/// A request that takes longer than this hangs: every limit on its way is shorter but the 15 s for opening a stream.
const HANG: Duration = Duration::from_secs(18);

/// A worker whose connection failed tries again after this long, as a client library would.
const BREATH: Duration = Duration::from_millis(10);

/// `push ADDRESS BYTES`: waits for the other end's end, then sends that much of the pattern.
pub(crate) async fn push(at: &str, bytes: u64) -> io::Result<()> {
    let mut stream = connect(&Address::parse(at)).await?;
    expect_end(&mut stream).await?;
    send(&mut stream, bytes).await?;
    report(json!({"event": "sent", "bytes": bytes}));
    Ok(())
}

/// `pull ADDRESS`: ends its own direction at once, then reads the pattern to its end.
pub(crate) async fn pull(at: &str) -> io::Result<()> {
    let mut stream = connect(&Address::parse(at)).await?;
    stream.shutdown().await?;
    let bytes = receive(&mut stream).await?;
    report(json!({"event": "received", "bytes": bytes}));
    Ok(())
}

/// `idle ADDRESS COUNT`: opens so many connections and holds them; for each line of input, one request on each.
pub(crate) async fn idle(at: &str, count: u64) -> io::Result<()> {
    let address = Address::parse(at);
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = connect(&address).await?;
        ask(&mut stream).await?;
        streams.push(stream);
    }
    report(json!({"event": "open", "count": streams.len()}));
    let mut lines = crate::input();
    while lines.recv().await.is_some() {
        for stream in &mut streams {
            ask(stream).await?;
        }
        report(json!({"event": "alive", "count": streams.len()}));
    }
    Ok(())
}

/// `storm ADDRESS COUNT WORKERS`: a connection per request.
pub(crate) async fn storm(at: &str, count: u64, workers: u64) -> io::Result<()> {
    let tally = Tally::begin();
    let left = Arc::new(AtomicU64::new(count));
    let mut all = JoinSet::new();
    for _ in 0..workers {
        let (address, tally, left) = (Address::parse(at), Arc::clone(&tally), Arc::clone(&left));
        all.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                converse(&address, 1, &tally).await;
            }
        });
    }
    all.join_all().await;
    tally.report();
    Ok(())
}

/// `steady ADDRESS WORKERS REQUESTS`: each worker connects, asks so often, closes and begins again (0: never closes),
/// until standard input ends.
pub(crate) async fn steady(at: &str, workers: u64, requests: u64) -> io::Result<()> {
    let tally = Tally::begin();
    let stop = Arc::new(AtomicU64::new(0));
    let mut all = JoinSet::new();
    for _ in 0..workers {
        let (address, tally, stop) = (Address::parse(at), Arc::clone(&tally), Arc::clone(&stop));
        all.spawn(async move {
            while stop.load(Ordering::Relaxed) == 0 {
                let limit = if requests == 0 { u64::MAX } else { requests };
                if !converse_until(&address, limit, &tally, &stop).await {
                    tokio::time::sleep(BREATH).await;
                }
            }
        });
    }
    report(json!({"event": "begun"}));
    let mut input = crate::input();
    while input.recv().await.is_some() {}
    stop.store(1, Ordering::Relaxed);
    all.join_all().await;
    tally.report();
    Ok(())
}

/// What became of many requests.
struct Tally {
    begun: Instant,
    answered: AtomicU64,
    hung: AtomicU64,
    failures: std::sync::Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    fn begin() -> Arc<Self> {
        let (answered, hung, failures) = Default::default();
        Arc::new(Self { begun: Instant::now(), answered, hung, failures })
    }

    fn hang(&self) -> bool {
        self.hung.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn fail(&self, stage: &str, error: &io::Error) -> bool {
        report(json!({"event": "failed", "at": unix_millis(), "stage": stage, "error": error.to_string()}));
        let mut failures = self.failures.lock().expect("no holder panics");
        *failures.entry(format!("{stage}: {error}")).or_default() += 1;
        false
    }

    fn report(&self) {
        let failures = self.failures.lock().expect("no holder panics").clone();
        report(json!({
            "event": "done",
            "answered": self.answered.load(Ordering::Relaxed),
            "hung": self.hung.load(Ordering::Relaxed),
            "failed": failures.values().sum::<u64>(),
            "failures": failures,
            "seconds": self.begun.elapsed().as_secs_f64(),
        }));
    }
}

async fn converse(address: &Address, requests: u64, tally: &Tally) {
    converse_until(address, requests, tally, &AtomicU64::new(0)).await;
}

/// One connection of so many requests; false if it failed.
async fn converse_until(address: &Address, requests: u64, tally: &Tally, stop: &AtomicU64) -> bool {
    let mut stream = match connect(address).await {
        Ok(stream) => stream,
        Err(error) => return tally.fail("connect", &error),
    };
    for _ in 0..requests {
        match timeout(HANG, ask(&mut stream)).await {
            Ok(Ok(())) => tally.answered.fetch_add(1, Ordering::Relaxed),
            Ok(Err(error)) => return tally.fail("answer", &error),
            Err(_) => return tally.hang(),
        };
        if stop.load(Ordering::Relaxed) != 0 {
            break;
        }
    }
    true
}

/// One request and its echo.
async fn ask(stream: &mut Stream) -> io::Result<()> {
    stream.write_all(&REQUEST).await?;
    let mut answer = [0; REQUEST.len()];
    stream.read_exact(&mut answer).await?;
    if answer == REQUEST { Ok(()) } else { Err(io::Error::other("the echo is not what was said")) }
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
