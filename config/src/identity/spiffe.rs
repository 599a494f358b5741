//! The rules of the SPIFFE-ID standard, as far as a workload's id must keep them. The text is kept as
//! written and never normalised: what differs in one byte is another identity.

use super::IdentityError;

/// SPIFFE-ID section 2.3: implementations need not support longer ids.
const MAX_ID: usize = 2048;
/// SPIFFE-ID section 2.3.
const MAX_TRUST_DOMAIN: usize = 255;

const SCHEME: &str = "spiffe://";
const HELP: &str = "write `spiffe://<trust domain>/<path>`, such as `spiffe://prod.internal/web`";

/// Reads the id of a workload. It must have a path: an id of a trust domain alone names the authority
/// that signs (X509-SVID section 4), which is nobody to talk to.
pub(super) fn parse(text: &str) -> Result<String, IdentityError> {
    let (domain, path) = split(text)?;
    match domain_fault(domain).or_else(|| path_fault(path)) {
        Some(why) => Err(refuse(text, why)),
        None => Ok(text.to_owned()),
    }
}

/// Reads what may stand before `/*` in a pattern: a trust domain alone, or with a path.
pub(super) fn parse_prefix(text: &str) -> Result<String, IdentityError> {
    let (domain, path) = split(text)?;
    let path_fault = path.and_then(|path| path_fault(Some(path)));
    match domain_fault(domain).or(path_fault) {
        Some(why) => Err(refuse(text, why)),
        None => Ok(text.to_owned()),
    }
}

fn refuse(text: &str, why: &str) -> IdentityError {
    IdentityError::new(format!("`{text}` is no SPIFFE id: {why}"), HELP)
}

/// The trust domain, and the path without its first slash if there is one.
fn split(text: &str) -> Result<(&str, Option<&str>), IdentityError> {
    if text.len() > MAX_ID {
        return Err(IdentityError::new("a SPIFFE id is longer than 2048 bytes", HELP));
    }
    let Some(rest) = text.strip_prefix(SCHEME) else {
        return Err(refuse(text, "it does not begin with `spiffe://`"));
    };
    Ok(match rest.split_once('/') {
        Some((domain, path)) => (domain, Some(path)),
        None => (rest, None),
    })
}

fn domain_fault(domain: &str) -> Option<&'static str> {
    if domain.is_empty() {
        return Some("its trust domain is empty");
    }
    if domain.len() > MAX_TRUST_DOMAIN {
        return Some("its trust domain is longer than 255 bytes");
    }
    (!domain.bytes().all(is_domain_byte))
        .then_some("its trust domain holds other than lower-case letters, digits, `.`, `-` and `_`")
}

/// SPIFFE-ID section 2.1.
fn is_domain_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
}

fn path_fault(path: Option<&str>) -> Option<&'static str> {
    match path {
        None => Some("it names a trust domain and no workload"),
        Some(path) => path.split('/').find_map(segment_fault),
    }
}

/// SPIFFE-ID section 2.2.
fn segment_fault(segment: &str) -> Option<&'static str> {
    if segment.is_empty() {
        return Some("a segment of its path is empty");
    }
    if segment == "." || segment == ".." {
        return Some("a segment of its path is `.` or `..`");
    }
    (!segment.bytes().all(|byte| byte.is_ascii_uppercase() || is_domain_byte(byte)))
        .then_some("its path holds other than letters, digits, `.`, `-` and `_`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_workloads_pass() {
        for text in ["spiffe://prod.internal/web", "spiffe://a_b-c.1/X/y.z/_", "spiffe://td/..."] {
            assert_eq!(parse(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let long = format!("spiffe://td/{}", "a".repeat(2048));
        let domain = format!("spiffe://{}/a", "a".repeat(256));
        let bad = [
            "spiffe://td",
            "spiffe://td/",
            "spiffe:///a",
            "SPIFFE://td/a",
            "spiffe://TD/a",
            "spiffe://td//a",
            "spiffe://td/a/",
            "spiffe://td/./a",
            "spiffe://td/../a",
            "spiffe://td/a%20b",
            "spiffe://user@td/a",
            "spiffe://td:80/a",
            "spiffe://td/a?b",
            "spiffe://td/a#b",
            "https://td/a",
            "spiffe://td/*",
            "spiffe:/td/a",
            &long,
            &domain,
        ];
        for text in bad {
            assert!(parse(text).is_err(), "{text:?} was taken");
        }
    }
}
