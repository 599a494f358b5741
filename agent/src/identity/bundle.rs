//! The authorities that may vouch for a peer: the one bundle of a file, or one for each SPIFFE trust domain, where the
//! domain of a certificate's SPIFFE id says which of them must have signed it. It verifies no chain; `trust` does.
//!
//! A trust domain's authorities vouch for its own ids and for nobody else's, so a certificate without a SPIFFE id, and one
//! of a domain that gave no bundle, has nobody who could vouch for it (SPIFFE X.509-SVID, section 5).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::SystemTime,
};

use adit_config::Identity;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{Cert, EndEntityCert};

use super::{error::LoadError, leaf::Leaf, pem, pki, spiffe::Given};

/// Who may vouch for whom.
#[derive(PartialEq)]
pub(super) enum Bundles {
    /// One bundle for everybody.
    One(Bundle),
    /// One for each trust domain.
    Domains {
        /// The domains that our own certificates are of.
        own: BTreeSet<String>,
        bundles: BTreeMap<String, Bundle>,
    },
}

/// Authorities that vouch alike.
#[derive(PartialEq)]
pub(super) struct Bundle {
    anchors: Vec<TrustAnchor<'static>>,
    /// The dates of each of them; webpki keeps none of an anchor.
    dates: Vec<Dates>,
}

/// The first and the last moment of a CA of the bundle.
#[derive(Clone, Copy, PartialEq)]
struct Dates {
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Whether a revocation list names a CA.
type IsRevoked<'a> = dyn Fn(&Cert<'_>) -> bool + 'a;

impl Bundles {
    /// Those that a Workload API gave. What is wrong with our own domain's is an error; of another's, what cannot be used
    /// is left out, so that no partner's authority can keep us from our own rotation.
    pub(super) fn of_domains(given: &Given, is_revoked: &IsRevoked<'_>, now: SystemTime) -> Result<Self, LoadError> {
        let own = given.domains();
        let mut bundles = BTreeMap::new();
        for (domain, authorities) in &given.bundles {
            let source = given.source(&format!("bundle of {domain}"));
            let bundle = match own.contains(domain) {
                true => Bundle::of(&source, authorities, is_revoked, now)?,
                false => Bundle::of_usable(&source, authorities, is_revoked),
            };
            bundles.insert(domain.clone(), bundle);
        }
        if let Some(bare) = own.iter().find(|domain| !bundles.contains_key(*domain)) {
            let wrong = format!("gave no bundle of our own trust domain {bare}");
            return Err(LoadError::new(&given.source(""), wrong, "see the Workload API's own log"));
        }
        Ok(Self::Domains { own, bundles })
    }

    /// The bundle that must vouch for this certificate.
    pub(super) fn of(&self, end_entity: &CertificateDer<'_>) -> Option<&Bundle> {
        match self {
            Self::One(bundle) => Some(bundle),
            Self::Domains { bundles, .. } => {
                let leaf = Leaf::parse(end_entity).ok().filter(|leaf| leaf.uris.len() == 1)?;
                bundles.get(trust_domain(&leaf.identities())?)
            }
        }
    }

    /// Those of the domains that we are of.
    pub(super) fn own(&self) -> impl Iterator<Item = &Bundle> {
        let (one, domains) = match self {
            Self::One(bundle) => (Some(bundle), None),
            Self::Domains { own, bundles } => (None, Some(own.iter().filter_map(|domain| bundles.get(domain)))),
        };
        one.into_iter().chain(domains.into_iter().flatten())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Bundle> {
        let (one, domains) = match self {
            Self::One(bundle) => (Some(bundle), None),
            Self::Domains { bundles, .. } => (None, Some(bundles.values())),
        };
        one.into_iter().chain(domains.into_iter().flatten())
    }
}

/// The trust domain of the SPIFFE id among these.
pub(super) fn trust_domain(identities: &[Identity]) -> Option<&str> {
    identities.iter().find_map(|identity| match identity {
        Identity::Spiffe(id) => id.strip_prefix("spiffe://")?.split('/').next(),
        Identity::Dns(_) | Identity::Ip(_) => None,
    })
}

impl Bundle {
    /// Reads a bundle from its file.
    pub(super) fn load(file: &Path, is_revoked: &IsRevoked<'_>, now: SystemTime) -> Result<Self, LoadError> {
        Self::of(file, &pem::certificates(file)?, is_revoked, now)
    }

