//! Which control group has a number: the kernel tells only the number, that of the group's folder in cgroup2, and no call
//! turns it into a path without a privilege. So the tree is walked, by a thread of its own, and what it held is kept.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync;
use tracing::warn;

/// Between the beginnings of two walks: one of 500 groups takes some 10 ms of a core, so all of them at most a twentieth.
const WALK_EVERY: Duration = Duration::from_millis(250);
/// Groups that are kept. A host with more is none that systemd divides into units.
const MOST: usize = 65_536;
/// Numbers that are known to be no group's any more.
const MOST_GONE: usize = 4096;

/// The groups by their numbers, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    known: Mutex<Known>,
    /// Held by whoever walks: when that began.
    walk: Arc<sync::Mutex<Option<Instant>>>,
}

#[derive(Debug, Default)]
struct Known {
    /// From the root, with a leading `/`.
    paths: HashMap<u64, Arc<str>>,
    /// What a walk did not find that began after it was asked for. The kernel gives no number twice.
    gone: HashSet<u64>,
}

impl Cgroups {
    /// The path of the group with this number; `None` where no such group is there any more, or no cgroup2. A number that is
    /// not known yet waits for a walk.
    pub(super) async fn path(self: &Arc<Self>, id: u64) -> Option<Arc<str>> {
        let asked = Instant::now();
        if let Some(known) = self.known().of(id) {
            return known;
        }
        let mut walk = Arc::clone(&self.walk).lock_owned().await;
        if walk.is_none_or(|began| began < asked) {
            if let Some(known) = self.known().of(id) {
                return known;
            }
            let rest = walk.map_or(Duration::ZERO, |began| WALK_EVERY.saturating_sub(began.elapsed()));
            tokio::time::sleep(rest).await;
            let all = Arc::clone(self);
            // It goes on, and holds the lock, though who asked may wait no longer: two never walk at once.
            let walked = tokio::task::spawn_blocking(move || {
                *walk = Some(Instant::now());
                let found = mount().map(|root| read(&root)).unwrap_or_default();
                all.known().paths = found;
            });
            walked.await.ok()?;
        }
        self.known().conclude(id)
    }

    /// A panic while it is held leaves whole maps.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// What is known of a number; `None` if nothing is.
    fn of(&self, id: u64) -> Option<Option<Arc<str>>> {
        match self.paths.get(&id) {
            Some(path) => Some(Some(Arc::clone(path))),
            None => self.gone.contains(&id).then_some(None),
        }
    }

    /// What is to be said of a number after a walk that began later than it was there.
    fn conclude(&mut self, id: u64) -> Option<Arc<str>> {
        let path = self.paths.get(&id).map(Arc::clone);
        if path.is_none() {
            if self.gone.len() >= MOST_GONE {
                self.gone.clear();
            }
            self.gone.insert(id);
        }
        path
    }
}

/// Where cgroup2 is mounted, whole.
fn mount() -> Option<PathBuf> {
    mount_in(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// The same in the text of proc_pid_mountinfo(5). The last one: no other mount lies over it.
fn mount_in(mountinfo: &str) -> Option<PathBuf> {
    let point = |line: &str| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (root == "/" && filesystem.starts_with("cgroup2 ")).then(|| PathBuf::from(unescape(point)))
    };
    mountinfo.lines().filter_map(point).next_back()
}

/// A field of mountinfo: spaces and the like are written `\040`.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) => {
                text.push(char::from(code));
                text.push_str(rest);
            }
            _ => text.push_str(part),
        }
    }
    text
}

/// Every group below `root`, that one with it. What vanishes meanwhile is left out.
fn read(root: &Path) -> HashMap<u64, Arc<str>> {
    let mut found = HashMap::new();
    let mut left: Vec<(u64, String)> = Vec::new();
    if let Ok(meta) = root.metadata() {
        left.push((meta.ino(), String::new()));
    }
    while let Some((id, path)) = left.pop() {
        if found.len() >= MOST {
            warn!("there are more than {MOST} control groups; those of some connections will not be known");
            break;
        }
        // A child's path starts with `/`, so the root's has none to come before it.
        let _ = children(root, &path, &mut left);
        found.insert(id, Arc::from(if path.is_empty() { "/" } else { path.as_str() }));
    }
    found
}

