//! The files of a CA: pairs of a certificate and its key, and archives of them, written whole or not at all. A key is never
//! for a moment readable by others, and a pair is never half of an old one and half of a new.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{IssueError, Issued};

/// What may happen to a file that is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and writing it is an error.
    Keep,
    /// It is replaced.
    Replace,
}

/// Where a certificate and its key stand.
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Pair {
    /// `PREFIX.pem` and `PREFIX.key`.
    pub(super) fn at(prefix: &Path) -> Self {
        Self { certificate: suffixed(prefix, ".pem"), key: suffixed(prefix, ".key") }
    }

    /// Writes both; when either is there already and stays, neither.
    pub(super) fn write(&self, issued: &Issued, existing: Existing) -> Result<(), IssueError> {
        if existing == Existing::Keep {
            refuse_existing(&self.key)?;
            refuse_existing(&self.certificate)?;
        }
        write(&self.key, &issued.key, 0o600, existing)?;
        write(&self.certificate, &issued.certificate, 0o644, existing)
    }
}

/// Writes each of `files`, a name and what it holds, into `dir`, which is made if need be; all of them or none. Where they
/// are.
pub fn write_all(
    dir: &Path,
    files: &[(String, Vec<u8>)],
    mode: u32,
    existing: Existing,
) -> Result<Vec<PathBuf>, IssueError> {
    make_private_dir(dir)?;
    let paths: Vec<_> = files.iter().map(|(name, _)| dir.join(name)).collect();
    if existing == Existing::Keep {
        paths.iter().try_for_each(|file| refuse_existing(file))?;
    }
    let staged = files.iter().zip(&paths).map(|((_, bytes), file)| stage(file, bytes, mode));
    let staged: Result<Vec<_>, _> = staged.collect();
    let mut put = Vec::new();
    for (staged, file) in staged?.into_iter().zip(&paths) {
        match staged.put(file, existing) {
            Ok(done) => put.push(done),
            Err(cause) => {
                put.into_iter().rev().for_each(Put::undo);
                return Err(file_error(file, cause));
            }
        }
    }
    Ok(paths)
}

/// A file that is written and not yet in its place.
struct Staged {
    new: tempfile::TempPath,
    /// What it replaces.
    old: Option<tempfile::TempPath>,
}

/// A file in its place, and what was there before.
struct Put {
    file: PathBuf,
    old: Option<tempfile::TempPath>,
}

impl Staged {
    fn put(self, file: &Path, existing: Existing) -> io::Result<Put> {
        let put = match existing {
            Existing::Keep => self.new.persist_noclobber(file),
            Existing::Replace => self.new.persist(file),
        };
        put.map(|()| Put { file: file.to_owned(), old: self.old }).map_err(|failed| failed.error)
    }
}

impl Put {
    fn undo(self) {
        let _ = match self.old {
            Some(old) => fs::rename(&old, &self.file),
            None => fs::remove_file(&self.file),
        };
    }
}

fn stage(file: &Path, bytes: &[u8], mode: u32) -> Result<Staged, IssueError> {
    let failed = |cause| file_error(file, cause);
    let mut new = tempfile::NamedTempFile::new_in(folder(file)).map_err(failed)?;
    let written = new.write_all(bytes).and_then(|()| new.as_file().set_permissions(fs::Permissions::from_mode(mode)));
    written.and_then(|()| new.as_file().sync_all()).map_err(failed)?;
    let old = match fs::read(file) {
        Ok(old) => {
            let mut kept = tempfile::NamedTempFile::new_in(folder(file)).map_err(failed)?;
            kept.write_all(&old).map_err(failed)?;
            Some(kept.into_temp_path())
        }
        Err(_) => None,
    };
    Ok(Staged { new: new.into_temp_path(), old })
}

/// A folder of keys, if it is not there yet, is its owner's alone.
fn make_private_dir(dir: &Path) -> Result<(), IssueError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|cause| file_error(dir, cause))
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// The text of a file.
pub(super) fn read(file: &Path) -> Result<String, IssueError> {
    fs::read_to_string(file).map_err(|cause| file_error(file, cause))
}

/// Makes a folder and those above it.
pub(super) fn make_dir(dir: &Path) -> Result<(), IssueError> {
    fs::create_dir_all(dir).map_err(|cause| file_error(dir, cause))
}

fn refuse_existing(file: &Path) -> Result<(), IssueError> {
    match file.symlink_metadata() {
        Ok(_) => Err(file_error(file, io::ErrorKind::AlreadyExists.into())),
        Err(_) => Ok(()),
    }
}

/// `with_extension` would cut a prefix such as `redis.prod` at its dot.
fn suffixed(prefix: &Path, suffix: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whole or not at all, and never for a moment readable by others than it will be: a temporary
/// file of mode 0600 beside it, then a rename.
fn write(file: &Path, text: &str, mode: u32, existing: Existing) -> Result<(), IssueError> {
    write_to(file, text, mode, existing).map_err(|cause| file_error(file, cause))
}

fn write_to(file: &Path, text: &str, mode: u32, existing: Existing) -> io::Result<()> {
    let mut new = tempfile::NamedTempFile::new_in(folder(file))?;
    new.write_all(text.as_bytes())?;
    new.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    new.as_file().sync_all()?;
    match existing {
        Existing::Keep => new.persist_noclobber(file).map_err(|failed| failed.error)?,
        Existing::Replace => new.persist(file).map_err(|failed| failed.error)?,
    };
    Ok(())
}

pub(super) fn file_error(file: &Path, cause: io::Error) -> IssueError {
    let file = file.to_path_buf();
    IssueError::File { file, cause }
}
