//! A folder as a kubelet keeps it for a Secret or a ConfigMap: each file a link into `..data`, itself a link to a folder
//! of one version, which one rename puts in another's place. No file of it is ever written again.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// Such a folder.
#[derive(Debug)]
pub struct Mount {
    dir: PathBuf,
    version: u32,
}

impl Mount {
    /// Makes it, with these files in their first version.
    #[must_use]
    pub fn new(dir: &Path, files: &[(&str, &str)]) -> Self {
        fs::create_dir_all(dir).unwrap_or_else(|error| panic!("make {}: {error}", dir.display()));
        let mut mount = Self { dir: dir.to_owned(), version: 0 };
        mount.swap(files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), dir.join(name)).expect("a new folder takes a link");
        }
        mount
    }

    /// Puts another version of all files in place, at once.
    pub fn swap(&mut self, files: &[(&str, &str)]) {
        let before = self.folder();
        self.version += 1;
        let done = self.put(files).and_then(|()| match self.version {
            1 => Ok(()),
            _ => fs::remove_dir_all(self.dir.join(before)),
        });
        done.unwrap_or_else(|error| panic!("swap the files of {}: {error}", self.dir.display()));
    }

    fn put(&self, files: &[(&str, &str)]) -> io::Result<()> {
        let folder = self.folder();
        fs::create_dir(self.dir.join(&folder))?;
        for (name, text) in files {
            fs::write(self.dir.join(&folder).join(name), text)?;
        }
        symlink(&folder, self.dir.join("..data_tmp"))?;
        fs::rename(self.dir.join("..data_tmp"), self.dir.join("..data"))
    }

    fn folder(&self) -> String {
        format!("..version_{}", self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_of_the_version_that_was_put_last() {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Mount::new(dir.path(), &[("a", "one"), ("b", "one")]);
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "one");
        mount.swap(&[("a", "two"), ("b", "two")]);
        assert_eq!(fs::read_to_string(dir.path().join("b")).unwrap(), "two");
        let left = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 4, "a, b, ..data and one version");
    }
}
