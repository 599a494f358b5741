//! `apply --last-good`: the file whose rules were last in place. A host that starts with a file that cannot be used would
//! have no rules, and connections would leave in plaintext; so it has those of before, and is told.

use std::{
    error::Error,
    fs,
    io::{self, Write},
    path::Path,
};

use super::{plan_of, undisturbed, warn_of_unseen};
use crate::{
    identity::text::date,
    redirect::{self, Tool},
};

/// What the file says now.
pub(super) fn text(file: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    fs::read(file).map_err(|error| format!("reading {}: {error}", file.display()).into())
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

/// In one step: what is there is whole at every moment. A temporary file is its owner's alone to read.
fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let mut new = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new("/")))?;
    new.write_all(text)?;
    new.as_file().sync_all()?;
    new.persist(file).map(drop).map_err(|failed| failed.error)
}

/// Installs the rules of what was kept, for the file cannot be used: `fault`. What is to be told.
pub(super) fn fall_back(kept: &Path, fault: &dyn Error, tool: &Tool) -> Box<dyn Error> {
    let from = match fs::metadata(kept).and_then(|meta| meta.modified()) {
        Ok(from) => date(from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return format!("{fault}\nno rules were installed, and there is no file of before in {}", kept.display())
                .into();
        }
        Err(error) => return format!("{fault}\nno rules were installed: {}: {error}", kept.display()).into(),
    };
    match apply(kept, tool) {
        Ok(()) => format!(
            "{fault}\ninstalled instead are the rules of the last file that could be used, of {from}: {}",
            kept.display()
        )
        .into(),
        Err(error) => format!("{fault}\nno rules were installed; the last file that could be used: {error}").into(),
    }
}

fn apply(kept: &Path, tool: &Tool) -> Result<(), Box<dyn Error>> {
    let plan = plan_of(kept)?;
    warn_of_unseen(&undisturbed(|| redirect::apply(&plan, tool))??);
    Ok(())
}
