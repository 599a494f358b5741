//! What can be wrong with a table's text, and why a name leads nowhere. Each message says what it
//! is about and what would be right; none of them is ever shown without its place or its rule.

use super::BoundError;
use adit_protocol::{Name, NameError};
use std::fmt;

/// A mistake in a table's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DtabError {
    /// Where it is.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// In bytes, from 0.
    pub offset: usize,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

/// A rule, as an error names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// From 1, in the order they are written.
    pub number: usize,
    /// `prefix => tree`.
    pub text: String,
    /// Where it stands; see [`super::Dtab::within`].
    pub place: Place,
}

/// Why a table leads a name nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookUpError {
    /// No rule knows it, or those that do say `~`.
    NoSuchName(Name),
    /// A rule says `!`.
    Forbidden(Name),
    /// A rule says `$`: it exists and has no address.
    Empty(Name),
    /// The rules lead from this name back to itself.
    Loop {
        /// The name they come back to.
        name: Name,
        /// The rules of one round, in order.
        rules: Vec<Rule>,
    },
    /// The rules lead on and on; the last ones are named.
    TooDeep {
        /// The name that was asked for.
        name: Name,
        /// The last rules taken, each once.
        rules: Vec<Rule>,
    },
    /// The rules branch too often.
    TooMany {
        /// The name that was asked for.
        name: Name,
        /// How many steps a look-up may take.
        budget: usize,
    },
    /// A rule made something of a name that is no name.
    BadName {
        /// The rule.
        rule: Rule,
        /// What it made.
        made: String,
        /// What is wrong with it.
        cause: NameError,
    },
    /// A bound name that cannot be asked for.
    BadBound {
        /// The bound name.
        name: Name,
        /// The rule that led there; none when it was asked for as it is.
        rule: Option<Rule>,
        /// What is wrong with it.
        cause: BoundError,
    },
}

/// Counts lines once from front to back, for places that come in order; any other is counted from the front.
pub(super) struct Places<'a> {
    text: &'a str,
    last: Place,
}

impl Place {
    /// The beginning of a text.
    const START: Self = Self { offset: 0, line: 1, column: 1 };
}

impl<'a> Places<'a> {
    /// The places of this text.
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, last: Place::START }
    }

    /// The place of a byte offset.
    pub(super) fn place(&mut self, offset: usize) -> Place {
        if offset < self.last.offset {
            self.last = Place::START;
        }
        for c in self.text.get(self.last.offset..offset).unwrap_or_default().chars() {
            match c {
                '\n' => (self.last.line, self.last.column) = (self.last.line + 1, 1),
                _ => self.last.column += 1,
            }
        }
        self.last.offset = offset;
        self.last
    }
}

impl fmt::Display for DtabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.message, self.help)
    }
}

impl std::error::Error for DtabError {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} ({})", self.number, self.text)
    }
}

impl fmt::Display for LookUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName(name) => write!(f, "no rule knows '{name}'"),
            Self::Forbidden(name) => write!(f, "'{name}' is forbidden by a rule ('!')"),
            Self::Empty(name) => write!(f, "'{name}' is empty by a rule ('$'): it has no address"),
            Self::Loop { name, rules } => {
                write!(f, "the rules loop: '{name}' leads back to itself by {}", list(rules))
            }
            Self::TooDeep { name, rules } => {
                write!(f, "the rules for '{name}' lead on without end, by {}", list(rules))
            }
            Self::TooMany { name, budget } => {
                write!(f, "the rules for '{name}' branch more often than {budget} times")
            }
            Self::BadName { rule, made, cause } => {
                write!(f, "{rule} makes '{made}', which is no name: {cause}")
            }
            Self::BadBound { name, rule, cause } => match rule {
                Some(rule) => write!(f, "{rule} leads to '{name}': {cause}"),
                None => write!(f, "'{name}': {cause}"),
            },
        }
    }
}

impl std::error::Error for LookUpError {}

fn list(rules: &[Rule]) -> String {
    let texts: Vec<String> = rules.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_characters_and_lines() {
        let text = "/a => /b ;\n/ü => ?";
        let mut places = Places::of(text);
        assert_eq!(places.place(text.find('?').unwrap()).to_string(), "2:7");
        assert_eq!(places.place(0).to_string(), "1:1");
        assert_eq!(places.place(10).to_string(), "1:11");
        assert_eq!(places.place(11).to_string(), "2:1");
    }
}
