//! `adit ca init | issue | show`: a small private CA for a first set-up, and a look into any
//! certificate. The issuing itself is `identity::Authority`; this is its command line. No key is
//! ever printed.

mod show;

use std::{fmt, net::IpAddr, path::PathBuf, time::SystemTime};

use clap::{Args, Parser, Subcommand};

use crate::identity::{Authority, Existing, IssueError, LoadError, Request};

/// Make a private CA, issue certificates with it, or show what is in one.
#[derive(Clone, Debug, Parser)]
pub struct Ca {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Make a CA: writes ca.pem, the bundle for every agent, and ca.key, which stays here.
    Init(Init),
    /// Issue a certificate that is good for both ends of a tunnel.
    Issue(Issue),
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
    /// Where to write: PREFIX.pem and PREFIX.key.
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
}

impl Ca {
    /// Does it, and prints what was done.
    pub fn run(self) -> Result<(), CaError> {
        let now = SystemTime::now();
        let done = match self.command {
            Command::Init(init) => init.run(now)?,
            Command::Issue(issue) => issue.run(now)?,
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
    fn run(self, now: SystemTime) -> Result<String, IssueError> {
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
        }
    }
}

impl std::error::Error for CaError {}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;

    fn ca(dir: &Path, line: &str) -> Result<(), String> {
        let line = line.replace("DIR", dir.to_str().unwrap());
        let argv = ["ca"].into_iter().chain(line.split_whitespace());
        let ca = Ca::try_parse_from(argv).map_err(|error| error.to_string())?;
        ca.run().map_err(|error| error.to_string())
    }

    #[test]
    fn a_ca_issues_a_pair_whose_key_only_the_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        ca(dir.path(), "init --dir DIR").unwrap();
        ca(dir.path(), "issue --dir DIR --dns a.b --spiffe spiffe://b/a --out DIR/a.b").unwrap();
        for (file, mode) in [("ca.key", 0o600), ("a.b.key", 0o600), ("a.b.pem", 0o644)] {
            let found = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode, "{file}");
        }
    }

    #[test]
    fn nothing_is_overwritten_without_force() {
        let dir = tempfile::tempdir().unwrap();
        ca(dir.path(), "init --dir DIR").unwrap();
        let before = fs::read(dir.path().join("ca.key")).unwrap();
        let error = ca(dir.path(), "init --dir DIR").unwrap_err();
        assert!(error.contains("ca.key: is already there; give --force"), "{error}");
        assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), before);
        ca(dir.path(), "init --dir DIR --force").unwrap();
        assert_ne!(fs::read(dir.path().join("ca.key")).unwrap(), before);
    }

    #[test]
    fn a_pair_is_never_half_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), "precious").unwrap();
        let error = ca(dir.path(), "init --dir DIR").unwrap_err();
        assert!(error.contains("ca.pem: is already there"), "{error}");
        assert!(!dir.path().join("ca.key").exists());
    }

    #[test]
    fn a_ca_with_another_cas_key_issues_nothing() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        ca(dir.path(), "init --dir DIR").unwrap();
        ca(other.path(), "init --dir DIR").unwrap();
        fs::copy(other.path().join("ca.key"), dir.path().join("ca.key")).unwrap();
        let error = ca(dir.path(), "issue --dir DIR --dns a.b --out DIR/x").unwrap_err();
        assert!(error.contains("ca.key is not the key of ca.pem"), "{error}");
    }

    #[test]
    fn a_certificate_that_would_outlive_its_ca_is_not_issued() {
        let dir = tempfile::tempdir().unwrap();
        ca(dir.path(), "init --dir DIR --days 90").unwrap();
        ca(dir.path(), "issue --dir DIR --dns a.b --days 89 --out DIR/x").unwrap();
        let error = ca(dir.path(), "issue --dir DIR --dns a.b --days 91 --out DIR/y").unwrap_err();
        assert!(error.contains("fewer --days"), "{error}");
    }

    #[test]
    fn a_certificate_that_names_nobody_is_not_issued() {
        let dir = tempfile::tempdir().unwrap();
        ca(dir.path(), "init --dir DIR").unwrap();
        let error = ca(dir.path(), "issue --dir DIR --out DIR/x").unwrap_err();
        assert!(error.contains("--dns"), "{error}");
    }

    #[test]
    fn what_is_no_name_is_refused_on_the_command_line() {
        let dir = tempfile::tempdir().unwrap();
        ca(dir.path(), "init --dir DIR").unwrap();
        for (option, said) in [
            ("--spiffe a.b", "spiffe://"),
            ("--spiffe spiffe://b/../a", "SPIFFE id"),
            ("--dns spiffe://b/a", "--spiffe"),
            ("--dns 10.0.0.1", "DNS name"),
            ("--dns a..b", "label is empty"),
            ("--dns a.*.b", "DNS name"),
            ("--dns *.*.b", "DNS name"),
            ("--dns a/b", "DNS name"),
        ] {
            let error = ca(dir.path(), &format!("issue --dir DIR {option} --out DIR/x")).unwrap_err();
            assert!(error.contains(said), "{option}: {error}");
        }
        ca(dir.path(), "issue --dir DIR --dns *.a.b --out DIR/x").unwrap();
    }

    #[test]
    fn a_missing_ca_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = ca(dir.path(), "issue --dir DIR --dns a.b --out DIR/x").unwrap_err();
        assert!(error.contains("ca.pem"), "{error}");
    }
}
