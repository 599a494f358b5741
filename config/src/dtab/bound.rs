//! Bound names: paths under `/$` and `/#`, which say where addresses come from instead of being rewritten further.
//! Reading one is all that happens here; the agent's naming room finds the addresses.

use adit_protocol::Name;
use std::{fmt, net::IpAddr, path::PathBuf};

/// The namers of this version, as an error lists them.
const KNOWN: &str = "/$/inet, /$/unix, /#/dns, /#/srv, /#/fs";

/// A name that needs no further rule: which namer to ask and for what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bound {
    path: Name,
    residual: String,
    namer: Namer,
}

/// Where the addresses of a bound name come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Namer {
    /// `/$/inet/<ip or host>/<port>`: an address as written, or a host's.
    Inet {
        /// The address or the host name.
        host: Host,
        /// The port, never 0.
        port: u16,
    },
    /// `/$/unix/<path...>`: a unix stream socket; the whole rest is its absolute path.
    Unix(PathBuf),
    /// `/#/dns/<host>/<port>`: the host's A and AAAA records.
    Dns {
        /// A DNS name in lower case, without a trailing dot.
        host: String,
        /// The port, never 0.
        port: u16,
    },
    /// `/#/srv/<name>[/<port>]`: the name's SRV records (RFC 2782), and the addresses of their targets.
    Srv {
        /// A DNS name in lower case, without a trailing dot.
        name: String,
        /// The port to use instead of the records' own, never 0: the agent's on a service's host.
        port: Option<u16>,
    },
    /// `/#/fs/<file>`: the lines of a file in the watched folder.
    Fs {
        /// The file's name: one segment, not beginning with a dot, as what an editor leaves does.
        file: String,
    },
}

/// An IP address or a DNS name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address as written.
    Ip(IpAddr),
    /// A DNS name in lower case, without a trailing dot.
    Name(String),
}

/// Why a name under `/$` or `/#` cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundError {
    /// No namer of this version goes by that name.
    UnknownNamer(String),
    /// Segments are missing; holds the shape it should have.
    TooShort(&'static str),
    /// The segment where a host belongs is none.
    BadHost(String),
    /// `/#/dns` was asked for an address.
    AddressForDns(IpAddr),
    /// The segment where a port belongs is none.
    BadPort(String),
    /// The segment where a file's name belongs is none.
    BadFile(String),
}

impl Bound {
    /// Reads a bound name. What is left over after the namer's own segments is kept as [`Bound::residual`].
    ///
    /// # Errors
    /// See [`BoundError`].
    pub fn parse(name: &Name) -> Result<Self, BoundError> {
        let segments: Vec<&str> = name.segments().collect();
        let (namer, taken) = match segments.as_slice() {
            ["$", "inet", rest @ ..] => (inet(rest)?, 4),
            ["$", "unix", rest @ ..] => (unix(rest)?, segments.len()),
            ["#", "dns", rest @ ..] => (dns(rest)?, 4),
            ["#", "srv", rest @ ..] => srv(rest)?,
            ["#", "fs", rest @ ..] => (fs(rest)?, 3),
            [door, namer, ..] => return Err(BoundError::UnknownNamer(format!("/{door}/{namer}"))),
            _ => return Err(BoundError::TooShort("/$/<namer>/… or /#/<namer>/…")),
        };
        let (own, rest) = split(name.as_str(), taken);
        let path = if rest.is_empty() { name.clone() } else { Name::parse(own).unwrap_or_else(|_| name.clone()) };
        Ok(Self { path, residual: rest.to_owned(), namer })
    }

    /// The bound name itself, without what was left over: `/#/dns/redis.prod.internal/4143`.
    #[must_use]
    pub fn path(&self) -> &Name {
        &self.path
    }

    /// What was left over after the bound name, with its leading `/`, or nothing. It is shown and otherwise ignored.
    #[must_use]
    pub fn residual(&self) -> &str {
        &self.residual
    }

    /// Whom to ask for addresses.
    #[must_use]
    pub fn namer(&self) -> &Namer {
        &self.namer
    }
}

/// A path before and from its segment number `taken` on.
fn split(path: &str, taken: usize) -> (&str, &str) {
    let end = path.match_indices('/').nth(taken).map_or(path.len(), |(at, _)| at);
    path.split_at(end)
}

fn inet(segments: &[&str]) -> Result<Namer, BoundError> {
    let [host, port, ..] = segments else {
        return Err(BoundError::TooShort("/$/inet/<ip or host>/<port>"));
    };
    let host = match host.parse() {
        Ok(ip) => Host::Ip(ip),
        Err(_) => Host::Name(host_name(host)?),
    };
    Ok(Namer::Inet { host, port: port_number(port)? })
}

fn unix(segments: &[&str]) -> Result<Namer, BoundError> {
    match segments {
        [] => Err(BoundError::TooShort("/$/unix/<path...>")),
        _ => Ok(Namer::Unix(PathBuf::from(format!("/{}", segments.join("/"))))),
    }
}

fn dns(segments: &[&str]) -> Result<Namer, BoundError> {
    let [host, port, ..] = segments else {
        return Err(BoundError::TooShort("/#/dns/<host>/<port>"));
    };
    match host.parse() {
        Ok(ip) => Err(BoundError::AddressForDns(ip)),
        Err(_) => Ok(Namer::Dns { host: host_name(host)?, port: port_number(port)? }),
    }
}

