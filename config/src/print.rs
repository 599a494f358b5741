//! A configuration as a file: every section it has, every key of them, every default spelled out. Pure;
//! reading what is printed gives the same configuration. What has no default and is not set stands
//! there as a comment, so that a reader sees all there is to set.

use std::fmt::{Display, Write as _};
use std::path::Path;
use std::time::Duration;

use adit_protocol::Template;

use crate::config::{Admin, Config, Dns, Fs, Inbound, Listener, Log, Outbound, Runtime};
use crate::dtab::Dtab;
use crate::limits::{Limits, Row};
use crate::listen::{ListenAddr, UnixListen};
use crate::peers::{BalancerKind, OnLeave, PeerMatch, PeerRule, PeerVerify, Settings, Unit, names_dns};
use crate::service::{CaptureService, Service, Target};
use crate::spec::DEFAULT_ID;
use crate::tls::{Authorities, Certificate, Tls};

mod capture;

pub(crate) use capture::{mark, ports, strict};

impl Config {
    /// The whole of it as a file that [`Config::parse`] reads back, every default spelled out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut page = Page(String::new());
        tls(&self.tls, &mut page);
        inbound(self.inbound.as_ref(), &self.limits, &mut page);
        outbound(self.outbound.as_ref(), &self.limits, &mut page);
        capture::netfilter(&self.netfilter, &mut page);
        admin(&self.admin, &mut page);
        dns(&self.dns, &mut page);
        fs(&self.fs, &mut page);
        limits(&self.limits, &mut page);
        log(self.log, &mut page);
        runtime(self.runtime, &mut page);
        page.0
    }
}

/// The file so far. Writing to a `String` cannot fail.
struct Page(String);

impl Page {
    fn section(&mut self, header: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.0, "{gap}{header}");
    }

    /// A section that is not there, and what that means.
    fn no_section(&mut self, header: &str, note: &str) {
        self.section(&format!("# {header}  # {note}"));
    }

    fn key(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn noted(&mut self, key: &str, value: impl Display, note: &str) {
        let _ = writeln!(self.0, "{key} = {value}  # {note}");
    }

    /// A key that has no default: how it would be written, and what holds without it.
    fn unset(&mut self, key: &str, example: impl Display, note: &str) {
        let _ = writeln!(self.0, "# {key} = {example}  # {note}");
    }

    /// A string that may be missing.
    fn maybe(&mut self, key: &str, value: Option<&str>, example: &str, note: &str) {
        match value {
            Some(value) => self.key(key, quote(value)),
            None => self.unset(key, quote(example), note),
        }
    }
}

fn tls(tls: &Tls, page: &mut Page) {
    page.section("[tls]");
    let host = tls.certificates.first().filter(|certificate| certificate.id == DEFAULT_ID);
    match &tls.authorities {
        Authorities::File(ca) => {
            page.key("ca", path(ca));
            host.iter().for_each(|host| files(host, page));
            page.unset("spiffe", "\"unix:/run/spire/sockets/agent.sock\"", "credentials come from files");
            page.unset("spiffe_wait", "\"30s\"", "of `spiffe`");
        }
        Authorities::Spiffe(spiffe) => {
            page.key("spiffe", quote(format!("unix:{}", spiffe.socket.display())));
            page.key("spiffe_wait", wait(spiffe.wait));
            for (key, file) in [("ca", "ca.pem"), ("cert", "host.pem"), ("key", "host.key")] {
                page.unset(key, format!("\"/etc/adit/tls/{file}\""), "the Workload API gives it");
            }
        }
    }
    page.key("crl", list(tls.crl.iter().map(|file| path(file))));
    for certificate in tls.certificates.iter().skip(usize::from(host.is_some())) {
        page.section("[[tls.certificate]]");
        page.key("id", quote(&certificate.id));
        files(certificate, page);
    }
}

fn files(certificate: &Certificate, page: &mut Page) {
    page.key("cert", path(&certificate.cert));
    page.key("key", path(&certificate.key));
}

fn inbound(inbound: Option<&Inbound>, limits: &Limits, page: &mut Page) {
    let Some(inbound) = inbound else {
        return page.no_section("[inbound]", "this agent accepts no tunnels");
    };
    page.section("[inbound]");
    page.key("listen", list(inbound.listen.iter().map(quote)));
    page.key("dtab", table(&inbound.dtab));
    page.key("conceal", inbound.conceal());
    page.key("strict", capture::strict(&inbound.strict));
    inbound.policy.services.iter().for_each(|one| service(one, limits, page));
    inbound.policy.captures.iter().for_each(|one| capture_service(one, limits, page));
}

fn service(service: &Service, limits: &Limits, page: &mut Page) {
    page.section("[[inbound.service]]");
    page.key("name", list(service.names.iter().map(quote)));
    page.key("to", quote(&service.to));
    page.key("allow", list(service.allow.iter().map(quote)));
    page.maybe("certificate", service.certificate.as_deref(), "redis", "any certificate of this agent");
    page.key("source", quote(service.source.as_str()));
    if let Target::Name(_) = service.to {
        page.key("reach", list(service.reach.iter().map(quote)));
    }
    bounds(service.max_streams, service.connect_timeout, limits, page);
}

