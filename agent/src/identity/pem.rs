//! Files of PEM, read into DER: chains, keys, bundles and revocation lists. It knows what kind of
//! section each file must hold and says so when it holds another. It never looks inside the DER.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{self, PemObject, SectionKind},
};

use super::error::LoadError;

type Section = (SectionKind, Vec<u8>);

/// No file is longer: the longest revocation lists of public CAs have some tens of MiB.
const LONGEST: u64 = 64 << 20;

/// The certificates of a PEM file in their order, at least one. A key beside them is passed over.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    certificates_in(file, &read(file)?)
}

/// The same of what was read of `file` already.
pub(super) fn certificates_in(file: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let sections = parse(file, bytes)?;
    let found: Vec<_> = of_kind(&sections, SectionKind::Certificate).map(CertificateDer::from).collect();
    match found.is_empty() {
        false => Ok(found),
        true => Err(LoadError::new(
            file,
            format!("holds no certificate but {}", kinds(&sections)),
            "give a PEM file with a CERTIFICATE section",
        )),
    }
}

/// Whether there is a private key among what was read, of whatever kind.
pub(super) fn holds_key(bytes: &[u8]) -> bool {
    const END: &[u8] = b"PRIVATE KEY-----";
    bytes.windows(END.len()).any(|window| window == END)
}

/// The one private key of a PEM file, in PKCS#8, SEC1 or PKCS#1.
pub(super) fn key(file: &Path) -> Result<PrivateKeyDer<'static>, LoadError> {
    let sections = sections(file)?;
    let mut keys = sections.iter().filter_map(|(kind, der)| PrivateKeyDer::from_pem(*kind, der.clone()));
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => Err(LoadError::new(
            file,
            "holds more than one private key",
            "leave the one that belongs to the certificate",
        )),
        (None, _) => Err(LoadError::new(
            file,
            format!("holds no private key but {}", kinds(&sections)),
            "give a PEM file with a PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY section",
        )),
    }
}

/// The revocation lists of a file: PEM with any number of them, or one as plain DER.
pub(super) fn revocation_lists(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, LoadError> {
    let bytes = read(file)?;
    // X.690 8.9: a DER list is a SEQUENCE, whose first byte no PEM text begins with.
    if bytes.first() == Some(&0x30) {
        return Ok(vec![bytes.into()]);
    }
    let sections = parse(file, &bytes)?;
    let found: Vec<_> = of_kind(&sections, SectionKind::Crl).map(CertificateRevocationListDer::from).collect();
    match found.is_empty() {
        false => Ok(found),
        true => Err(LoadError::new(
            file,
            format!("holds no revocation list but {}", kinds(&sections)),
            "give a list as PEM (X509 CRL) or DER",
        )),
    }
}

/// Whether others than the owner and its group may read `file`; a key like that is no secret.
pub(super) fn is_read_by_others(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0)
}

fn sections(file: &Path) -> Result<Vec<Section>, LoadError> {
    parse(file, &read(file)?)
}

fn read(file: &Path) -> Result<Vec<u8>, LoadError> {
    let bytes = File::open(file).and_then(bounded).map_err(|cause| LoadError::io(file, &cause))?;
    match bytes.iter().all(u8::is_ascii_whitespace) {
        true => Err(LoadError::new(file, "is empty", "write the PEM text into it")),
        false => Ok(bytes),
    }
}

/// What a file holds, but for one that is too long to be what it should be.
pub(super) fn bounded(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LONGEST {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {} MiB", LONGEST >> 20))),
        false => Ok(bytes),
    }
}

fn parse(file: &Path, bytes: &[u8]) -> Result<Vec<Section>, LoadError> {
    refuse_encrypted(file, bytes)?;
    let sections: Vec<Section> =
        Section::pem_slice_iter(bytes).collect::<Result<_, _>>().map_err(|cause| broken(file, &cause))?;
    match sections.is_empty() {
        false => Ok(sections),
        true => Err(LoadError::new(
            file,
            "holds no PEM section this agent knows",
            "a PEM section begins with a line such as -----BEGIN CERTIFICATE-----",
        )),
    }
}

/// Both ways a PEM key can be encrypted: PKCS#8's own section (RFC 7468, section 11), and the
/// header of the older form (RFC 1421, section 4.6.1.1).
fn refuse_encrypted(file: &Path, bytes: &[u8]) -> Result<(), LoadError> {
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    match holds(b"BEGIN ENCRYPTED PRIVATE KEY") || holds(b"Proc-Type: 4,ENCRYPTED") {
        false => Ok(()),
        true => Err(LoadError::new(
            file,
            "holds an encrypted private key",
            "decrypt it, for instance with openssl pkey, and keep the file at mode 0600",
        )),
    }
}

fn broken(file: &Path, cause: &pem::Error) -> LoadError {
    let wrong = match cause {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("is cut short: no -----END {}-----", String::from_utf8_lossy(end_marker))
        }
        other => format!("is not sound PEM: {other}"),
    };
    LoadError::new(file, wrong, "write the file anew from its source")
}

fn of_kind(sections: &[Section], wanted: SectionKind) -> impl Iterator<Item = Vec<u8>> {
    sections.iter().filter(move |(kind, _)| *kind == wanted).map(|(_, der)| der.clone())
}

/// What a file does hold, for the message that it is not what was wanted.
fn kinds(sections: &[Section]) -> String {
    let mut names: Vec<_> = sections.iter().map(|(kind, _)| kind_name(*kind)).collect();
    names.dedup();
    names.join(" and ")
}

fn kind_name(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::Certificate => "a certificate",
        SectionKind::PublicKey => "a public key",
        SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey => "a private key",
        SectionKind::Crl => "a revocation list",
        SectionKind::Csr => "a signing request",
        _ => "something else",
    }
}
