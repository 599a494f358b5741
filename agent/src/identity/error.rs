//! What a TLS file can be blamed for, as one line: the file, what is wrong with it, what to do. A
//! caller can only print it or keep what it had, so there is one shape and no variants. It never
//! holds a byte of a key.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// A certificate, key, bundle or revocation list that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The file to blame.
    pub file: PathBuf,
    /// What is wrong with it.
    pub wrong: String,
    /// What would be right, or what to do next.
    pub advice: String,
}

impl LoadError {
    pub(super) fn new(file: &Path, wrong: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { file: file.to_path_buf(), wrong: wrong.into(), advice: advice.into() }
    }

    pub(super) fn io(file: &Path, cause: &io::Error) -> Self {
        let advice = match cause.kind() {
            io::ErrorKind::NotFound => "check the path under [tls]",
            io::ErrorKind::PermissionDenied => "let the agent's user read it",
            _ => "see that it is a readable file",
        };
        Self::new(file, format!("cannot be read: {cause}"), advice)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.file.display(), self.wrong, self.advice)
    }
}

impl std::error::Error for LoadError {}
