//! Whom we believe: the CA bundle and the revocation lists, and the one function that holds a
//! peer's chain against them. It knows nothing of names; who a proven certificate is, `verify` and
//! `peer` say.
//!
//! A certificate of the bundle is held to its dates like any other. Of revocation lists, every
//! certificate of a chain is looked up in every list of its issuer, and one entry refuses. An
//! issuer without a list is not checked: which CAs keep lists is the operator's choice, made by
//! naming the files. A list past its `nextUpdate` is enforced as it stands, with a warning when it
//! is loaded and a gauge to watch: refusing every peer of a CA whose list came late would turn a
//! late file into an outage, and dropping it would free the revoked. A list whose signature is not
//! its issuer's refuses every certificate of that issuer, so two CAs of one distinguished name
//! cannot share a bundle when there is a list of either.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::{error::LoadError, leaf::Leaf, peer::Role, pem, pki, revocation::List};

/// The bundle and the revocation lists; equal when they would judge alike.
#[derive(PartialEq)]
pub(super) struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    /// When each of them ends; webpki keeps no dates of an anchor.
    ends: Vec<SystemTime>,
    /// webpki asks only the first list of an issuer, so lists of one issuer stand in different
    /// rounds, and a chain must pass every round.
    rounds: Vec<Vec<List>>,
}

/// The chain a peer sent, and what it wants to be taken for.
#[derive(Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) end_entity: &'a CertificateDer<'a>,
    pub(super) intermediates: &'a [CertificateDer<'a>],
    pub(super) role: Role,
}

impl Trust {
    /// Reads the bundle and every list.
    pub(super) fn load(ca: &Path, crl: &[PathBuf], now: SystemTime) -> Result<Self, LoadError> {
        let (anchors, ends) = load_anchors(ca, now)?;
        let mut rounds: Vec<Vec<List>> = Vec::new();
        for file in crl {
            for list in List::load(file, now)? {
                place(list, &mut rounds);
            }
        }
        Ok(Self { anchors, ends, rounds })
    }

    /// Whether the chain leads to the bundle, within its dates, for its purpose, unrevoked.
    pub(super) fn verify(&self, claim: Claim<'_>, now: UnixTime) -> Result<(), rustls::Error> {
        let leaf = EndEntityCert::try_from(claim.end_entity).map_err(pki::error)?;
        if self.rounds.is_empty() {
            return self.verify_round(&leaf, claim, now, None);
        }
        for round in &self.rounds {
            let lists: Vec<&CertRevocationList<'_>> = round.iter().map(List::parsed).collect();
            self.verify_round(&leaf, claim, now, revocation(&lists))?;
        }
        Ok(())
    }

    fn verify_round(
        &self,
        leaf: &EndEntityCert<'_>,
        claim: Claim<'_>,
        now: UnixTime,
        revocation: Option<RevocationOptions<'_>>,
    ) -> Result<(), rustls::Error> {
        leaf.verify_for_usage(
            algorithms(),
            &self.anchors,
            claim.intermediates,
            now,
            usage(claim.role),
            revocation,
            Some(&|path| self.check_anchor(path.anchor(), now)),
        )
        .map(|_path| ())
        .map_err(pki::error)
    }

    /// RFC 5280 leaves an anchor's dates to local policy (6.1.1 d); ours is that they hold. A CA
    /// renewed under the same key is in the bundle twice, and one valid copy is enough.
    fn check_anchor(&self, used: &TrustAnchor<'_>, now: UnixTime) -> Result<(), webpki::Error> {
        let same = |anchor: &TrustAnchor<'_>| {
            anchor.subject == used.subject && anchor.subject_public_key_info == used.subject_public_key_info
        };
        let all = self.anchors.iter().zip(&self.ends);
        let ends = all.filter(|(anchor, _)| same(anchor)).map(|(_, end)| pki::unix_time(*end));
        match ends.max() {
            Some(not_after) if now > not_after => Err(webpki::Error::CertExpired { time: now, not_after }),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} anchors)", self.anchors.len())
    }
}

/// An EKU extension, where there is one, must hold the purpose; none at all allows every purpose.
/// webpki's two usages are just that (`required if present`).
fn usage(role: Role) -> KeyUsage {
    match role {
        Role::Dialer => KeyUsage::client_auth(),
        Role::Acceptor | Role::Unverified => KeyUsage::server_auth(),
    }
}

fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    super::settings::signatures().all
}

fn revocation<'a>(lists: &'a [&'a CertRevocationList<'a>]) -> Option<RevocationOptions<'a>> {
    let builder = RevocationOptionsBuilder::new(lists).ok()?;
    Some(
        builder
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Allow)
            .with_expiration_policy(ExpirationPolicy::Ignore)
            .build(),
    )
}

fn place(list: List, rounds: &mut Vec<Vec<List>>) {
    let free = |round: &&mut Vec<List>| round.iter().all(|other| !other.has_issuer_of(&list));
    match rounds.iter_mut().find(free) {
        Some(round) => round.push(list),
        None => rounds.push(vec![list]),
    }
}

fn load_anchors(file: &Path, now: SystemTime) -> Result<(Vec<TrustAnchor<'static>>, Vec<SystemTime>), LoadError> {
    let mut anchors = Vec::new();
    let mut ends = Vec::new();
    for der in pem::certificates(file)? {
        let (anchor, end) = load_anchor(file, &der)?;
        anchors.push(anchor);
        ends.push(end);
    }
    check_ends(file, &ends, now)?;
    Ok((anchors, ends))
}

fn check_ends(file: &Path, ends: &[SystemTime], now: SystemTime) -> Result<(), LoadError> {
    let expired = ends.iter().filter(|end| now > **end).count();
    if expired == ends.len() {
        let advice = "put a current CA certificate into it";
        return Err(LoadError::new(file, "every CA in it has expired", advice));
    }
    if expired > 0 {
        let file = file.display();
        tracing::warn!(%file, expired, "the bundle holds expired CAs; their peers are refused");
    }
    Ok(())
}

fn load_anchor(file: &Path, der: &CertificateDer<'_>) -> Result<(TrustAnchor<'static>, SystemTime), LoadError> {
    let unusable = |why: String| LoadError::new(file, why, "a bundle holds CA certificates only");
    let leaf = Leaf::parse(der).map_err(|_| unusable("holds a certificate that cannot be parsed".to_owned()))?;
    if !leaf.is_ca {
        return Err(unusable(format!("certificate {} is not a CA's", leaf.serial)));
    }
    let anchor = webpki::anchor_from_trusted_cert(der)
        .map_err(|cause| unusable(format!("holds a CA that cannot be used: {cause}")))?;
    Ok((anchor.to_owned(), leaf.not_after))
}
