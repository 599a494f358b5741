//! The rules a DNS name must keep to be an identity. It is stricter than a resolver and does not ask
//! one: a name that could also be read as an address or a wildcard is refused.

use super::IdentityError;

/// RFC 1035 section 2.3.4, without the root's trailing dot.
const MAX_NAME: usize = 253;
/// RFC 1035 section 2.3.4.
const MAX_LABEL: usize = 63;

const HELP: &str = "write labels of letters, digits, `-` and `_` joined by dots, such as \
                    `redis.prod.internal`";

/// Reads a DNS name: lower case and without its trailing dot on the way out.
pub(super) fn parse(text: &str) -> Result<String, IdentityError> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let refuse = |why: &str| Err(IdentityError::new(format!("`{text}` is no DNS name: {why}"), HELP));
    match fault(&name) {
        Some(why) => refuse(why),
        None => Ok(name),
    }
}

fn fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > MAX_NAME {
        return Some("it is longer than 253 bytes");
    }
    name.split('.').find_map(label_fault).or_else(|| number_fault(name))
}

fn label_fault(label: &str) -> Option<&'static str> {
    if label.is_empty() {
        return Some("a label is empty");
    }
    if label.len() > MAX_LABEL {
        return Some("a label is longer than 63 bytes");
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Some("a label begins or ends with `-`");
    }
    (!label.bytes().all(is_label_byte)).then_some("it holds a character no host name has")
}

/// `_` is in no host name (RFC 952), but certificates in the field have it and TLS libraries take it.
fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
}

/// A last label of digits alone would be read as an IPv4 address (RFC 3696 section 2).
fn number_fault(name: &str) -> Option<&'static str> {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.bytes().all(|byte| byte.is_ascii_digit()).then_some("it ends in a number, as an address does")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_pass() {
        for text in ["localhost", "a.b", "x1.y-2.z_3", "10.in-addr.arpa", "_svc.a"] {
            assert_eq!(parse(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let long = "a.".repeat(127) + "a";
        let label = "a".repeat(64);
        let bad = ["", ".", "..", "a..b", ".a", "-a", "a-.b", "a b", "a:80", "*.a", "é.fr", "10.0.0.1"];
        for text in bad.into_iter().chain([long.as_str(), label.as_str(), "a/b", "a..", "1"]) {
            assert!(parse(text).is_err(), "{text:?} was taken");
        }
    }
}
