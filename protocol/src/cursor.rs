//! A capped reader over a byte slice, and the fields `tag: u8, length: u16, value` of OPEN and ACCEPT
//! (PROTOCOL.md 3). Every step returns nothing when too little is left, so a parser built of it cannot run over;
//! it never copies and never looks beyond its slice.

/// What is left to read of a slice.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Reads `bytes` from their beginning.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    /// The next `n` bytes; nothing, and nothing taken, if fewer are left.
    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(n)?;
        self.rest = tail;
        Some(head)
    }

    /// The next `N` bytes as an array.
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// The next byte.
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    /// The next two bytes, big-endian.
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Whether all was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// `value` if all was read, so that bytes behind the last field are never overlooked.
    pub(crate) fn end<T>(&self, value: T) -> Option<T> {
        self.is_empty().then_some(value)
    }
}

/// The fields of a payload, in order; an `Err` is a truncated one and the last.
pub(crate) struct Fields<'a> {
    cursor: Cursor<'a>,
}

/// A field that says it is longer than what is left, or a part of a field's head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Truncated;

impl<'a> Fields<'a> {
    /// The fields of `payload`.
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Fields {
            cursor: Cursor::new(payload),
        }
    }

    fn field(&mut self) -> Option<(u8, &'a [u8])> {
        let tag = self.cursor.u8()?;
        let length = self.cursor.u16()?;
        Some((tag, self.cursor.take(usize::from(length))?))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u8, &'a [u8]), Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.cursor.rest();
        }
        Some(field.ok_or(Truncated))
    }
}

/// Appends one field. A value above 65,535 bytes is cut; every caller bounds its values far below.
pub(crate) fn put_field(tag: u8, value: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.push(tag);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend(value.iter().take(usize::from(length)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_takes_no_more_than_there_is() {
        let mut cursor = Cursor::new(&[1, 2, 3]);
        assert_eq!(cursor.u16(), Some(0x0102));
        assert_eq!(cursor.u16(), None);
        assert_eq!(cursor.end(()), None);
        assert_eq!(cursor.u8(), Some(3));
        assert_eq!(cursor.end(()), Some(()));
    }

    #[test]
    fn fields_come_in_order_and_a_truncated_one_is_the_last() {
        let mut bytes = Vec::new();
        put_field(1, b"ab", &mut bytes);
        put_field(2, b"", &mut bytes);
        bytes.extend([3, 0, 9, b'x']);
        let seen: Vec<_> = Fields::new(&bytes).collect();
        assert_eq!(
            seen,
            [Ok((1, &b"ab"[..])), Ok((2, &b""[..])), Err(Truncated)]
        );
    }
}
