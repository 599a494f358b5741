//! Files that changed: a set of paths and what each looked like when last asked. It follows links,
//! so a swapped link (as Kubernetes updates a mounted secret) is a change of every file under it.
//! It never reads a file, and asks only when it is asked.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Paths, each with its last look.
#[derive(Debug)]
pub struct Watched {
    files: Vec<(PathBuf, Option<Stamp>)>,
}

/// What a file looks like from outside. The change time is in it because a copy may keep length and
/// modification time, and no tool sets the change time back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Watched {
    /// Takes the first look.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let look = |file: PathBuf| {
            let stamp = Stamp::of(&file);
            (file, stamp)
        };
        Self { files: files.into_iter().map(look).collect() }
    }

    /// Looks again: the files that are not what they were, or came, or went, since the last look.
    /// Look before reading: what is written in between is then seen the next time.
    pub fn changed(&mut self) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for (file, seen) in &mut self.files {
            let stamp = Stamp::of(file);
            if stamp != *seen {
                *seen = stamp;
                changed.push(file.clone());
            }
        }
        changed
    }

    /// Whether none has changed since the last look. It is no look: who asks for what has changed is told of it later.
    pub fn are_still(&self) -> bool {
        self.files.iter().all(|(file, seen)| Stamp::of(file) == *seen)
    }
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let meta = fs::metadata(file).ok()?;
        Some(Self {
            device: meta.dev(),
            inode: meta.ino(),
            length: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn watched(file: &Path) -> Watched {
        Watched::new([file.to_path_buf()])
    }

    #[test]
    fn a_file_left_alone_has_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "one").unwrap();
        let mut watched = watched(&file);
        assert!(watched.changed().is_empty());
    }

    #[test]
    fn a_change_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "one").unwrap();
        let mut watched = watched(&file);
        fs::write(&file, "three").unwrap();
        assert_eq!(watched.changed(), [file]);
        assert!(watched.changed().is_empty());
    }

    #[test]
    fn who_only_asks_whether_all_is_still_takes_no_change_from_who_looks() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "one").unwrap();
        let mut watched = watched(&file);
        assert!(watched.are_still());
        fs::write(&file, "three").unwrap();
        assert!(!watched.are_still());
        assert_eq!(watched.changed(), [file]);
        assert!(watched.are_still());
    }

    #[test]
    fn a_file_that_comes_or_goes_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let mut watched = watched(&file);
        fs::write(&file, "").unwrap();
        assert_eq!(watched.changed().len(), 1);
        fs::remove_file(&file).unwrap();
        assert_eq!(watched.changed(), [file]);
    }

    #[test]
    fn a_file_renamed_over_has_changed_though_its_size_has_not() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&file, "one").unwrap();
        fs::write(&other, "two").unwrap();
        let mut watched = watched(&file);
        fs::rename(&other, &file).unwrap();
        assert_eq!(watched.changed(), [file]);
    }

    #[test]
    fn a_swapped_directory_link_changes_the_file_below_it() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["v1", "v2"] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("tls.crt"), "same").unwrap();
        }
        symlink("v1", dir.path().join("..data")).unwrap();
        symlink("..data/tls.crt", dir.path().join("tls.crt")).unwrap();
        let mut watched = watched(&dir.path().join("tls.crt"));

        symlink("v2", dir.path().join("..next")).unwrap();
        fs::rename(dir.path().join("..next"), dir.path().join("..data")).unwrap();

        assert_eq!(watched.changed(), [dir.path().join("tls.crt")]);
    }
}
