//! `[outbound]`, `[[outbound.peer]]` and `[[outbound.listener]]`: what the file says of the dialer's
//! side, but for captured connections, which have files of their own. Whether a rule can match, and a door be opened, is checked elsewhere.

use adit_protocol::{Name, Pattern, Template};

use super::capture::{self, CaptureSpec};
use super::redirect::{self, RedirectSpec};
use super::report::{At, Report};
use super::section::{Field, Section, Wrong};
use super::workload::{self, WorkloadSpec};
use super::{keys, value};
use crate::config::{Listener, Outbound};
use crate::dtab::Dtab;
use crate::listen::{ListenAddr, UnixListen};
use crate::peers::{BalancerKind, PeerMatch, PeerRule, PeerVerify, Peers, Settings, Unit};

/// What `[outbound]` says.
pub(crate) struct OutboundSpec {
    pub(crate) dtab: Dtab,
    find_workloads: Option<bool>,
    pub(crate) peers: Vec<PeerSpec>,
    pub(crate) listeners: Vec<ListenerSpec>,
    pub(crate) redirect: Option<RedirectSpec>,
    pub(crate) captures: Vec<CaptureSpec>,
    pub(crate) workloads: Vec<WorkloadSpec>,
}

/// What one `[[outbound.peer]]` says.
pub(crate) struct PeerSpec {
    pub(crate) at: usize,
    pub(crate) says: Says,
    pub(crate) name: Option<At<Pattern>>,
    pub(crate) bound: Option<At<Pattern>>,
    pub(crate) identity: Option<At<Template>>,
    /// `verify = "none"`.
    pub(crate) unverified: Option<At<()>>,
    pub(crate) sni: Option<At<Template>>,
    pub(crate) send_as: Option<At<Template>>,
    pub(crate) settings: Settings,
}

/// Which keys an entry has, whether or not their values could be read.
pub(crate) struct Says {
    pub(crate) name: bool,
    pub(crate) bound: bool,
    pub(crate) identity: bool,
    pub(crate) verify: bool,
    /// `sni` or `as`.
    pub(crate) told: bool,
    /// Which settings, in the order of the reference, each with its place.
    pub(crate) settings: Vec<At<&'static str>>,
}

/// What one `[[outbound.listener]]` says.
pub(crate) struct ListenerSpec {
    pub(crate) listen: Option<At<ListenAddr>>,
    pub(crate) to: Option<At<Name>>,
    pub(crate) certificate: Option<At<String>>,
    pub(crate) expose: bool,
}

pub(super) fn read<'a>(file: &Section<'a>, report: &mut Report) -> Option<OutboundSpec> {
    let outbound = file.table("outbound", keys::OUTBOUND, report)?;
    let peers = outbound.tables("peer", keys::PEER, report);
    let listeners = outbound.tables("listener", keys::LISTENER, report);
    Some(OutboundSpec {
        dtab: dtab(&outbound, report),
        find_workloads: outbound.read("find_workloads", report, value::boolean).map(|at| at.value),
        peers: peers.iter().map(|section| peer(section, report)).collect(),
        listeners: listeners.iter().map(|section| listener(section, report)).collect(),
        redirect: redirect::read(&outbound, report),
        captures: capture::read(&outbound, report),
        workloads: workload::read(&outbound, report),
    })
}

/// A delegation table. All its faults are reported, each at its place in the string.
pub(super) fn dtab(section: &Section<'_>, report: &mut Report) -> Dtab {
    let Some(field) = section.field("dtab") else {
        return Dtab::empty();
    };
    match value::text(&field, "write the rules as a string, such as \"/svc => /$/inet/10.0.0.2/4143\"").map(Dtab::parse)
    {
        Ok(Ok(dtab)) => {
            return match field.start() {
                Some(start) => dtab.standing_in(field.file(), start),
                None => dtab,
            };
        }
        Ok(Err(errors)) => {
            for error in errors {
                report.problem(field.place(Some(error.place.offset)), error.message, error.help);
            }
        }
        Err(wrong) => report.problem(field.place(None), wrong.message, wrong.help),
    }
    Dtab::empty()
}

fn peer(section: &Section<'_>, report: &mut Report) -> PeerSpec {
    PeerSpec {
        at: section.at,
        says: Says {
            name: section.has("name"),
            bound: section.has("bound"),
            identity: section.has("identity"),
            verify: section.has("verify"),
            told: section.has("sni") || section.has("as"),
            settings: SETTINGS
                .into_iter()
                .filter(|key| section.has(key))
                .map(|value| At { at: section.place_of(value), value })
                .collect(),
        },
        name: section.read("name", report, value::pattern),
        bound: section.read("bound", report, value::pattern),
        identity: section.read("identity", report, value::template),
        unverified: section.read("verify", report, none),
        sni: section.read("sni", report, value::template),
        send_as: section.read("as", report, value::template),
        settings: peer_settings(section, report),
    }
}

/// The keys of an entry that are settings, each taken from the first entry that has it.
const SETTINGS: [&str; 7] = ["connect_timeout", "idle", "tunnel_idle", "pool", "warm", "balancer", "on_leave"];

fn peer_settings(section: &Section<'_>, report: &mut Report) -> Settings {
    Settings {
        connect_timeout: section.read("connect_timeout", report, value::wait).map(|at| at.value),
        idle: section.read("idle", report, value::wait_or_off).map(|at| at.value),
        tunnel_idle: section.read("tunnel_idle", report, value::wait).map(|at| at.value),
        pool: section.read("pool", report, value::count_or_zero).map(|at| at.value),
        warm: section.read("warm", report, value::count_or_zero).map(|at| at.value),
        balancer: section.read("balancer", report, |f| value::choice(f, &BalancerKind::WORDS)).map(|at| at.value),
        on_leave: section.read("on_leave", report, value::on_leave).map(|at| at.value),
    }
}

