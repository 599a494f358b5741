//! A small private CA in a folder: made once, then issuing certificates for hosts and services. It
//! is what `adit ca` and the demo use; no running agent ever opens it. Keys are written at mode
//! 0600, and nothing is overwritten unasked.

use std::{
    fmt, fs, io,
    io::Write,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::OffsetDateTime;

use super::text::hex;

const DAY: Duration = Duration::from_secs(86_400);

/// A new certificate is valid from a little before now: hosts' clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// What may happen to a file that is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and writing it is an error.
    Keep,
    /// It is replaced.
    Replace,
}

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
    /// The request names nobody.
    Nameless,
}

impl Authority {
    /// Makes a CA called `name` and a mark of its key, and writes `ca.pem` and `ca.key` into `dir`.
    pub fn create(dir: &Path, name: &str, days: u16, existing: Existing, now: SystemTime) -> Result<Self, IssueError> {
        let authority = Self::generate(name, days, now)?;
        fs::create_dir_all(dir).map_err(|cause| file_error(dir, cause))?;
        let key = authority.issuer.key().serialize_pem();
        write(&dir.join("ca.key"), &key, 0o600, existing)?;
        write(&dir.join("ca.pem"), &authority.certificate, 0o644, existing)?;
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
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(&unusable)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// Opens the CA in `dir`.
    pub fn open(dir: &Path) -> Result<Self, IssueError> {
        let certificate = read(&dir.join("ca.pem"))?;
        let key = read(&dir.join("ca.key"))?;
        let unusable = unusable(format!("opening the CA in {}", dir.display()));
        let key = KeyPair::from_pem(&key).map_err(&unusable)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(&unusable)?;
        Ok(Self { certificate, issuer })
    }

    /// The CA's own certificate, as PEM: the bundle of every agent that is to trust it.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Makes a key and a certificate for it, good for both ends of a tunnel.
    pub fn issue(&self, request: &Request, now: SystemTime) -> Result<Issued, IssueError> {
        let params = request.params(now)?;
        self.sign(&params).map_err(unusable("issuing the certificate"))
    }

    pub(super) fn sign(&self, params: &CertificateParams) -> Result<Issued, rcgen::Error> {
        let key = new_key()?;
        Ok(Issued { certificate: params.signed_by(&key, &self.issuer)?.pem(), key: key.serialize_pem() })
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
        let shown = self.dns.first().or(self.spiffe.as_ref()).map_or("adit", String::as_str);
        params.distinguished_name = called(shown);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params)
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
        let (certificate, key) = (suffixed(prefix, ".pem"), suffixed(prefix, ".key"));
        write(&key, &self.key, 0o600, existing)?;
        write(&certificate, &self.certificate, 0o644, existing)?;
        Ok((certificate, key))
    }
}

/// `with_extension` would cut a prefix such as `redis.prod` at its dot.
fn suffixed(prefix: &Path, suffix: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(suffix);
    name.into()
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

fn read(file: &Path) -> Result<String, IssueError> {
    fs::read_to_string(file).map_err(|cause| file_error(file, cause))
}

/// Whole or not at all, and never for a moment readable by others than it will be: a temporary
/// file of mode 0600 beside it, then a rename.
fn write(file: &Path, text: &str, mode: u32, existing: Existing) -> Result<(), IssueError> {
    write_to(file, text, mode, existing).map_err(|cause| file_error(file, cause))
}

fn write_to(file: &Path, text: &str, mode: u32, existing: Existing) -> io::Result<()> {
    let dir = match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    new.write_all(text.as_bytes())?;
    new.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    new.as_file().sync_all()?;
    match existing {
        Existing::Keep => new.persist_noclobber(file).map_err(|failed| failed.error)?,
        Existing::Replace => new.persist(file).map_err(|failed| failed.error)?,
    };
    Ok(())
}

fn file_error(file: &Path, cause: io::Error) -> IssueError {
    let file = file.to_path_buf();
    IssueError::File { file, cause }
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
            Self::Nameless => write!(f, "the certificate would name nobody; give --dns, --spiffe or --ip"),
        }
    }
}

impl std::error::Error for IssueError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { cause, .. } => Some(cause),
            Self::Unusable { cause, .. } => Some(cause),
            Self::Nameless => None,
        }
    }
}
