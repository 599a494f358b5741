//! What can be wrong with a pattern or a template, and where. One list for both, for they share their captures.

use std::fmt;

/// Why a text is no pattern or no template, and where.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PatternError {
    /// The byte of the text at which the fault is.
    pub offset: usize,
    /// What is wrong.
    pub fault: PatternFault,
}

/// What is wrong with a pattern or a template.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PatternFault {
    /// It does not begin with `/`.
    NoSlash,
    /// Two slashes in a row, or one at the end.
    EmptySegment,
    /// A segment is `.` or `..`.
    DotSegment,
    /// A character that no segment has.
    Character(char),
    /// A `*` that is not a whole segment.
    PartialStar,
    /// A segment's literal text is longer than any segment.
    SegmentTooLong,
    /// More segments than any name has.
    TooManySegments,
    /// Two captures with nothing between them.
    AdjacentCaptures,
    /// A capture's name for the second time.
    RepeatedCapture,
    /// A `{` or `}` without the other.
    Brace,
    /// A capture whose name is empty or has another character than letters, digits and `_`.
    CaptureName,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.fault {
            PatternFault::NoSlash => "a pattern begins with `/`, as in `/svc/{service}`",
            PatternFault::EmptySegment => "a segment is empty; write no `//` and no `/` at the end",
            PatternFault::DotSegment => "`.` and `..` are no segments; write the path out",
            PatternFault::Character(c) => {
                return write!(f, "{c:?} may not stand in a segment; use letters, digits and `._:#$%+@-`");
            }
            PatternFault::PartialStar => {
                "`*` stands for a whole segment; use a capture such as `{rest}` for a part of one"
            }
            PatternFault::SegmentTooLong => "a segment is longer than 255 bytes and can match no name",
            PatternFault::TooManySegments => "a name has at most 32 segments, so this can match none",
            PatternFault::AdjacentCaptures => {
                "nothing tells where one capture ends and the next begins; put text between"
            }
            PatternFault::RepeatedCapture => "this capture's name is used before; give each its own",
            PatternFault::Brace => "a `{` or `}` without the other; a capture is written `{name}`",
            PatternFault::CaptureName => "a capture's name is letters, digits and `_`, not beginning with a digit",
        })
    }
}

impl std::error::Error for PatternError {}
