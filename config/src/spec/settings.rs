//! The sections that are a few values each: `[admin]`, `[dns]` with its zones, `[fs]`, `[limits]`, `[log]`, `[runtime]`.
//! What is not said keeps its default; the defaults are with the types.

use std::path::PathBuf;
use std::time::Duration;

use super::report::{At, Report};
use super::section::{Field, Section, Wrong};
use super::{keys, value};
use crate::config::{Admin, Dns, Fs, Log, LogFormat, LogLevel, Runtime, Zone};
use crate::limits::{Limits, Row};
use crate::listen::{TcpListen, UnixListen};
use crate::print::wait;

/// What `[admin]` says.
#[derive(Default)]
pub(crate) struct AdminSpec {
    pub(crate) listen: Option<At<TcpListen>>,
    pub(crate) socket: Option<At<PathBuf>>,
    pub(crate) expose: bool,
    mode: Option<At<u32>>,
    owner: Option<At<String>>,
    group: Option<At<String>>,
}

pub(super) fn admin<'a>(file: &Section<'a>, report: &mut Report) -> AdminSpec {
    let Some(admin) = file.table("admin", keys::ADMIN, report) else {
        return AdminSpec::default();
    };
    let belongs = [("expose", "listen"), ("mode", "socket"), ("owner", "socket"), ("group", "socket")];
    for (key, door) in belongs.into_iter().filter(|(key, door)| admin.has(key) && !admin.has(door)) {
        let message = format!("`{key}` has no meaning without `{door}`");
        report.problem(admin.place_of(key), message, format!("add `{door}`, or leave it out"));
    }
    AdminSpec {
        listen: admin.read("listen", report, value::tcp_listen),
        socket: admin.read("socket", report, value::socket_path),
        expose: admin.read("expose", report, value::boolean).is_some_and(|at| at.value),
        mode: admin.read("mode", report, value::mode),
        owner: admin.read("owner", report, value::account),
        group: admin.read("group", report, value::account),
    }
}

impl AdminSpec {
    pub(super) fn mean(self) -> Admin {
        let (mode, owner, group) = (self.mode, self.owner, self.group);
        let socket = self.socket.map(|path| UnixListen {
            path: path.value,
            mode: mode.map_or(UnixListen::MODE, |mode| mode.value),
            owner: owner.map(|owner| owner.value),
            group: group.map(|group| group.value),
        });
        Admin { listen: self.listen.map(|listen| listen.value), socket, expose: self.expose }
    }
}

pub(super) fn dns<'a>(file: &Section<'a>, report: &mut Report) -> Dns {
    let mut dns = Dns::default();
    let Some(section) = file.table("dns", keys::DNS, report) else {
        return dns;
    };
    let servers = section.list("servers", report, value::server);
    dns.servers = servers.into_iter().map(|server| server.value).collect();
    set(&section, "min_ttl", &mut dns.min_ttl, report, value::wait_or_zero);
    set(&section, "max_ttl", &mut dns.max_ttl, report, value::wait);
    set(&section, "negative_ttl", &mut dns.negative_ttl, report, value::wait);
    set(&section, "timeout", &mut dns.timeout, report, value::wait);
    dns.zones = zones(&section, report);
    if dns.min_ttl > dns.max_ttl {
        let key = if section.has("max_ttl") { "max_ttl" } else { "min_ttl" };
        let message = format!("`min_ttl` ({}) is longer than `max_ttl` ({})", wait(dns.min_ttl), wait(dns.max_ttl));
        report.problem(section.place_of(key), message, "make `max_ttl` the longer one");
    }
    dns
}

fn zones<'a>(dns: &Section<'a>, report: &mut Report) -> Vec<Zone> {
    let mut zones: Vec<Zone> = Vec::new();
    for section in dns.tables("zone", keys::ZONE, report) {
        let name = section.need("name", "name = \"consul\"", report, value::zone);
        let servers = section.need_list("servers", "servers = [\"127.0.0.1:8600\"]", report, value::server);
        let Some(name) = name else { continue };
        if zones.iter().any(|zone| zone.name == name.value) {
            let help = "put all its servers into one entry";
            report.problem(name.at, format!("the zone `{}` stands here a second time", name.value), help);
        }
        zones.push(Zone { name: name.value, servers: servers.into_iter().map(|server| server.value).collect() });
    }
    zones
}

