//! What a test needs of the machine, and what happens where it is missing.
//!
//! A test that cannot run says so and is counted in the file that `ADIT_SKIPS` names; with `CI=true`, or as root, who
//! could have installed what is missing, it fails instead.

use std::{env, fs::OpenOptions, io::Write, path::PathBuf, thread};

/// Returns from the test, loudly, unless all the named programs are installed.
#[macro_export]
macro_rules! need {
    ($($program:expr),+ $(,)?) => {
        $(if $crate::skip::find($program).is_none() {
            $crate::skip::skip(&format!("{} is not installed", $program));
            return;
        })+
    };
}

/// Returns from the test, loudly, unless the condition holds.
#[macro_export]
macro_rules! need_that {
    ($condition:expr, $what:expr) => {
        if !$condition {
            $crate::skip::skip($what);
            return;
        }
    };
}

/// The path of an installed program, looked for also where Debian keeps a daemon.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// True for the superuser, who may make namespaces and become another user.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Notes that the running test was skipped, or fails it where a skip is a failure.
pub fn skip(why: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test").to_owned();
    let ci = env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci && !is_root(), "{test} may not be skipped here: {why}");
    eprintln!("SKIPPED {test}: {why}");
    if let Ok(file) = env::var("ADIT_SKIPS") {
        let line = format!("{test}: {why}\n");
        let file = OpenOptions::new().create(true).append(true).open(file);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the file that ADIT_SKIPS names can be written");
    }
}
