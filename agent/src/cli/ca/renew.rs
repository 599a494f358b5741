//! `adit ca renew`: certificates that are about to expire made anew, with the names they have, for a timer to run. What is
//! not due is left alone, and what cannot be renewed keeps none of the others from it.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::Args;

use crate::identity::{
    Authority, Certificate, IssueError, LoadError, RenewError, Renewal, Renewed, renew,
    text::{date, printable},
};

const DAY: u64 = 86_400;

/// Which certificates, and when.
#[derive(Clone, Debug, Args)]
pub(super) struct Renew {
    /// The folder of the CA.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Certificates (NAME.pem, its key beside it as NAME.key), or folders of them.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Renew what expires within this time: `30d`, `36h`.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = span)]
    within: Duration,
    /// Days the new certificate is valid; as many as the old one unless told.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    days: Option<u16>,
    /// Keep the key; a new one is made unless told.
    #[arg(long)]
    keep_key: bool,
}

/// What was done before, and each certificate that could not be renewed, a line each.
#[derive(Debug)]
pub struct NotRenewed(Vec<String>);

impl Renew {
    /// Renews what is due, and says what became of each.
    pub(super) fn run(&self, now: SystemTime) -> Result<String, NotRenewed> {
        let authority = Authority::open(&self.dir).map_err(|cause: IssueError| NotRenewed(vec![cause.to_string()]))?;
        let renewal = Renewal { within: self.within, days: self.days, keep_key: self.keep_key };
        let mut done = String::new();
        let mut failed = Vec::new();
        for certificate in self.certificates(&mut failed) {
            match renew(&authority, &certificate, &renewal, now) {
                Ok(renewed) => done += &said(&certificate.path(), &renewed),
                Err(cause) => failed.push(told(&certificate.path(), &cause)),
            }
        }
        if failed.is_empty() {
            return Ok(done);
        }
        print!("{done}");
        Err(NotRenewed(failed))
    }

    /// The certificates named, and those of the folders named.
    fn certificates(&self, failed: &mut Vec<String>) -> Vec<Certificate> {
        let mut found = Vec::new();
        for path in &self.paths {
            if !path.is_dir() {
                found.push(Certificate::Named(path.clone()));
                continue;
            }
            match pairs(path) {
                Ok(pairs) if pairs.is_empty() => {
                    failed.push(format!("{}: holds no certificate NAME.pem with its NAME.key beside it", shown(path)));
                }
                Ok(pairs) => found.extend(pairs),
                Err(cause) => failed.push(format!("{}: {cause}", shown(path))),
            }
        }
        found
    }
}

/// The certificates of a folder that have their key beside them, but for a CA's.
fn pairs(dir: &Path) -> std::io::Result<Vec<Certificate>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_certificate = path.extension().is_some_and(|extension| extension == "pem");
        let name = path.file_name().filter(|name| is_certificate && *name != "ca.pem");
        if let Some(name) = name
            && path.with_extension("key").exists()
        {
            found.push(name.to_owned());
        }
    }
    found.sort();
    Ok(found.into_iter().map(|name| Certificate::Found { dir: dir.to_owned(), name }).collect())
}

fn said(certificate: &Path, renewed: &Renewed) -> String {
    let file = shown(certificate);
    match renewed {
        Renewed::NotDue(until) => format!("{file}: is valid until {}, not due\n", date(*until)),
        Renewed::Until(until) => format!("{file}: renewed, valid until {}\n", date(*until)),
    }
}

fn told(certificate: &Path, cause: &RenewError) -> String {
    match cause {
        // They name the file.
        RenewError::Load(cause) => printable(&LoadError::to_string(cause)),
        RenewError::Issue(cause @ IssueError::File { .. }) => printable(&cause.to_string()),
        other => printable(&format!("{}: {other}", certificate.display())),
    }
}

/// A name that somebody else may have chosen.
fn shown(file: &Path) -> String {
    printable(&file.display().to_string())
}

fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "write days or hours, such as 30d or 36h".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "d" => number.checked_mul(DAY),
        "h" => number.checked_mul(3600),
        _ => None,
    };
    // No certificate lives for a century.
    seconds.filter(|seconds| *seconds <= 36_500 * DAY).map(Duration::from_secs).ok_or_else(wrong)
}

impl fmt::Display for NotRenewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for NotRenewed {}
