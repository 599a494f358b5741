//! `[tls]`: who this agent is, whom it believes, and from which files or service it has both. It opens none of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What stands before the name of a credential (systemd.exec(5), LoadCredential=) in the place of a path.
pub(crate) const CREDENTIAL: &str = "credential:";

/// `[tls]`: where credentials come from; nothing here has been opened yet. Each file is a path from the root, or
/// `credential:NAME`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// Whom to believe, and by whose word.
    pub authorities: Authorities,
    /// Revocation lists, PEM; may be none.
    pub crl: Vec<PathBuf>,
    /// Certificates from files; at least one, unless a Workload API gives them. The first is the default; `[tls] cert, key`
    /// comes first, with id `default`. That id is a Workload API's where there is one.
    pub certificates: Vec<Certificate>,
}

impl Tls {
    /// The first credential that it names, if it names any.
    #[must_use]
    pub fn credential(&self) -> Option<&Path> {
        let bundle = match &self.authorities {
            Authorities::File(file) => Some(file),
            Authorities::Spiffe(_) => None,
        };
        let pairs = self.certificates.iter().flat_map(|one| [&one.cert, &one.key]);
        let mut files = bundle.into_iter().chain(&self.crl).chain(pairs);
        files.find(|file| credential(file).is_some()).map(PathBuf::as_path)
    }

    /// The same with paths alone: those of credentials in this folder.
    #[must_use]
    pub fn with_credentials_in(&self, folder: &Path) -> Tls {
        let whole = |file: &PathBuf| credential(file).map_or_else(|| file.clone(), |name| folder.join(name));
        let certificate =
            |one: &Certificate| Certificate { cert: whole(&one.cert), key: whole(&one.key), id: one.id.clone() };
        Tls {
            authorities: match &self.authorities {
                Authorities::File(file) => Authorities::File(whole(file)),
                Authorities::Spiffe(spiffe) => Authorities::Spiffe(spiffe.clone()),
            },
            crl: self.crl.iter().map(whole).collect(),
            certificates: self.certificates.iter().map(certificate).collect(),
        }
    }
}

/// Who says which authorities may vouch for a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Authorities {
    /// A bundle, PEM.
    File(PathBuf),
    /// A SPIFFE Workload API, which gives this agent its certificates too.
    Spiffe(Spiffe),
}

/// A SPIFFE Workload API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spiffe {
    /// Its unix socket.
    pub socket: PathBuf,
    /// How long its first answer may take.
    pub wait: Duration,
}

impl fmt::Display for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Spiffe(spiffe) => write!(f, "the Workload API at unix:{}", spiffe.socket.display()),
        }
    }
}

fn credential(file: &Path) -> Option<&str> {
    file.to_str()?.strip_prefix(CREDENTIAL)
}

/// One certificate of this agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// What services and listeners call it; unique in the file.
    pub id: String,
    /// The chain, leaf first, PEM.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}
