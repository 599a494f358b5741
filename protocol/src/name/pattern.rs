//! Patterns over names (DESIGN.md 3): a path whose segments are literal, `*` for any one, or hold `{name}` captures.
//! Matching is segment for segment and linear in the name; there is no backtracking and no prefix inside a segment.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::captures::Captures;
use super::fault::{PatternError, PatternFault};
use super::template::{Part, split};
use super::{MAX_SEGMENT, MAX_SEGMENTS, Name, is_segment_char};

/// A pattern over a whole name or its beginning: `/svc/{service}/*`. `/` alone is the pattern of no segments.
///
/// A capture is anchored by the literal text around it in its segment and is never empty. Of two captures in one
/// segment the first takes as little as it can.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Arc<str>,
    elements: Arc<[Element]>,
}

#[derive(Clone, Debug)]
enum Element {
    Literal(String),
    Any,
    /// A text before the first capture, then captures, each with the text that follows it.
    Captures {
        before: String,
        captures: Vec<(String, String)>,
    },
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The first fault and where it is.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let path = text.strip_prefix('/').ok_or(PatternError { offset: 0, fault: PatternFault::NoSlash })?;
        let mut elements = Vec::new();
        let mut offset = 1;
        for segment in path.split('/').filter(|_| !path.is_empty()) {
            if elements.len() == MAX_SEGMENTS {
                return Err(PatternError { offset, fault: PatternFault::TooManySegments });
            }
            elements.push(Element::parse(segment, offset)?);
            offset += segment.len() + 1;
        }
        let pattern = Pattern { text: text.into(), elements: elements.into() };
        pattern.refuse_repeated_captures()?;
        Ok(pattern)
    }

    /// What the captures took if the whole of `name` matches, segment for segment.
    #[must_use]
    pub fn matches(&self, name: &Name) -> Option<Captures> {
        let (captures, taken) = self.matches_prefix(name)?;
        (taken == name.segments().count()).then_some(captures)
    }

    /// What the captures took if the beginning of `name` matches, and how many segments that beginning has.
    #[must_use]
    pub fn matches_prefix(&self, name: &Name) -> Option<(Captures, usize)> {
        let mut captures = Captures::default();
        let mut segments = name.segments();
        for element in self.elements.iter() {
            element.take(segments.next()?, &mut captures)?;
        }
        Some((captures, self.elements.len()))
    }

    /// The names of its captures, in their order.
    pub fn capture_names(&self) -> impl Iterator<Item = &str> {
        self.elements.iter().flat_map(Element::capture_names)
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How many segments it matches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether it is `/`, which matches the beginning of every name and no whole one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    fn refuse_repeated_captures(&self) -> Result<(), PatternError> {
        let names: Vec<&str> = self.capture_names().collect();
        let repeated = names.iter().enumerate().find(|(index, name)| names.iter().take(*index).any(|n| n == *name));
        let Some((_, name)) = repeated else {
            return Ok(());
        };
        let offset = self.text.rfind(&format!("{{{name}}}")).unwrap_or(0);
        Err(PatternError { offset, fault: PatternFault::RepeatedCapture })
    }
}

impl Element {
    fn parse(segment: &str, offset: usize) -> Result<Element, PatternError> {
        let fault = |fault, at: usize| Err(PatternError { offset: offset + at, fault });
        match segment {
            "" => return fault(PatternFault::EmptySegment, 0),
            "." | ".." => return fault(PatternFault::DotSegment, 0),
            "*" => return Ok(Element::Any),
            _ => {}
        }
        let mut before = String::new();
        let mut captures: Vec<(String, String)> = Vec::new();
        for part in split(segment) {
            match part.map_err(|error| PatternError { offset: offset + error.offset, ..error })? {
                (at, Part::Capture(name)) => {
                    if captures.last().is_some_and(|(_, after)| after.is_empty()) {
                        return fault(PatternFault::AdjacentCaptures, at);
                    }
                    captures.push((name.to_owned(), String::new()));
                }
                (at, Part::Literal(literal)) => {
                    check_literal(literal, offset + at)?;
                    captures.last_mut().map_or(&mut before, |(_, after)| after).push_str(literal);
                }
            }
        }
        Ok(if captures.is_empty() { Element::Literal(before) } else { Element::Captures { before, captures } })
    }

    /// Matches one segment, adding what captures took.
    fn take(&self, segment: &str, into: &mut Captures) -> Option<()> {
        match self {
            Element::Literal(literal) => (literal == segment).then_some(()),
            Element::Any => Some(()),
            Element::Captures { before, captures } => {
                take_captures(segment.strip_prefix(before.as_str())?, captures, into)
            }
        }
    }

    fn capture_names(&self) -> impl Iterator<Item = &str> {
        let captures = match self {
            Element::Captures { captures, .. } => captures.as_slice(),
            Element::Literal(_) | Element::Any => &[],
        };
        captures.iter().map(|(name, _)| name.as_str())
    }
}

