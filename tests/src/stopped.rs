//! Threads of a process that stand still while the others go on, as those of a program do that hangs. Root only, and by
//! Python, for its ptrace(2).

use std::{fs, process::Command};

use tempfile::TempDir;

use crate::{
    process::Program,
    wait::{LIMIT, until},
};

const STOP: &str = r"
import ctypes, os, sys
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, INTERRUPT, ALL = 0x4206, 0x4207, 0x40000000
process, name = sys.argv[1:]
for thread in os.listdir(f'/proc/{process}/task'):
    if open(f'/proc/{process}/task/{thread}/comm').read().strip() == name:
        assert ptrace(SEIZE, int(thread), None, None) == 0 and ptrace(INTERRUPT, int(thread), None, None) == 0
        print('stopped', flush=True)
# A thread that is traced and killed is not gone until it was waited for.
try:
    while True:
        os.waitpid(-1, ALL)
except ChildProcessError:
    pass
";

/// The threads; they go on when this is dropped.
#[derive(Debug)]
pub struct Stopped {
    _by: Program,
    _dir: TempDir,
}

impl Stopped {
    /// Stops those of this name of a process, of which there is at least one.
    #[must_use]
    pub fn of(pid: &str, threads: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let log = dir.path().join("log");
        let by = Program::start("who stops threads", Command::new("python3").args(["-c", STOP, pid, threads]), &log);
        until("threads to stop", LIMIT, || fs::read_to_string(&log).ok()?.contains("stopped").then_some(()));
        Self { _by: by, _dir: dir }
    }
}
