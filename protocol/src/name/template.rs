//! Text with `{name}` in it, filled from captures: `{service}.prod.internal`. What the filled text means, and
//! whether it is valid there, is its user's to check; braces that are no capture are refused, never passed through.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::pattern::{Captures, PatternError, PatternFault};

/// A text with captures to fill in.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Template(Arc<str>);

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A brace without its other, or an ill-formed capture name, and where.
    pub fn parse(text: &str) -> Result<Template, PatternError> {
        split(text).try_for_each(|part| part.map(|_| ()))?;
        Ok(Template(text.into()))
    }

    /// The text with every capture filled in.
    ///
    /// # Errors
    /// The first capture that `captures` does not have.
    pub fn expand(&self, captures: &Captures) -> Result<String, MissingCapture> {
        let mut filled = String::new();
        for part in self.parts() {
            filled.push_str(match part {
                Part::Literal(text) => text,
                Part::Capture(name) => captures.get(name).ok_or_else(|| MissingCapture(name.to_owned()))?,
            });
        }
        Ok(filled)
    }

    /// Whether there is nothing to fill in.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.names().next().is_none()
    }

    /// The captures it needs, in their order; one used twice comes twice.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Capture(name) => Some(name),
        })
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its parts; all are well formed, for `parse` saw them.
    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        split(&self.0).flatten().map(|(_, part)| part)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Template {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Template, PatternError> {
        Template::parse(text)
    }
}

/// A template names a capture that the match did not make.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MissingCapture(pub String);

impl fmt::Display for MissingCapture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing captures `{{{}}}`; name it in the pattern this text belongs to", self.0)
    }
}

impl std::error::Error for MissingCapture {}

/// A piece of a text with captures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part<'a> {
    /// Text as it stands.
    Literal(&'a str),
    /// The name between braces.
    Capture(&'a str),
}

/// The parts of `text`, each with its byte offset, up to the first that is ill formed.
pub(super) fn split(text: &str) -> impl Iterator<Item = Result<(usize, Part<'_>), PatternError>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let offset = text.len() - rest.len();
        let (part, after) = match next_part(rest)? {
            Ok(found) => found,
            Err((at, fault)) => {
                rest = "";
                return Some(Err(PatternError { offset: offset + at, fault }));
            }
        };
        rest = after;
        Some(Ok((offset, part)))
    })
}

type Next<'a> = Result<(Part<'a>, &'a str), (usize, PatternFault)>;

/// The first part of `rest` and what follows it; the fault's offset is from the start of `rest`.
fn next_part(rest: &str) -> Option<Next<'_>> {
    if rest.is_empty() {
        return None;
    }
    if let Some(inner) = rest.strip_prefix('{') {
        return Some(capture(inner));
    }
    let end = rest.find(['{', '}']).unwrap_or(rest.len());
    let (literal, after) = rest.split_at(end);
    if after.starts_with('}') {
        return Some(Err((end, PatternFault::Brace)));
    }
    Some(Ok((Part::Literal(literal), after)))
}

/// The capture whose opening brace stands just before `inner`.
fn capture(inner: &str) -> Next<'_> {
    let (name, after) = inner.split_once('}').ok_or((0, PatternFault::Brace))?;
    if name.contains('{') {
        return Err((0, PatternFault::Brace));
    }
    if is_capture_name(name) { Ok((Part::Capture(name), after)) } else { Err((1, PatternFault::CaptureName)) }
}

fn is_capture_name(name: &str) -> bool {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