/// Each capture ends at the first place its following text stands, the last one at the end: taking the least leaves
/// the most for those that follow, so if any split matches this one does, without going back.
fn take_captures(mut rest: &str, captures: &[(String, String)], into: &mut Captures) -> Option<()> {
    let (last, others) = captures.split_last()?;
    for (name, after) in others {
        // At least one byte is the capture's own: it is never empty. Names are ASCII, so a byte is a character.
        let end = 1 + rest.get(1..)?.find(after.as_str())?;
        into.push(name, rest.get(..end)?);
        rest = rest.get(end + after.len()..)?;
    }
    let value = rest.strip_suffix(last.1.as_str()).filter(|value| !value.is_empty())?;
    into.push(&last.0, value);
    Some(())
}

fn check_literal(literal: &str, offset: usize) -> Result<(), PatternError> {
    if let Some((at, c)) = literal.char_indices().find(|(_, c)| !is_segment_char(*c)) {
        let fault = if c == '*' { PatternFault::PartialStar } else { PatternFault::Character(c) };
        return Err(PatternError { offset: offset + at, fault });
    }
    if literal.len() > MAX_SEGMENT {
        return Err(PatternError { offset, fault: PatternFault::SegmentTooLong });
    }
    Ok(())
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        Pattern::parse(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl std::hash::Hash for Pattern {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(pattern: &str, name: &str) -> Option<Vec<String>> {
        let captures = Pattern::parse(pattern).unwrap().matches(&Name::parse(name).unwrap())?;
        Some(captures.iter().map(|(name, value)| format!("{name}={value}")).collect())
    }

    #[test]
    fn a_pattern_matches_segment_for_segment_and_whole() {
        for (pattern, name, expected) in [
            ("/svc/redis", "/svc/redis", Some(vec![])),
            ("/svc/redis", "/svc/Redis", None),
            ("/svc/redis", "/svc/redis2", None),
            ("/svc/redis", "/svc/redis/a", None),
            ("/svc", "/svc/redis", None),
            ("/svc/*", "/svc/redis", Some(vec![])),
            ("/svc/*", "/svc", None),
            ("/svc/{s}", "/svc/redis", Some(vec!["s=redis"])),
            ("/{a}/{b}", "/x/y", Some(vec!["a=x", "b=y"])),
            ("/db-{n}.prod", "/db-7.prod", Some(vec!["n=7"])),
            ("/db-{n}.prod", "/db-.prod", None),
            ("/db-{n}.prod", "/db-7.prodx", None),
            ("/{a}-{b}", "/x-y-z", Some(vec!["a=x", "b=y-z"])),
            ("/{a}-{b}", "/--y", Some(vec!["a=-", "b=y"])),
            ("/{a}-{b}", "/-y", None),
            ("/{a}-{b}-", "/x-y--", Some(vec!["a=x", "b=y-"])),
            ("/{a}aa{b}", "/aaaa", Some(vec!["a=a", "b=a"])),
            ("/{a}aa{b}", "/aaa", None),
        ] {
            let expected = expected.map(|all| all.into_iter().map(str::to_owned).collect());
            assert_eq!(captured(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn a_prefix_tells_how_many_segments_it_took() {
        let name = Name::parse("/svc/redis/a").unwrap();
        for (pattern, taken) in
            [("/", Some(0)), ("/svc", Some(1)), ("/svc/{s}", Some(2)), ("/a", None), ("/*/*/*/*", None)]
        {
            let found = Pattern::parse(pattern).unwrap().matches_prefix(&name).map(|(_, taken)| taken);
            assert_eq!(found, taken, "{pattern}");
        }
    }

    #[test]
    fn each_fault_is_told_with_its_place() {
        let many = "/a".repeat(33);
        let long = format!("/a/{}", "x".repeat(256));
        for (text, offset, fault) in [
            ("", 0, PatternFault::NoSlash),
            ("svc", 0, PatternFault::NoSlash),
            ("/svc/", 5, PatternFault::EmptySegment),
            ("/svc//a", 5, PatternFault::EmptySegment),
            ("/svc/..", 5, PatternFault::DotSegment),
            ("/svc/a b", 6, PatternFault::Character(' ')),
            ("/svc/{a}é", 8, PatternFault::Character('é')),
            ("/svc/a*", 6, PatternFault::PartialStar),
            ("/svc/**", 5, PatternFault::PartialStar),
            (&long, 3, PatternFault::SegmentTooLong),
            (&many, 65, PatternFault::TooManySegments),
            ("/{a}{b}", 4, PatternFault::AdjacentCaptures),
            ("/{a}/x/{a}", 7, PatternFault::RepeatedCapture),
            ("/a/{b", 3, PatternFault::Brace),
            ("/a/b}", 4, PatternFault::Brace),
            ("/a/{b{c}}", 3, PatternFault::Brace),
            ("/a/{}", 4, PatternFault::CaptureName),
            ("/a/{1}", 4, PatternFault::CaptureName),
            ("/a/{b-c}", 4, PatternFault::CaptureName),
        ] {
            assert_eq!(Pattern::parse(text), Err(PatternError { offset, fault }), "{text}");
        }
    }

    #[test]
    fn capture_names_come_in_order() {
        let pattern = Pattern::parse("/{b}/x-{a}-{c_1}").unwrap();
        assert_eq!(pattern.capture_names().collect::<Vec<_>>(), ["b", "a", "c_1"]);
        assert_eq!((pattern.len(), pattern.is_empty()), (2, false));
    }
}