pub(super) fn fs<'a>(file: &Section<'a>, report: &mut Report) -> Fs {
    let mut fs = Fs::default();
    let Some(section) = file.table("fs", keys::FS, report) else {
        return fs;
    };
    set(&section, "folder", &mut fs.folder, report, value::path);
    fs
}

/// Overwrites a default with what the file says, if it says anything.
fn set<'a, T>(
    section: &Section<'a>,
    key: &'static str,
    into: &mut T,
    report: &mut Report,
    parse: impl FnOnce(&Field<'a>) -> Result<T, Wrong>,
) {
    if let Some(at) = section.read(key, report, parse) {
        *into = at.value;
    }
}

/// What `[limits]` says, and where it says those that are checked against each other.
#[derive(Default)]
pub(crate) struct LimitsSpec {
    pub(crate) limits: Limits,
    /// None without a section.
    pub(crate) places: Option<LimitPlaces>,
}

/// Where limits stand that are compared; for one that is not in the file, the other or the section.
pub(crate) struct LimitPlaces {
    pub(crate) answer: usize,
    pub(crate) open: usize,
    pub(crate) tunnel_idle: usize,
    pub(crate) handshakes: usize,
    pub(crate) tunnels: usize,
}

pub(super) fn limits<'a>(file: &Section<'a>, report: &mut Report) -> LimitsSpec {
    let mut limits = Limits::default();
    let Some(section) = file.table("limits", keys::LIMITS, report) else {
        return LimitsSpec::default();
    };
    for (key, row, _) in limits.rows() {
        limit(&section, key, row, report);
    }
    let places = LimitPlaces {
        answer: first_place(&section, &["answer", "connect"]),
        open: first_place(&section, &["open", "answer"]),
        tunnel_idle: first_place(&section, &["tunnel_idle_dialer", "tunnel_idle_acceptor"]),
        handshakes: first_place(&section, &["handshakes_per_source", "handshakes"]),
        tunnels: first_place(&section, &["tunnels_per_peer", "tunnels"]),
    };
    LimitsSpec { limits, places: Some(places) }
}

/// The place of the first key that is there, or else of the section.
fn first_place(section: &Section<'_>, keys: &[&str]) -> usize {
    let key = keys.iter().find(|key| section.has(key));
    key.map_or(section.at, |key| section.place_of(key))
}

fn limit(section: &Section<'_>, key: &'static str, row: Row<'_>, report: &mut Report) {
    match row {
        Row::Wait(into) => set::<Duration>(section, key, into, report, value::wait),
        Row::MayBeOff(into) => set(section, key, into, report, value::wait_or_off),
        Row::Auto(into) => set(section, key, into, report, value::count_or_auto),
        Row::Count(into) => set(section, key, into, report, value::count),
        Row::MayBeZero(into) => set(section, key, into, report, value::count_or_zero),
        Row::Bytes(into) => set(section, key, into, report, value::bytes),
        Row::Keepalive(into) => set(section, key, into, report, value::keepalive),
        Row::Probes(into) => set(section, key, into, report, value::probes),
        Row::Unacknowledged(into) => set(section, key, into, report, value::unacknowledged),
    }
}

pub(super) fn log<'a>(file: &Section<'a>, report: &mut Report) -> Log {
    let mut log = Log::default();
    let Some(section) = file.table("log", keys::LOG, report) else {
        return log;
    };
    set(&section, "format", &mut log.format, report, |f| value::choice(f, &LogFormat::WORDS));
    set(&section, "level", &mut log.level, report, |f| value::choice(f, &LogLevel::WORDS));
    log
}

pub(super) fn runtime<'a>(file: &Section<'a>, report: &mut Report) -> Runtime {
    let mut runtime = Runtime::default();
    let Some(section) = file.table("runtime", keys::RUNTIME, report) else {
        return runtime;
    };
    set(&section, "threads", &mut runtime.threads, report, value::threads);
    runtime
}
