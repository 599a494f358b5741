//! A certificate made anew: the names it has, by the CA it has, with a new key and new dates, put in the place of the old
//! pair with its owner and mode. Never one that this CA did not issue, nor one with a name that would be lost.

use std::{
    fmt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::{
    Authority, DAY, IssueError, Request,
    replaced::{Certificate, Old, Pair},
};
use crate::identity::{error::LoadError, leaf::Leaf, pem, pki, settings};

/// What to renew, and how.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    /// What expires within this time is due.
    pub within: Duration,
    /// Days of validity; as many as before if not told.
    pub days: Option<u16>,
    /// With the key that is there.
    pub keep_key: bool,
}

/// What became of a certificate, and until when it is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// It is not due.
    NotDue(SystemTime),
    /// It was made anew.
    Until(SystemTime),
}

/// Why a certificate was not renewed.
#[derive(Debug)]
pub enum RenewError {
    /// It cannot be read.
    Load(LoadError),
    /// Another CA's, or a CA itself.
    Foreign,
    /// It has a name that a certificate of ours cannot have.
    Unkept(String),
    /// The key beside it, this file, is not its key.
    OtherKey(PathBuf),
    /// Its file holds a key as well.
    Combined,
    /// The new one was not made, or not written.
    Issue(IssueError),
}

/// Renews a certificate whose key is beside it as `.key`, if it is due.
///
/// # Errors
/// Then the old pair is as it was.
pub fn renew(
    authority: &Authority,
    certificate: &Certificate,
    how: &Renewal,
    now: SystemTime,
) -> Result<Renewed, RenewError> {
    let pair = Pair::read(certificate).map_err(RenewError::Issue)?;
    let chain = pem::certificates_in(&pair.certificate.path, &pair.certificate.bytes).map_err(RenewError::Load)?;
    let der = chain.first().ok_or(RenewError::Foreign)?;
    let leaf = Leaf::parse(der).map_err(|_| RenewError::Foreign)?;
    if leaf.not_after > now + how.within {
        return Ok(Renewed::NotDue(leaf.not_after));
    }
    if !authority.has_issued(der, &leaf) {
        return Err(RenewError::Foreign);
    }
    if pem::holds_key(&pair.certificate.bytes) {
        return Err(RenewError::Combined);
    }
    let request = request(der, &leaf, how.days)?;
    // A certificate is no secret: whoever has the key too is the host that it names.
    let own = own_key(&pair.key, der)?;
    let kept = how.keep_key.then_some(own);
    let has_new_key = kept.is_none();
    let issued = authority.issue_for(&request, kept, now).map_err(RenewError::Issue)?;
    pair.replace(&issued, has_new_key).map_err(RenewError::Issue)?;
    Ok(Renewed::Until(now + DAY * u32::from(request.days)))
}

impl Authority {
    /// Whether it is this CA's signature.
    fn has_issued(&self, der: &CertificateDer<'_>, leaf: &Leaf) -> bool {
        let Ok(own) = CertificateDer::from_pem_slice(self.certificate.as_bytes()) else {
            return false;
        };
        let (Ok(anchor), Ok(end_entity)) = (webpki::anchor_from_trusted_cert(&own), EndEntityCert::try_from(der))
        else {
            return false;
        };
        let (algorithms, then) = (settings::signatures().all, pki::unix_time(leaf.not_before));
        let usages = [KeyUsage::client_auth(), KeyUsage::server_auth()];
        usages.into_iter().any(|usage| {
            end_entity.verify_for_usage(algorithms, std::slice::from_ref(&anchor), &[], then, usage, None, None).is_ok()
        })
    }
}

/// What asks for the same names.
fn request(der: &CertificateDer<'_>, leaf: &Leaf, days: Option<u16>) -> Result<Request, RenewError> {
    let spiffe = match leaf.uris.as_slice() {
        [] => None,
        [uri] if leaf.identities().iter().any(|identity| identity.to_string() == *uri) => Some(uri.clone()),
        uris => return Err(RenewError::Unkept(uris.join(", "))),
    };
    if let Some(other) = other_name(der) {
        return Err(RenewError::Unkept(other));
    }
    Ok(Request { dns: leaf.dns.clone(), spiffe, ips: leaf.ips.clone(), days: days.unwrap_or_else(|| life(leaf)) })
}

/// A name that is no DNS name, URI or address.
fn other_name(der: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let is_kept = |name: &&GeneralName<'_>| {
        matches!(name, GeneralName::DNSName(_) | GeneralName::URI(_) | GeneralName::IPAddress(_))
    };
    names.value.general_names.iter().find(|name| !is_kept(name)).map(ToString::to_string)
}

/// The days a certificate was made for.
fn life(leaf: &Leaf) -> u16 {
    let span = leaf.not_after.duration_since(leaf.not_before).unwrap_or_default();
    u16::try_from(span.as_secs() / DAY.as_secs()).unwrap_or(u16::MAX).max(1)
}

/// The key beside a certificate, which must be that one's.
fn own_key(old: &Old, der: &CertificateDer<'_>) -> Result<KeyPair, RenewError> {
    let text = String::from_utf8_lossy(&old.bytes);
    let unusable = super::unusable(format!("reading {}", old.path.display()));
    let key = KeyPair::from_pem(&text).map_err(unusable).map_err(RenewError::Issue)?;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| RenewError::Foreign)?;
    let is_its = certificate.public_key().raw == key.subject_public_key_info();
    if is_its { Ok(key) } else { Err(RenewError::OtherKey(old.path.clone())) }
}

impl fmt::Display for RenewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(cause) => cause.fmt(f),
            Self::Foreign => f.write_str("was not issued by this CA; give the folder of the one that did"),
            Self::Unkept(name) => write!(f, "has a name that would be lost ({name}); issue it as it was issued before"),
            Self::OtherKey(file) => write!(
                f,
                "has another key than {}; only who has the key of a certificate has it renewed: bring both, or issue it anew",
                file.display()
            ),
            Self::Combined => f.write_str("holds a key too, which would be lost; keep the key in its own file alone"),
            Self::Issue(cause) => cause.fmt(f),
        }
    }
}

impl std::error::Error for RenewError {}
