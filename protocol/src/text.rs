//! Text on the wire: UTF-8 without control characters (PROTOCOL.md 2). One place to check what a peer sent and to
//! make what we send fit; it never decides what a bad text leads to.

/// The text in `bytes`, or nothing if it is not UTF-8 or holds a control character (Unicode's category Cc).
pub(crate) fn check(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

/// `text` with each control character replaced by a space, cut at a character's boundary to at most `max` bytes.
pub(crate) fn fit(text: &str, max: usize) -> String {
    let mut fitted = String::new();
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if fitted.len() + c.len_utf8() > max {
            break;
        }
        fitted.push(c);
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_broken_utf8_are_no_text() {
        for bad in [
            &b"a\nb"[..],
            b"\x7f",
            b"\0",
            "\u{85}".as_bytes(),
            b"\xff",
            b"\xc3",
        ] {
            assert_eq!(check(bad), None, "{bad:?}");
        }
        assert_eq!(check("ünï 🦀".as_bytes()), Some("ünï 🦀"));
    }

    #[test]
    fn fit_cuts_on_a_boundary_and_always_passes_check() {
        assert_eq!(fit("ab\r\ncd", 5), "ab  c");
        assert_eq!(fit("éé", 3), "é");
        assert_eq!(fit("🦀", 3), "");
        assert_eq!(fit("", 3), "");
    }
}
