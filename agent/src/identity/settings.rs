//! What every TLS connection of adit has in common (PROTOCOL.md section 1): TLS 1.3 alone, ALPN
//! `adit/1`, hybrid key exchange first, both sides with a certificate, and no memory of an earlier
//! session. It never decides whom to believe.

use std::sync::Arc;

use rustls::{
    ClientConfig, ServerConfig,
    client::{Resumption, danger::ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use super::{credential::Credential, trust::Trust, verify::DialerJudge};

/// The protocol's name in ALPN.
pub const ALPN: &[u8] = b"adit/1";

/// The fatal alert `unrecognized_name` (RFC 6066, section 3) as a plaintext record: what an acceptor
/// writes, and then closes, when [`is_unknown_sni`] says its handshake failed for that. rustls 0.23
/// can only say `access_denied` there, which a dialer could not tell from a policy.
pub const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Whether an acceptor's handshake failed because no certificate covers the SNI it was sent. The
/// alert that rustls has queued is then dropped and [`UNRECOGNIZED_NAME`] written in its place.
pub fn is_unknown_sni(error: &rustls::Error) -> bool {
    // The only words rustls has for a resolver that found nothing; a test holds it to them.
    matches!(error, rustls::Error::General(text) if text == "no server certificate chain resolved")
}

/// Whether both sides agreed on `adit/1`; a side that sees they did not closes.
#[must_use]
pub fn speaks_adit(alpn: Option<&[u8]>) -> bool {
    alpn == Some(ALPN)
}

/// aws-lc-rs with the hybrid post-quantum exchange preferred over the classical ones.
pub(super) fn provider() -> CryptoProvider {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    CryptoProvider { kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1], ..aws_lc_rs::default_provider() }
}

/// Draws some randomness for nothing. aws-lc gathers its entropy at a process's first draw, which takes some 30 ms: better
/// at the start than in the first handshake.
pub(super) fn draw_randomness() {
    // Should it fail here it fails in the handshake as well, which says so.
    let _ = provider().secure_random.fill(&mut [0; 32]);
}

/// The signature algorithms of certificates and handshakes.
pub(super) fn signatures() -> &'static WebPkiSupportedAlgorithms {
    static ALGORITHMS: std::sync::LazyLock<WebPkiSupportedAlgorithms> =
        std::sync::LazyLock::new(|| provider().signature_verification_algorithms);
    &ALGORITHMS
}

/// The acceptor's side: every dialer shows a certificate, and SNI picks ours.
pub(super) fn server(trust: &Arc<Trust>, credentials: &Arc<[Credential]>) -> Result<ServerConfig, rustls::Error> {
    let judge = Arc::new(DialerJudge { trust: trust.clone() });
    let resolver = Arc::new(BySni(credentials.clone()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(judge)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// The dialer's side, with whom it expects and what it shows.
pub(super) fn client(
    judge: Arc<dyn ServerCertVerifier>,
    credential: &Credential,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(judge)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(credential.certified_key())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// The credential for a server name: the default (the first) for none, else the first that names it
/// exactly, else the first whose wildcard covers it, else none.
pub(super) fn by_sni<'a>(credentials: &'a [Credential], sni: Option<&str>) -> Option<&'a Credential> {
    let Some(sni) = sni else {
        return credentials.first();
    };
    let host = sni.trim_end_matches('.').to_ascii_lowercase();
    let exact = credentials.iter().find(|one| one.names_exactly(&host));
    exact.or_else(|| credentials.iter().find(|one| one.names_by_wildcard(&host)))
}

#[derive(Debug)]
struct BySni(Arc<[Credential]>);

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        by_sni(&self.0, hello.server_name()).map(Credential::certified_key)
    }
}
