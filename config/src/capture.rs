//! The name of a captured connection: which rule gives it one, by its original destination. A pure decision over the rules
//! and over what is known of the addresses of their host names; nothing here looks anything up. And the way back, on the
//! other host: which destination a name holds that no rule gave.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use adit_protocol::{Captures as Parts, Name, Template};

use crate::net::{Net, Ports};

/// Every `[[outbound.capture]]`, in the order of the file; the first that matches names the connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Captures {
    /// The rules.
    pub rules: Vec<CaptureRule>,
}

/// One `[[outbound.capture]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptureRule {
    /// Which destinations it is about.
    pub matches: CaptureMatch,
    /// To which ports; empty is every port.
    pub ports: Vec<Ports>,
    /// The name, where `{ip}` and `{port}` are those of the original destination.
    pub to: Template,
    /// The id of the client certificate to present; else the door's.
    pub certificate: Option<String>,
}

/// Which destinations a capture rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CaptureMatch {
    /// The addresses of this host name: a DNS name in lower case, without a trailing dot.
    Host(String),
    /// The addresses of this network.
    Net(Net),
}

/// What is known of the addresses of a host name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostHas {
    /// The address is one of them, or was one not long ago.
    Yes,
    /// It is not.
    No,
    /// It is not, and the name has never had any, as far as is known: it may be written wrongly, or not be there yet.
    Never,
    /// Nothing is known of the name yet.
    Unknown,
}

/// What the rules make of a destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Captured {
    /// It has this name.
    Named {
        /// The name.
        name: Name,
        /// The rule that gave it, from 1.
        rule: usize,
        /// The certificate that the rule says.
        certificate: Option<String>,
    },
    /// No rule names it, and so it is called `/dst/<ip>/<port>`.
    Default {
        /// That name.
        name: Name,
        /// The first rule for its port, from 1, whose host name has never had an address: it may be meant by that.
        never: Option<usize>,
    },
    /// It cannot be told before something is known of the host name of this rule, from 1.
    Waits {
        /// The rule.
        rule: usize,
        /// Its host name.
        host: String,
    },
    /// What the rule says comes to no name.
    Faulty {
        /// The rule, from 1.
        rule: usize,
        /// What is wrong.
        message: String,
    },
}

impl Captures {
    /// The name of a connection whose original destination is this. `has` tells whether a host name has an address; it is
    /// asked for no rule after the one that decides.
    #[must_use]
    pub fn name(&self, destination: SocketAddr, has: impl Fn(&str, IpAddr) -> HostHas) -> Captured {
        let (ip, port) = (destination.ip().to_canonical(), destination.port());
        let mut never = None;
        for (index, rule) in self.rules.iter().enumerate().filter(|(_, rule)| rule.is_about(port)) {
            let found = match &rule.matches {
                CaptureMatch::Net(net) if net.contains(ip) => HostHas::Yes,
                CaptureMatch::Net(_) => HostHas::No,
                CaptureMatch::Host(host) => has(host, ip),
            };
            match (found, &rule.matches) {
                (HostHas::Yes, _) => return rule.name(index + 1, ip, port),
                (HostHas::Unknown, CaptureMatch::Host(host)) => {
                    return Captured::Waits { rule: index + 1, host: host.clone() };
                }
                (HostHas::Never, _) => never = never.or(Some(index + 1)),
                (HostHas::No | HostHas::Unknown, _) => {}
            }
        }
        Captured::Default { name: default_name_of(destination), never }
    }

    /// The first port of a rule, by its number from 1; 1 where it has every port.
    #[must_use]
    pub fn port_of(&self, rule: usize) -> u16 {
        let rule = rule.checked_sub(1).and_then(|index| self.rules.get(index));
        rule.and_then(|rule| rule.ports.first()).map_or(1, |ports| ports.first)
    }

    /// The host names that its rules ask for, each with the number of its rule, from 1.
    pub fn hosts(&self) -> impl DoubleEndedIterator<Item = (usize, &str)> {
        self.rules.iter().enumerate().filter_map(|(index, rule)| match &rule.matches {
            CaptureMatch::Host(host) => Some((index + 1, host.as_str())),
            CaptureMatch::Net(_) => None,
        })
    }
}

