//! How dates, bytes and other people's words are written where people read them. It knows nothing of what they mean.

use std::time::SystemTime;

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A moment as RFC 3339 text in UTC, to the second.
pub fn date(moment: SystemTime) -> String {
    let moment = OffsetDateTime::from(moment).truncate_to_second();
    moment.format(&Rfc3339).unwrap_or_else(|_| moment.to_string())
}

/// Words of a certificate that nobody may have verified, for a log or a terminal: what is no printable ASCII is escaped, so
/// that no name can end its line, move a cursor or look like another.
pub fn printable(words: &str) -> String {
    let printed = |c: char| matches!(c, ' '..='~');
    words.chars().map(|c| if printed(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

/// Bytes as lower-case hex, two digits each.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of bytes, by the hash of a cipher suite we have anyway; none only if rustls dropped it.
pub fn sha256(bytes: &[u8]) -> Option<Vec<u8>> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13()?;
    Some(suite.common.hash_provider.hash(bytes).as_ref().to_vec())
}
