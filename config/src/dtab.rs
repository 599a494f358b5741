//! A stand-in for the delegation table until the real one is merged: it holds the text and judges
//! nothing. Only what the contract promises is here.

use std::error::Error;
use std::fmt;

/// A delegation table.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Dtab {
    text: String,
}

/// One fault of a table's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DtabError {
    /// Where it is.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

/// A place in a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// In bytes, from 0.
    pub offset: usize,
}

impl fmt::Display for DtabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

impl Error for DtabError {}

impl Dtab {
    /// Takes any text that holds no `!!`, which stands for every fault there is.
    ///
    /// # Errors
    /// The text holds `!!`.
    pub fn parse(text: &str) -> Result<Dtab, Vec<DtabError>> {
        match text.find("!!") {
            None => Ok(Dtab {
                text: text.to_owned(),
            }),
            Some(offset) => Err(vec![DtabError {
                place: Place { offset },
                message: "`!!` is no tree".to_owned(),
                help: "write `!`".to_owned(),
            }]),
        }
    }

    /// The table without an entry.
    #[must_use]
    pub fn empty() -> Dtab {
        Dtab::default()
    }
}

impl fmt::Display for Dtab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
