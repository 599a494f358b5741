//! Whom we believe: the CA bundle and the revocation lists, and the one function that holds a
//! peer's chain against them. It knows nothing of names; who a proven certificate is, `verify` and
//! `peer` say.
//!
//! A certificate of the bundle is held to its dates like any other, and to the lists: a CA that one
//! names is left out of the bundle. Of revocation lists, every certificate of a chain is looked up
//! in every list of its issuer, whatever distribution point the list is of, and one entry refuses.
//! An issuer without a list is not checked: which CAs keep lists is the operator's choice, made by
//! naming the files. A list past its `nextUpdate` is enforced as it stands, with a warning when it
//! is loaded and a gauge to watch: refusing every peer of a CA whose list came late would turn a
//! late file into an outage, and dropping it would free the revoked. A list whose signature is not
//! its issuer's refuses every certificate of that issuer, so two CAs of one distinguished name
//! cannot share a bundle when there is a list of either.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{
    Cert, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};

use super::{error::LoadError, leaf::Leaf, peer::Role, pem, pki, revocation::List};

/// The bundle and the revocation lists; equal when they would judge alike.
#[derive(PartialEq)]
pub(super) struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    /// The dates of each of them; webpki keeps none of an anchor.
    dates: Vec<Dates>,
    /// webpki asks only the first list of an issuer, so lists of one issuer stand in different
    /// rounds, and a chain must pass every round.
    rounds: Vec<Vec<List>>,
}

/// The first and the last moment of a CA of the bundle.
#[derive(Clone, Copy, PartialEq)]
struct Dates {
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Whether a CA of the bundle is held to its dates.
#[derive(Clone, Copy, PartialEq)]
enum Anchors {
    Dated,
    Undated,
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
        let mut rounds: Vec<Vec<List>> = Vec::new();
        for file in crl {
            for list in List::load(file, now)? {
                place(list, &mut rounds);
            }
        }
        let (anchors, dates) = load_anchors(ca, &rounds, now)?;
        Ok(Self { anchors, dates, rounds })
    }

    /// Whether the chain leads to the bundle, within its dates, for its purpose, unrevoked.
    pub(super) fn verify(&self, claim: Claim<'_>, now: UnixTime) -> Result<(), rustls::Error> {
        self.verify_rounds(claim, now, Anchors::Dated)
    }

    /// Whether a chain that was good at `then` would be so by what the bundle and the lists are now:
    /// what has merely expired since is still good, and so is a CA that was made anew since.
    pub(super) fn stands(&self, claim: Claim<'_>, then: UnixTime) -> Result<(), rustls::Error> {
        self.verify_rounds(claim, then, Anchors::Undated)
    }

    /// Whether a CA of the bundle has expired since `then`.
    pub(super) fn has_expired_since(&self, then: SystemTime, now: SystemTime) -> bool {
        self.dates.iter().any(|dates| then <= dates.not_after && dates.not_after < now)
    }

    /// When the last CA of the bundle expires: then nobody is believed any more.
    pub(super) fn ends(&self) -> Option<SystemTime> {
        self.dates.iter().map(|dates| dates.not_after).max()
    }

    /// When the lists of each file promise newer ones, the soonest of them.
    pub(super) fn promises(&self) -> BTreeMap<String, SystemTime> {
        let mut soonest: BTreeMap<String, SystemTime> = BTreeMap::new();
        for (file, moment) in self.rounds.iter().flatten().filter_map(List::promise) {
            let kept = soonest.entry(file.to_owned()).or_insert(moment);
            *kept = moment.min(*kept);
        }
        soonest
    }

    fn verify_rounds(&self, claim: Claim<'_>, at: UnixTime, anchors: Anchors) -> Result<(), rustls::Error> {
        let leaf = EndEntityCert::try_from(claim.end_entity).map_err(pki::error)?;
        let check = |path: &VerifiedPath<'_>| self.check_path(path, at, anchors);
        if self.rounds.is_empty() {
            return self.verify_round(&leaf, claim, at, None, &check);
        }
        for round in &self.rounds {
            let lists: Vec<&CertRevocationList<'_>> = round.iter().map(List::parsed).collect();
            self.verify_round(&leaf, claim, at, revocation(&lists), &check)?;
        }
        Ok(())
    }

    fn verify_round(
        &self,
        leaf: &EndEntityCert<'_>,
        claim: Claim<'_>,
        at: UnixTime,
        revocation: Option<RevocationOptions<'_>>,
        check: &dyn Fn(&VerifiedPath<'_>) -> Result<(), webpki::Error>,
    ) -> Result<(), rustls::Error> {
        let usage = usage(claim.role);
        leaf.verify_for_usage(algorithms(), &self.anchors, claim.intermediates, at, usage, revocation, Some(check))
            .map(|_path| ())
            .map_err(pki::error)
    }

    fn check_path(&self, path: &VerifiedPath<'_>, at: UnixTime, anchors: Anchors) -> Result<(), webpki::Error> {
        if anchors == Anchors::Dated {
            self.check_anchor(path.anchor(), at)?;
        }
        check_entry(&self.rounds, path.end_entity())?;
        path.intermediate_certificates().try_for_each(|certificate| check_entry(&self.rounds, certificate))
    }

    /// RFC 5280 leaves an anchor's dates to local policy (6.1.1 d); ours is that they hold. A CA
    /// renewed under the same key is in the bundle twice, and one valid copy is enough.
    fn check_anchor(&self, used: &TrustAnchor<'_>, time: UnixTime) -> Result<(), webpki::Error> {
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

/// webpki passes over a list whose distribution point is not among the certificate's (RFC 5280,
/// 6.3.3 b 2), which in a file that the operator named would be a revocation without effect.
fn check_entry(rounds: &[Vec<List>], certificate: &Cert<'_>) -> Result<(), webpki::Error> {
    match rounds.iter().flatten().any(|list| list.names(certificate)) {
        true => Err(webpki::Error::CertRevoked),
        false => Ok(()),
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

fn load_anchors(
    file: &Path,
    rounds: &[Vec<List>],
    now: SystemTime,
) -> Result<(Vec<TrustAnchor<'static>>, Vec<Dates>), LoadError> {
    let mut anchors = Vec::new();
    let mut dates = Vec::new();
    let mut revoked = 0;
    for der in pem::certificates(file)? {
        let (anchor, of) = load_anchor(file, &der)?;
        if EndEntityCert::try_from(&der).is_ok_and(|ca| check_entry(rounds, &ca).is_err()) {
            revoked += 1;
            continue;
        }
        anchors.push(anchor);
        dates.push(of);
    }
    check_bundle(file, &dates, revoked, now)?;
    Ok((anchors, dates))
}

fn check_bundle(file: &Path, dates: &[Dates], revoked: usize, now: SystemTime) -> Result<(), LoadError> {
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
