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
    /// An address. A rule asks for it as `ip:<address>`.
    Ip(IpAddr),
}

impl Identity {
    /// Reads an address, with `ip:` before it or not, a SPIFFE id (anything with `://` in it) or else a DNS name: what a
    /// certificate may hold, as it is shown.
    ///
    /// # Errors
    /// The text is none of the three; a wildcard (`*.a`) is none either.
    pub fn parse(text: &str) -> Result<Identity, IdentityError> {
        match text.parse() {
            Ok(address) => Ok(Identity::Ip(address)),
            Err(_) => Identity::name(text),
        }
    }

    /// Reads a DNS name, a SPIFFE id or `ip:<address>`: what a rule may ask for. A bare address is refused, so that what
    /// fills in a name never makes one.
    ///
    /// # Errors
    /// The text is none of the three.
    pub fn name(text: &str) -> Result<Identity, IdentityError> {
        if let Some(address) = text.strip_prefix(IP) {
            parse_address(text, address).map(Identity::Ip)
        } else if text.contains("://") {
            spiffe::parse(text).map(Identity::Spiffe)
        } else {
            refuse_address(text)?;
            dns::parse(text).map(Identity::Dns)
        }
    }
}

/// What stands before an address that a rule asks for.
pub(crate) const IP: &str = "ip:";

/// What an IP SAN holds: four bytes or sixteen. A v4-mapped address would be sixteen that nobody issues.
fn parse_address(text: &str, address: &str) -> Result<IpAddr, IdentityError> {
    let help = "write an address after `ip:`, such as `ip:10.0.0.1` or `ip:fd00::1`";
    match address.parse::<IpAddr>() {
        Ok(address) if address.to_canonical() == address => Ok(address),
        Ok(_) => Err(IdentityError::new(format!("`{text}` is a v4-mapped address, which no certificate holds"), help)),
        Err(_) => Err(IdentityError::new(format!("`{text}` is no address"), help)),
    }
}

fn refuse_address(text: &str) -> Result<(), IdentityError> {
    match text.parse::<IpAddr>() {
        Ok(_) => Err(IdentityError::new(format!("`{text}` is an address"), "write `ip:` before it to ask for it")),
        Err(_) => Ok(()),
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
    fn an_address_is_an_identity_and_a_rule_asks_for_it_by_its_kind() {
        assert_eq!(Identity::parse("10.0.0.1").unwrap().to_string(), "10.0.0.1");
        for text in ["10.0.0.1", "::1"] {
            assert!(Identity::name(text).is_err(), "{text}");
            assert_eq!(Identity::name(&format!("ip:{text}")), Identity::parse(text));
        }
    }

    #[test]
    fn what_is_no_address_is_not_asked_for_as_one() {
        let bad =
            ["ip:", "ip:a.b", "ip:10.0.0", "ip:010.0.0.1", "ip:[::1]", "ip:::1%lo", "ip:10.0.0.0/8", "ip:10.0.0.1:80"];
        for text in bad.into_iter().chain(["ip: 10.0.0.1", "IP:10.0.0.1", "ip:::ffff:10.0.0.1", "ip:ip:10.0.0.1"]) {
            assert!(Identity::name(text).is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_wildcard_is_no_identity() {
        assert!(Identity::parse("*.prod.internal").is_err());
    }

    #[test]
    fn what_is_shown_parses_to_the_same() {
        for text in ["a.b", "spiffe://td/x/y", "10.0.0.1", "::1", "ip:10.0.0.1", "ip:fd00::1"] {
            let identity = Identity::parse(text).unwrap();
            assert_eq!(Identity::parse(&identity.to_string()), Ok(identity));
        }
    }
}
