//! A small private CA in a folder: made once, then issuing certificates for hosts and services. It
//! is what `adit ca` and the demo use; no running agent ever opens it. Keys are written at mode
//! 0600, and nothing is overwritten unasked.

mod files;
mod renew;
mod replaced;

use std::{
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::OffsetDateTime;

use super::{
    leaf::Leaf,
    text::{date, hex},
};

pub use files::{Existing, write_all};
pub use renew::{RenewError, Renewal, Renewed, renew};
pub use replaced::Certificate;

const DAY: Duration = Duration::from_secs(86_400);

/// A new certificate is valid from a little before now: hosts' clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A CA that can issue.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// DNS names; the first may be what people call it, none is required.
    pub dns: Vec<String>,
    /// The SPIFFE id.
    pub spiffe: Option<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// Days of validity from now.
    pub days: u16,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Issued {
    /// The chain, leaf first.
    pub certificate: String,
    /// The private key, PKCS#8.
    pub key: String,
}

/// Why a certificate was not made, or not written.
#[derive(Debug)]
pub enum IssueError {
    /// A file could not be read or written.
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The request, or the CA in the folder, cannot be used.
    Unusable {
        /// What was being done.
        what: String,
        /// Why it failed.
        cause: rcgen::Error,
    },
    /// The CA's key and certificate in this folder are not of one another.
    Mismatch(PathBuf),
    /// The request names nobody.
    Nameless,
    /// The certificate would be valid for longer than the CA, whose last moment this is.
    Outlives(SystemTime),
}

impl Authority {
    /// Makes a CA called `name` and a mark of its key, and writes `ca.pem` and `ca.key` into `dir`.
    pub fn create(dir: &Path, name: &str, days: u16, existing: Existing, now: SystemTime) -> Result<Self, IssueError> {
        let authority = Self::generate(name, days, now)?;
        files::make_dir(dir)?;
        let pair = Issued { certificate: authority.certificate.clone(), key: authority.issuer.key().serialize_pem() };
        pair.write(&dir.join("ca"), existing)?;
        Ok(authority)
    }

    fn generate(name: &str, days: u16, now: SystemTime) -> Result<Self, IssueError> {
        let unusable = unusable("making the CA");
        let key = new_key().map_err(&unusable)?;
        let mut params = dated(days, now);
        // Revocation lists and chains find a CA by its distinguished name alone: one made anew under
        // the same name must not be taken for the old one.
        let mark = hex(params.key_identifier(&key).get(..4).unwrap_or_default());
        params.distinguished_name = called(&format!("{name} {mark}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(&unusable)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// Opens the CA in `dir`.
    pub fn open(dir: &Path) -> Result<Self, IssueError> {
        let certificate = files::read(&dir.join("ca.pem"))?;
        let key = files::read(&dir.join("ca.key"))?;
        let unusable = unusable(format!("opening the CA in {}", dir.display()));
        let key = KeyPair::from_pem(&key).map_err(&unusable)?;
        check_pair(dir, &certificate, &key)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(&unusable)?;
        Ok(Self { certificate, issuer })
    }

    /// The CA's own certificate, as PEM: the bundle of every agent that is to trust it.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Makes a key and a certificate for it, good for both ends of a tunnel.
    pub fn issue(&self, request: &Request, now: SystemTime) -> Result<Issued, IssueError> {
        self.issue_for(request, None, now)
    }

    /// The same for a key that is there already, if there is one.
    fn issue_for(&self, request: &Request, key: Option<KeyPair>, now: SystemTime) -> Result<Issued, IssueError> {
        let params = request.params(now)?;
        if let Some(end) = self.end().filter(|end| OffsetDateTime::from(*end) < params.not_after.truncate_to_second()) {
            return Err(IssueError::Outlives(end));
        }
        let key = key.map_or_else(new_key, Ok);
        key.and_then(|key| self.sign_for(&params, &key)).map_err(unusable("issuing the certificate"))
    }

    /// The last moment of the CA's own validity.
    fn end(&self) -> Option<SystemTime> {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes()).ok()?;
        Leaf::parse(&der).ok().map(|certificate| certificate.not_after)
    }

    fn sign_for(&self, params: &CertificateParams, key: &KeyPair) -> Result<Issued, rcgen::Error> {
        Ok(Issued { certificate: params.signed_by(key, &self.issuer)?.pem(), key: key.serialize_pem() })
    }

    #[cfg(test)]
    pub(super) fn sign(&self, params: &CertificateParams) -> Result<Issued, rcgen::Error> {
        self.sign_for(params, &new_key()?)
    }

    #[cfg(test)]
    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }
}

impl Request {
    pub(super) fn params(&self, now: SystemTime) -> Result<CertificateParams, IssueError> {
        let mut params = dated(self.days, now);
        params.subject_alt_names = self.names()?;
        params.distinguished_name = called(self.shown());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params)
    }

    /// A name for people's lists, of no other meaning; RFC 5280 allows it 64 characters (A.1).
    fn shown(&self) -> &str {
        let name = self.dns.first().or(self.spiffe.as_ref());
        name.filter(|name| name.len() <= 64).map_or("adit", |name| name)
    }

    fn names(&self) -> Result<Vec<SanType>, IssueError> {
        let mut names = Vec::new();
        for dns in &self.dns {
            names.push(SanType::DnsName(text(dns)?));
        }
        if let Some(uri) = &self.spiffe {
            names.push(SanType::URI(text(uri)?));
        }
        names.extend(self.ips.iter().copied().map(SanType::IpAddress));
        match names.is_empty() {
            true => Err(IssueError::Nameless),
            false => Ok(names),
        }
    }
}

impl Issued {
    /// Writes `PREFIX.pem` and `PREFIX.key`, and says where they are.
    pub fn write(&self, prefix: &Path, existing: Existing) -> Result<(PathBuf, PathBuf), IssueError> {
        let pair = files::Pair::at(prefix);
        pair.write(self, existing)?;
        Ok((pair.certificate, pair.key))
    }
}

fn check_pair(dir: &Path, certificate: &str, key: &KeyPair) -> Result<(), IssueError> {
    let mismatch = || IssueError::Mismatch(dir.to_path_buf());
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| mismatch())?;
    let parsed = webpki::EndEntityCert::try_from(&der).map_err(|_| mismatch())?;
    match *parsed.subject_public_key_info() == *key.subject_public_key_info() {
        true => Ok(()),
        false => Err(mismatch()),
    }
}

fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

fn dated(days: u16, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
    params.not_after = OffsetDateTime::from(now + DAY * u32::from(days));
    params
}

fn called(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn text(name: &str) -> Result<rcgen::string::Ia5String, IssueError> {
    name.try_into().map_err(unusable(format!("putting `{name}` into a certificate")))
}

fn unusable(what: impl Into<String>) -> impl Fn(rcgen::Error) -> IssueError {
    let what = what.into();
    move |cause| IssueError::Unusable { what: what.clone(), cause }
}

impl fmt::Display for IssueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, cause } if cause.kind() == io::ErrorKind::AlreadyExists => {
                write!(f, "{}: is already there; give --force to replace it", file.display())
            }
            Self::File { file, cause } => write!(f, "{}: {cause}", file.display()),
            Self::Unusable { what, cause } => write!(f, "{what}: {cause}"),
            Self::Mismatch(dir) => write!(
                f,
                "{}: ca.key is not the key of ca.pem; put back the pair that was made together",
                dir.display()
            ),
            Self::Outlives(end) => write!(
                f,
                "the CA itself is valid only until {}, and the certificate would be for longer; give fewer --days, or \
                 make a new CA",
                date(*end)
            ),
            Self::Nameless => write!(f, "the certificate would name nobody; give --dns, --spiffe or --ip"),
        }
    }
}

impl std::error::Error for IssueError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { cause, .. } => Some(cause),
            Self::Unusable { cause, .. } => Some(cause),
            Self::Mismatch(_) | Self::Nameless | Self::Outlives(_) => None,
        }
    }
}
