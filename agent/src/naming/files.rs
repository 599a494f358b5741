//! The task that keeps one file of places read: a look each second, a reading when it has changed. A file that cannot be
//! read keeps what it said before, and says why.

use super::Shared;
use super::file::{self, BadLine, BadLines, Lines};
use super::place::Places;
use crate::watch::Watched;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{error, warn};

/// A longer file is a mistake, and costs memory to read: a thousand lines fill 50 KiB.
const MAX_FILE: u64 = 1 << 20;

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) places: Places,
    pub(super) bad: BadLines,
    /// Good lines that are beyond the bound.
    pub(super) cut: usize,
    /// Why the file as it is now is not what is in use.
    pub(super) fault: Option<String>,
}

impl Said {
    fn nothing() -> Self {
        Self { places: Places::Pending, bad: BadLines::default(), cut: 0, fault: None }
    }
}

/// What the file `name` says, now and as it changes, until nobody wants to know any more.
pub(super) fn follow(shared: &Arc<Shared>, name: &str) -> watch::Receiver<Said> {
    let (tell, said) = watch::channel(Said::nothing());
    shared.tasks.spawn(keep(shared.clone(), name.to_owned(), tell));
    said
}

async fn keep(shared: Arc<Shared>, name: String, tell: watch::Sender<Said>) {
    let _ = shared.stop.run_until_cancelled(look_often(&shared, &name, &tell)).await;
}

