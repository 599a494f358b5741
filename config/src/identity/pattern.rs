//! What an allow list is made of. Five shapes, no more, so that what a line admits can be seen by
//! looking at it; none of them matches a range of addresses, and none a wildcard certificate.

use std::fmt;

use std::net::IpAddr;

use super::{IP, Identity, IdentityError, dns, parse_address, refuse_address, spiffe};

/// A set of identities, as one entry of an allow list names it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum IdentityPattern {
    /// `redis.prod.internal`: that DNS name, case folded.
    Dns(String),
    /// `*.prod.internal`: exactly one label before the suffix, which is kept here without `*.`.
    DnsSuffix(String),
    /// `spiffe://prod.internal/web`: that id, byte for byte.
    Spiffe(String),
    /// `spiffe://prod.internal/web/*`: one or more whole segments after this, kept without `/*`.
    SpiffeUnder(String),
    /// `ip:10.0.0.1`: that address.
    Ip(IpAddr),
}

impl IdentityPattern {
    /// Reads one entry of an allow list.
    ///
    /// # Errors
    /// It is none of the five shapes; a lone `*` is none of them.
    pub fn parse(text: &str) -> Result<IdentityPattern, IdentityError> {
        if let Some(suffix) = text.strip_prefix("*.") {
            return dns::parse(suffix).map(IdentityPattern::DnsSuffix);
        }
        if text == "*" {
            return Err(everybody());
        }
        if let Some(address) = text.strip_prefix(IP) {
            return parse_address(text, address).map(IdentityPattern::Ip);
        }
        if !text.contains("://") {
            refuse_address(text)?;
            return dns::parse(text).map(IdentityPattern::Dns);
        }
        match text.strip_suffix("/*") {
            Some(prefix) => spiffe::parse_prefix(prefix).map(IdentityPattern::SpiffeUnder),
            None => spiffe::parse(text).map(IdentityPattern::Spiffe),
        }
    }

    /// Whether this entry admits the identity. Closed: an identity that is not well formed, though
    /// none can be made by parsing, matches nothing.
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        match (self, identity) {
            (IdentityPattern::Dns(want), Identity::Dns(name)) => want == name,
            (IdentityPattern::DnsSuffix(suffix), Identity::Dns(name)) => is_child(name, suffix),
            (IdentityPattern::Spiffe(want), Identity::Spiffe(id)) => want == id,
            (IdentityPattern::SpiffeUnder(prefix), Identity::Spiffe(id)) => is_under(id, prefix),
            (IdentityPattern::Ip(want), Identity::Ip(address)) => want == address,
            (_, Identity::Dns(_) | Identity::Spiffe(_) | Identity::Ip(_)) => false,
        }
    }
}

fn everybody() -> IdentityError {
    IdentityError::new(
        "`*` would admit every certificate of the authority",
        "name the peers: `*.web.prod.internal` admits each name one label below it",
    )
}

fn is_child(name: &str, suffix: &str) -> bool {
    name.split_once('.').is_some_and(|(label, rest)| rest == suffix && !label.is_empty() && label != "*")
}

fn is_under(id: &str, prefix: &str) -> bool {
    id.strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('/'))
        .is_some_and(|rest| rest.split('/').all(|segment| !segment.is_empty()))
}

