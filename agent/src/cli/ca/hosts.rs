//! `adit ca issue --hosts`: a certificate for each host of a list, and an archive for each with all that its agent needs.
//! The list is read whole before anything is signed, and every archive is there before the first is put in its place.

use std::{
    collections::HashMap,
    fmt, fs,
    io::{self, Read},
    path::Path,
    time::SystemTime,
};

use super::{dns, spiffe};
use crate::identity::{Authority, Existing, IssueError, Issued, Request, write_all};

/// Standard input, in place of a file.
const STDIN: &str = "-";

/// What no list is longer than: a hundred thousand hosts.
const LONGEST: u64 = 16 << 20;

/// Why no archive was made.
#[derive(Debug)]
pub enum HostsError {
    /// The list cannot be read.
    Read(String, io::Error),
    /// Every line that says nothing, `file:line: why`.
    Lines(Vec<String>),
    /// Of this host, no certificate.
    Host(String, IssueError),
    /// The archives cannot be written.
    Write(IssueError),
}

/// One host of the list.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    name: String,
    request: Request,
}

/// Issues for every host of `list` and writes `HOST.tar` into `out`; what was done.
pub(super) fn issue(
    authority: &Authority,
    list: &Path,
    (out, existing): (&Path, Existing),
    days: u16,
    now: SystemTime,
) -> Result<String, HostsError> {
    let shown = if list == Path::new(STDIN) { "stdin".to_owned() } else { list.display().to_string() };
    let text = read(list).map_err(|cause| HostsError::Read(shown.clone(), cause))?;
    let hosts = parse(&shown, &text, days).map_err(HostsError::Lines)?;
    let archives: Result<Vec<_>, _> = hosts.iter().map(|host| archive_of(authority, host, now)).collect();
    let written = write_all(out, &archives?, 0o600, existing).map_err(HostsError::Write)?;
    let lines = written.iter().map(|file| format!("made {}\n", file.display()));
    let advice = "on each host: tar -C /etc/adit/tls -xf HOST.tar\n".to_owned();
    Ok(lines.chain([advice]).collect())
}

fn read(list: &Path) -> io::Result<String> {
    let mut text = String::new();
    let from: Box<dyn Read> =
        if list == Path::new(STDIN) { Box::new(io::stdin().lock()) } else { Box::new(fs::File::open(list)?) };
    match from.take(LONGEST).read_to_string(&mut text)? as u64 {
        LONGEST => Err(io::Error::new(io::ErrorKind::FileTooLarge, "is longer than 16 MiB, and no list of hosts is")),
        _ => Ok(text),
    }
}

/// The hosts of a list, or every problem it has.
fn parse(file: &str, text: &str, days: u16) -> Result<Vec<Host>, Vec<String>> {
    let mut problems = Vec::new();
    let mut hosts = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        let mut problem = |why: String| problems.push(format!("{file}:{number}: {why}"));
        let Some(host) = host(line, days, &mut problem) else {
            continue;
        };
        if let Some(first) = seen.get(&host.name) {
            problem(format!("{} stands in line {first} already; write all its names in one line", host.name));
        }
        seen.entry(host.name.clone()).or_insert(number);
        hosts.push(host);
    }
    if hosts.is_empty() && problems.is_empty() {
        problems.push(format!("{file}: names no host; write one a line, its DNS name first"));
    }
    if problems.is_empty() { Ok(hosts) } else { Err(problems) }
}

/// The host of a line, if there is one; its first word is its name, and that of its archive.
fn host(line: &str, days: u16, problem: &mut impl FnMut(String)) -> Option<Host> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let mut request = Request { days, ..Request::default() };
    match dns(name) {
        Ok(name) if !name.starts_with('*') => request.dns.push(name),
        Ok(_) => problem(format!("{name} is many hosts; write the name of one first")),
        Err(why) => problem(format!("{name}: {why}; a line begins with the host's DNS name")),
    }
    for word in words {
        if let Err(why) = add(word, &mut request) {
            problem(format!("{word}: {why}"));
        }
    }
    Some(Host { name: name.to_ascii_lowercase(), request })
}