fn capture_service(service: &CaptureService, limits: &Limits, page: &mut Page) {
    page.section("[[inbound.capture]]");
    page.key("ports", capture::ports(&service.ports));
    page.key("allow", list(service.allow.iter().map(quote)));
    page.maybe("certificate", service.certificate.as_deref(), "redis", "any certificate of this agent");
    page.key("source", quote(service.source.as_str()));
    bounds(service.max_streams, service.connect_timeout, limits, page);
}

fn bounds(max_streams: Option<u32>, connect_timeout: Option<Duration>, limits: &Limits, page: &mut Page) {
    match max_streams {
        Some(streams) => page.key("max_streams", streams),
        None => page.unset("max_streams", 100, "no limit of its own"),
    }
    match connect_timeout {
        Some(timeout) => page.key("connect_timeout", wait(timeout)),
        None => page.unset("connect_timeout", wait(limits.connect), "as [limits] `connect` says"),
    }
}

fn outbound(outbound: Option<&Outbound>, limits: &Limits, page: &mut Page) {
    let Some(outbound) = outbound else {
        return page.no_section("[outbound]", "this agent dials no tunnels");
    };
    page.section("[outbound]");
    page.key("dtab", table(&outbound.dtab));
    page.noted("find_workloads", outbound.find_workloads, "look for the process of every connection");
    outbound.peers.rules.iter().for_each(|rule| peer(rule, limits, page));
    outbound.listeners.iter().for_each(|one| listener(one, page));
    capture::redirect(outbound.redirect.as_ref(), page);
    outbound.captures.rules.iter().for_each(|rule| capture::capture(rule, page));
    outbound.workloads.rules.iter().for_each(|rule| capture::workload(rule, page));
}

fn peer(rule: &PeerRule, limits: &Limits, page: &mut Page) {
    page.section("[[outbound.peer]]");
    match &rule.matches {
        PeerMatch::Logical(name) => page.key("name", quote(name)),
        PeerMatch::Bound(bound) => page.key("bound", quote(bound)),
    }
    match &rule.unit {
        Some(one) => unit(one, page),
        None => page.unset("identity", quote("redis.prod.internal"), "as another entry says"),
    }
    settings(&rule.settings, limits, page);
}

fn unit(unit: &Unit, page: &mut Page) {
    match &unit.verify {
        PeerVerify::Identity(identity) => page.key("identity", quote(identity)),
        PeerVerify::None => page.key("verify", quote("none")),
    }
    // A DNS name in `identity` is the SNI, and the file may not name another.
    if !matches!(&unit.verify, PeerVerify::Identity(identity) if names_dns(identity)) {
        page.maybe("sni", unit.sni.as_ref().map(Template::as_str), "redis.prod.internal", "no SNI");
    }
    page.maybe("as", unit.send_as.as_ref().map(Template::as_str), "/svc/redis", "the logical name itself");
}

fn settings(settings: &Settings, limits: &Limits, page: &mut Page) {
    let off = |limit: Option<Duration>| limit.map_or_else(|| quote("off"), wait);
    let leave = |leave: OnLeave| match leave {
        OnLeave::Keep => quote("keep"),
        OnLeave::After(limit) => wait(limit),
    };
    let per_peer = limits.tunnels_per_peer.map_or_else(|| "100".to_owned(), |count| count.to_string());
    let tunnel_idle = settings.tunnel_idle.map(wait);
    let rows = [
        ("connect_timeout", settings.connect_timeout.map(wait), wait(limits.handshake), "[limits] `handshake`"),
        ("idle", settings.idle.map(off), off(limits.idle), "[limits] `idle`"),
        ("tunnel_idle", tunnel_idle, wait(limits.tunnel_idle_dialer), "[limits] `tunnel_idle_dialer`"),
        ("pool", settings.pool.map(|count| count.to_string()), per_peer, "[limits] `tunnels_per_peer`"),
        ("warm", settings.warm.map(|count| count.to_string()), limits.warm.to_string(), "[limits] `warm`"),
    ];
    for (key, value, default, limit) in rows {
        match value {
            Some(value) => page.key(key, value),
            None => page.unset(key, default, &format!("as another entry or {limit} says")),
        }
    }
    page.maybe("balancer", settings.balancer.map(BalancerKind::as_str), "least", "as another entry says, or this");
    match settings.on_leave {
        Some(on_leave) => page.key("on_leave", leave(on_leave)),
        None => page.unset("on_leave", quote("keep"), "as another entry says, or this"),
    }
}

