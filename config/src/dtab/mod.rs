//! Delegation tables: rules that rewrite a logical name, prefix by prefix, until it is a bound one.
//! The grammar and its meaning are Linkerd's, with captures besides (DESIGN, section 3). Pure: a
//! table parses from text, prints back, and looks a name up; nothing here asks a namer or a clock.

mod bound;
mod delegate;
mod error;
mod lex;
mod parse;
mod tree;

#[cfg(test)]
mod tests;

pub use bound::host_name;
pub use bound::{Bound, BoundError, Host, Namer};
pub use delegate::{Delegation, Outcome, Step};
use error::Places;
pub use error::{DtabError, LookUpError, Place, Rule};
pub use tree::NameTree;

use adit_protocol::{Captures, Name, Pattern, Template};
use std::{fmt, str::FromStr};

/// A delegation table. Later rules are asked first, earlier ones are their fallback.
#[derive(Clone, Debug, Default)]
pub struct Dtab {
    entries: Vec<Dentry>,
    within: Within,
}

/// In which text the places of a table's rules are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Within {
    /// In the table's own.
    #[default]
    Table,
    /// In that of the file which holds the table.
    File,
}

/// One rule: `prefix => tree`.
#[derive(Clone, Debug)]
pub struct Dentry {
    prefix: Pattern,
    tree: NameTree<Leaf>,
    place: Place,
}

/// A path to the right of `=>`: what the matched prefix turns into; `/` turns it into nothing.
#[derive(Clone, Debug, PartialEq)]
struct Leaf(Template);

impl Dtab {
    /// A table without rules, in which only bound names lead anywhere.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads a table.
    ///
    /// # Errors
    /// Every mistake there is, in the order of the text, each with its place.
    pub fn parse(text: &str) -> Result<Self, Vec<DtabError>> {
        parse::table(text)
    }

    /// Whom a name leads to: a tree in which every leaf is bound. Residual segments are kept on
    /// each leaf.
    ///
    /// # Errors
    /// No rule knows the name, a rule forbids it or says it is empty, the rules loop, or one of
    /// them makes something of the name that is none; see [`LookUpError`].
    pub fn look_up(&self, name: &Name) -> Result<NameTree<Bound>, LookUpError> {
        Ok(self.delegate(name).leads()?.map(&mut Bound::clone))
    }

    /// Whom a name leads to and by which rules: every rewriting step that [`Dtab::look_up`] takes.
    #[must_use]
    pub fn delegate(&self, name: &Name) -> Delegation {
        Delegation::of(self, name)
    }

    /// The rules, in the order they were written.
    #[must_use]
    pub fn entries(&self) -> &[Dentry] {
        &self.entries
    }

    /// Whether the prefix of any rule matches the name, whatever comes of it.
    #[must_use]
    pub fn is_about(&self, name: &Name) -> bool {
        self.entries.iter().any(|entry| entry.take(name).is_some())
    }

    /// Whether there is no rule at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// In which text the places of the rules are.
    #[must_use]
    pub fn within(&self) -> Within {
        self.within
    }

    /// The same table, which stands in `file` from byte `start` on, as it is.
    #[must_use]
    pub(crate) fn standing_in(mut self, file: &str, start: usize) -> Self {
        let mut places = Places::of(file);
        for entry in &mut self.entries {
            entry.place = places.place(start + entry.place.offset);
        }
        self.within = Within::File;
        self
    }

    /// The rule at `index` of [`Dtab::entries`], as an error names it.
    ///
    /// # Panics
    /// There is no such rule.
    #[must_use]
    pub fn rule(&self, index: usize) -> Rule {
        let entry = &self.entries[index];
        Rule { number: index + 1, text: entry.to_string(), place: entry.place }
    }
}

impl Dentry {
    /// Where the rule stands; see [`Dtab::within`].
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// What the prefix takes from a name: its captures and how many segments, if it matches.
    fn take(&self, name: &Name) -> Option<(Captures, usize)> {
        self.prefix.matches_prefix(name)
    }
}

/// Two rules are equal when they say the same, wherever they stand.
impl PartialEq for Dentry {
    fn eq(&self, other: &Self) -> bool {
        self.prefix == other.prefix && self.tree == other.tree
    }
}

/// So are two tables.
impl PartialEq for Dtab {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

/// Sound, for no weight is not a number.
impl Eq for Dtab {}

impl FromStr for Dtab {
    type Err = Vec<DtabError>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Dtab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, entry) in self.entries.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "\n" })?;
            write!(f, "{entry} ;")?;
        }
        Ok(())
    }
}

impl fmt::Display for Dentry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} => {}", self.prefix, self.tree)
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}
