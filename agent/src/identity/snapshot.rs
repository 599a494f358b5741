//! Everything TLS at one moment: bundle, lists, own certificates, and the rustls configurations made
//! of them. It never changes; `store` puts a new one in its place, so a handshake never sees half
//! of a reload.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use adit_config::{Tls, Verify};
use rustls::{ClientConfig, ServerConfig, sign::SingleCertAndKey};
use rustls_pki_types::{CertificateDer, ServerName};

use super::{
    credential::Credential,
    error::LoadError,
    explain::explain,
    peer::{Peer, PeerError, Role},
    pki, settings,
    text::date,
    trust::{Claim, Trust},
    verify::AcceptorJudge,
};

/// How many client configurations are kept. Expectations come from rules with captures, so their
/// number is bounded by the names in use; past this the cache starts again.
const MAX_CLIENTS: usize = 4096;

/// The TLS state of one moment.
pub struct Snapshot {
    /// Counts every change, from 1.
    pub generation: u64,
    /// Counts changes of the bundle and the lists: tunnels of an older one retire at once.
    pub trust_generation: u64,
    /// Counts changes of our own certificates: tunnels of an older one retire over a while.
    pub credential_generation: u64,
    credentials: Arc<[Credential]>,
    pub(super) trust: Arc<Trust>,
    server: Arc<ServerConfig>,
    /// A client configuration to copy: building one can fail, and that belongs to loading.
    client: ClientConfig,
    clients: Mutex<HashMap<(Verify, String), Arc<ClientConfig>>>,
}

/// A peer that was good when its tunnel was made and is so no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// What happened, for REFUSE and the log.
    pub reason: String,
}

impl Snapshot {
    /// Reads every file.
    pub(super) fn load(tls: &Tls, now: SystemTime) -> Result<Self, LoadError> {
        let trust = Trust::load(&tls.ca, &tls.crl, now)?;
        Self::build(tls, trust, load_credentials(tls, &[], now)?, [1; 3])
    }

    /// Reads every file again; none when they say what this snapshot says.
    pub(super) fn next(&self, tls: &Tls, now: SystemTime) -> Result<Option<Self>, LoadError> {
        let trust = Trust::load(&tls.ca, &tls.crl, now)?;
        let credentials = load_credentials(tls, &self.credentials, now)?;
        let new_trust = trust != *self.trust;
        let new_credentials = !same(&credentials, &self.credentials);
        if !new_trust && !new_credentials {
            return Ok(None);
        }
        let generations = [
            self.generation + 1,
            self.trust_generation + u64::from(new_trust),
            self.credential_generation + u64::from(new_credentials),
        ];
        Self::build(tls, trust, credentials, generations).map(Some)
    }

    fn build(
        tls: &Tls,
        trust: Trust,
        credentials: Arc<[Credential]>,
        [generation, trust_generation, credential_generation]: [u64; 3],
    ) -> Result<Self, LoadError> {
        let trust = Arc::new(trust);
        let unusable =
            |cause: rustls::Error| LoadError::new(&tls.ca, format!("TLS cannot be set up: {cause}"), "report this");
        let server = settings::server(&trust, &credentials).map_err(unusable)?;
        let judge = AcceptorJudge { trust: trust.clone(), verify: Verify::None };
        let client = settings::client(Arc::new(judge), first(tls, &credentials)?).map_err(unusable)?;
        Ok(Self {
            generation,
            trust_generation,
            credential_generation,
            credentials,
            trust,
            server: Arc::new(server),
            client,
            clients: Mutex::default(),
        })
    }

    /// The credential of this id, or the default one.
    pub fn credential(&self, id: Option<&str>) -> Option<&Credential> {
        match id {
            None => self.credentials.first(),
            Some(id) => self.credentials.iter().find(|one| one.id == id),
        }
    }

    /// All of them, the default first.
    pub fn credentials(&self) -> &[Credential] {
        &self.credentials
    }

    /// When the last CA of the bundle expires.
    pub fn trust_ends(&self) -> Option<SystemTime> {
        self.trust.ends()
    }

    /// When the revocation lists of each file promise newer ones.
    pub fn promised_lists(&self) -> BTreeMap<String, SystemTime> {
        self.trust.promises()
    }

    /// The credential an acceptor of this snapshot shows for this SNI: what the handshake presented.
    pub fn credential_for_sni(&self, sni: Option<&str>) -> Option<&Credential> {
        settings::by_sni(&self.credentials, sni)
    }

