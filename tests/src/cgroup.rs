//! A control group of cgroup2, made for a test and gone after it. It needs no mount of the machine's: some have cgroup2 in
//! another place, some not at all.

use std::{process::Command, time::Duration};

use crate::process::run;

const COMMAND: Duration = Duration::from_secs(10);

/// What leads a command into a place where cgroup2 is mounted where it usually is, seen by this command alone. Within
/// `ip netns exec`, which hides what was mounted there.
pub const MOUNT: [&str; 4] = ["sh", "-c", "mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"", "sh"];

/// The same, in the group whose path goes before the command.
const ENTER: &str =
    "mount -t cgroup2 none /sys/fs/cgroup && echo $$ >\"/sys/fs/cgroup/$1/cgroup.procs\" && shift && exec \"$@\"";

/// A control group.
#[derive(Debug)]
pub struct Group {
    path: String,
}

impl Group {
    /// Makes one, below the root of cgroup2, and those above it that are not there: they stay, as others may use them.
    #[must_use]
    pub fn make(path: &str) -> Self {
        let _ = apart("mkdir -p \"$1\"", path).expect_success();
        Self { path: path.to_owned() }
    }

    /// Its path from the root, without a leading `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What leads a command into it, within `ip netns exec`.
    #[must_use]
    pub fn enter(&self) -> Vec<String> {
        ["sh", "-c", ENTER, "sh", &self.path].map(str::to_owned).to_vec()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = apart("rmdir \"$1\"", &self.path);
    }
}

/// Runs a script whose `$1` is a path of cgroup2's, in a mount namespace of its own.
pub(crate) fn apart(script: &str, path: &str) -> crate::process::Finished {
    let script = format!("mount -t cgroup2 none /mnt && set -- \"/mnt/$1\" && {script}");
    run(Command::new("unshare").args(["--mount", "sh", "-c", &script, "sh", path]), COMMAND)
}
