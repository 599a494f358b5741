//! The judge: who may reach what. A pure function of the file, the name asked for, the peer's
//! identities and the certificate we showed; closed by default. It looks nothing up, and only it can
//! make an [`Admitted`], without which no service is reached.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;

use adit_protocol::{Captures, Code, Name, Refusal};

use crate::capture::{self, is_destination};
use crate::identity::{Identity, IdentityPattern};
use crate::service::{Backend, CaptureService, Reach, Service, Source, TargetError, is_near};

/// How many of a peer's identities a reason shows: enough to recognise it, within 512 bytes.
const SHOWN: usize = 3;

/// Every served name and who may reach it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// In the order of the file: the first that has the name decides.
    pub services: Vec<Service>,
    /// Which addresses of this host captured connections may go on to: the only ones that serve `/dst/<ip>/<port>`.
    pub captures: Vec<CaptureService>,
    /// Unknown names are answered as denied ones.
    pub conceal: bool,
}

/// What the judge says to one OPEN.
#[derive(Clone, Debug)]
#[must_use]
pub enum Verdict {
    /// The service may be reached.
    Admitted(Admitted),
    /// It may not: unknown, denied or misdirected.
    Refused(Refusal),
}

/// The right to reach one service for one stream. Only [`Policy::judge`] makes it.
#[derive(Clone, Debug)]
#[must_use]
pub struct Admitted {
    service: usize,
    rule: Rule,
    allow: usize,
    pattern: IdentityPattern,
    captures: Captures,
    backend: Result<Backend, TargetError>,
    fenced: bool,
    reach: Vec<Reach>,
    source: Source,
}

/// Which rule decides, from 0; shown, as refusals and records tell it, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// A `[[inbound.service]]`.
    Service(usize),
    /// A `[[inbound.capture]]`.
    Capture(usize),
}

/// Which entry of which rule admits: what is kept of an [`Admitted`] to tell it later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admission {
    rule: Rule,
    allow: usize,
}

impl fmt::Display for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} allow {}", self.rule, self.allow + 1)
    }
}

/// What is asked for, found by its name.
enum Asked<'a> {
    /// A service, and what its name captured.
    Service(&'a Service, Captures),
    /// An address of this host.
    Capture(&'a CaptureService, SocketAddr),
}

impl Policy {
    /// Judges one OPEN. `certificate` is the id of the certificate this tunnel presented.
    ///
    /// A peer that is not admitted hears *denied* before it could hear *misdirected*: which
    /// certificate a service is bound to is not for it to learn.
    pub fn judge(&self, destination: &Name, peer: &[Identity], certificate: Option<&str>) -> Verdict {
        let found = if is_destination(destination) { self.capture(destination) } else { self.service(destination) };
        let (rule, asked) = match found {
            Ok(found) => found,
            Err(why) => return Verdict::Refused(self.unknown(destination, &why, peer)),
        };
        let Some(allow) = admitting(asked.allow(), peer) else {
            return Verdict::Refused(self.denied(rule, peer));
        };
        if !asked.is_bound_to(certificate) {
            return Verdict::Refused(misdirected(destination));
        }
        Verdict::Admitted(self.admit(rule, asked, allow))
    }

    /// The first service that has this name, with its place from 0 and what its captures hold. The name of a captured
    /// connection is no service's, whatever a pattern takes.
    #[must_use]
    pub fn find(&self, name: &Name) -> Option<(usize, &Service, Captures)> {
        let mut services = self.services.iter().enumerate().filter(|_| !is_destination(name));
        services.find_map(|(index, service)| {
            let captures = service.names.iter().find_map(|pattern| pattern.matches(name))?;
            Some((index, service, captures))
        })
    }

    fn service(&self, name: &Name) -> Result<(Rule, Asked<'_>), String> {
        let (index, service, captures) = self.find(name).ok_or_else(String::new)?;
        Ok((Rule::Service(index), Asked::Service(service, captures)))
    }

    /// The first entry that serves the port of a captured name; or why none does.
    fn capture(&self, destination: &Name) -> Result<(Rule, Asked<'_>), String> {
        let address = capture::destination(destination).map_err(|why| format!(": {why}"))?;
        if is_near(address.ip()) {
            return Err(": loopback, link-local, multicast and unspecified addresses are never served".to_owned());
        }
        let serves = |service: &&CaptureService| service.ports.iter().any(|ports| ports.contains(address.port()));
        let found = self.captures.iter().enumerate().find(|(_, service)| serves(service));
        let (index, service) = found.ok_or(": no capture rule has its port")?;
        Ok((Rule::Capture(index), Asked::Capture(service, address)))
    }

    fn admit(&self, rule: Rule, asked: Asked<'_>, allow: usize) -> Admitted {
        let pattern = asked.allow()[allow].clone();
        let service = match rule {
            Rule::Service(index) => index,
            Rule::Capture(index) => self.services.len() + index,
        };
        match asked {
            Asked::Service(one, captures) => Admitted {
                service,
                rule,
                allow,
                pattern,
                backend: one.to.fill(&captures),
                captures,
                fenced: one.to.is_captured(),
                reach: one.reach.clone(),
                source: one.source,
            },
            Asked::Capture(one, address) => Admitted {
                service,
                rule,
                allow,
                pattern,
                captures: capture::parts(address),
                backend: Ok(Backend::Tcp(address)),
                fenced: true,
                reach: vec![Reach::one(address)],
                source: one.source,
            },
        }
    }

    fn unknown(&self, destination: &Name, why: &str, peer: &[Identity]) -> Refusal {
        if self.conceal {
            return concealed(peer);
        }
        Refusal::new(Code::Unknown, format!("this agent serves no {destination}{why}"))
    }

    fn denied(&self, rule: Rule, peer: &[Identity]) -> Refusal {
        if self.conceal {
            return concealed(peer);
        }
        Refusal::new(Code::Denied, format!("{rule} does not admit {}", seen(peer)))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Service(index) => write!(f, "rule {}", index + 1),
            Rule::Capture(index) => write!(f, "capture rule {}", index + 1),
        }
    }
}

