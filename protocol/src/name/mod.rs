//! Logical names (PROTOCOL.md 6): parsed once into a type that cannot be wrong. Patterns over names and templates
//! filled from them have files of their own; nothing here resolves a name.

mod captures;
mod fault;
mod pattern;
mod template;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use captures::Captures;
pub use fault::{PatternError, PatternFault};
pub use pattern::Pattern;
pub use template::{MissingCapture, Template};

/// The longest name, in bytes.
pub const MAX_NAME: usize = 1024;
/// The longest segment, in bytes.
pub const MAX_SEGMENT: usize = 255;
/// The greatest number of segments.
pub const MAX_SEGMENTS: usize = 32;

/// A path of 1 to 32 segments: `/svc/redis`. Compared byte by byte; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// Reads a name.
    ///
    /// # Errors
    /// The first rule of PROTOCOL.md 6 that `text` breaks.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        if text.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        let path = text.strip_prefix('/').ok_or(NameError::NoSlash)?;
        for (index, segment) in path.split('/').enumerate() {
            if index == MAX_SEGMENTS {
                return Err(NameError::TooManySegments);
            }
            check_segment(segment)?;
        }
        Ok(Name(text.into()))
    }

    /// The name as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments, without their slashes; at least one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }

    /// Whether the first segment is `$` or `#`: such a name says where to go, and the wire never carries it.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        matches!(self.segments().next(), Some("$" | "#"))
    }

    /// This name with the segments of `rest` after its own. A slash before `rest` may stand or not; an empty `rest`
    /// adds nothing.
    ///
    /// # Errors
    /// `rest` breaks a rule, or both together are too long.
    pub fn join(&self, rest: &str) -> Result<Name, NameError> {
        match rest.strip_prefix('/').unwrap_or(rest) {
            "" if rest.is_empty() => Ok(self.clone()),
            path => Name::parse(&format!("{self}/{path}")),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        Name::parse(text)
    }
}

impl TryFrom<&str> for Name {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Name, NameError> {
        Name::parse(text)
    }
}

/// Whether `c` may stand in a segment.
pub(crate) const fn is_segment_char(c: char) -> bool {
    matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '_' | ':' | '#' | '$' | '%' | '+' | '@' | '-')
}

/// One segment against the grammar of PROTOCOL.md 6.
fn check_segment(segment: &str) -> Result<(), NameError> {
    match segment {
        "" => return Err(NameError::EmptySegment),
        "." | ".." => return Err(NameError::DotSegment),
        _ => {}
    }
    if let Some(c) = segment.chars().find(|c| !is_segment_char(*c)) {
        return Err(NameError::Character(c));
    }
    if segment.len() > MAX_SEGMENT { Err(NameError::SegmentTooLong) } else { Ok(()) }
}

/// Why a text is no name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NameError {
    /// It does not begin with `/`.
    NoSlash,
    /// Two slashes in a row, a slash at the end, or nothing but one.
    EmptySegment,
    /// A segment is `.` or `..`.
    DotSegment,
    /// A character that no segment has.
    Character(char),
    /// A segment of more than 255 bytes.
    SegmentTooLong,
    /// More than 32 segments.
    TooManySegments,
    /// More than 1,024 bytes.
    TooLong,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::NoSlash => "a name begins with `/`, as in `/svc/redis`",
            NameError::EmptySegment => "a segment is empty; write no `//` and no `/` at the end",
            NameError::DotSegment => "`.` and `..` are no segments; write the path out",
            NameError::Character(c) => {
                return write!(f, "{c:?} may not stand in a segment; use letters, digits and `._:#$%+@-`");
            }
            NameError::SegmentTooLong => "a segment is longer than 255 bytes",
            NameError::TooManySegments => "a name has at most 32 segments",
            NameError::TooLong => "a name has at most 1,024 bytes",
        })
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn good_names_come_back_as_written() {
        let long = format!("/{}", "x".repeat(255));
        let many = "/a".repeat(32);
        for good in
            ["/a", "/svc/redis", "/#/dns/a.b/4143", "/$/inet/::1/80", "/A.b_c:d#e$f%g+h@i-j", "/...", &long, &many]
        {
            assert_eq!(name(good).to_string(), good);
        }
    }

    #[test]
    fn each_rule_has_its_error() {
        let long_segment = format!("/{}", "x".repeat(256));
        let many = "/a".repeat(33);
        let long = format!("/{}", "abc/".repeat(256));
        for (bad, error) in [
            ("", NameError::NoSlash),
            ("svc", NameError::NoSlash),
            ("/", NameError::EmptySegment),
            ("/a/", NameError::EmptySegment),
            ("//a", NameError::EmptySegment),
            ("/a/.", NameError::DotSegment),
            ("/../a", NameError::DotSegment),
            ("/a b", NameError::Character(' ')),
            ("/a*", NameError::Character('*')),
            ("/{a}", NameError::Character('{')),
            ("/é", NameError::Character('é')),
            (&long_segment, NameError::SegmentTooLong),
            (&many, NameError::TooManySegments),
            (&long, NameError::TooLong),
        ] {
            assert_eq!(Name::parse(bad), Err(error), "{bad}");
        }
    }

    #[test]
    fn only_a_first_segment_of_one_sign_is_bound() {
        for (text, bound) in
            [("/$/inet/h/1", true), ("/#/dns/h/1", true), ("/#", true), ("/$a", false), ("/svc/#", false)]
        {
            assert_eq!(name(text).is_bound(), bound, "{text}");
        }
    }

    #[test]
    fn join_appends_segments_and_keeps_the_rules() {
        assert_eq!(name("/a").join("b/c"), Ok(name("/a/b/c")));
        assert_eq!(name("/a").join("/b"), Ok(name("/a/b")));
        assert_eq!(name("/a").join(""), Ok(name("/a")));
        assert_eq!(name("/a").join("/"), Err(NameError::EmptySegment));
        assert_eq!(name("/a").join("//b"), Err(NameError::EmptySegment));
    }
}