/// The one word `verify` may say; to be verified is what a peer is without it.
fn none(field: &Field<'_>) -> Result<(), Wrong> {
    let help = "write \"none\", or leave it out to have `identity` verified";
    value::choice(field, &[("none", ())]).map_err(|wrong| Wrong { help: help.to_owned(), ..wrong })
}

fn listener(section: &Section<'_>, report: &mut Report) -> ListenerSpec {
    let listen = section.need("listen", "listen = \"127.0.0.1:16379\"", report, listen_addr);
    ListenerSpec {
        listen: listen.map(|listen| with_owner(section, listen, report)),
        to: section.need("to", "to = \"/svc/redis\"", report, value::name),
        certificate: section.read("certificate", report, value::id),
        expose: section.read("expose", report, value::boolean).is_some_and(|at| at.value),
    }
}

fn listen_addr(field: &Field<'_>) -> Result<ListenAddr, Wrong> {
    if let Some(name) = value::given(field)? {
        return Ok(ListenAddr::Given(name));
    }
    match value::unix(field)? {
        Some(path) => Ok(ListenAddr::Unix(UnixListen::at(path))),
        None => value::address(field)
            .map(ListenAddr::Tcp)
            .map_err(|wrong| Wrong { help: format!("{}, or \"unix:/run/adit/redis.sock\"", wrong.help), ..wrong }),
    }
}

/// Who may connect: said for a socket file, and only there has it a meaning.
fn with_owner(section: &Section<'_>, listen: At<ListenAddr>, report: &mut Report) -> At<ListenAddr> {
    let mode = section.read("mode", report, value::mode);
    let owner = section.read("owner", report, value::account);
    let group = section.read("group", report, value::account);
    let value = match listen.value {
        ListenAddr::Tcp(address) => {
            refuse(section, &["mode", "owner", "group"], "a TCP port", report);
            ListenAddr::Tcp(address)
        }
        ListenAddr::Given(name) => {
            refuse(section, &["mode", "owner", "group"], "a socket that systemd makes", report);
            ListenAddr::Given(name)
        }
        ListenAddr::Unix(unix) => {
            refuse(section, &["expose"], "a socket file", report);
            ListenAddr::Unix(UnixListen {
                mode: mode.map_or(unix.mode, |mode| mode.value),
                owner: owner.map(|owner| owner.value),
                group: group.map(|group| group.value),
                path: unix.path,
            })
        }
    };
    At { at: listen.at, value }
}

fn refuse(section: &Section<'_>, keys: &[&str], what: &str, report: &mut Report) {
    for key in keys.iter().filter(|key| section.has(key)) {
        let message = format!("`{key}` has no meaning for {what}");
        report.problem(section.place_of(key), message, "leave it out");
    }
}

impl OutboundSpec {
    /// The names that doors ask for, as far as the file writes them out.
    pub(crate) fn asks(&self) -> Vec<At<Name>> {
        let listeners = self.listeners.iter().filter_map(|listener| listener.to.clone());
        let captures = self.captures.iter().filter_map(|capture| {
            let At { at, value } = capture.to.as_ref().filter(|to| to.value.is_literal())?;
            Some(At { at: *at, value: Name::parse(value.as_str()).ok()? })
        });
        listeners.chain(captures).collect()
    }

    pub(super) fn mean(self) -> Option<Outbound> {
        Some(Outbound {
            dtab: self.dtab,
            peers: Peers { rules: self.peers.into_iter().map(|peer| peer.rule()).collect::<Option<_>>()? },
            listeners: self.listeners.into_iter().map(ListenerSpec::mean).collect::<Option<_>>()?,
            redirect: self.redirect.map(RedirectSpec::mean),
            captures: capture::mean(self.captures)?,
            workloads: workload::mean(self.workloads)?,
            find_workloads: self.find_workloads.unwrap_or(Outbound::default().find_workloads),
        })
    }
}

impl Says {
    /// Whether it has anything of what is taken as one.
    pub(crate) fn has_unit(&self) -> bool {
        self.identity || self.verify || self.told
    }
}

impl PeerSpec {
    /// What the entry means, if it says which names it is about, and who must answer where it says anything of that.
    pub(crate) fn rule(&self) -> Option<PeerRule> {
        let value = |template: &Option<At<Template>>| template.as_ref().map(|at| at.value.clone());
        let matches = match (&self.name, &self.bound) {
            (Some(name), None) => PeerMatch::Logical(name.value.clone()),
            (None, Some(bound)) => PeerMatch::Bound(bound.value.clone()),
            (Some(_), Some(_)) | (None, None) => return None,
        };
        let verify = match (value(&self.identity), &self.unverified) {
            (Some(identity), None) => Some(PeerVerify::Identity(identity)),
            (None, Some(_)) => Some(PeerVerify::None),
            (Some(_), Some(_)) => return None,
            (None, None) if self.says.has_unit() => return None,
            (None, None) => None,
        };
        let unit = verify.map(|verify| Unit { verify, sni: value(&self.sni), send_as: value(&self.send_as) });
        Some(PeerRule { matches, unit, settings: self.settings })
    }
}

impl ListenerSpec {
    fn mean(self) -> Option<Listener> {
        Some(Listener {
            listen: self.listen?.value,
            to: self.to?.value,
            certificate: self.certificate.map(|id| id.value),
            expose: self.expose,
        })
    }
}
