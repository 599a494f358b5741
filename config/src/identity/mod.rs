//! Who a peer is: a DNS name, a SPIFFE id or an address, as its certificate proves it. Parsing here
//! is the only way to make one from text, so an [`Identity`] in hand is always well formed. Nothing
//! here reads a certificate, and the common name has no place in it.

mod dns;
mod pattern;
mod spiffe;

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

pub use pattern::IdentityPattern;

/// One proven identity: what stands in a subject alternative name of the peer's certificate.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Identity {
    /// A DNS name in lower case, without a trailing dot.
    Dns(String),
    /// A SPIFFE id, as written: `spiffe://<trust domain>/<path>`.
    Spiffe(String),
    /// An address. A peer may have one; no rule can ask for one.
    Ip(IpAddr),
}

impl Identity {
    /// Reads an address, a SPIFFE id (anything with `://` in it) or else a DNS name.
    ///
    /// # Errors
    /// The text is none of the three; a wildcard (`*.a`) is none either.
    pub fn parse(text: &str) -> Result<Identity, IdentityError> {
        match text.parse() {
            Ok(address) => Ok(Identity::Ip(address)),
            Err(_) => Identity::name(text),
        }
    }

    /// Reads a DNS name or a SPIFFE id: what a rule may ask for. An address is refused.
    ///
    /// # Errors
    /// The text is neither.
    pub fn name(text: &str) -> Result<Identity, IdentityError> {
        if text.contains("://") {
            spiffe::parse(text).map(Identity::Spiffe)
        } else {
            dns::parse(text).map(Identity::Dns)
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Dns(text) | Identity::Spiffe(text) => f.write_str(text),
            Identity::Ip(address) => write!(f, "{address}"),
        }
    }
}

/// Why a text is no identity, or no pattern of one. Nobody decides by it; it is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityError {
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: &'static str,
}

impl IdentityError {
    fn new(message: impl Into<String>, help: &'static str) -> IdentityError {
        IdentityError { message: message.into(), help }
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

impl Error for IdentityError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_name_is_folded_and_loses_its_dot() {
        let identity = Identity::parse("Redis.Prod.Internal.").unwrap();
        assert_eq!(identity, Identity::Dns("redis.prod.internal".into()));
    }

    #[test]
    fn an_address_is_an_identity_but_no_name() {
        assert_eq!(Identity::parse("10.0.0.1").unwrap().to_string(), "10.0.0.1");
        assert!(Identity::name("10.0.0.1").is_err());
        assert!(Identity::name("::1").is_err());
    }

    #[test]
    fn a_wildcard_is_no_identity() {
        assert!(Identity::parse("*.prod.internal").is_err());
    }

    #[test]
    fn what_is_shown_parses_to_the_same() {
        for text in ["a.b", "spiffe://td/x/y", "10.0.0.1", "::1"] {
            let identity = Identity::parse(text).unwrap();
            assert_eq!(Identity::parse(&identity.to_string()), Ok(identity));
        }
    }
}