    /// The acceptor's configuration.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// The dialer's configuration for who must answer and what it shows; made once and kept. The
    /// connection takes [`server_name`] for its SNI, which has no say in who is believed.
    pub fn client_config(&self, verify: &Verify, credential: &Credential) -> Arc<ClientConfig> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (verify.clone(), credential.id.clone());
        if let Some(config) = clients.get(&key) {
            return config.clone();
        }
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        let config = Arc::new(self.make_client(verify, credential));
        clients.insert(key, config.clone());
        config
    }

    /// Ours of the same id where there is one: `credential` may be of an older snapshot.
    fn make_client(&self, verify: &Verify, credential: &Credential) -> ClientConfig {
        let credential = self.credential(Some(&credential.id)).unwrap_or(credential);
        let judge = AcceptorJudge { trust: self.trust.clone(), verify: verify.clone() };
        let mut config = self.client.clone();
        config.dangerous().set_certificate_verifier(Arc::new(judge));
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(credential.certified_key()));
        config
    }

    /// Who the peer of a finished handshake is. The handshake must have used this snapshot, and have
    /// begun at `met`.
    pub fn peer(&self, chain: &[CertificateDer<'_>], role: Role, met: SystemTime) -> Result<Peer, PeerError> {
        Peer::from_chain(chain, role, self.trust_generation, met)
    }

    /// Whether a peer verified earlier is still good for another stream: its dates always, its chain
    /// and revocation when the bundle or a list has changed or a CA has expired since.
    pub fn recheck(&self, peer: &Peer, role: Role, now: SystemTime) -> Result<(), Revoked> {
        if role == Role::Unverified {
            return Ok(());
        }
        check_dates(peer, now)?;
        let same_trust = peer.generation == self.trust_generation;
        if same_trust && now <= peer.until && !self.trust.has_expired_since(peer.met, now) {
            return Ok(());
        }
        judge(peer, role, |claim| self.trust.verify(claim, pki::unix_time(now)))
    }

    /// Whether a peer verified earlier still stands by the bundle and the lists of now. A certificate
    /// that has merely expired does: its streams outlive it, and only new ones are refused.
    pub fn stands(&self, peer: &Peer, role: Role) -> Result<(), Revoked> {
        if role == Role::Unverified || peer.generation == self.trust_generation {
            return Ok(());
        }
        judge(peer, role, |claim| self.trust.stands(claim, pki::unix_time(peer.met)))
    }
}

fn judge(peer: &Peer, role: Role, verdict: impl FnOnce(Claim<'_>) -> Result<(), rustls::Error>) -> Result<(), Revoked> {
    let Some((end_entity, intermediates)) = peer.chain().split_first() else {
        return Err(Revoked::because("the peer sent no certificate"));
    };
    verdict(Claim { end_entity, intermediates, role }).map_err(|cause| Revoked::because(explain(&cause)))
}

/// What a dialer hands rustls: the name to send as SNI, or, for none, an address, of which rustls
/// sends nothing. None when `sni` is not a DNS name.
pub fn server_name(sni: Option<&str>) -> Option<ServerName<'static>> {
    match sni {
        None => Some(ServerName::from(std::net::Ipv4Addr::UNSPECIFIED)),
        Some(sni) => match ServerName::try_from(sni.to_owned()) {
            Ok(name @ ServerName::DnsName(_)) => Some(name),
            _ => None,
        },
    }
}

impl Revoked {
    fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Revoked {}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.credentials.iter().map(|one| &one.id).collect();
        write!(f, "Snapshot({}, {ids:?})", self.generation)
    }
}

fn load_credentials(tls: &Tls, held: &[Credential], now: SystemTime) -> Result<Arc<[Credential]>, LoadError> {
    let provider = settings::provider();
    let certificates = tls.certificates.iter();
    certificates.map(|of| Credential::load(of, &provider, held, now)).collect()
}

fn first<'a>(tls: &Tls, credentials: &'a [Credential]) -> Result<&'a Credential, LoadError> {
    credentials.first().ok_or_else(|| LoadError::new(&tls.ca, "has no certificate beside it", "set [tls] cert and key"))
}

/// A key is as new as its certificate, which holds the public half of it.
fn same(new: &[Credential], old: &[Credential]) -> bool {
    let shape = |of: &[Credential]| -> Vec<_> { of.iter().map(|one| (one.id.clone(), one.chain().to_vec())).collect() };
    shape(new) == shape(old)
}

fn check_dates(peer: &Peer, now: SystemTime) -> Result<(), Revoked> {
    if now > peer.not_after {
        let end = date(peer.not_after);
        return Err(Revoked::because(format!("the peer's certificate expired at {end}")));
    }
    if now < peer.not_before {
        let start = date(peer.not_before);
        return Err(Revoked::because(format!("the peer's certificate is not valid before {start}")));
    }
    Ok(())
}
