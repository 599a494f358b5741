//! What the two sides of an upgrade say to one another, a line each. The other side may be of another version: what is not
//! known is an error, never a guess.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest thing that is heard: a file may have many problems, and all of them are told.
const LONGEST: usize = 64 << 10;

/// What a successor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Every door is its own too, and every credential loaded; its version.
    Ready(String),
    /// It cannot start, for this reason, which may have several lines. It says nothing after that.
    Failed(String),
}

/// What it is told once it is ready: from now on it accepts too.
pub(super) const GO: &str = "go\n";
/// What it answers once it does.
pub(super) const SERVING: &str = "serving\n";
/// What it is told then: the agent before it steps back. Whatever became of it until here, that one serves on.
pub(super) const YOURS: &str = "yours\n";

/// Hears this one word; false where the line ends before it.
///
/// # Errors
/// The line breaks, or something else is said.
pub(super) async fn hear(line: &mut (impl AsyncRead + Unpin), word: &'static str) -> io::Result<bool> {
    let mut said = vec![0; word.len()];
    match line.read_exact(&mut said).await {
        Ok(_) if said == word.as_bytes() => Ok(true),
        Ok(_) => Err(io::Error::other(format!("something else is said than '{}'", word.trim_end()))),
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

impl Said {
    pub(super) fn encode(&self) -> String {
        match self {
            Self::Ready(version) => format!("ready {version}\n"),
            Self::Failed(text) => {
                let end = text.floor_char_boundary(LONGEST / 2);
                format!("failed {}", &text[..end])
            }
        }
    }

    /// What these bytes say, if that is known by now; `over` where no more of them come.
    fn decode(bytes: &[u8], over: bool) -> Result<Option<Self>, String> {
        let text = String::from_utf8_lossy(bytes);
        if let (true, Some(why)) = (over, text.strip_prefix("failed ")) {
            return Ok(Some(Self::Failed(why.trim_end().to_owned())));
        }
        match text.split_once('\n') {
            Some((line, _)) if line == "ready" || line.starts_with("ready ") => {
                Ok(Some(Self::Ready(line["ready".len()..].trim().to_owned())))
            }
            Some((line, _)) if !line.starts_with("failed ") => Err(line.chars().take(80).collect()),
            None if bytes.len() > LONGEST => Err(text.chars().take(80).collect()),
            Some(_) | None => Ok(None),
        }
    }

    /// Reads until something was said; `None` at the end of what never said a thing.
    ///
    /// # Errors
    /// The line breaks, or what is said is none of the words.
    pub(super) async fn read(line: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        loop {
            let mut piece = [0; 4096];
            let count = match line.read(&mut piece).await {
                // It ended with something of ours unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
                read => read?,
            };
            bytes.extend_from_slice(&piece[..count]);
            let decoded = Self::decode(&bytes, count == 0 || bytes.len() > LONGEST);
            let said = decoded.map_err(|line| io::Error::other(format!("it said '{line}', which means nothing")))?;
            if said.is_some() || count == 0 {
                return Ok(said);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_is_heard() {
        let many_lines = "adit.toml:1:1: no\nadit.toml:2:1: neither".to_owned();
        for said in [Said::Ready("0.1.0".to_owned()), Said::Failed(many_lines)] {
            assert_eq!(Said::read(&mut said.encode().as_bytes()).await.unwrap(), Some(said));
        }
        // Another version may say more.
        let more = Said::read(&mut &b"ready 9.0 and more\nafter"[..]).await.unwrap();
        assert_eq!(more, Some(Said::Ready("9.0 and more".to_owned())));
    }

    #[tokio::test]
    async fn silence_and_half_a_word_are_no_word_and_noise_is_an_error() {
        for silence in ["", "read", "ready"] {
            assert_eq!(Said::read(&mut silence.as_bytes()).await.unwrap(), None, "{silence}");
        }
        let noise = Said::read(&mut &b"hello\nworld"[..]).await.unwrap_err().to_string();
        assert!(noise.contains("'hello'"), "{noise}");
    }

    #[tokio::test]
    async fn no_more_is_heard_than_an_agent_has_to_say() {
        let long = format!("failed {}", "x".repeat(1 << 20));
        let Some(Said::Failed(heard)) = Said::read(&mut long.as_bytes()).await.unwrap() else { panic!() };
        assert!(heard.len() < 2 * LONGEST);
        assert!(Said::Failed("\u{e9}".repeat(1 << 20)).encode().len() < LONGEST);
    }
}