impl fmt::Display for IdentityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityPattern::Dns(text) | IdentityPattern::Spiffe(text) => f.write_str(text),
            IdentityPattern::DnsSuffix(suffix) => write!(f, "*.{suffix}"),
            IdentityPattern::SpiffeUnder(prefix) => write!(f, "{prefix}/*"),
            IdentityPattern::Ip(address) => write!(f, "{IP}{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn admits(pattern: &str, identity: &str) -> bool {
        let pattern = IdentityPattern::parse(pattern).unwrap();
        pattern.matches(&Identity::parse(identity).unwrap())
    }

    #[test]
    fn patterns_match_as_the_table_says() {
        let table = [
            ("redis.a", "REDIS.a", true),
            ("Redis.A.", "redis.a", true),
            ("redis.a", "x.redis.a", false),
            ("*.a", "x.a", true),
            ("*.A", "x.a", true),
            ("*.a", "a", false),
            ("*.a", "x.y.a", false),
            ("*.a", "xa", false),
            ("*.a", "10.0.0.1", false),
            ("spiffe://td/web", "spiffe://td/web", true),
            ("spiffe://td/web", "spiffe://td/Web", false),
            ("spiffe://td/web", "spiffe://td/web/1", false),
            ("spiffe://td/web/*", "spiffe://td/web/1", true),
            ("spiffe://td/web/*", "spiffe://td/web/1/2", true),
            ("spiffe://td/web/*", "spiffe://td/web", false),
            ("spiffe://td/web/*", "spiffe://td/website/1", false),
            ("spiffe://td/*", "spiffe://td/web", true),
            ("spiffe://td/*", "spiffe://td2/web", false),
            ("spiffe://td/*", "spiffe://td.evil/web", false),
            ("td", "spiffe://td/web", false),
            ("ip:10.0.0.1", "10.0.0.1", true),
            ("ip:10.0.0.1", "10.0.0.2", false),
            ("ip:10.0.0.1", "::ffff:10.0.0.1", false),
            ("ip:FD00:0::1", "fd00::1", true),
            ("ip:10.0.0.1", "a.b", false),
        ];
        for (pattern, identity, expected) in table {
            assert_eq!(admits(pattern, identity), expected, "{pattern} against {identity}");
        }
    }

    #[test]
    fn other_shapes_are_refused() {
        let bad = [
            "",
            "*",
            "*.",
            "*.*",
            "*.*.a",
            "a*.b",
            "a.*",
            "x*",
            "spiffe://*",
            "spiffe://*/a",
            "spiffe://td/*/a",
            "spiffe://td/a*",
            "spiffe://td/**",
            "spiffe://td//*",
            "10.0.0.1",
            "::1",
            "ip:",
            "ip:*",
            "ip:10.0.0.*",
            "ip:10.0.0.0/8",
            "ip:a.b",
            "ip:::ffff:10.0.0.1",
            "spiffe:///*",
            "http://td/*",
        ];
        for text in bad {
            assert!(IdentityPattern::parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_wildcard_certificate_matches_nothing() {
        let wildcard = Identity::Dns("*.a".into());
        assert!(!IdentityPattern::parse("*.a").unwrap().matches(&wildcard));
    }

    const LABEL: &str = "[a-z]([a-z0-9_-]{0,8}[a-z0-9])?";
    const SEGMENT: &str = "[a-zA-Z0-9_-]{1,8}";

    proptest! {
        #[test]
        fn a_suffix_takes_exactly_one_label(
            suffix in prop::collection::vec(LABEL, 1..4),
            labels in prop::collection::vec(LABEL, 0..4),
        ) {
            let suffix = suffix.join(".");
            let name = labels.iter().map(|label| format!("{label}.")).collect::<String>() + &suffix;
            prop_assert_eq!(admits(&format!("*.{suffix}"), &name), labels.len() == 1);
        }

        #[test]
        fn a_spiffe_tree_takes_one_or_more_segments(
            base in prop::collection::vec(SEGMENT, 1..3),
            more in prop::collection::vec(SEGMENT, 0..4),
        ) {
            let base = format!("spiffe://td/{}", base.join("/"));
            let id = more.iter().fold(base.clone(), |id, segment| format!("{id}/{segment}"));
            prop_assert_eq!(admits(&format!("{base}/*"), &id), !more.is_empty());
        }

        #[test]
        fn no_text_panics_and_what_is_shown_parses_to_the_same(text in "\\PC{0,40}") {
            if let Ok(pattern) = IdentityPattern::parse(&text) {
                prop_assert_eq!(IdentityPattern::parse(&pattern.to_string()), Ok(pattern));
            }
            if let Ok(identity) = Identity::parse(&text) {
                prop_assert_eq!(Identity::parse(&identity.to_string()), Ok(identity));
            }
        }
    }
}
