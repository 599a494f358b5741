//! `[[outbound.workload]]`: each entry says one thing of some connections, and some can reach it. An entry that is never
//! reached is a mistake about who is trusted, so it is refused.

use crate::spec::Spec;
use crate::spec::report::Report;
use crate::spec::workload::WorkloadSpec;
use crate::workload::{Glob, Who, WorkloadRule};

use super::shadows;

pub(super) fn check(spec: &Spec, report: &mut Report) {
    let Some(outbound) = &spec.outbound else {
        return;
    };
    for workload in &outbound.workloads {
        then(workload, report);
        unknown(workload, report);
    }
    shadowed(&outbound.workloads, report);
}

fn then(workload: &WorkloadSpec, report: &mut Report) {
    match workload.thens.as_slice() {
        [_] => {}
        [] => {
            let message = "this [[outbound.workload]] does not say what becomes of its connections";
            report.problem(workload.at, message, "add `certificate = \"web\"`, `deny = true` or `allow = true`");
        }
        [first, second, ..] => {
            let message = format!("this [[outbound.workload]] has both `{first}` and `{second}`");
            report.problem(workload.at, message, "keep one of them");
        }
    }
}

fn unknown(workload: &WorkloadSpec, report: &mut Report) {
    let conditions =
        [("unit", workload.unit.is_some()), ("user", workload.user.is_some()), ("cgroup", workload.cgroup.is_some())];
    let first = conditions.into_iter().find(|(_, is_there)| *is_there);
    if let Some((unknown, (key, _))) = workload.unknown.as_ref().zip(first) {
        let message = format!("`unknown` stands beside `{key}`, which nobody can tell of a process that is not found");
        report.problem(unknown.at, message, "make two entries");
    }
}

fn shadowed(workloads: &[WorkloadSpec], report: &mut Report) {
    let rules: Vec<_> = workloads.iter().map(|spec| spec.rule().filter(|_| spec.is_whole)).collect();
    for (index, later) in rules.iter().enumerate() {
        let Some(later) = later else { continue };
        let earlier =
            rules[..index].iter().position(|earlier| earlier.as_ref().is_some_and(|one| takes_all(one, later)));
        let Some(number) = earlier.map(|at| at + 1) else { continue };
        let (why, help) = match (&later.who, rules[number - 1].as_ref().is_some_and(|one| one.who.is_anybody())) {
            (Who::Unknown, false) => ("refuses what cannot be found", "put it before that one, or remove it"),
            _ => ("takes all its connections", "put the narrower one first, or remove it"),
        };
        let message = format!("this [[outbound.workload]] can never match: entry {number} {why}");
        report.problem(workloads[index].at, message, help);
    }
}

/// Whether no connection gets past the earlier rule that the later one is about.
fn takes_all(earlier: &WorkloadRule, later: &WorkloadRule) -> bool {
    let names = earlier.names.is_empty()
        || (!later.names.is_empty()
            && later.names.iter().all(|name| earlier.names.iter().any(|first| shadows::covers(first, name))));
    names && takes_who(&earlier.who, &later.who)
}

/// A rule with conditions refuses whatever cannot be found, so nothing of that gets past it.
fn takes_who(earlier: &Who, later: &Who) -> bool {
    match (earlier, later) {
        (Who::Process { .. } | Who::Unknown, Who::Unknown) => true,
        (Who::Unknown, Who::Process { .. }) => false,
        (Who::Process { unit, user, cgroup }, Who::Process { unit: its_unit, user: its_user, cgroup: its_cgroup }) => {
            takes(unit.as_ref(), its_unit.as_ref(), Glob::covers)
                && takes(user.as_ref(), its_user.as_ref(), |user, its| user == its)
                && takes(cgroup.as_ref(), its_cgroup.as_ref(), Glob::covers)
        }
    }
}

fn takes<T>(earlier: Option<&T>, later: Option<&T>, covers: impl Fn(&T, &T) -> bool) -> bool {
    match (earlier, later) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(earlier), Some(later)) => covers(earlier, later),
    }
}