    /// A bundle of these; `from` is to blame for them.
    fn of(
        from: &Path,
        authorities: &[CertificateDer<'_>],
        is_revoked: &IsRevoked<'_>,
        now: SystemTime,
    ) -> Result<Self, LoadError> {
        let mut bundle = Self { anchors: Vec::new(), dates: Vec::new() };
        let mut revoked = 0;
        for der in authorities {
            let (anchor, dates) = load_anchor(from, der)?;
            match is_named(der, is_revoked) {
                true => revoked += 1,
                false => bundle.add(anchor, dates),
            }
        }
        check(from, &bundle.dates, revoked, now)?;
        Ok(bundle)
    }

    /// What of these can be used, perhaps nothing.
    fn of_usable(from: &Path, authorities: &[CertificateDer<'_>], is_revoked: &IsRevoked<'_>) -> Self {
        let mut bundle = Self { anchors: Vec::new(), dates: Vec::new() };
        for der in authorities {
            match load_anchor(from, der) {
                Ok(_) if is_named(der, is_revoked) => {
                    tracing::warn!(from = %from.display(), "a revocation list names a CA of it; its peers are refused");
                }
                Ok((anchor, dates)) => bundle.add(anchor, dates),
                Err(fault) => tracing::warn!(%fault, "that authority is left out; its peers are refused"),
            }
        }
        bundle
    }

    fn add(&mut self, anchor: TrustAnchor<'static>, dates: Dates) {
        self.anchors.push(anchor);
        self.dates.push(dates);
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// When the last of its CAs expires.
    pub(super) fn ends(&self) -> Option<SystemTime> {
        self.dates.iter().map(|dates| dates.not_after).max()
    }

    /// Whether a CA of it has expired since `then`.
    pub(super) fn has_expired_since(&self, then: SystemTime, now: SystemTime) -> bool {
        self.dates.iter().any(|dates| then <= dates.not_after && dates.not_after < now)
    }

    /// RFC 5280 leaves an anchor's dates to local policy (6.1.1 d); ours is that they hold. A CA
    /// renewed under the same key is in the bundle twice, and one valid copy is enough.
    pub(super) fn check_anchor(&self, used: &TrustAnchor<'_>, time: UnixTime) -> Result<(), webpki::Error> {
        let same = |anchor: &TrustAnchor<'_>| {
            anchor.subject == used.subject && anchor.subject_public_key_info == used.subject_public_key_info
        };
        let all = self.anchors.iter().zip(&self.dates);
        let copies = all.filter(|(anchor, _)| same(anchor)).map(|(_, dates)| dates.check(time));
        copies.reduce(Result::or).unwrap_or(Ok(()))
    }
}

impl Dates {
    fn check(self, time: UnixTime) -> Result<(), webpki::Error> {
        let (not_before, not_after) = (pki::unix_time(self.not_before), pki::unix_time(self.not_after));
        if time < not_before {
            return Err(webpki::Error::CertNotValidYet { time, not_before });
        }
        if time > not_after {
            return Err(webpki::Error::CertExpired { time, not_after });
        }
        Ok(())
    }
}

fn is_named(der: &CertificateDer<'_>, is_revoked: &IsRevoked<'_>) -> bool {
    EndEntityCert::try_from(der).is_ok_and(|ca| is_revoked(&ca))
}

fn check(file: &Path, dates: &[Dates], revoked: usize, now: SystemTime) -> Result<(), LoadError> {
    let expired = dates.iter().filter(|dates| now > dates.not_after).count();
    if expired == dates.len() {
        let advice = "put a current CA certificate into it";
        let wrong =
            if revoked == 0 { "every CA in it has expired" } else { "every CA in it has expired or is revoked" };
        return Err(LoadError::new(file, wrong, advice));
    }
    let file = file.display();
    if expired > 0 {
        tracing::warn!(%file, expired, "the bundle holds expired CAs; their peers are refused");
    }
    if revoked > 0 {
        tracing::warn!(%file, revoked, "the bundle holds CAs that a revocation list names; their peers are refused");
    }
    Ok(())
}

fn load_anchor(file: &Path, der: &CertificateDer<'_>) -> Result<(TrustAnchor<'static>, Dates), LoadError> {
    let unusable = |why: String| LoadError::new(file, why, "a bundle holds CA certificates only");
    let leaf = Leaf::parse(der).map_err(|_| unusable("holds a certificate that cannot be parsed".to_owned()))?;
    if !leaf.is_ca {
        return Err(unusable(format!("certificate {} is not a CA's", leaf.serial)));
    }
    let anchor = webpki::anchor_from_trusted_cert(der)
        .map_err(|cause| unusable(format!("holds a CA that cannot be used: {cause}")))?;
    Ok((anchor.to_owned(), Dates { not_before: leaf.not_before, not_after: leaf.not_after }))
}
