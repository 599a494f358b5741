//! The roots that machines boot: made by debootstrap once for each build folder, and only read from then on.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use crate::{agent::beside_the_tests, process::run};

/// How long debootstrap may take with a slow mirror.
const BOOTSTRAP: Duration = Duration::from_secs(900);

/// How long another command about a root may take.
const COMMAND: Duration = Duration::from_secs(60);

/// What every machine has beside the smallest Debian: what the package needs, and what a test looks with.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,nftables,adduser,procps";

/// Which Debian a machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debian {
    /// Debian 12, with Redis and PostgreSQL, both stopped.
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl Debian {
    fn suite(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    fn packages(self) -> String {
        match self {
            Self::Bookworm => format!("{PACKAGES},redis-server,redis-tools,postgresql"),
            Self::Trixie => PACKAGES.to_owned(),
        }
    }

    /// Its root, which nobody may write to; made now if it is not there.
    pub(super) fn root(self) -> PathBuf {
        let folder = folder();
        // One process makes it, the others wait.
        let lock = File::create(folder.join("lock")).expect("the folder of the roots can be written");
        flock(&lock, FlockOperation::LockExclusive).expect("a file can be locked");
        let (root, recipe) = (folder.join(self.suite()), folder.join(format!("{}.recipe", self.suite())));
        if fs::read_to_string(&recipe).ok() != Some(self.packages()) {
            let _ = fs::remove_file(&recipe);
            let _ = fs::remove_dir_all(&root);
            self.make(&root);
            fs::write(&recipe, self.packages()).expect("the folder of the roots can be written");
        }
        root
    }

    fn make(self, root: &Path) {
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", &format!("--include={}", self.packages()), self.suite()]).arg(root);
        let _ = run(&mut debootstrap, BOOTSTRAP).expect_success();
        // What a machine shall not have: this host's name and name servers, one id for all, packages it has installed.
        for file in ["etc/hostname", "etc/resolv.conf"] {
            let _ = fs::remove_file(root.join(file));
        }
        fs::write(root.join("etc/machine-id"), "").expect("the new root can be written");
        let mut clean = Command::new("chroot");
        let _ = run(clean.arg(root).args(["apt-get", "clean"]), COMMAND).expect_success();
        // A scenario starts the services that it is about; there is nobody to fetch updates from.
        systemctl(root, "mask", &["apt-daily.timer", "apt-daily-upgrade.timer"]);
        if self == Self::Bookworm {
            systemctl(root, "disable", &["redis-server.service", "postgresql.service"]);
        }
    }
}

/// Where the roots are, and what machines write over them: the same file system, which overlayfs asks for.
pub(super) fn folder() -> PathBuf {
    let target = beside_the_tests().parent().expect("a profile's folder is in the target folder").to_owned();
    let folder = target.join("machines");
    fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

fn systemctl(root: &Path, verb: &str, units: &[&str]) {
    let mut command = Command::new("systemctl");
    let _ = run(command.arg("--root").arg(root).arg(verb).args(units), COMMAND).expect_success();
}
