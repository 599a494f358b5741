//! The Debian package of the binary under test, as `scripts/package` makes it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::root;
use crate::{agent::binary, process::run};

/// How long it may take, cargo-deb's own installation included.
const PACKAGE: Duration = Duration::from_secs(600);

/// The package with this version, made of the binary that the scenarios run: nothing is built.
#[must_use]
pub fn package(version: &str) -> PathBuf {
    static MADE: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    // Whoever failed while it held this left nothing half made.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(version.to_owned()).or_insert_with(|| make(version)).clone()
}

fn make(version: &str) -> PathBuf {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/package"));
    command.args(["--fast", "--version", version, "--no-build"]).arg(binary());
    command.arg("--output").arg(root::folder());
    run(&mut command, PACKAGE).expect_success().trim_end().into()
}
