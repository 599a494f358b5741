//! The judge: who may reach what. A pure function of the file, the name asked for, the peer's
//! identities and the certificate we showed; closed by default. It looks nothing up, and only it can
//! make an [`Admitted`], without which no service is reached.

use std::fmt::Write as _;
use std::net::SocketAddr;

use adit_protocol::{Captures, Code, Name, Refusal};

use crate::identity::{Identity, IdentityPattern};
use crate::service::{Backend, CaptureService, Reach, Service, TargetError, is_near};

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
    allow: usize,
    pattern: IdentityPattern,
    captures: Captures,
    backend: Result<Backend, TargetError>,
    captured: bool,
    reach: Vec<Reach>,
}

impl Policy {
    /// Judges one OPEN. `certificate` is the id of the certificate this tunnel presented.
    ///
    /// A peer that is not admitted hears *denied* before it could hear *misdirected*: which
    /// certificate a service is bound to is not for it to learn.
    pub fn judge(&self, destination: &Name, peer: &[Identity], certificate: Option<&str>) -> Verdict {
        let Some((index, captures)) = self.find(destination) else {
            return Verdict::Refused(self.unknown(destination, peer));
        };
        let service = &self.services[index];
        let Some(allow) = admitting(&service.allow, peer) else {
            return Verdict::Refused(self.denied(index, peer));
        };
        if !service.is_bound_to(certificate) {
            return Verdict::Refused(misdirected(destination));
        }
        Verdict::Admitted(Admitted::new(index, service, allow, captures))
    }

    /// The first service that has this name, and what its captures hold.
    fn find(&self, destination: &Name) -> Option<(usize, Captures)> {
        self.services.iter().enumerate().find_map(|(index, service)| {
            let captures = service.names.iter().find_map(|name| name.matches(destination))?;
            Some((index, captures))
        })
    }

    fn unknown(&self, destination: &Name, peer: &[Identity]) -> Refusal {
        if self.conceal {
            return concealed(peer);
        }
        Refusal::new(Code::Unknown, format!("this agent serves no {destination}"))
    }

    fn denied(&self, index: usize, peer: &[Identity]) -> Refusal {
        if self.conceal {
            return concealed(peer);
        }
        let reason = format!("rule {} does not admit {}", index + 1, seen(peer));
        Refusal::new(Code::Denied, reason)
    }
}

impl Service {
    fn is_bound_to(&self, presented: Option<&str>) -> bool {
        self.certificate.is_none() || self.certificate.as_deref() == presented
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
    fn new(index: usize, service: &Service, allow: usize, captures: Captures) -> Admitted {
        Admitted {
            service: index,
            allow,
            pattern: service.allow[allow].clone(),
            backend: service.to.fill(&captures),
            captures,
            captured: service.to.is_captured(),
            reach: service.reach.clone(),
        }
    }

    /// The service's place in [`Policy::services`], from 0.
    #[must_use]
    pub fn service(&self) -> usize {
        self.service
    }

    /// What the service's name captured.
    #[must_use]
    pub fn captures(&self) -> &Captures {
        &self.captures
    }

    /// The rule that admitted, counted from 1: `rule 2 allow 1 (*.web.prod.internal)`.
    #[must_use]
    pub fn rule(&self) -> String {
        format!("rule {} allow {} ({})", self.service + 1, self.allow + 1, self.pattern)
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
        match (self.captured, self.reach.is_empty()) {
            (false, true) => true,
            (false, false) => self.is_in_reach(address),
            (true, _) => !is_near(address.ip()) && self.is_in_reach(address),
        }
    }

    /// Whether this stream may be connected to a unix socket: only one the file writes out.
    #[must_use]
    pub fn may_reach_unix(&self) -> bool {
        !self.captured && self.reach.is_empty()
    }

    fn is_in_reach(&self, address: SocketAddr) -> bool {
        self.reach.iter().any(|reach| reach.contains(address))
    }
}

#[cfg(test)]
mod tests;