impl CaptureRule {
    fn is_about(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.iter().any(|ports| ports.contains(port))
    }

    fn name(&self, rule: usize, ip: IpAddr, port: u16) -> Captured {
        match fill(&self.to, ip, port) {
            Ok(name) => Captured::Named { name, rule, certificate: self.certificate.clone() },
            Err(message) => Captured::Faulty { rule, message },
        }
    }
}

/// The first segment of the name of a destination that no rule names. Only `[[inbound.capture]]` serves such names.
pub const ROOT: &str = "dst";

/// Whether a name is one that only `[[inbound.capture]]` serves.
#[must_use]
pub fn is_destination(name: &Name) -> bool {
    name.segments().next() == Some(ROOT)
}

/// The destination that `/dst/<ip>/<port>` holds. It is taken as [`Captures::name`] writes it and in no other spelling, so
/// that two names never mean one address.
///
/// # Errors
/// It holds none, or is spelled otherwise.
pub fn destination(name: &Name) -> Result<SocketAddr, DestinationError> {
    let segments: Vec<_> = name.segments().collect();
    let &[ROOT, ip, port] = segments.as_slice() else {
        return Err(DestinationError::Shape);
    };
    let ip: IpAddr = ip.parse().map_err(|_| DestinationError::Ip)?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or(DestinationError::Port)?;
    let found = SocketAddr::new(ip.to_canonical(), port);
    if *name == default_name_of(found) { Ok(found) } else { Err(DestinationError::Spelling(found)) }
}

/// Why a name that begins with `/dst` holds no destination. To the peer all are one refusal; it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DestinationError {
    /// It has other parts than an address and a port.
    Shape,
    /// Its address is none.
    Ip,
    /// Its port is none.
    Port,
    /// Its parts are those of this destination and written otherwise.
    Spelling(SocketAddr),
}

impl fmt::Display for DestinationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DestinationError::Shape => f.write_str("a captured name is /dst/<ip>/<port>"),
            DestinationError::Ip => f.write_str("its address is none"),
            DestinationError::Port => f.write_str("its port is none from 1 to 65535"),
            DestinationError::Spelling(found) => write!(f, "that is spelled {}", default_name_of(*found)),
        }
    }
}

impl Error for DestinationError {}

/// The name of a destination that no rule names, as a rule would say it.
pub(crate) fn default_name() -> Template {
    parsed("/dst/{ip}/{port}", Template::parse)
}

fn parsed<T, E: std::fmt::Debug>(text: &str, parse: impl Fn(&str) -> Result<T, E>) -> T {
    // A literal that a test reads.
    #[allow(clippy::expect_used, reason = "a literal of this file, which its tests parse")]
    parse(text).expect("it is well formed")
}

/// The name of this destination where no rule gives one.
#[must_use]
pub fn default_name_of(destination: SocketAddr) -> Name {
    let (ip, port) = (destination.ip().to_canonical(), destination.port());
    // An address without its zone is digits, dots and colons: segments of a name.
    parsed(&format!("/dst/{ip}/{port}"), Name::parse)
}

/// The parts of a destination, `{ip}` and `{port}`, as a template uses them.
#[must_use]
pub fn parts(destination: SocketAddr) -> Parts {
    let (ip, port) = (destination.ip().to_canonical(), destination.port());
    Parts::from_iter([("ip", ip.to_string()), ("port", port.to_string())])
}

