//! A successor: sorts what it was given, says that it is ready or why it is not, and waits until it is told to go.

use std::{
    io::{self, Write},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::net::UnixStream;

use super::{
    LINE, OLDER,
    word::{GO, SERVING, Said, YOURS, hear},
};

/// What a process was given at its start.
#[derive(Debug, Default)]
pub struct Heritage {
    /// The line to the agent that it is to succeed, if it is a successor.
    pub line: Option<Line>,
    /// The lines to agents before that one, which still carry streams.
    pub older: Vec<OwnedFd>,
    /// Sockets that listen, by their names.
    pub sockets: Vec<(String, OwnedFd)>,
}

/// The line to the agent before this one.
#[derive(Debug)]
pub struct Line {
    stream: StdStream,
    /// Nothing is said after the first word, by whichever copy.
    said: Arc<AtomicBool>,
}

/// What came of waiting for the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// The agent before this one has said so.
    Told,
    /// It is gone, and said nothing: whoever waits at the doors has nobody else.
    Alone,
}

impl Heritage {
    /// Sorts descriptors by their names.
    pub fn sort(given: Vec<(String, OwnedFd)>) -> Self {
        let mut heritage = Self::default();
        for (name, descriptor) in given {
            match name.as_str() {
                LINE => heritage.line = Some(Line { stream: descriptor.into(), said: Arc::default() }),
                older if older.starts_with(OLDER) => heritage.older.push(descriptor),
                _ => heritage.sockets.push((name, descriptor)),
            }
        }
        heritage
    }
}

impl Line {
    /// A second hold on it.
    ///
    /// # Errors
    /// There is no descriptor for it.
    pub fn copy(&self) -> io::Result<Self> {
        Ok(Self { stream: self.stream.try_clone()?, said: Arc::clone(&self.said) })
    }

    /// Says why there will be no upgrade, unless it was said that this process is ready.
    pub fn failed(&self, why: &str) {
        if !self.said.swap(true, Relaxed) {
            // Who does not hear it any more sees that the process ends.
            let _ = (&self.stream).write_all(Said::Failed(why.to_owned()).encode().as_bytes());
            // And it is heard though the end of the process may take a while.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    /// Says that this process is ready, and waits to be told to go.
    ///
    /// # Errors
    /// The line breaks, or something else is said.
    pub async fn ready(&self, version: &str) -> io::Result<Go> {
        self.said.store(true, Relaxed);
        // That nobody hears it is found below.
        let _ = (&self.stream).write_all(Said::Ready(version.to_owned()).encode().as_bytes());
        self.hear(GO).await
    }

    /// Says that this process accepts, and waits until the one before it has stepped back.
    ///
    /// # Errors
    /// The line breaks, or something else is said.
    pub async fn serving(&self) -> io::Result<Go> {
        // That nobody hears it is found below.
        let _ = (&self.stream).write_all(SERVING.as_bytes());
        self.hear(YOURS).await
    }

    async fn hear(&self, word: &'static str) -> io::Result<Go> {
        let stream = self.stream.try_clone()?;
        stream.set_nonblocking(true)?;
        let told = hear(&mut UnixStream::from_std(stream)?, word).await?;
        Ok(if told { Go::Told } else { Go::Alone })
    }

    /// The line itself, by which this agent asks the one before it from now on.
    pub fn turn(self) -> OwnedFd {
        self.stream.into()
    }
}