fn add(word: &str, request: &mut Request) -> Result<(), String> {
    if let Ok(ip) = word.strip_prefix("ip:").unwrap_or(word).parse() {
        request.ips.push(ip);
        return Ok(());
    }
    if !word.contains("://") {
        return dns(word).map(|name| request.dns.push(name));
    }
    match request.spiffe.replace(spiffe(word)?) {
        None => Ok(()),
        Some(first) => Err(format!("a certificate has one SPIFFE id, and {first} stands before it")),
    }
}

fn archive_of(authority: &Authority, host: &Host, now: SystemTime) -> Result<(String, Vec<u8>), HostsError> {
    let issued = authority.issue(&host.request, now).map_err(|cause| HostsError::Host(host.name.clone(), cause))?;
    let archive = archive(authority.certificate(), &issued, now)
        .map_err(|cause| HostsError::Read(format!("archive of {}", host.name), cause))?;
    Ok((format!("{}.tar", host.name), archive))
}

/// What `tar -C /etc/adit/tls -xf` unpacks: for root into files of root's and, where there is one, the group adit's, whose
/// members read the key; for others into files of their own.
fn archive(bundle: &str, issued: &Issued, now: SystemTime) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    // The certificate last: an agent that looks in between finds a pair that does not fit, and waits for the rest.
    for (name, text, mode) in [
        ("ca.pem", bundle, 0o644),
        ("host.key", issued.key.as_str(), 0o640),
        ("host.pem", issued.certificate.as_str(), 0o644),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(mode);
        header.set_mtime(seconds);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root")?;
        header.set_groupname("adit")?;
        archive.append_data(&mut header, name, text.as_bytes())?;
    }
    archive.into_inner()
}

impl fmt::Display for HostsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(what, cause) => write!(f, "{what}: {cause}"),
            Self::Lines(lines) => f.write_str(&lines.join("\n")),
            Self::Host(host, cause) => write!(f, "{host}: {cause}"),
            Self::Write(cause) => cause.fmt(f),
        }
    }
}

impl std::error::Error for HostsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_host_with_its_names() {
        let text = "# hosts\n\na.b  *.a.b spiffe://b/a 10.0.0.1 ip:fd00::1 # the first\nC.b\n";
        let hosts = parse("hosts", text, 7).unwrap();
        assert_eq!(hosts.len(), 2);
        assert_eq!(hosts[0].request.dns, ["a.b", "*.a.b"]);
        assert_eq!(hosts[0].request.spiffe.as_deref(), Some("spiffe://b/a"));
        assert_eq!(hosts[0].request.ips.len(), 2);
        assert_eq!((hosts[1].name.as_str(), hosts[1].request.days), ("c.b", 7));
    }

    #[test]
    fn every_bad_line_is_told_with_its_place() {
        let text =
            "a.b\nspiffe://b/a\n*.b\nc.b spiffe://b/c spiffe://b/d\nd.b no_name! http://x\nA.b\n10.0.0.1\n../x\n";
        let problems = parse("hosts", text, 7).unwrap_err();
        for (line, said) in [
            (2, "begins with the host's DNS name"),
            (3, "many hosts"),
            (4, "one SPIFFE id"),
            (5, "no_name!"),
            (5, "http://x"),
            (6, "line 1 already"),
            (7, "DNS name"),
            (8, "DNS name"),
        ] {
            let place = format!("hosts:{line}: ");
            assert!(
                problems.iter().any(|one| one.starts_with(&place) && one.contains(said)),
                "{place}{said}: {problems:?}"
            );
        }
        assert_eq!(problems.len(), 8, "{problems:?}");
    }

    #[test]
    fn a_list_of_nobody_is_told() {
        assert!(parse("hosts", "# nobody\n", 7).unwrap_err()[0].contains("names no host"));
    }
}