fn fill(to: &Template, ip: IpAddr, port: u16) -> Result<Name, String> {
    let text = to.expand(&parts(SocketAddr::new(ip, port))).map_err(|missing| missing.to_string())?;
    Name::parse(&text).map_err(|fault| format!("`{text}` is no name: {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(matches: CaptureMatch, port: u16, to: &str) -> CaptureRule {
        CaptureRule { matches, ports: vec![Ports::one(port)], to: Template::parse(to).unwrap(), certificate: None }
    }

    fn captures() -> Captures {
        Captures {
            rules: vec![
                rule(CaptureMatch::Host("redis.test".to_owned()), 6379, "/svc/redis"),
                rule(CaptureMatch::Net(Net::parse("10.0.0.0/8").unwrap()), 6379, "/net/{ip}"),
                rule(CaptureMatch::Net(Net::parse("fd00::/8").unwrap()), 5432, "/dst/{ip}/{port}"),
            ],
        }
    }

    fn name(destination: &str, has: HostHas) -> String {
        match captures().name(destination.parse().unwrap(), |_, _| has) {
            Captured::Named { name, rule, .. } => format!("{name} by {rule}"),
            Captured::Default { name, never: None } => format!("{name} by 0"),
            Captured::Default { name, never: Some(rule) } => format!("{name}, perhaps of {rule}"),
            Captured::Waits { rule, host } => format!("{rule} waits for {host}"),
            Captured::Faulty { message, .. } => message,
        }
    }

    #[test]
    fn the_first_rule_that_matches_names_a_destination() {
        assert_eq!(name("10.0.0.2:6379", HostHas::Yes), "/svc/redis by 1");
        assert_eq!(name("10.0.0.2:6379", HostHas::No), "/net/10.0.0.2 by 2");
        assert_eq!(name("[::ffff:10.0.0.2]:6379", HostHas::No), "/net/10.0.0.2 by 2");
        assert_eq!(name("[fd00::2]:5432", HostHas::Yes), "/dst/fd00::2/5432 by 3");
        assert_eq!(name("192.168.0.1:22", HostHas::Yes), "/dst/192.168.0.1/22 by 0");
    }

    #[test]
    fn a_name_holds_the_destination_that_it_was_given_for_and_in_no_other_spelling() {
        for (text, expected) in [
            ("/dst/10.0.0.2/5432", Ok("10.0.0.2:5432")),
            ("/dst/fd00::2/5432", Ok("[fd00::2]:5432")),
            ("/dst/::ffff:10.0.0.2/5432", Err("that is spelled /dst/10.0.0.2/5432")),
            ("/dst/::ffff:a00:2/5432", Err("that is spelled /dst/10.0.0.2/5432")),
            ("/dst/FD00::2/5432", Err("that is spelled /dst/fd00::2/5432")),
            ("/dst/fd00:0::2/5432", Err("that is spelled /dst/fd00::2/5432")),
            ("/dst/10.0.0.2/05432", Err("that is spelled /dst/10.0.0.2/5432")),
            ("/dst/10.0.0.2/+5432", Err("that is spelled /dst/10.0.0.2/5432")),
            ("/dst/010.0.0.2/5432", Err("its address is none")),
            ("/dst/10.2/5432", Err("its address is none")),
            ("/dst/0x0a000002/5432", Err("its address is none")),
            ("/dst/fe80::1%eth0/5432", Err("its address is none")),
            ("/dst/fe80::1%2/5432", Err("its address is none")),
            ("/dst/localhost/5432", Err("its address is none")),
            ("/dst/10.0.0.2/0", Err("its port is none from 1 to 65535")),
            ("/dst/10.0.0.2/65536", Err("its port is none from 1 to 65535")),
            ("/dst/10.0.0.2/-1", Err("its port is none from 1 to 65535")),
            ("/dst/10.0.0.2/http", Err("its port is none from 1 to 65535")),
            ("/dst/10.0.0.2", Err("a captured name is /dst/<ip>/<port>")),
            ("/dst/10.0.0.2/5432/x", Err("a captured name is /dst/<ip>/<port>")),
            ("/dst", Err("a captured name is /dst/<ip>/<port>")),
        ] {
            let found = destination(&Name::parse(text).unwrap()).map_err(|fault| fault.to_string());
            assert_eq!(found, expected.map(|text| text.parse().unwrap()).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_told_yet_waits_and_is_not_given_to_a_later_rule() {
        assert_eq!(name("10.0.0.2:6379", HostHas::Unknown), "1 waits for redis.test");
        assert_eq!(name("10.0.0.2:22", HostHas::Unknown), "/dst/10.0.0.2/22 by 0", "its port is no rule's");
    }

    #[test]
    fn a_host_that_never_had_an_address_leaves_a_later_rule_to_name_it_and_the_default_in_doubt() {
        assert_eq!(name("10.0.0.2:6379", HostHas::Never), "/net/10.0.0.2 by 2");
        assert_eq!(name("11.0.0.2:6379", HostHas::Never), "/dst/11.0.0.2/6379, perhaps of 1");
        assert_eq!(name("11.0.0.2:22", HostHas::Never), "/dst/11.0.0.2/22 by 0");
    }
}
