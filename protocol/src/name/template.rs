//! Text with `{name}` in it, filled from captures: `{service}.prod.internal`. What the filled text means, and
//! whether it is valid there, is its user's to check; braces that are no capture are refused, never passed through.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::captures::Captures;
use super::fault::{PatternError, PatternFault};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_from_captures() {
        let captures = Captures::from_iter([("a", "x"), ("b", "{a}")]);
        for (text, filled) in [("", ""), ("é", "é"), ("{a}", "x"), ("{a}.{a}é", "x.xé"), ("-{b}-", "-{a}-")] {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.expand(&captures).as_deref(), Ok(filled), "{text}");
            assert_eq!(template.to_string(), text);
        }
    }

    #[test]
    fn a_capture_that_is_not_there_is_named() {
        let template = Template::parse("{a}.{b}").unwrap();
        let captures = Captures::from_iter([("a", "x")]);
        assert_eq!(template.expand(&captures), Err(MissingCapture("b".to_owned())));
    }

    #[test]
    fn only_text_without_captures_is_literal() {
        assert!(Template::parse("10.0.0.1:80").unwrap().is_literal());
        let template = Template::parse("{a}x{b}{a}").unwrap();
        assert!(!template.is_literal());
        assert_eq!(template.names().collect::<Vec<_>>(), ["a", "b", "a"]);
    }

    #[test]
    fn a_stray_brace_is_refused_where_it_stands() {
        for (text, offset, fault) in [
            ("a{", 1, PatternFault::Brace),
            ("a}b", 1, PatternFault::Brace),
            ("{a}{b{c}", 3, PatternFault::Brace),
            ("x{ }", 2, PatternFault::CaptureName),
        ] {
            assert_eq!(Template::parse(text), Err(PatternError { offset, fault }), "{text}");
        }
    }
}
