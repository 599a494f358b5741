//! One revocation list, read from its file. How lists are enforced is told in `trust`; this only
//! reads them and tells their age. It never fetches one.

use std::{path::Path, time::SystemTime};

use rustls_pki_types::CertificateRevocationListDer;
use webpki::{Cert, CertRevocationList, OwnedCertRevocationList};
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

use super::{error::LoadError, leaf::system_time, pem, text::date};

/// A revocation list: its bytes, to tell whether it changed, and its entries.
pub(super) struct List {
    der: CertificateRevocationListDer<'static>,
    parsed: CertRevocationList<'static>,
    /// The file it is from, and when it promises a newer one.
    promise: Option<(String, SystemTime)>,
}

impl List {
    /// Every list in a file, PEM or DER.
    pub(super) fn load(file: &Path, now: SystemTime) -> Result<Vec<Self>, LoadError> {
        let ders = pem::revocation_lists(file)?;
        ders.into_iter().map(|der| Self::parse(file, der, now)).collect()
    }

    fn parse(file: &Path, der: CertificateRevocationListDer<'static>, now: SystemTime) -> Result<Self, LoadError> {
        let promise = next_update(&der).map(|moment| (file.display().to_string(), moment));
        tell_age(promise.as_ref(), now);
        let parsed = OwnedCertRevocationList::from_der(&der).map_err(|cause| {
            let wrong = format!("holds a revocation list that cannot be used: {cause}");
            LoadError::new(file, wrong, "give a complete, direct X.509 v2 list")
        })?;
        Ok(Self { der, parsed: parsed.into(), promise })
    }

    /// The file it is from, and when it promises a newer one, if it does.
    pub(super) fn promise(&self) -> Option<(&str, SystemTime)> {
        self.promise.as_ref().map(|(file, moment)| (file.as_str(), *moment))
    }

    pub(super) fn parsed(&self) -> &CertRevocationList<'static> {
        &self.parsed
    }

    /// Whether it has an entry for this certificate, which it can have only for one of its issuer. An
    /// entry that cannot be read counts: better one refused too many.
    pub(super) fn names(&self, certificate: &Cert<'_>) -> bool {
        let entry = || self.parsed.find_serial(certificate.serial());
        self.parsed.issuer() == certificate.issuer() && !matches!(entry(), Ok(None))
    }

    pub(super) fn has_issuer_of(&self, other: &Self) -> bool {
        self.parsed.issuer() == other.parsed.issuer()
    }
}

impl PartialEq for List {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

fn tell_age(promise: Option<&(String, SystemTime)>, now: SystemTime) {
    if let Some((file, next_update)) = promise
        && now > *next_update
    {
        let due = date(*next_update);
        tracing::warn!(
            file,
            due,
            "the revocation list is out of date; it is enforced as it stands, newer revocations are not seen"
        );
    }
}

fn next_update(der: &[u8]) -> Option<SystemTime> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    list.next_update().map(system_time)
}
