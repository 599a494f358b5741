//! Who is at the other end of a verified tunnel: the identities its certificate proves for its
//! role, and the chain, kept so that it can be judged again. It never decides what a peer may
//! reach.

use std::{fmt, time::SystemTime};

use adit_config::Identity;
use rustls_pki_types::CertificateDer;

use super::{
    leaf::{Leaf, Malformed},
    text::printable,
};

/// Which end of a tunnel a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It opened the tunnel: its certificate needs clientAuth and an identity of its own.
    Dialer,
    /// It accepted the tunnel: its certificate needs serverAuth; a wildcard may have proved it.
    Acceptor,
    /// It accepted a tunnel under `verify = "none"`: nothing of its certificate is proven.
    Unverified,
}

/// A peer, as its certificate proves it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What it is proven to be; empty for [`Role::Unverified`]. Wildcards are never among them.
    pub identities: Vec<Identity>,
    /// Every name in its certificate as text, proven or not, for an operator to read.
    pub names: Vec<String>,
    /// Its certificate's serial number in lower-case hex.
    pub subject_serial: String,
    /// Its certificate's first moment of validity.
    pub not_before: SystemTime,
    /// Its certificate's last moment of validity.
    pub not_after: SystemTime,
    /// Its certificate's issuer, as a distinguished name.
    pub issuer: String,
    /// The trust generation (`Snapshot::trust_generation`) that its chain was verified under.
    pub generation: u64,
    /// When its handshake began.
    pub met: SystemTime,
    /// The first end of a certificate that it sent; the past when one of them cannot be read.
    pub(super) until: SystemTime,
    chain: Vec<CertificateDer<'static>>,
}

/// A certificate that makes nobody of its bearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerError {
    /// It sent no certificate.
    None,
    /// Its certificate is not X.509, or its names are ill-formed.
    Malformed,
    /// It has several URI names; a SPIFFE identity is one (SPIFFE X.509-SVID, section 2).
    SeveralUris(Vec<String>),
    /// A dialer without a DNS name that is no wildcard, a SPIFFE id or an address.
    NoIdentity(Vec<String>),
}

impl Peer {
    /// Reads who a peer is from the chain of a handshake that began at `met` and has succeeded.
    /// `generation` is the trust generation of the snapshot whose configuration made that handshake.
    pub fn from_chain(
        chain: &[CertificateDer<'_>],
        role: Role,
        generation: u64,
        met: SystemTime,
    ) -> Result<Self, PeerError> {
        let (own, others) = chain.split_first().ok_or(PeerError::None)?;
        let leaf = Leaf::parse(own)?;
        let identities = identities(&leaf, role)?;
        let end = |der| Leaf::parse(der).map_or(SystemTime::UNIX_EPOCH, |other| other.not_after);
        let until = others.iter().map(end).fold(leaf.not_after, SystemTime::min);
        Ok(Self {
            identities,
            names: leaf.names(),
            subject_serial: leaf.serial,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            issuer: leaf.issuer,
            generation,
            met,
            until,
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
        })
    }

    /// The chain it sent, its own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }
}

/// The identities that a certificate gives its bearer in this role.
pub(super) fn identities(leaf: &Leaf, role: Role) -> Result<Vec<Identity>, PeerError> {
    if role == Role::Unverified {
        return Ok(Vec::new());
    }
    if leaf.uris.len() > 1 {
        return Err(PeerError::SeveralUris(leaf.uris.iter().map(|uri| printable(uri)).collect()));
    }
    let identities = leaf.identities();
    match (role, identities.is_empty()) {
        (Role::Dialer, true) => Err(PeerError::NoIdentity(leaf.names())),
        _ => Ok(identities),
    }
}

impl fmt::Display for Peer {
    /// The identities it proved, or the names of a certificate that nobody verified.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.identities.is_empty() {
            return write!(f, "unverified {}", self.names.join(", "));
        }
        let identities: Vec<_> = self.identities.iter().map(ToString::to_string).collect();
        f.write_str(&identities.join(", "))
    }
}

impl From<Malformed> for PeerError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "it sent no certificate"),
            Self::Malformed => write!(f, "its certificate cannot be parsed"),
            Self::SeveralUris(uris) => write!(
                f,
                "its certificate has {} URI names ({}); one SPIFFE id at most is an identity",
                uris.len(),
                uris.join(", ")
            ),
            Self::NoIdentity(names) => write!(
                f,
                "its certificate has no identity a dialer can have ({}); it needs a DNS name \
                 without a wildcard, a SPIFFE id or an address",
                listed(names)
            ),
        }
    }
}

impl std::error::Error for PeerError {}

/// Names for a message.
pub(super) fn listed(names: &[String]) -> String {
    match names {
        [] => "it has no names at all".to_owned(),
        names => format!("it has {}", names.join(", ")),
    }
}
