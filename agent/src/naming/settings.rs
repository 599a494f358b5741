//! What naming needs to be told, as plain values. Where they come from is the app's affair.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How names are looked up and how long answers live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The DNS servers to ask, by UDP and TCP; none means those of `/etc/resolv.conf`, and then
    /// `/etc/hosts` counts too.
    pub servers: Vec<SocketAddr>,
    /// Zones that have servers of their own; of those that hold a name the longest decides.
    pub zones: Vec<Zone>,
    /// An answer lives at least this long, whatever its TTL says.
    pub min_ttl: Duration,
    /// An answer lives at most this long, whatever its TTL says.
    pub max_ttl: Duration,
    /// How long *no such name* is believed when the answer does not say; when it does, its time
    /// holds within the bounds above.
    pub negative_ttl: Duration,
    /// The limit of one look-up, its retries included.
    pub timeout: Duration,
    /// How long a name is kept fresh after the last one stopped watching it. The router watches
    /// what was used in the last ten minutes; this bridges a change of tables.
    pub linger: Duration,
    /// Where the files of `/#/fs/<file>` are.
    pub folder: PathBuf,
    /// How often those files are looked at.
    pub look: Duration,
    /// SO_MARK (socket(7)) of connections to DNS servers, by which the rules know them as the agent's own.
    pub mark: Option<u32>,
}

/// A zone, and all under it, with servers of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// In lower case, without a trailing dot.
    pub name: String,
    /// At least one.
    pub servers: Vec<SocketAddr>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            zones: Vec::new(),
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
            negative_ttl: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            linger: Duration::from_secs(60),
            folder: PathBuf::from("/etc/adit/names"),
            look: Duration::from_secs(1),
            mark: None,
        }
    }
}
