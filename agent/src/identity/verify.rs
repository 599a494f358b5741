//! The two judges rustls asks during a handshake: one for acceptors, one for dialers. Each holds
//! the chain against the bundle first and the names second, so a stranger's certificate is always
//! `unknown_ca`, whatever it calls itself. Neither knows the policy.

use std::{fmt, sync::Arc};

use adit_config::{Identity, Verify};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, DnsName, ServerName, UnixTime};
use webpki::EndEntityCert;

use super::{
    leaf::Leaf,
    peer::{self, PeerError, Role, listed},
    pki,
    settings::signatures,
    trust::{Claim, Trust},
};

/// A proven certificate that is not the one expected, where rustls has no shape for the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongIdentity {
    /// Who had to answer.
    pub expected: Identity,
    /// The names in the certificate that did.
    pub seen: Vec<String>,
}

/// Judges an acceptor by what the dialer's rule expects.
#[derive(Debug)]
pub(super) struct AcceptorJudge {
    pub(super) trust: Arc<Trust>,
    pub(super) verify: Verify,
}

/// Judges a dialer: proven, and somebody. Which services it may reach, the policy says later.
#[derive(Debug)]
pub(super) struct DialerJudge {
    pub(super) trust: Arc<Trust>,
}

impl AcceptorJudge {
    fn check_expected(
        &self,
        expected: &Identity,
        end_entity: &CertificateDer<'_>,
        leaf: &Leaf,
    ) -> Result<(), rustls::Error> {
        let is_believed = || self.trust.vouches_for_hosts(&leaf.identities());
        match expected {
            Identity::Dns(name) if is_believed() => {
                let name = DnsName::try_from(name.as_str()).map_err(|_| wrong(expected, leaf))?;
                check_subject(&ServerName::DnsName(name), end_entity, leaf)
            }
            Identity::Ip(address) if is_believed() => check_subject(&ServerName::from(*address), end_entity, leaf),
            Identity::Dns(_) | Identity::Ip(_) => Err(wrong(expected, leaf)),
            Identity::Spiffe(_) => match leaf.identities().contains(expected) {
                true => Ok(()),
                false => Err(wrong(expected, leaf)),
            },
        }
    }
}

impl ServerCertVerifier for AcceptorJudge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        // What SNI said; who must answer is `self.verify`, which may be no DNS name.
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Verify::Identity(expected) = &self.verify else {
            return Ok(ServerCertVerified::assertion());
        };
        let role = Role::Acceptor;
        let claim = Claim { end_entity, intermediates, role };
        self.trust.verify(claim, now)?;
        let leaf = known(end_entity, role)?;
        self.check_expected(expected, end_entity, &leaf)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(tls13_only())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, signatures())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        signatures().supported_schemes()
    }
}

impl ClientCertVerifier for DialerJudge {
    /// None: the dialer's configuration picks its certificate, and a list of our CAs is nobody's
    /// business before it has shown its own.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let role = Role::Dialer;
        let claim = Claim { end_entity, intermediates, role };
        self.trust.verify(claim, now)?;
        known(end_entity, role)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(tls13_only())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, signatures())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        signatures().supported_schemes()
    }
}

/// The certificate's names, if they make somebody of its bearer.
fn known(end_entity: &CertificateDer<'_>, role: Role) -> Result<Leaf, rustls::Error> {
    let leaf = Leaf::parse(end_entity).map_err(|_| CertificateError::BadEncoding)?;
    peer::identities(&leaf, role).map_err(|cause| match cause {
        PeerError::None | PeerError::Malformed => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })?;
    Ok(leaf)
}

/// webpki's check, which lets a wildcard prove a name; its error with every name we saw.
fn check_subject(expected: &ServerName<'_>, end_entity: &CertificateDer<'_>, leaf: &Leaf) -> Result<(), rustls::Error> {
    let certificate = EndEntityCert::try_from(end_entity).map_err(pki::error)?;
    certificate.verify_is_valid_for_subject_name(expected).map_err(|_| {
        CertificateError::NotValidForNameContext { expected: expected.to_owned(), presented: leaf.names() }.into()
    })
}

fn wrong(expected: &Identity, leaf: &Leaf) -> rustls::Error {
    let wrong = WrongIdentity { expected: expected.clone(), seen: leaf.names() };
    CertificateError::Other(OtherError(Arc::new(wrong))).into()
}

/// Never asked: no configuration of ours allows TLS 1.2. Closed all the same.
fn tls13_only() -> rustls::Error {
    rustls::Error::General("adit speaks TLS 1.3 only".to_owned())
}

impl fmt::Display for WrongIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, seen } = self;
        write!(f, "its certificate does not prove {expected}: {}", listed(seen))
    }
}

impl std::error::Error for WrongIdentity {}