/// What follows the name is its port if it is all digits; what else follows is left over.
fn srv(segments: &[&str]) -> Result<(Namer, usize), BoundError> {
    let [name, rest @ ..] = segments else {
        return Err(BoundError::TooShort("/#/srv/<name>[/<port>]"));
    };
    let name = host_name(name)?;
    match rest.first().filter(|port| port.bytes().all(|byte| byte.is_ascii_digit())) {
        Some(port) => Ok((Namer::Srv { name, port: Some(port_number(port)?) }, 4)),
        None => Ok((Namer::Srv { name, port: None }, 3)),
    }
}

fn fs(segments: &[&str]) -> Result<Namer, BoundError> {
    match segments {
        [] => Err(BoundError::TooShort("/#/fs/<file>")),
        [file, ..] if file.starts_with('.') => Err(BoundError::BadFile((*file).to_owned())),
        [file, ..] => Ok(Namer::Fs { file: (*file).to_owned() }),
    }
}

/// A DNS name in lower case, without a trailing dot: labels of 1 to 63, 253 in all (RFC 1035, 2.3.4), with `_` as service
/// names have it.
///
/// # Errors
/// [`BoundError::BadHost`] for anything else.
pub fn host_name(text: &str) -> Result<String, BoundError> {
    let bare = text.strip_suffix('.').unwrap_or(text);
    let fits = (1..=253).contains(&bare.len()) && bare.split('.').all(is_label);
    if fits { Ok(bare.to_ascii_lowercase()) } else { Err(BoundError::BadHost(text.to_owned())) }
}

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
}

fn port_number(text: &str) -> Result<u16, BoundError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(BoundError::BadPort(text.to_owned())),
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for BoundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownNamer(namer) => write!(f, "'{namer}' is not a namer this version has; known: {KNOWN}"),
            Self::TooShort(shape) => write!(f, "segments are missing; it should read {shape}"),
            Self::BadHost(host) => {
                write!(f, "'{host}' is no host name: labels of letters, digits, '-' and '_' with dots")
            }
            Self::AddressForDns(ip) => {
                write!(f, "'{ip}' is an address, not a name to look up; write /$/inet/{ip}/<port>")
            }
            Self::BadFile(file) => write!(f, "'{file}' is no file's name here: it begins with '.'"),
            Self::BadPort(port) => write!(f, "'{port}' is no port: a number from 1 to 65535"),
        }
    }
}

impl std::error::Error for BoundError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Bound, BoundError> {
        Bound::parse(&Name::parse(text).unwrap())
    }

    #[test]
    fn each_namer_reads_its_own_segments() {
        let dns = Namer::Dns { host: "redis.prod".into(), port: 4143 };
        assert_eq!(read("/#/dns/Redis.prod./4143").unwrap().namer(), &dns);
        let inet = Namer::Inet { host: Host::Ip("2001:db8::1".parse().unwrap()), port: 1 };
        assert_eq!(read("/$/inet/2001:db8::1/1").unwrap().namer(), &inet);
        let host = Namer::Inet { host: Host::Name("localhost".into()), port: 80 };
        assert_eq!(read("/$/inet/localhost/80").unwrap().namer(), &host);
        assert_eq!(read("/$/unix/run/redis.sock").unwrap().namer(), &Namer::Unix("/run/redis.sock".into()));
    }

    #[test]
    fn a_service_may_have_a_port_of_its_own() {
        let srv = |port| Namer::Srv { name: "_redis._tcp.prod".into(), port };
        assert_eq!(read("/#/srv/_redis._tcp.prod").unwrap().namer(), &srv(None));
        assert_eq!(read("/#/srv/_Redis._tcp.prod./4143").unwrap().namer(), &srv(Some(4143)));
        let left = read("/#/srv/_redis._tcp.prod/a").unwrap();
        assert_eq!(
            (left.namer(), left.path().as_str(), left.residual()),
            (&srv(None), "/#/srv/_redis._tcp.prod", "/a")
        );
        assert_eq!(read("/#/srv/a/70000"), Err(BoundError::BadPort("70000".into())));
    }

    #[test]
    fn a_file_is_one_segment_that_does_not_climb() {
        assert_eq!(read("/#/fs/web").unwrap().namer(), &Namer::Fs { file: "web".into() });
        assert_eq!(read("/#/fs/web/a").unwrap().residual(), "/a");
        assert_eq!(read("/#/fs/.web"), Err(BoundError::BadFile(".web".into())));
        assert_eq!(read("/#/fs"), Err(BoundError::TooShort("/#/fs/<file>")));
    }

    #[test]
    fn what_is_left_over_is_kept_apart() {
        let bound = read("/#/dns/h/4143/a/b").unwrap();
        assert_eq!((bound.path().as_str(), bound.residual()), ("/#/dns/h/4143", "/a/b"));
        assert_eq!(read("/#/dns/h/4143").unwrap().residual(), "");
    }

    #[test]
    fn a_namer_of_another_version_is_refused_by_its_name() {
        let told = read("/#/k8s/prod/http/web").unwrap_err().to_string();
        assert_eq!(told, "'/#/k8s' is not a namer this version has; known: /$/inet, /$/unix, /#/dns, /#/srv, /#/fs");
    }

    #[test]
    fn bad_hosts_and_ports_are_told_apart() {
        assert_eq!(read("/#/dns/h/0"), Err(BoundError::BadPort("0".into())));
        assert_eq!(read("/#/dns/h/+80"), Err(BoundError::BadPort("+80".into())));
        assert_eq!(read("/#/dns/a..b/80"), Err(BoundError::BadHost("a..b".into())));
        assert_eq!(read("/#/dns/10.0.0.1/80"), Err(BoundError::AddressForDns("10.0.0.1".parse().unwrap())));
        assert_eq!(read("/#/dns/h"), Err(BoundError::TooShort("/#/dns/<host>/<port>")));
    }
}
