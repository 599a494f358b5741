//! `adit ca init | issue | renew | show`: a small private CA for a first set-up, and a look into any
//! certificate. The issuing itself is `identity::Authority`; this is its command line. No key is
//! ever printed.

mod hosts;
mod renew;
mod show;
#[cfg(test)]
mod tests;

use std::{fmt, net::IpAddr, path::PathBuf, time::SystemTime};

use clap::{Args, Parser, Subcommand};

pub use hosts::HostsError;
pub use renew::NotRenewed;

use crate::identity::{Authority, Existing, IssueError, LoadError, Request};

/// Make a private CA, issue and renew certificates with it, or show what is in one.
#[derive(Clone, Debug, Parser)]
pub struct Ca {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Make a CA: writes ca.pem, the bundle for every agent, and ca.key, which stays here.
    Init(Init),
    /// Issue a certificate that is good for both ends of a tunnel; with --hosts, one for each host of a list.
    Issue(Issue),
    /// Renew certificates that are about to expire: the same names, a new key. Exits with 0 when each is good, renewed or not
    /// due, and with 1 when one is not.
    Renew(renew::Renew),
    /// Show the certificates in a PEM file.
    Show(Show),
}

#[derive(Clone, Debug, Args)]
struct Init {
    /// The folder of the CA.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What the CA is called; a mark of its key is added.
    #[arg(long, default_value = "adit CA")]
    name: String,
    /// Days it is valid.
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// Replace a CA that is already there; everything it issued is then worthless.
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Debug, Args)]
struct Issue {
    /// The folder of the CA.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// A DNS name; may be given more than once.
    #[arg(long, value_name = "NAME", value_parser = dns)]
    dns: Vec<String>,
    /// The SPIFFE id.
    #[arg(long, value_name = "URI", value_parser = spiffe)]
    spiffe: Option<String>,
    /// An address; may be given more than once.
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
    /// Days it is valid.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// A list of hosts, or - for standard input: one a line, its DNS name first, then its other names (DNS names, addresses,
    /// one SPIFFE id); # opens a comment. For each, HOST.tar is written: ca.pem, host.pem and host.key, which `tar -C
    /// /etc/adit/tls -xf HOST.tar` unpacks on the host.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dns", "spiffe", "ip"])]
    hosts: Option<PathBuf>,
    /// Where to write: PREFIX.pem and PREFIX.key; with --hosts, the folder of the archives.
    #[arg(long, value_name = "PREFIX")]
    out: PathBuf,
    /// Replace files that are already there.
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Debug, Args)]
struct Show {
    /// A PEM file of certificates.
    file: PathBuf,
}

/// Why `adit ca` failed, as one line.
#[derive(Debug)]
pub enum CaError {
    /// The CA could not be made, or a certificate issued.
    Issue(IssueError),
    /// The file to show cannot be read.
    Load(LoadError),
    /// No archives were made.
    Hosts(HostsError),
    /// Not every certificate could be renewed.
    Renew(NotRenewed),
}

impl Ca {
    /// Does it, and prints what was done.
    pub fn run(self) -> Result<(), CaError> {
        let now = SystemTime::now();
        let done = match self.command {
            Command::Init(init) => init.run(now)?,
            Command::Issue(issue) => issue.run(now)?,
            Command::Renew(renew) => renew.run(now).map_err(CaError::Renew)?,
            Command::Show(show) => show::certificates(&show.file, now)?,
        };
        print!("{done}");
        Ok(())
    }
}

impl Init {
    fn run(self, now: SystemTime) -> Result<String, IssueError> {
        let existing = existing(self.force);
        Authority::create(&self.dir, &self.name, self.days, existing, now)?;
        let dir = self.dir.display();
        Ok(format!(
            "made {dir}/ca.pem: give it to every agent as [tls] ca\n\
             made {dir}/ca.key: keep it here, whoever has it can be anybody\n"
        ))
    }
}

impl Issue {
    fn run(self, now: SystemTime) -> Result<String, CaError> {
        if let Some(hosts) = &self.hosts {
            let authority = Authority::open(&self.dir)?;
            let out = (self.out.as_path(), existing(self.force));
            return hosts::issue(&authority, hosts, out, self.days, now).map_err(CaError::Hosts);
        }
        let request = Request { dns: self.dns, spiffe: self.spiffe, ips: self.ip, days: self.days };
        let issued = Authority::open(&self.dir)?.issue(&request, now)?;
        let (certificate, key) = issued.write(&self.out, existing(self.force))?;
        Ok(format!("made {}\nmade {}\n", certificate.display(), key.display()))
    }
}

fn existing(force: bool) -> Existing {
    match force {
        true => Existing::Replace,
        false => Existing::Keep,
    }
}

/// A name that no peer would take for one is refused before it is signed; `*.` before one is a wildcard.
fn dns(text: &str) -> Result<String, String> {
    match adit_config::Identity::parse(text.strip_prefix("*.").unwrap_or(text)) {
        Ok(adit_config::Identity::Dns(_)) => Ok(text.to_owned()),
        Ok(_) => Err("it is no DNS name; give --spiffe or --ip".to_owned()),
        Err(cause) => Err(cause.to_string()),
    }
}

/// An id that no peer would take for one is refused before it is signed.
fn spiffe(text: &str) -> Result<String, String> {
    match adit_config::Identity::name(text) {
        Ok(adit_config::Identity::Spiffe(id)) => Ok(id),
        Ok(_) => Err("a SPIFFE id begins with spiffe://".to_owned()),
        Err(cause) => Err(cause.to_string()),
    }
}

impl From<IssueError> for CaError {
    fn from(cause: IssueError) -> Self {
        Self::Issue(cause)
    }
}

impl From<LoadError> for CaError {
    fn from(cause: LoadError) -> Self {
        Self::Load(cause)
    }
}

impl fmt::Display for CaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issue(cause) => cause.fmt(f),
            Self::Load(cause) => cause.fmt(f),
            Self::Hosts(cause) => cause.fmt(f),
            Self::Renew(cause) => cause.fmt(f),
        }
    }
}

impl std::error::Error for CaError {}
