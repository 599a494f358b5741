//! Whom we believe: the CA bundle and the revocation lists, and the one function that holds a
//! peer's chain against them. It knows nothing of names, but for the trust domain that says which bundle must vouch; who a
//! proven certificate is, `verify` and `peer` say.
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

use std::{collections::BTreeMap, fmt, time::SystemTime};

use adit_config::{Authorities, Identity, Tls};
use rustls::CertificateError;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::{
    Cert, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};

use super::{
    bundle::{Bundle, Bundles, trust_domain},
    error::LoadError,
    peer::Role,
    pki,
    revocation::List,
    spiffe::{Given, given},
};

/// The bundles and the revocation lists; equal when they would judge alike.
#[derive(PartialEq)]
pub(super) struct Trust {
    bundles: Bundles,
    /// webpki asks only the first list of an issuer, so lists of one issuer stand in different
    /// rounds, and a chain must pass every round.
    rounds: Vec<Vec<List>>,
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
    /// Reads every list, and the bundle of `tls` or, where a Workload API gives them, those of each trust domain.
    pub(super) fn load(tls: &Tls, given: Option<&Given>, now: SystemTime) -> Result<Self, LoadError> {
        let mut rounds: Vec<Vec<List>> = Vec::new();
        for file in &tls.crl {
            for list in List::load(file, now)? {
                place(list, &mut rounds);
            }
        }
        let is_revoked = |ca: &Cert<'_>| check_entry(&rounds, ca).is_err();
        let bundles = match (&tls.authorities, given) {
            (_, Some(given)) => Bundles::of_domains(given, &is_revoked, now)?,
            (Authorities::File(ca), None) => Bundles::One(Bundle::load(ca, &is_revoked, now)?),
            (Authorities::Spiffe(spiffe), None) => return Err(given::nothing(&spiffe.socket)),
        };
        Ok(Self { bundles, rounds })
    }

    /// Whether a certificate of these identities, once its chain is good, is believed its DNS names and addresses too. The
    /// bundle of a file vouches for every name. Of trust domains, only our own does: another's vouches for its SPIFFE ids.
    pub(super) fn vouches_for_hosts(&self, identities: &[Identity]) -> bool {
        match &self.bundles {
            Bundles::One(_) => true,
            Bundles::Domains { own, .. } => trust_domain(identities).is_some_and(|domain| own.contains(domain)),
        }
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

    /// Whether a CA of a bundle has expired since `then`.
    pub(super) fn has_expired_since(&self, then: SystemTime, now: SystemTime) -> bool {
        self.bundles.all().any(|bundle| bundle.has_expired_since(then, now))
    }

    /// When the last CA of the bundle, of trust domains our own, expires: then nobody is believed any more.
    pub(super) fn ends(&self) -> Option<SystemTime> {
        self.bundles.own().filter_map(Bundle::ends).max()
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
        let bundle = self.bundles.of(claim.end_entity).ok_or(CertificateError::UnknownIssuer)?;
        let check = |path: &VerifiedPath<'_>| self.check_path(bundle, path, at, anchors);
        if self.rounds.is_empty() {
            return verify_round(bundle, &leaf, claim, at, None, &check);
        }
        for round in &self.rounds {
            let lists: Vec<&CertRevocationList<'_>> = round.iter().map(List::parsed).collect();
            verify_round(bundle, &leaf, claim, at, revocation(&lists), &check)?;
        }
        Ok(())
    }

    fn check_path(
        &self,
        bundle: &Bundle,
        path: &VerifiedPath<'_>,
        at: UnixTime,
        anchors: Anchors,
    ) -> Result<(), webpki::Error> {
        if anchors == Anchors::Dated {
            bundle.check_anchor(path.anchor(), at)?;
        }
        check_entry(&self.rounds, path.end_entity())?;
        path.intermediate_certificates().try_for_each(|certificate| check_entry(&self.rounds, certificate))
    }
}

fn verify_round(
    bundle: &Bundle,
    leaf: &EndEntityCert<'_>,
    claim: Claim<'_>,
    at: UnixTime,
    revocation: Option<RevocationOptions<'_>>,
    check: &dyn Fn(&VerifiedPath<'_>) -> Result<(), webpki::Error>,
) -> Result<(), rustls::Error> {
    let usage = usage(claim.role);
    leaf.verify_for_usage(algorithms(), bundle.anchors(), claim.intermediates, at, usage, revocation, Some(check))
        .map(|_path| ())
        .map_err(pki::error)
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
        write!(f, "Trust({} anchors)", self.bundles.all().map(|bundle| bundle.anchors().len()).sum::<usize>())
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