impl Asked<'_> {
    fn allow(&self) -> &[IdentityPattern] {
        match self {
            Asked::Service(service, _) => &service.allow,
            Asked::Capture(service, _) => &service.allow,
        }
    }

    fn is_bound_to(&self, presented: Option<&str>) -> bool {
        let bound = match self {
            Asked::Service(service, _) => service.certificate.as_deref(),
            Asked::Capture(service, _) => service.certificate.as_deref(),
        };
        bound.is_none() || bound == presented
    }
}

/// The first entry that matches one of the identities: its index in the list.
fn admitting(allow: &[IdentityPattern], peer: &[Identity]) -> Option<usize> {
    allow.iter().position(|pattern| peer.iter().any(|identity| pattern.matches(identity)))
}

/// The same words for a name that is served and one that is not: a rule's number would tell them
/// apart.
fn concealed(peer: &[Identity]) -> Refusal {
    Refusal::new(Code::Denied, format!("no rule admits {}", seen(peer)))
}

fn misdirected(destination: &Name) -> Refusal {
    let reason = format!("{destination} is bound to a certificate other than this tunnel's");
    Refusal::new(Code::Misdirected, reason)
}

fn seen(peer: &[Identity]) -> String {
    if peer.is_empty() {
        return "a peer without an identity".to_owned();
    }
    let shown: Vec<_> = peer.iter().take(SHOWN).map(ToString::to_string).collect();
    let mut text = shown.join(", ");
    if peer.len() > SHOWN {
        // Writing to a String cannot fail.
        let _ = write!(text, " and {} more", peer.len() - SHOWN);
    }
    text
}

impl Admitted {
    /// Its place, from 0: in [`Policy::services`], and after the last of them in [`Policy::captures`].
    #[must_use]
    pub fn service(&self) -> usize {
        self.service
    }

    /// What the service's name captured; of a captured name its `ip` and `port`.
    #[must_use]
    pub fn captures(&self) -> &Captures {
        &self.captures
    }

    /// The rule that admitted, counted from 1: `rule 2 allow 1 (*.web.prod.internal)`, or `capture rule 1 allow 1 (…)`.
    #[must_use]
    pub fn rule(&self) -> String {
        format!("{} ({})", self.admission(), self.pattern)
    }

    /// The same as a small value.
    #[must_use]
    pub fn admission(&self) -> Admission {
        Admission { rule: self.rule, allow: self.allow }
    }

    /// Whether the address must be one of an interface of this host, and none of the agent's own doors: to be asked of the
    /// system just before connect.
    #[must_use]
    pub fn must_be_own(&self) -> bool {
        matches!(self.rule, Rule::Capture(_))
    }

    /// Whose address the service sees.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// Where the service is, captures filled in.
    ///
    /// # Errors
    /// The name asked for does not fit the target; answer *unknown*.
    pub fn target(&self) -> Result<&Backend, &TargetError> {
        self.backend.as_ref()
    }

    /// Whether this stream may be connected to the address: to be asked of each address a name led
    /// to, just before connect.
    #[must_use]
    pub fn may_reach(&self, address: SocketAddr) -> bool {
        match (self.fenced, self.reach.is_empty()) {
            (false, true) => true,
            (false, false) => self.is_in_reach(address),
            (true, _) => !is_near(address.ip()) && self.is_in_reach(address),
        }
    }

    /// Whether this stream may be connected to a unix socket: only one the file writes out.
    #[must_use]
    pub fn may_reach_unix(&self) -> bool {
        !self.fenced && self.reach.is_empty()
    }

    fn is_in_reach(&self, address: SocketAddr) -> bool {
        self.reach.iter().any(|reach| reach.contains(address))
    }
}

#[cfg(test)]
mod tests;
