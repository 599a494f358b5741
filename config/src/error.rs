//! What is wrong with a configuration file, all of it at once, each fault with its place and with
//! what would be right. These are for a person to read: no program decides by their text.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// One fault of the file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// The file, as it was named to the reader.
    pub file: PathBuf,
    /// Line, from 1; 0 when the file could not be read at all.
    pub line: usize,
    /// Column, in characters from 1; 0 when the file could not be read at all.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right; empty where nothing helpful can be said.
    pub help: String,
}

impl Problem {
    /// `adit.toml:3:1: `, or `adit.toml: ` for the file as a whole.
    fn write_place(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: ", self.file.display()),
            line => write!(f, "{}:{line}:{}: ", self.file.display(), self.column),
        }
    }

    fn write_matter(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.help.as_str() {
            "" => f.write_str(&self.message),
            help => write!(f, "{}; {help}", self.message),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_place(f)?;
        self.write_matter(f)
    }
}

impl Error for Problem {}

/// Something the file may say and the operator should know of. It is shown at start and by
/// `adit check`, and stops nothing. `Display` says that it is one: the two kinds share a screen.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Warning(pub Problem);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write_place(f)?;
        f.write_str("warning: ")?;
        self.0.write_matter(f)
    }
}

/// Why a file is no configuration: at least one problem, sorted by place. `Display` gives one a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// The problems one by one, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl Error for Problems {}
