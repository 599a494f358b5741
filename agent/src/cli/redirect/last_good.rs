//! `apply --last-good`: the file whose rules were last in place. A host that starts with a file that cannot be used, or whose
//! rules the kernel does not take, would have none, and connections would leave in plaintext; so it has those of before, and
//! is told.

use std::{
    error::Error,
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use super::{plan_of, undisturbed, warn_of_unseen};
use crate::{
    identity::text::date,
    redirect::{self, Installed, Tool},
};

/// No configuration is longer.
const LONGEST: u64 = 4 << 20;

/// What the file says now; of one that is too long to be used, its beginning.
pub(super) fn text(file: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut text = Vec::new();
    let read = File::open(file).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut text));
    read.map(|_| text).map_err(|error| format!("reading {}: {error}", file.display()).into())
}

/// Keeps `text`, which stood in `file` before its rules were made; if it stands there still, they are its rules.
pub(super) fn keep(kept: &Path, file: &Path, text: &[u8]) -> Result<(), Box<dyn Error>> {
    if self::text(file)? != text {
        return Err(
            format!("the rules are in place, but {} was changed meanwhile; apply it again", file.display()).into()
        );
    }
    replace(kept, text)
        .map_err(|error| format!("the rules are in place, but writing {}: {error}", kept.display()).into())
}

/// In one step: what is there is whole at every moment, and still there after a loss of power. A temporary file is its
/// owner's alone to read.
fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let dir = match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    new.write_all(text)?;
    new.as_file().sync_all()?;
    new.persist(file).map_err(|failed| failed.error)?;
    File::open(dir)?.sync_all()
}

/// Installs the rules of what was kept, for those of the file cannot be: `fault`. Not where rules stand already in all places
/// of the copy's, which may be newer than it. What is to be told.
pub(super) fn fall_back(kept: &Path, fault: &dyn Error, tool: &Tool) -> Box<dyn Error> {
    let from = match fs::metadata(kept).and_then(|meta| meta.modified()) {
        Ok(from) => date(from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return format!("{fault}\nno rules were changed, for there is no file of before in {}", kept.display())
                .into();
        }
        Err(error) => return format!("{fault}\nno rules were installed: {}: {error}", kept.display()).into(),
    };
    match apply(kept, tool) {
        Ok(Applied::Stay) => format!("{fault}\nthe rules that are in place stay").into(),
        Ok(Applied::Copy) => format!(
            "{fault}\ninstalled instead are the rules of the last file that could be used, of {from}: {}",
            kept.display()
        )
        .into(),
        Err(error) => format!("{fault}\nno rules were installed; the last file that could be used: {error}").into(),
    }
}

/// Whose rules are in place.
enum Applied {
    /// Those that were.
    Stay,
    /// Those of the copy.
    Copy,
}

fn apply(kept: &Path, tool: &Tool) -> Result<Applied, Box<dyn Error>> {
    let plan = plan_of(kept)?;
    if Installed::find(tool)?.stands_in_for(&plan) {
        return Ok(Applied::Stay);
    }
    warn_of_unseen(&undisturbed(|| redirect::apply(&plan, tool))??);
    Ok(Applied::Copy)
}
