//! The files of a CA: pairs of a certificate and its key, written whole or not at all. A key is never
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
    let dir = match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    new.write_all(text.as_bytes())?;
    new.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    new.as_file().sync_all()?;
    match existing {
        Existing::Keep => new.persist_noclobber(file).map_err(|failed| failed.error)?,
        Existing::Replace => new.persist(file).map_err(|failed| failed.error)?,
    };
    Ok(())
}

fn file_error(file: &Path, cause: io::Error) -> IssueError {
    let file = file.to_path_buf();
    IssueError::File { file, cause }
}
