//! A pair that is replaced where it stands, in a folder that may be of another user than who replaces it: `adit ca renew` is
//! run by root. Whatever that user puts there, and when, nothing is opened and nothing is written but regular files of the
//! certificate's own folder, which is held from the first look to the last rename. Only a certificate that is named itself
//! may be a link to another folder; none that was found by looking through one.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata, Permissions},
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    },
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::{IssueError, Issued, files::file_error};
use crate::identity::pem;

/// Which certificate is meant.
#[derive(Clone, Debug)]
pub enum Certificate {
    /// This file, or the one that it is a link to: a folder of links goes on to be one.
    Named(PathBuf),
    /// The one of this name in this folder, or another one there that it is a link to.
    Found {
        /// The folder.
        dir: PathBuf,
        /// The file's name.
        name: OsString,
    },
}

impl Certificate {
    /// What it is called.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Named(file) => file.clone(),
            Self::Found { dir, name } => dir.join(name),
        }
    }
}

/// A folder that is held: whatever its path leads to meanwhile, it is the same one.
struct Folder {
    held: File,
    /// What it is called.
    path: PathBuf,
}

/// A file as it was read.
pub(super) struct Old {
    pub(super) bytes: Vec<u8>,
    /// What it is called.
    pub(super) path: PathBuf,
    meta: Metadata,
    name: OsString,
}

/// A certificate and its key as they were read.
pub(super) struct Pair {
    folder: Folder,
    pub(super) certificate: Old,
    pub(super) key: Old,
}

impl Pair {
    /// A certificate, and its key beside it as `.key`.
    pub(super) fn read(whose: &Certificate) -> Result<Self, IssueError> {
        let (folder, name) = match whose {
            Certificate::Named(file) => {
                let path = fs::canonicalize(file).map_err(|cause| file_error(file, cause))?;
                let no_file = || file_error(file, io::ErrorKind::IsADirectory.into());
                let (dir, name) = path.parent().zip(path.file_name()).ok_or_else(no_file)?;
                (Folder::open(dir)?, name.to_owned())
            }
            Certificate::Found { dir, name } => {
                let dir = fs::canonicalize(dir).map_err(|cause| file_error(dir, cause))?;
                let folder = Folder::open(&dir)?;
                let name = folder.behind(name)?;
                (folder, name)
            }
        };
        let certificate = folder.read(&name)?;
        let key = folder.read(&folder.behind(Path::new(&name).with_extension("key").as_os_str())?)?;
        Ok(Self { folder, certificate, key })
    }

    /// Replaces both with their owners and modes kept, the key first; with the key that is there already, the certificate
    /// alone. All that may fail comes before the two renames, so that who reads in between finds no pair for as short a time
    /// as can be.
    pub(super) fn replace(&self, issued: &Issued, has_new_key: bool) -> Result<(), IssueError> {
        let certificate = self.folder.successor(&self.certificate, issued.certificate.as_bytes())?;
        if !has_new_key {
            return self.folder.put(certificate, &self.certificate);
        }
        let key = self.folder.successor(&self.key, issued.key.as_bytes())?;
        let old = self.folder.successor(&self.key, &self.key.bytes)?;
        self.folder.put(key, &self.key)?;
        self.folder.put(certificate, &self.certificate).inspect_err(|_| {
            // The old certificate is there still, and so must its key be.
            let _ = self.folder.put(old, &self.key);
        })
    }
}

impl Folder {
    fn open(path: &Path) -> Result<Self, IssueError> {
        let held = hold(path, libc::O_DIRECTORY).map_err(|cause| file_error(path, cause))?;
        Ok(Self { held, path: path.to_owned() })
    }

    fn at(&self) -> PathBuf {
        where_is(&self.held)
    }

    /// The file of this folder that a name leads to, which is the name itself unless it is a link.
    fn behind(&self, name: &OsStr) -> Result<OsString, IssueError> {
        let path = self.path.join(name);
        let target = fs::canonicalize(self.at().join(name)).map_err(|cause| file_error(&path, cause))?;
        match (target.parent() == Some(&self.path), target.file_name()) {
            (true, Some(name)) => Ok(name.to_owned()),
            _ => {
                let why = format!(
                    "it leads out of its folder, to {}; keep a certificate and its key in one folder, and name that",
                    target.display()
                );
                Err(file_error(&path, io::Error::other(why)))
            }
        }
    }

    /// Reads a regular file, not what a link leads to. Nothing else is opened: to open a device may be to change it.
    fn read(&self, name: &OsStr) -> Result<Old, IssueError> {
        let path = self.path.join(name);
        let read = || {
            let held = hold(&self.at().join(name), libc::O_NOFOLLOW)?;
            let meta = held.metadata()?;
            match meta.is_file() {
                true => Ok((pem::bounded(File::open(where_is(&held))?)?, meta)),
                false => Err(io::Error::other("it is no regular file")),
            }
        };
        let (bytes, meta) = read().map_err(|cause| file_error(&path, cause))?;
        Ok(Old { bytes, path, meta, name: name.to_owned() })
    }

    /// A file that is to take the place of `old`, with its owner and mode.
    fn successor(&self, old: &Old, bytes: &[u8]) -> Result<NamedTempFile, IssueError> {
        let write = || {
            let mut new = NamedTempFile::new_in(self.at())?;
            new.write_all(bytes)?;
            // First the owner: a change of it may take bits of the mode away.
            fchown(new.as_file(), Some(old.meta.uid()), Some(old.meta.gid()))?;
            new.as_file().set_permissions(Permissions::from_mode(old.meta.mode() & 0o777))?;
            new.as_file().sync_all()?;
            Ok(new)
        };
        write().map_err(|cause| file_error(&old.path, cause))
    }

    fn put(&self, new: NamedTempFile, old: &Old) -> Result<(), IssueError> {
        let put = new.persist(self.at().join(&old.name));
        put.map(drop).map_err(|failed| file_error(&old.path, failed.error))
    }
}

/// A hold on what stands there, which does not open it (open(2), `O_PATH`).
fn hold(path: &Path, flags: libc::c_int) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_PATH | flags).open(path)
}

/// Where the kernel has what is held (proc(5), `/proc/pid/fd`).
fn where_is(held: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()))
}
