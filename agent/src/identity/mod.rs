//! Who we are and who a peer is: certificates and keys from files or a SPIFFE Workload API, the judges of a handshake, and
//! what is in force while files change. It never dials, accepts or judges what a peer may reach.
//!
//! Start at [`Store`], which holds a [`Snapshot`], which makes the rustls configurations and turns a
//! peer's chain into a [`Peer`].

mod authority;
mod bundle;
mod credential;
pub mod credentials;
mod error;
mod explain;
mod leaf;
mod peer;
mod pem;
mod pki;
mod revocation;
mod settings;
mod snapshot;
mod spiffe;
mod store;
#[cfg(test)]
mod tests;
pub mod text;
mod trust;
mod verify;

pub use authority::{
    Authority, Certificate, Existing, IssueError, Issued, RenewError, Renewal, Renewed, Request, renew, write_all,
};
pub use credential::Credential;
pub use error::LoadError;
pub use explain::{alert_name, explain};
pub use leaf::{Leaf, Malformed};
pub use peer::{Peer, PeerError, Role};
pub use pem::certificates as read_certificates;
pub use settings::{ALPN, UNRECOGNIZED_NAME, is_unknown_sni, speaks_adit};
pub use snapshot::{Revoked, Snapshot, server_name};
pub use spiffe::WorkloadStatus;
pub use store::{Prepared, Store};
pub use verify::WrongIdentity;
