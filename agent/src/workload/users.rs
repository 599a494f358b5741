//! The names of users by their numbers, kept until the file that has them changes.

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::warn;

use crate::{sys::accounts, watch::Watched};

/// Whom the kernel names where a user has no number in a namespace (user_namespaces(7)), if it does not say.
const OVERFLOW: u32 = 65534;

/// The number that stands for every user of whom this process's user namespace knows nothing, if there are such users: it
/// is that of `nobody`, and they are not that one.
pub(super) fn strangers() -> Option<u32> {
    let map = fs::read_to_string("/proc/self/uid_map").ok()?;
    let overflow = || fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok();
    if knows_all(&map) { None } else { Some(overflow().unwrap_or(OVERFLOW)) }
}

/// Whether a map (user_namespaces(7)) has every number, as that of the first namespace does.
fn knows_all(map: &str) -> bool {
    map.split_whitespace().nth(2).is_some_and(|count| count.parse() == Ok(u32::MAX))
}

/// The users of a file.
#[derive(Debug)]
pub(super) struct Users {
    file: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    watched: Watched,
    names: HashMap<u32, String>,
}

impl Users {
    /// Those of passwd(5).
    pub(super) fn of_this_host() -> Self {
        Self::of(PathBuf::from(accounts::USERS))
    }

    fn of(file: PathBuf) -> Self {
        let known = Known { watched: Watched::new([file.clone()]), names: HashMap::new() };
        let users = Self { file, known: Mutex::new(known) };
        users.read();
        users
    }

    /// The name of the user with this number, if it has one there.
    pub(super) async fn name(self: &Arc<Self>, uid: u32) -> Option<String> {
        // One stat(2) of a file that every login looks at; reading it is not for a thread that carries streams.
        if !self.known().watched.are_still() {
            let users = Arc::clone(self);
            let _ = tokio::task::spawn_blocking(move || users.read_again()).await;
        }
        self.known().names.get(&uid).cloned()
    }

    fn read_again(&self) {
        // Looked at before it is read, so that what is written meanwhile is seen the next time.
        if !self.known().watched.changed().is_empty() {
            self.read();
        }
    }

    fn read(&self) {
        match accounts::read(&self.file) {
            Ok(accounts) => {
                let mut names = HashMap::new();
                for (name, uid) in accounts {
                    // Of two names the first counts, as for getpwuid(3).
                    names.entry(uid).or_insert(name);
                }
                self.known().names = names;
            }
            Err(error) => warn!("the names of users stay as they were: {}: {error}", self.file.display()),
        }
    }

    /// A panic while it is held leaves a whole map.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_namespace_of_its_own_has_strangers() {
        assert!(knows_all("         0          0 4294967295\n"));
        assert!(!knows_all("         0       1000          1\n"));
        assert!(!knows_all(""));
    }

    #[tokio::test]
    async fn a_user_that_is_new_has_a_name_at_once_and_the_first_of_two_counts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        std::fs::write(path, "web:x:33:33::/:\nwww:x:33:33::/:\n").unwrap();
        let users = Arc::new(Users::of(path.to_owned()));
        assert_eq!(users.name(33).await.as_deref(), Some("web"));
        assert_eq!(users.name(34).await, None);
        std::fs::write(path, "web:x:33:33::/:\nredis:x:34:34::/:\n").unwrap();
        assert_eq!(users.name(34).await.as_deref(), Some("redis"));
        std::fs::remove_file(path).unwrap();
        assert_eq!(users.name(34).await.as_deref(), Some("redis"), "what cannot be read takes nothing away");
    }
}