fn listener(listener: &Listener, page: &mut Page) {
    page.section("[[outbound.listener]]");
    match &listener.listen {
        ListenAddr::Tcp(address) => {
            page.key("listen", quote(address));
            page.key("expose", listener.expose);
        }
        ListenAddr::Given(_) => {
            page.key("listen", quote(&listener.listen));
            page.key("expose", listener.expose);
        }
        ListenAddr::Unix(unix) => {
            page.key("listen", quote(format!("unix:{}", unix.path.display())));
            access(unix, page);
        }
    }
    page.key("to", quote(&listener.to));
    page.maybe("certificate", listener.certificate.as_deref(), "web", "the first certificate of [tls]");
}

/// Who may connect to a socket file.
fn access(unix: &UnixListen, page: &mut Page) {
    page.key("mode", quote(format!("{:04o}", unix.mode)));
    page.maybe("owner", unix.owner.as_deref(), "adit", "the agent's own");
    page.maybe("group", unix.group.as_deref(), "adit", "the agent's own");
}

fn admin(admin: &Admin, page: &mut Page) {
    page.section("[admin]");
    match &admin.listen {
        Some(address) => {
            page.key("listen", quote(address));
            page.key("expose", admin.expose);
        }
        None => page.unset("listen", quote("127.0.0.1:9990"), "no TCP door"),
    }
    match &admin.socket {
        Some(unix) => {
            page.key("socket", path(&unix.path));
            access(unix, page);
        }
        None => page.unset("socket", quote("/run/adit/admin.sock"), "no unix door"),
    }
}

fn dns(dns: &Dns, page: &mut Page) {
    page.section("[dns]");
    page.noted("servers", list(dns.servers.iter().map(quote)), "none: those of /etc/resolv.conf");
    page.noted("min_ttl", wait(dns.min_ttl), "a shorter TTL counts as this");
    page.noted("max_ttl", wait(dns.max_ttl), "a longer TTL counts as this");
    page.noted("negative_ttl", wait(dns.negative_ttl), "how long \"no such name\" is believed, if the answer says not");
    page.noted("timeout", wait(dns.timeout), "one look-up, retries included");
    for zone in &dns.zones {
        page.section("[[dns.zone]]");
        page.key("name", quote(&zone.name));
        page.key("servers", list(zone.servers.iter().map(quote)));
    }
}

fn fs(fs: &Fs, page: &mut Page) {
    page.section("[fs]");
    page.noted("folder", path(&fs.folder), "the files of /#/fs/<file>");
}

fn limits(limits: &Limits, page: &mut Page) {
    page.section("[limits]");
    for (key, row, about) in limits.clone().rows() {
        page.noted(key, limit(&row), about);
    }
}

/// One limit, as the file writes it.
pub(crate) fn limit(row: &Row<'_>) -> String {
    let auto = |count: Option<usize>| count.map_or_else(|| quote("auto"), |count| count.to_string());
    match row {
        Row::Wait(duration) | Row::Keepalive(duration) => wait(**duration),
        Row::MayBeOff(duration) | Row::Unacknowledged(duration) => duration.map_or_else(|| quote("off"), wait),
        Row::Auto(count) => auto(**count),
        Row::Count(count) | Row::MayBeZero(count) => count.to_string(),
        Row::Bytes(bytes) => size(**bytes),
        Row::Probes(count) => count.to_string(),
    }
}

fn log(log: Log, page: &mut Page) {
    page.section("[log]");
    page.noted("format", quote(log.format.as_str()), "text or json");
    page.noted("level", quote(log.level.as_str()), "error, warn, info, debug or trace");
}

fn runtime(runtime: Runtime, page: &mut Page) {
    page.section("[runtime]");
    page.noted("threads", threads(runtime), "threads that carry streams");
}

/// `[runtime] threads`, as the file writes it.
pub(crate) fn threads(runtime: Runtime) -> String {
    runtime.threads.map_or_else(|| quote("auto"), |threads| threads.to_string())
}

/// A duration in the greatest unit that divides it. The file has nothing finer than a millisecond.
pub(crate) fn wait(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(24 * 60 * 60 * 1000, "d"), (60 * 60 * 1000, "h"), (60 * 1000, "m"), (1000, "s")];
    let unit = units.into_iter().find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "ms"));
    quote(format!("{}{name}", millis / unit))
}

/// A number of bytes in the greatest unit that divides it.
fn size(bytes: usize) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => quote(format!("{}{name}", bytes / unit)),
        None => bytes.to_string(),
    }
}

fn path(path: &Path) -> String {
    quote(path.display())
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// A table, a rule a line. No path of one holds a quotation mark or a backslash, so it stands as it is.
fn table(dtab: &Dtab) -> String {
    if dtab.is_empty() { quote("") } else { format!("\"\"\"\n{dtab}\n\"\"\"") }
}

/// A basic string (TOML 1.0, "String"): the quotation mark, the backslash and control characters escaped.
fn quote(text: impl Display) -> String {
    let mut quoted = String::from('"');
    for c in text.to_string().chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
