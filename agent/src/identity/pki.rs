//! webpki's errors as rustls' own, so that the right alert leaves (RFC 8446, section 6.2), and time
//! between the two. rustls keeps its own table private; this one differs where an operator is
//! better served, and says where.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{CertificateError, OtherError};
use rustls_pki_types::UnixTime;

/// The error, and with it the alert, for a chain that failed.
pub(super) fn error(cause: webpki::Error) -> rustls::Error {
    certificate_error(cause).into()
}

fn certificate_error(cause: webpki::Error) -> CertificateError {
    use webpki::Error as E;
    match cause {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        E::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        E::InvalidCertValidity => CertificateError::Expired,
        // A CA made anew under its old name signs with a key we do not know: to rustls a bad
        // signature (decrypt_error), to an operator a CA that is missing from the bundle.
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => CertificateError::UnknownIssuer,
        E::CertRevoked => CertificateError::Revoked,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => CertificateError::InvalidPurpose,
        E::UnsupportedCriticalExtension => CertificateError::UnhandledCriticalExtension,
        // To rustls a handshake_failure; it is the chain's status that could not be known.
        E::InvalidCrlSignatureForPublicKey | E::IssuerNotCrlSigner | E::UnknownRevocationStatus => {
            CertificateError::UnknownRevocationStatus
        }
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}

/// A moment for webpki; before 1970 is 1970.
pub(super) fn unix_time(moment: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(since_epoch(moment))
}

/// A moment from webpki.
pub(super) fn system_time(moment: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(moment.as_secs())
}

fn since_epoch(moment: SystemTime) -> Duration {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
