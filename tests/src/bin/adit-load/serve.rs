//! The services: each says where it listens, and then does one thing to every connection.

use std::io;

use adit_tests::address::Address;
use serde_json::json;
use tokio::io::{AsyncWriteExt, split};

use crate::{
    report,
    socket::{Door, Stream, expect_end, receive, send},
};

/// `serve WHAT ADDRESS` until standard input ends. What there is:
/// - `echo`: everything comes back.
/// - `sink`: ends its own direction at once, then reads the pattern, and reports how much of it came.
/// - `source:BYTES`: waits for the caller's end, then sends that much of the pattern.
/// - `hold`: accepts and never reads.
pub(crate) async fn serve(what: &str, at: &str) -> io::Result<()> {
    let door = Door::open(&Address::parse(at)).await?;
    report(json!({"event": "listening", "address": door.address()?.to_string()}));
    let mut input = crate::input();
    tokio::select! {
        ended = accept(&door, what) => ended,
        // The test that started us has ended.
        _ = input.recv() => Ok(()),
    }
}

async fn accept(door: &Door, what: &str) -> io::Result<()> {
    let mut held = Vec::new();
    loop {
        let stream = door.accept().await?;
        match what.split_once(':') {
            None if what == "hold" => held.push(stream),
            None if what == "echo" => drop(tokio::spawn(echo(stream))),
            None if what == "sink" => drop(tokio::spawn(sink(stream))),
            Some(("source", bytes)) => drop(tokio::spawn(source(stream, crate::number(bytes)))),
            _ => return Err(io::Error::other(format!("no such service: {what}"))),
        }
    }
}

async fn echo(stream: Stream) {
    let (mut read, mut write) = split(stream);
    // A caller that goes away is its own affair; the caller reports what it saw.
    if tokio::io::copy(&mut read, &mut write).await.is_ok() {
        let _ = write.shutdown().await;
    }
}

async fn sink(mut stream: Stream) {
    let received = async {
        stream.shutdown().await?;
        receive(&mut stream).await
    };
    match received.await {
        Ok(bytes) => report(json!({"event": "received", "bytes": bytes})),
        Err(error) => report(json!({"event": "broken", "error": error.to_string()})),
    }
}

async fn source(mut stream: Stream, bytes: u64) {
    let sent = async {
        expect_end(&mut stream).await?;
        send(&mut stream, bytes).await
    };
    match sent.await {
        Ok(()) => report(json!({"event": "sent", "bytes": bytes})),
        Err(error) => report(json!({"event": "broken", "error": error.to_string()})),
    }
}
