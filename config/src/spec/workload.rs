//! `[[outbound.workload]]`: what the file says of the connections of single local processes. Which entry can match is
//! checked elsewhere.

use adit_protocol::Pattern;

use super::report::{At, Report};
use super::section::Section;
use super::{keys, matches, value};
use crate::workload::{Glob, Then, Who, WorkloadRule, Workloads};

/// What one `[[outbound.workload]]` says.
pub(crate) struct WorkloadSpec {
    pub(crate) at: usize,
    pub(crate) unit: Option<At<Glob>>,
    pub(crate) user: Option<At<String>>,
    pub(crate) cgroup: Option<At<Glob>>,
    pub(crate) unknown: Option<At<()>>,
    pub(crate) names: Vec<At<Pattern>>,
    pub(crate) certificate: Option<At<String>>,
    deny: Option<At<()>>,
    allow: Option<At<()>>,
    /// Which of `certificate`, `deny` and `allow` it has, whether or not they could be read.
    pub(crate) thens: Vec<&'static str>,
    /// Every key of it could be read.
    pub(crate) is_whole: bool,
}

pub(super) fn read<'a>(outbound: &Section<'a>, report: &mut Report) -> Vec<WorkloadSpec> {
    let workloads = outbound.tables("workload", keys::WORKLOAD, report);
    workloads.iter().map(|section| workload(section, report)).collect()
}

fn workload(section: &Section<'_>, report: &mut Report) -> WorkloadSpec {
    let before = report.problems_so_far();
    section.refuse_empty("name", "leave it out to mean every name", report);
    let mut spec = WorkloadSpec {
        at: section.at,
        unit: section.read("unit", report, matches::unit),
        user: section.read("user", report, value::account),
        cgroup: section.read("cgroup", report, matches::cgroups),
        unknown: section.read("unknown", report, matches::yes),
        names: section.list("name", report, value::pattern),
        certificate: section.read("certificate", report, value::id),
        deny: section.read("deny", report, matches::yes),
        allow: section.read("allow", report, matches::yes),
        thens: ["certificate", "deny", "allow"].into_iter().filter(|key| section.has(key)).collect(),
        is_whole: true,
    };
    spec.is_whole = report.problems_so_far() == before;
    spec
}

/// What they mean in all.
pub(super) fn mean(workloads: Vec<WorkloadSpec>) -> Option<Workloads> {
    Some(Workloads { rules: workloads.into_iter().map(|spec| spec.rule()).collect::<Option<_>>()? })
}

impl WorkloadSpec {
    /// What the entry means, if it says one thing of one kind of connections.
    pub(crate) fn rule(&self) -> Option<WorkloadRule> {
        Some(WorkloadRule {
            who: self.who()?,
            names: self.names.iter().map(|name| name.value.clone()).collect(),
            then: match (&self.certificate, &self.deny, &self.allow) {
                (Some(id), None, None) => Then::Certificate(id.value.clone()),
                (None, Some(_), None) => Then::Deny,
                (None, None, Some(_)) => Then::Allow,
                _ => return None,
            },
        })
    }

    fn who(&self) -> Option<Who> {
        let conditions = (value_of(&self.unit), value_of(&self.user), value_of(&self.cgroup));
        match (&self.unknown, conditions) {
            (None, (unit, user, cgroup)) => Some(Who::Process { unit, user, cgroup }),
            (Some(_), (None, None, None)) => Some(Who::Unknown),
            (Some(_), _) => None,
        }
    }
}

fn value_of<T: Clone>(at: &Option<At<T>>) -> Option<T> {
    at.as_ref().map(|at| at.value.clone())
}