async fn look_often(shared: &Shared, name: &str, tell: &watch::Sender<Said>) {
    let mut reader = Reader::default();
    loop {
        let (path, before) = (shared.setup.load().settings.folder.join(name), tell.borrow().clone());
        // The folder may be on a network mount: never read on a thread that moves bytes.
        let look = tokio::task::spawn_blocking(move || {
            let said = reader.look(&path, &before);
            (reader, said)
        });
        let said;
        (reader, said) = match look.await {
            Ok(looked) => looked,
            Err(panicked) => {
                error!(%panicked, "the look at the file {name} failed");
                return;
            }
        };
        if let Some(said) = said {
            tell.send_replace(said);
        }
        let pause = shared.setup.load().settings.look;
        tokio::select! {
            () = tell.closed() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Knows when to read.
#[derive(Debug, Default)]
struct Reader {
    watched: Option<(PathBuf, Watched)>,
}

impl Reader {
    /// What the file says, if that is not what it said `before`.
    fn look(&mut self, path: &Path, before: &Said) -> Option<Said> {
        let looked_at = self.watched.as_mut().filter(|(watched, _)| watched == path);
        let changed = match looked_at {
            Some((_, watched)) => !watched.changed().is_empty(),
            None => {
                self.watched = Some((path.to_owned(), Watched::new([path.to_owned()])));
                true
            }
        };
        // What could not be read is tried again: the cause may pass without a trace on the file.
        if !changed && before.fault.is_none() {
            return None;
        }
        let said = understand(text_of(path), before);
        (said != *before).then(|| {
            report(path, &said, before);
            said
        })
    }
}

/// The file's text; none if it is not there.
fn text_of(path: &Path) -> io::Result<Option<String>> {
    // To open a pipe is to wait for its writer, perhaps for ever, but for this flag.
    let file = match File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| io::Error::other("it is no UTF-8"))
}

/// What is to be believed after a reading: a fault takes nothing away.
fn understand(text: io::Result<Option<String>>, before: &Said) -> Said {
    let Lines { places, bad, cut } = match text {
        Ok(None) => Lines::default(),
        Ok(Some(text)) => file::read(&text),
        Err(error) => return faulty(&error.to_string(), BadLines::default(), before),
    };
    if places.is_empty() && bad.count > 0 {
        return faulty("no line of it says where to go", bad, before);
    }
    Said { places: Places::Known(places.into()), bad, cut, fault: None }
}

fn faulty(why: &str, bad: BadLines, before: &Said) -> Said {
    let places = match &before.places {
        Places::Known(places) if !places.is_empty() => before.places.clone(),
        _ => Places::Failed(why.into()),
    };
    Said { places, bad, cut: before.cut, fault: Some(why.to_owned()) }
}

/// Says once what is wrong with a file as it is now.
fn report(path: &Path, said: &Said, before: &Said) {
    let file = path.display();
    if let Some(fault) = said.fault.as_ref().filter(|fault| before.fault.as_ref() != Some(*fault)) {
        match &said.places {
            Places::Known(_) => warn!("{file}: {fault}; what it said before stays in use"),
            Places::Pending | Places::Failed(_) => {
                warn!("{file}: {fault}; its name leads nowhere until that is mended");
            }
        }
    }
    let is_gone = |said: &Said| said.fault.is_none() && matches!(&said.places, Places::Known(all) if all.is_empty());
    if is_gone(said) && !is_gone(before) {
        warn!("{file}: there is no such file, or it is empty; its name has no address");
    }
    if said.bad != before.bad {
        for BadLine { number, message } in &said.bad.told {
            warn!("{file}:{number}: {message}; the line is left out");
        }
        let more = said.bad.count - said.bad.told.len();
        if more > 0 {
            warn!("{file}: {more} more lines are left out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    fn after(texts: Vec<io::Result<Option<&str>>>) -> Said {
        texts
            .into_iter()
            .fold(Said::nothing(), |before, text| understand(text.map(|text| text.map(str::to_owned)), &before))
    }

    fn known(said: &Said) -> Option<usize> {
        match &said.places {
            Places::Known(places) => Some(places.len()),
            Places::Pending | Places::Failed(_) => None,
        }
    }

    #[test]
    fn a_fault_takes_nothing_away_and_an_absence_does() {
        let unreadable = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
        let good = || Ok(Some("10.0.0.1 1\n"));
        let rows = [
            (vec![Ok(None)], Some(0), false),
            (vec![good()], Some(1), false),
            (vec![good(), unreadable()], Some(1), true),
            (vec![good(), Ok(Some("10.0.0.1"))], Some(1), true),
            (vec![good(), Ok(Some("bad\n10.0.0.2 1\n"))], Some(1), false),
            (vec![good(), Ok(Some("# all gone\n"))], Some(0), false),
            (vec![good(), Ok(None)], Some(0), false),
            (vec![unreadable()], None, true),
            (vec![Ok(None), unreadable()], None, true),
            (vec![unreadable(), good()], Some(1), false),
        ];
        for (texts, places, fault) in rows {
            let shown = format!("{texts:?}");
            let said = after(texts);
            assert_eq!((known(&said), said.fault.is_some()), (places, fault), "{shown}");
        }
    }

    #[test]
    fn what_is_no_file_of_text_is_a_fault_and_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::fs::write(path("long"), vec![b'#'; usize::try_from(MAX_FILE).unwrap() + 1]).unwrap();
        std::fs::write(path("bytes"), [0xff]).unwrap();
        let fault = |name: &str| text_of(&path(name)).unwrap_err().to_string();
        assert_eq!(fault("pipe"), "it is no regular file");
        assert_eq!(fault("."), "it is no regular file");
        assert_eq!(fault("long"), "it is longer than 1 MiB");
        assert_eq!(fault("bytes"), "it is no UTF-8");
        assert_eq!(text_of(&path("missing")).unwrap(), None);
    }

    #[test]
    fn a_swapped_link_is_seen_as_kubernetes_mounts_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (version, text) in [("one", "10.0.0.1 1\n"), ("two", "10.0.0.1 1\n10.0.0.2 1\n")] {
            std::fs::create_dir(path(version)).unwrap();
            std::fs::write(path(version).join("web"), text).unwrap();
        }
        let point_to = |version: &str| {
            std::os::unix::fs::symlink(version, path("new")).unwrap();
            std::fs::rename(path("new"), path("data")).unwrap();
        };
        point_to("one");
        std::os::unix::fs::symlink("data/web", path("web")).unwrap();
        let mut reader = Reader::default();
        let first = reader.look(&path("web"), &Said::nothing()).unwrap();
        assert_eq!((known(&first), reader.look(&path("web"), &first)), (Some(1), None));
        point_to("two");
        let second = reader.look(&path("web"), &first).unwrap();
        assert_eq!(known(&second), Some(2));
    }
}
