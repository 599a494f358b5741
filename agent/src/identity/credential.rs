//! One certificate of ours with its key: loaded, checked against one another and the clock, and
//! ready for rustls. It never judges a peer, and its key leaves it only as a signer.

use std::{path::Path, sync::Arc, time::SystemTime};

use adit_config::{Certificate, Identity};
use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::CertificateDer;

use super::{error::LoadError, leaf::Leaf, pem, text::date};

/// A certificate chain and its key, under the id the configuration gives it.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The id in the configuration; `default` for `[tls] cert`.
    pub id: String,
    /// What the certificate proves us to be; wildcards are not among them.
    pub identities: Vec<Identity>,
    /// Every name in it as text, wildcards among them, for an operator to read.
    pub names: Vec<String>,
    /// Its first moment of validity.
    pub not_before: SystemTime,
    /// Its last moment of validity.
    pub not_after: SystemTime,
    /// Its serial number in lower-case hex.
    pub serial: String,
    /// Its issuer's distinguished name.
    pub issuer: String,
    dns: Vec<String>,
    key: Arc<CertifiedKey>,
}

impl Credential {
    /// Reads a certificate and its key, and refuses what no peer would accept at `now`, unless it is `held` already: a
    /// certificate that expired in use must not keep a newer bundle or revocation list from being taken.
    pub(super) fn load(
        of: &Certificate,
        provider: &CryptoProvider,
        held: &[Self],
        now: SystemTime,
    ) -> Result<Self, LoadError> {
        let chain = pem::certificates(&of.cert)?;
        let leaf = check(&of.cert, &chain)?;
        if !held.iter().any(|one| one.id == of.id && one.chain() == chain) {
            chain.iter().try_for_each(|der| check_dates(&of.cert, &parse(&of.cert, der)?, now))?;
        }
        let key = pem::key(&of.key)?;
        warn_if_exposed(&of.key);
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|cause| key_error(of, &cause))?;
        Ok(Self::new(&of.id, &leaf, key))
    }

    fn new(id: &str, leaf: &Leaf, key: CertifiedKey) -> Self {
        Self {
            id: id.to_owned(),
            identities: leaf.identities(),
            names: leaf.names(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            serial: leaf.serial.clone(),
            issuer: leaf.issuer.clone(),
            dns: leaf.dns.clone(),
            key: Arc::new(key),
        }
    }

    /// The chain, our own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// The signer and chain as rustls takes them.
    pub(super) fn certified_key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }

    /// Whether a DNS SAN is `host`, given in lower case.
    pub(super) fn names_exactly(&self, host: &str) -> bool {
        self.dns.iter().any(|name| name == host)
    }

    /// Whether a wildcard SAN covers `host`: `*` is one whole leftmost label (RFC 9525, 6.3), and,
    /// as every dialer's webpki has it, at least two more follow.
    pub(super) fn names_by_wildcard(&self, host: &str) -> bool {
        let Some((_, rest)) = host.split_once('.') else {
            return false;
        };
        let mut wildcards = self.dns.iter().filter_map(|name| name.strip_prefix("*."));
        wildcards.any(|suffix| suffix == rest && suffix.contains('.'))
    }
}

fn parse(file: &Path, der: &CertificateDer<'_>) -> Result<Leaf, LoadError> {
    Leaf::parse(der).map_err(|_| malformed(file))
}

fn check(file: &Path, chain: &[CertificateDer<'_>]) -> Result<Leaf, LoadError> {
    let leaf = parse(file, chain.first().ok_or_else(|| malformed(file))?)?;
    match leaf.uris.len() {
        0 | 1 => Ok(leaf),
        count => Err(LoadError::new(
            file,
            format!("has {count} URI names ({})", leaf.uris.join(", ")),
            "issue it with one SPIFFE id at most; peers refuse more",
        )),
    }
}

fn check_dates(file: &Path, leaf: &Leaf, now: SystemTime) -> Result<(), LoadError> {
    if now > leaf.not_after {
        let wrong = format!("certificate {} expired at {}", leaf.serial, date(leaf.not_after));
        return Err(LoadError::new(file, wrong, "renew it"));
    }
    if now < leaf.not_before {
        let wrong = format!("certificate {} is not valid before {}", leaf.serial, date(leaf.not_before));
        return Err(LoadError::new(file, wrong, "set this host's clock, or wait"));
    }
    Ok(())
}

fn malformed(file: &Path) -> LoadError {
    LoadError::new(file, "holds a certificate that cannot be parsed", "issue it again")
}

fn key_error(of: &Certificate, cause: &rustls::Error) -> LoadError {
    match cause {
        rustls::Error::InconsistentKeys(_) => LoadError::new(
            &of.key,
            format!("is not the key of the certificate in {}", of.cert.display()),
            "give the pair that was issued together, the host's certificate first in its file",
        ),
        _ => LoadError::new(
            &of.key,
            format!("holds a key that cannot be used: {cause}"),
            "use an ECDSA (P-256, P-384, P-521), Ed25519 or RSA key of 2048 bits or more",
        ),
    }
}

fn warn_if_exposed(key: &Path) {
    if pem::is_read_by_others(key) {
        let file = key.display();
        tracing::warn!(%file, "the private key is open to every user of this host; chmod 0600 it");
    }
}
