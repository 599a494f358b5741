//! As much of Redis's protocol as a check of stored values needs, over either wire.

use crate::{address::Address, end::End};

/// A connection to a Redis server.
#[derive(Debug)]
pub struct Resp {
    end: End,
    read: Vec<u8>,
}

impl Resp {
    /// Connects.
    #[must_use]
    pub fn connect(address: &Address) -> Self {
        Self { end: End::connect(address), read: Vec::new() }
    }

    /// Sends one command without waiting for its answer.
    pub fn send(&mut self, words: &[&[u8]]) {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend(format!("${}\r\n", word.len()).bytes());
            command.extend(*word);
            command.extend(b"\r\n");
        }
        self.end.send(&command);
    }

    /// Reads one answer: a bulk string's bytes, any other kind's line with its mark.
    #[must_use]
    pub fn answer(&mut self) -> Vec<u8> {
        let line = self.line();
        match line.strip_prefix(b"$") {
            Some(length) => {
                let length: usize = String::from_utf8_lossy(length).parse().expect("the key is there");
                let mut value = self.exactly(length + 2);
                value.truncate(length);
                value
            }
            None => line,
        }
    }

    /// Sends one command and reads its answer.
    #[must_use]
    pub fn ask(&mut self, words: &[&[u8]]) -> Vec<u8> {
        self.send(words);
        self.answer()
    }

    fn line(&mut self) -> Vec<u8> {
        loop {
            if let Some(end) = self.read.windows(2).position(|two| two == b"\r\n") {
                let mut line: Vec<u8> = self.read.drain(..end + 2).collect();
                line.truncate(end);
                return line;
            }
            self.more();
        }
    }

    fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            self.more();
        }
        self.read.drain(..count).collect()
    }

    fn more(&mut self) {
        let bytes = self.end.try_receive(1 << 16).expect("the server answers");
        assert!(!bytes.is_empty(), "the server ended before its answer did");
        self.read.extend(bytes);
    }
}
