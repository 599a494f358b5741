//! One set that a Workload API gave: our certificates with their keys, and the authorities of every trust domain. It is
//! what was sent, read and not yet judged: whether it can be used, `bundle` and `credential` say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use spiffe::{X509Context, X509Svid};

use crate::identity::error::LoadError;

/// What the certificate of `[tls]` that services and listeners show unless told is called.
const DEFAULT_ID: &str = "default";

/// One set.
pub(in crate::identity) struct Given {
    socket: PathBuf,
    /// At least one; the first is the default.
    pub(in crate::identity) svids: Vec<Svid>,
    /// By the trust domain they vouch for.
    pub(in crate::identity) bundles: BTreeMap<String, Vec<CertificateDer<'static>>>,
}

/// One certificate of ours.
pub(in crate::identity) struct Svid {
    /// `default` for the first, and for others their SPIFFE id, which no id of the configuration can be.
    pub(in crate::identity) id: String,
    pub(in crate::identity) chain: Vec<CertificateDer<'static>>,
    pub(in crate::identity) key: PrivateKeyDer<'static>,
    domain: String,
}

impl Given {
    /// What came from the Workload API at `socket`.
    pub(super) fn new(socket: &Path, context: &X509Context) -> Self {
        let svids = context.svids().iter().enumerate();
        let svids = svids.map(|(number, svid)| Svid::new(number, svid, context)).collect();
        let ders = |certificates: &[spiffe::Certificate]| certificates.iter().map(der).collect();
        let bundles = context.bundle_set().iter();
        let bundles = bundles.map(|(domain, bundle)| (domain.to_string(), ders(bundle.authorities()))).collect();
        Self { socket: socket.to_owned(), svids, bundles }
    }

    /// The trust domains that we are of.
    pub(in crate::identity) fn domains(&self) -> BTreeSet<String> {
        self.svids.iter().map(|svid| svid.domain.clone()).collect()
    }

    /// Whom to blame for a `part` of it.
    pub(in crate::identity) fn source(&self, part: &str) -> PathBuf {
        source(&self.socket, part)
    }
}

impl Svid {
    fn new(number: usize, svid: &X509Svid, context: &X509Context) -> Self {
        let spiffe = svid.spiffe_id();
        let same = context.svids().iter().take(number).filter(|before| before.spiffe_id() == spiffe).count();
        let id = match (number, same) {
            (0, _) => DEFAULT_ID.to_owned(),
            (_, 0) => spiffe.to_string(),
            (_, same) => format!("{spiffe} ({})", same + 1),
        };
        Self {
            id,
            chain: svid.cert_chain().iter().map(der).collect(),
            key: PrivatePkcs8KeyDer::from(svid.private_key().as_bytes().to_vec()).into(),
            domain: spiffe.trust_domain().to_string(),
        }
    }
}

/// The error of a set that has not come.
pub(in crate::identity) fn nothing(socket: &Path) -> LoadError {
    LoadError::new(&source(socket, ""), "has given nothing yet", "see that the Workload API knows this process")
}

/// A Workload API, or a part of what it gave, as what a [`LoadError`] blames.
pub(super) fn source(socket: &Path, part: &str) -> PathBuf {
    let gap = if part.is_empty() { "" } else { " " };
    format!("unix:{}{gap}{part}", socket.display()).into()
}

fn der(certificate: &spiffe::Certificate) -> CertificateDer<'static> {
    CertificateDer::from(certificate.as_bytes().to_vec())
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.svids.iter().map(|svid| &svid.id).collect();
        write!(f, "Given({ids:?}, {:?})", self.bundles.keys())
    }
}
