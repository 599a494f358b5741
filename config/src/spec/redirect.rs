//! `[netfilter]` and `[outbound.redirect]`: what the file says of the door for captured connections, and of which
//! connections the rules bring there. Whether they fit together is checked elsewhere.

use std::time::Duration;

use super::report::{At, Report};
use super::section::Section;
use super::{keys, matches, value};
use crate::listen::TcpListen;
use crate::net::{Net, Ports};
use crate::redirect::{Netfilter, Origin, Redirect, RedirectMode, Selector, Unmatched};

/// What `[netfilter]` says, and where it says what is checked against other parts.
#[derive(Default)]
pub(crate) struct NetfilterSpec {
    pub(crate) netfilter: Netfilter,
    pub(crate) mark: Option<At<Option<u32>>>,
    pub(crate) route_mark: Option<At<u32>>,
}

pub(super) fn netfilter<'a>(file: &Section<'a>, report: &mut Report) -> NetfilterSpec {
    let mut netfilter = Netfilter::default();
    let Some(section) = file.table("netfilter", keys::NETFILTER, report) else {
        return NetfilterSpec::default();
    };
    let mark = section.read("mark", report, matches::mark_or_off);
    let route_mark = section.read("route_mark", report, matches::mark);
    netfilter.mark = mark.as_ref().map_or(netfilter.mark, |mark| mark.value);
    netfilter.route_mark = route_mark.as_ref().map_or(netfilter.route_mark, |mark| mark.value);
    if let Some(table) = section.read("route_table", report, matches::route_table) {
        netfilter.route_table = table.value;
    }
    netfilter.user = section.read("user", report, value::account).map(|user| user.value);
    NetfilterSpec { netfilter, mark, route_mark }
}

/// What `[outbound.redirect]` says.
pub(crate) struct RedirectSpec {
    pub(crate) at: usize,
    pub(crate) listen: Vec<At<TcpListen>>,
    pub(crate) mode: RedirectMode,
    pub(crate) unmatched: Option<At<Unmatched>>,
    remember: Option<At<Duration>>,
    pub(crate) certificate: Option<At<String>>,
    pub(crate) expose: bool,
    pub(crate) include: Vec<SelectorSpec>,
    pub(crate) exclude: Vec<SelectorSpec>,
}

/// What one `[[outbound.redirect.include]]` or `exclude` says.
pub(crate) struct SelectorSpec {
    pub(crate) at: usize,
    /// The header it is known by.
    pub(crate) name: &'static str,
    pub(crate) from: Origin,
    pub(crate) nets: Vec<At<Net>>,
    pub(crate) ports: Vec<At<Ports>>,
    pub(crate) users: Vec<At<String>>,
    pub(crate) groups: Vec<At<String>>,
    pub(crate) cgroups: Vec<At<String>>,
    pub(crate) interfaces: Vec<At<String>>,
    /// A key of it could not be read, so what it says in all is not known.
    pub(crate) is_whole: bool,
}

pub(super) fn read<'a>(outbound: &Section<'a>, report: &mut Report) -> Option<RedirectSpec> {
    let redirect = outbound.table("redirect", keys::REDIRECT, report)?;
    let include = redirect.tables("include", keys::INCLUDE, report);
    let exclude = redirect.tables("exclude", keys::EXCLUDE, report);
    let example = "listen = [\"127.0.0.1:4140\", \"[::1]:4140\"]";
    Some(RedirectSpec {
        at: redirect.at,
        listen: redirect.need_list("listen", example, report, value::tcp_listen),
        mode: redirect
            .read("mode", report, |f| value::choice(f, &RedirectMode::WORDS))
            .map_or(RedirectMode::default(), |mode| mode.value),
        unmatched: redirect.read("unmatched", report, |f| value::choice(f, &Unmatched::WORDS)),
        remember: redirect.read("remember", report, value::wait_or_zero),
        certificate: redirect.read("certificate", report, value::id),
        expose: redirect.read("expose", report, value::boolean).is_some_and(|at| at.value),
        include: include.iter().map(|section| selector(section, report)).collect(),
        exclude: exclude.iter().map(|section| selector(section, report)).collect(),
    })
}

fn selector(section: &Section<'_>, report: &mut Report) -> SelectorSpec {
    let before = report.problems_so_far();
    for key in ["net", "port", "user", "group", "cgroup", "interface"] {
        section.refuse_empty(key, "leave it out to mean all", report);
    }
    let from = section.read("from", report, |f| value::choice(f, &Origin::WORDS));
    let mut spec = SelectorSpec {
        at: section.at,
        name: section.name,
        from: from.map_or(Origin::default(), |from| from.value),
        nets: section.list("net", report, matches::net),
        ports: section.list("port", report, matches::ports),
        users: section.list("user", report, value::account),
        groups: section.list("group", report, value::account),
        cgroups: section.list("cgroup", report, matches::cgroup),
        interfaces: section.list("interface", report, matches::interface),
        is_whole: true,
    };
    spec.is_whole = report.problems_so_far() == before;
    spec
}

impl RedirectSpec {
    pub(super) fn mean(self) -> Redirect {
        Redirect {
            listen: values(self.listen),
            mode: self.mode,
            unmatched: self.unmatched.map_or(Unmatched::default(), |unmatched| unmatched.value),
            remember: self.remember.map_or(Redirect::REMEMBER, |wait| wait.value),
            certificate: self.certificate.map(|id| id.value),
            expose: self.expose,
            include: self.include.into_iter().map(SelectorSpec::mean).collect(),
            exclude: self.exclude.into_iter().map(SelectorSpec::mean).collect(),
        }
    }
}

impl SelectorSpec {
    fn mean(self) -> Selector {
        Selector {
            from: self.from,
            nets: values(self.nets),
            ports: values(self.ports),
            users: values(self.users),
            groups: values(self.groups),
            cgroups: values(self.cgroups),
            interfaces: values(self.interfaces),
        }
    }
}

fn values<T>(list: Vec<At<T>>) -> Vec<T> {
    list.into_iter().map(|at| at.value).collect()
}
