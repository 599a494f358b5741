//! `[tls]` and `[[tls.certificate]]`: which files, or which Workload API. It opens none of them.

use std::{path::PathBuf, time::Duration};

use super::report::{At, Report};
use super::section::{Field, Section, Wrong};
use super::{keys, value};
use crate::tls::{Authorities, Certificate, Spiffe, Tls};

/// What `[tls]` says.
#[derive(Default)]
pub(crate) struct TlsSpec {
    authorities: Option<Authorities>,
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

/// What the certificate of `[tls] cert, key` is called, and the first that a Workload API gives.
pub(crate) const DEFAULT_ID: &str = "default";

/// How long a Workload API's first answer may take: its agent may start at the same time as ours.
const SPIFFE_WAIT: Duration = Duration::from_secs(30);

pub(super) fn read<'a>(file: &Section<'a>, report: &mut Report) -> TlsSpec {
    if !file.has("tls") {
        report.problem(
            file.at,
            "the file has no section [tls]",
            "add one with `ca`, `cert` and `key`, or with `spiffe`",
        );
    }
    let Some(tls) = file.table("tls", keys::TLS, report) else {
        return TlsSpec::default();
    };
    let spiffe = tls.has("spiffe");
    let mut certificates: Vec<_> = match spiffe {
        true => Vec::new(),
        false => host_certificate(&tls, report).into_iter().collect(),
    };
    let more = tls.tables("certificate", keys::CERTIFICATE, report);
    certificates.extend(more.iter().map(|section| certificate(section, report)));
    if certificates.is_empty() && !tls.has("certificate") && !spiffe {
        let help = "add `cert = \"/etc/adit/tls/host.pem\"` and its `key`";
        report.problem(tls.at, "[tls] has no certificate", help);
    }
    TlsSpec {
        authorities: if spiffe { workload_api(&tls, report) } else { bundle(&tls, report) },
        crl: tls.list("crl", report, value::tls_file),
        certificates,
    }
}

fn bundle(tls: &Section<'_>, report: &mut Report) -> Option<Authorities> {
    if tls.has("spiffe_wait") {
        let help = "add `spiffe = \"unix:/run/spire/sockets/agent.sock\"`, or leave it out";
        report.problem(tls.place_of("spiffe_wait"), "`spiffe_wait` waits for no Workload API", help);
    }
    let ca = tls.need("ca", "ca = \"/etc/adit/tls/ca.pem\"", report, value::tls_file)?;
    Some(Authorities::File(ca.value))
}

/// Two sources for one thing would leave it to chance whom to believe.
fn workload_api(tls: &Section<'_>, report: &mut Report) -> Option<Authorities> {
    for key in ["ca", "cert", "key"].into_iter().filter(|key| tls.has(key)) {
        let message = format!("`{key}` stands beside `spiffe`, and the Workload API gives that");
        report.problem(tls.place_of(key), message, "leave one of them out; more certificates are [[tls.certificate]]");
    }
    let wait = tls.read("spiffe_wait", report, value::wait).map_or(SPIFFE_WAIT, |wait| wait.value);
    let socket = tls.read("spiffe", report, endpoint)?.value;
    Some(Authorities::Spiffe(Spiffe { socket, wait }))
}

/// `unix:/path` or, as SPIFFE_ENDPOINT_SOCKET has it, `unix:///path`. A Workload API over TCP is refused: nobody could
/// tell it from an impostor on the same host.
fn endpoint(field: &Field<'_>) -> Result<PathBuf, Wrong> {
    let help = "write its unix socket, such as \"unix:/run/spire/sockets/agent.sock\"";
    match value::unix(field)? {
        Some(path) if path.as_os_str() != "/" => Ok(path.components().collect()),
        _ => Err(Wrong::new(format!("{} no socket of a Workload API", field.is()), help)),
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
    /// Whether a Workload API gives certificates.
    pub(crate) fn is_spiffe(&self) -> bool {
        matches!(self.authorities, Some(Authorities::Spiffe(_)))
    }

    pub(super) fn mean(self) -> Option<Tls> {
        Some(Tls {
            authorities: self.authorities?,
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
