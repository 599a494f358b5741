//! Control groups that rules name. The kernel knows one by a number: when a unit is started again its group is made anew,
//! and a rule for the one before matches nobody.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use rustix::fs::statfs;

use super::{plan::Plan, rule::Test};

/// Where nft looks for them.
const MOUNT: &str = "/sys/fs/cgroup";

/// CGROUP2_SUPER_MAGIC of linux/magic.h.
const CGROUP2: u64 = 0x6367_7270;

/// The groups of a plan, and which ones they were.
#[derive(Debug)]
pub struct Groups(Vec<(String, Option<u64>)>);

impl Groups {
    /// Those of a plan, as they are now.
    pub fn of(plan: &Plan) -> Groups {
        let tests = plan.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.tests);
        let mut names: Vec<_> = tests
            .filter_map(|test| match test {
                Test::Cgroup(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        names.sort();
        names.dedup();
        Groups(names.into_iter().map(|name| (name.clone(), number(&name))).collect())
    }

    /// The first that is there and is another than it was.
    pub fn changed(&self) -> Option<&str> {
        let other = |(name, was): &&(String, Option<u64>)| number(name).is_some_and(|now| Some(now) != *was);
        self.0.iter().find(other).map(|(name, _)| name.as_str())
    }

    /// Why no rule can be made for one of them. nft takes any folder there for a control group, and its rule would match
    /// nobody.
    pub(super) fn fault(&self) -> Option<String> {
        let (first, _) = self.0.first()?;
        if !statfs(MOUNT).is_ok_and(|found| u64::try_from(found.f_type) == Ok(CGROUP2)) {
            return Some(format!(
                "{MOUNT} is no cgroup2, which a rule for the control group {first} needs; start the system with the unified \
                 hierarchy (systemd.unified_cgroup_hierarchy=1)"
            ));
        }
        let (missing, _) = self.0.iter().find(|(_, was)| was.is_none())?;
        Some(format!(
            "{MOUNT}/{missing}: there is no such control group, and a rule can only be made for one that is; start what \
             runs in it first, or name a slice that stays"
        ))
    }
}

fn number(name: &str) -> Option<u64> {
    fs::metadata(Path::new(MOUNT).join(name)).ok().map(|meta| meta.ino())
}