fn children(root: &Path, path: &str, left: &mut Vec<(u64, String)>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(path.trim_start_matches('/')))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            left.push((entry.ino(), format!("{path}/{}", entry.file_name().to_string_lossy())));
        }
    }
    Ok(())
}

/// The systemd unit that a group is of, as systemd tells it itself (sd_pid_get_unit(3)): slices first, then the unit, below
/// which it may have groups of its own. So no group that somebody may make within their unit passes for another unit.
/// Escapes within a unit's name belong to it and stay (systemd.unit(5)); a `_` before it does not: systemd puts it there where
/// the kernel might have a file of that name.
pub(super) fn unit(path: &str) -> Option<&str> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let unit = parts.find(|part| !part.ends_with(".slice"))?;
    let unit = unit.strip_prefix('_').unwrap_or(unit);
    let (name, kind) = unit.rsplit_once('.')?;
    (!name.is_empty() && KINDS.contains(&kind)).then_some(unit)
}

/// The units that processes can be in (systemd.unit(5)).
const KINDS: [&str; 5] = ["service", "scope", "socket", "mount", "swap"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_first_part_behind_the_slices_as_systemd_has_it() {
        let table = [
            ("/system.slice/web.service", Some("web.service")),
            ("/system.slice/system-web.slice/web@1.service/worker", Some("web@1.service")),
            ("/system.slice/dev-disk\\x2dby\\x2dlabel-x.swap", Some("dev-disk\\x2dby\\x2dlabel-x.swap")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", Some("user@1000.service")),
            ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
            ("/init.scope", Some("init.scope")),
            ("/system.slice/_cpu.service", Some("cpu.service")),
            ("/docker/0123/system.slice/web.service", None),
            ("/machine.slice/machine-x.scope/payload/system.slice/web.service", Some("machine-x.scope")),
            ("/system.slice", None),
            ("/.service", None),
            ("/", None),
        ];
        for (path, expected) in table {
            assert_eq!(unit(path), expected, "{path}");
        }
    }

    #[test]
    fn cgroup2_is_found_where_it_is_mounted_whole() {
        let v1 = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                  32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:5 - cgroup cgroup rw,cpu\n";
        let hybrid = format!("{v1}41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n");
        let spaced =
            "41 31 0:38 / /a\\040b rw shared:1 - cgroup2 none rw\n42 31 0:38 /part /part rw - cgroup2 none rw\n";
        assert_eq!(mount_in(v1), None);
        assert_eq!(mount_in(&hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mount_in(spaced), Some(PathBuf::from("/a b")));
    }

    #[test]
    fn every_folder_of_a_tree_is_known_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("system.slice/web.service/worker")).unwrap();
        fs::write(dir.path().join("system.slice/cgroup.procs"), "").unwrap();
        let found = read(dir.path());
        let id = |path: &str| dir.path().join(path).metadata().unwrap().ino();
        let path = |at: &str| found.get(&id(at)).map(ToString::to_string);
        assert_eq!(found.len(), 4);
        assert_eq!(path("").as_deref(), Some("/"));
        assert_eq!(path("system.slice/web.service/worker").as_deref(), Some("/system.slice/web.service/worker"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_that_no_walk_finds_is_walked_for_once() {
        let groups = Arc::new(Cgroups::default());
        assert_eq!(groups.path(u64::MAX).await, None);
        let began = *groups.walk.lock().await;
        assert!(began.is_some());
        assert_eq!(groups.path(u64::MAX).await, None);
        assert_eq!(*groups.walk.lock().await, began);
    }

    #[test]
    fn what_is_remembered_as_gone_is_bounded() {
        let mut known = Known::default();
        for id in 0..=MOST_GONE as u64 {
            assert_eq!(known.conclude(id), None);
        }
        assert!(known.gone.len() <= MOST_GONE);
    }
}
