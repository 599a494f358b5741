//! A failed handshake in words: what went wrong, on whose side, and what to do, for the dialing
//! host's log and `ping`. Both what we refuse and the alerts a peer sends are told. It decides
//! nothing.

use std::borrow::Cow;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::{peer::listed, pki, settings::is_unknown_sni, text::date};

/// One sentence, without a full stop.
pub fn explain(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => {
            format!("peer sent alert {}: {}", alert_name(*alert), heard(*alert))
        }
        Error::InvalidCertificate(cause) => {
            let alert = alert_name(cause.clone().into());
            format!("peer's certificate refused ({alert}): {}", refused(cause))
        }
        Error::NoCertificatesPresented => {
            "peer sent no certificate (certificate_required); adit agents always do".to_owned()
        }
        Error::NoApplicationProtocol => {
            "peer did not offer adit/1 (no_application_protocol); is it an adit agent?".to_owned()
        }
        Error::PeerIncompatible(cause) => incompatible(cause),
        Error::InvalidMessage(_) => "peer does not speak TLS here; is this an adit agent's address?".to_owned(),
        unknown if is_unknown_sni(unknown) => {
            "no certificate of ours covers the server name the peer asked for (unrecognized_name)".to_owned()
        }
        other => format!("TLS failed: {other}"),
    }
}

/// Why we refused, told of the peer.
fn refused(cause: &CertificateError) -> String {
    match cause {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("it, or a CA above it, expired at {}; renew it on the peer", date(pki::system_time(*not_after)))
        }
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "it, or a CA above it, is not valid before {}; compare the two hosts' clocks",
            date(pki::system_time(*not_before))
        ),
        CertificateError::UnknownIssuer => "no CA in our bundle issued it; add the peer's CA to \
             [tls] ca, or give the peer a certificate of ours"
            .to_owned(),
        CertificateError::Revoked => "it is on a revocation list; issue a new one".to_owned(),
        CertificateError::UnknownRevocationStatus => "a revocation list bears its issuer's name but \
             is not signed by it; replace the list under [tls] crl"
            .to_owned(),
        CertificateError::InvalidPurpose => "its extended key usage does not allow this role \
             (a dialer needs clientAuth, an acceptor serverAuth); issue it with both"
            .to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("its certificate does not prove {}: {}", expected.to_str(), listed(presented))
        }
        CertificateError::BadEncoding => "it cannot be parsed; issue it again".to_owned(),
        CertificateError::Other(cause) => cause.to_string(),
        other => other.to_string(),
    }
}

/// What an alert means when it comes from an adit agent, told of ourselves.
fn heard(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateExpired => {
            "our certificate is expired or, by the peer's clock, not yet valid; renew it, or compare \
             the two hosts' clocks"
        }
        AlertDescription::UnknownCA => {
            "our certificate's CA is not in the peer's bundle; add it there, or use a certificate \
             of a CA the peer knows"
        }
        AlertDescription::CertificateRevoked => "our certificate is on the peer's revocation list; issue a new one",
        AlertDescription::UnsupportedCertificate => {
            "our certificate's extended key usage does not allow this role (a dialer needs \
             clientAuth, an acceptor serverAuth); issue it with both"
        }
        AlertDescription::BadCertificate => "our certificate is malformed or not of the name the peer expects",
        AlertDescription::CertificateUnknown => {
            "our certificate gives us no identity the peer can use: it needs a DNS name without a \
             wildcard, an address or exactly one SPIFFE id, and the one the peer expects"
        }
        AlertDescription::CertificateRequired => "we sent no certificate, and the peer demands one",
        AlertDescription::UnrecognisedName => {
            "the peer has no certificate for the server name we asked for; check the expected \
             identity or the rule's sni"
        }
        AlertDescription::NoApplicationProtocol => "the peer does not speak adit/1",
        AlertDescription::ProtocolVersion => "the peer does not speak TLS 1.3",
        AlertDescription::HandshakeFailure => "the peer has no cipher or key exchange in common with us",
        AlertDescription::DecryptError => "the peer could not verify a signature of ours",
        AlertDescription::AccessDenied => "the peer refuses us; its log says why",
        AlertDescription::InternalError => "the peer failed inside; its log says why",
        AlertDescription::CloseNotify | AlertDescription::UserCanceled => "the peer gave up",
        _ => "the peer found our side of the handshake at fault",
    }
}

fn incompatible(cause: &PeerIncompatible) -> String {
    match cause {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::Tls13RequiredForQuic
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => {
            "peer does not speak TLS 1.3 (protocol_version), and adit speaks nothing older".to_owned()
        }
        other => format!("peer has nothing in common with us: {other:?}"),
    }
}

/// An alert by its name in the TLS registry.
pub fn alert_name(alert: AlertDescription) -> Cow<'static, str> {
    let name = match alert {
        AlertDescription::CloseNotify => "close_notify",
        AlertDescription::UnexpectedMessage => "unexpected_message",
        AlertDescription::BadRecordMac => "bad_record_mac",
        AlertDescription::RecordOverflow => "record_overflow",
        AlertDescription::HandshakeFailure => "handshake_failure",
        AlertDescription::BadCertificate => "bad_certificate",
        AlertDescription::UnsupportedCertificate => "unsupported_certificate",
        AlertDescription::CertificateRevoked => "certificate_revoked",
        AlertDescription::CertificateExpired => "certificate_expired",
        AlertDescription::CertificateUnknown => "certificate_unknown",
        AlertDescription::IllegalParameter => "illegal_parameter",
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::AccessDenied => "access_denied",
        AlertDescription::DecodeError => "decode_error",
        AlertDescription::DecryptError => "decrypt_error",
        AlertDescription::ProtocolVersion => "protocol_version",
        AlertDescription::InsufficientSecurity => "insufficient_security",
        AlertDescription::InternalError => "internal_error",
        AlertDescription::UserCanceled => "user_canceled",
        AlertDescription::MissingExtension => "missing_extension",
        AlertDescription::UnsupportedExtension => "unsupported_extension",
        AlertDescription::UnrecognisedName => "unrecognized_name",
        AlertDescription::CertificateRequired => "certificate_required",
        AlertDescription::NoApplicationProtocol => "no_application_protocol",
        other => return Cow::Owned(format!("{}", u8::from(other))),
    };
    Cow::Borrowed(name)
}
