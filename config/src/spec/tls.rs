//! `[tls]` and `[[tls.certificate]]`: which files. It opens none of them.

use std::path::PathBuf;

use super::report::{At, Report};
use super::section::Section;
use super::{keys, value};
use crate::config::{Certificate, Tls};

/// What `[tls]` says.
#[derive(Default)]
pub(crate) struct TlsSpec {
    ca: Option<At<PathBuf>>,
    crl: Vec<At<PathBuf>>,
    /// `[tls] cert, key` first, if it is there.
    pub(crate) certificates: Vec<CertificateSpec>,
}

/// One certificate.
pub(crate) struct CertificateSpec {
    pub(crate) id: Option<At<String>>,
    cert: Option<At<PathBuf>>,
    key: Option<At<PathBuf>>,
}

/// What the certificate of `[tls] cert, key` is called.
pub(crate) const DEFAULT_ID: &str = "default";

pub(super) fn read<'a>(file: &Section<'a>, report: &mut Report) -> TlsSpec {
    if !file.has("tls") {
        report.problem(file.at, "the file has no section [tls]", "add one with `ca`, `cert` and `key`");
    }
    let Some(tls) = file.table("tls", keys::TLS, report) else {
        return TlsSpec::default();
    };
    let mut certificates: Vec<_> = host_certificate(&tls, report).into_iter().collect();
    let more = tls.tables("certificate", keys::CERTIFICATE, report);
    certificates.extend(more.iter().map(|section| certificate(section, report)));
    if certificates.is_empty() && !tls.has("certificate") {
        let help = "add `cert = \"/etc/adit/tls/host.pem\"` and its `key`";
        report.problem(tls.at, "[tls] has no certificate", help);
    }
    TlsSpec {
        ca: tls.need("ca", "ca = \"/etc/adit/tls/ca.pem\"", report, value::tls_file),
        crl: tls.list("crl", report, value::tls_file),
        certificates,
    }
}

fn host_certificate(tls: &Section<'_>, report: &mut Report) -> Option<CertificateSpec> {
    if !tls.has("cert") && !tls.has("key") {
        return None;
    }
    let id = At { at: tls.place_of("cert"), value: DEFAULT_ID.to_owned() };
    let (cert, key) = files(tls, report);
    Some(CertificateSpec { id: Some(id), cert, key })
}

fn certificate(section: &Section<'_>, report: &mut Report) -> CertificateSpec {
    let id = section.need("id", "id = \"redis\"", report, value::id);
    let (cert, key) = files(section, report);
    CertificateSpec { id, cert, key }
}

/// A certificate is of no use without its key, nor a key without its certificate.
fn files(section: &Section<'_>, report: &mut Report) -> (Option<At<PathBuf>>, Option<At<PathBuf>>) {
    (
        section.need("cert", "cert = \"/etc/adit/tls/host.pem\"", report, value::tls_file),
        section.need("key", "key = \"/etc/adit/tls/host.key\"", report, value::tls_file),
    )
}

impl TlsSpec {
    pub(super) fn mean(self) -> Option<Tls> {
        Some(Tls {
            ca: self.ca?.value,
            crl: self.crl.into_iter().map(|crl| crl.value).collect(),
            certificates: self.certificates.into_iter().map(CertificateSpec::mean).collect::<Option<_>>()?,
        })
    }
}

impl CertificateSpec {
    fn mean(self) -> Option<Certificate> {
        Some(Certificate { id: self.id?.value, cert: self.cert?.value, key: self.key?.value })
    }
}
