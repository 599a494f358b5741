//! A machine that boots a real Debian with systemd: systemd-nspawn over a copy of a root that debootstrap made once, with
//! the network of one of the hosts of `scripts/netns`. Root only. It is powered off, and its disk is gone, when its value
//! is dropped.

mod package;
mod root;

use std::{
    fs, io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

pub use self::{package::package, root::Debian};
use crate::{
    cgroup::apart,
    netns::{Host, Hosts},
    process::{Finished, Program, run},
    skip,
    wait::until,
};

/// How long a boot, or the way down, may take on a busy machine.
const BOOT: Duration = Duration::from_secs(120);

/// How long a command on a machine may take: dpkg writes slowly.
const COMMAND: Duration = Duration::from_secs(120);

/// What a login has; nothing of who runs the tests gets into a machine.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("DEBIAN_FRONTEND", "noninteractive"),
];

/// Mounts the machine's disk over the root and becomes nspawn, in a mount namespace of its own: both are gone with it. Its
/// control groups are its own too: in one with another machine's, a service of the one would be the other's.
const START: &str = r#"
mount -t cgroup2 none "$2/cgroup"
mkdir "$2/cgroup/$3"
echo $$ >"$2/cgroup/$3/cgroup.procs"
umount "$2/cgroup"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/disk"
exec systemd-nspawn --quiet --boot --directory="$2/disk" --machine="$3" --network-namespace-path="$4" \
    --capability=CAP_NET_ADMIN --register=no --keep-unit --console=pipe --notify-ready=yes --link-journal=no --resolv-conf=off --timezone=off
"#;

/// A machine, up for as long as this value lives.
#[derive(Debug)]
pub struct Machine<'a> {
    hosts: &'a Hosts,
    host: Host,
    debian: Debian,
    up: Option<Up>,
    /// Its disk: what it wrote over the root. Behind `up`, so that it is used by nobody when it goes.
    dir: TempDir,
}

/// One life of a machine, from boot to power-off.
#[derive(Debug)]
struct Up {
    nspawn: Program,
    /// The process id, as this host sees it, of the machine's PID 1.
    leader: u32,
    /// Behind `nspawn`: it is empty then.
    _groups: Groups,
}

/// The control groups of a machine, below the one that has its name.
#[derive(Debug)]
struct Groups(String);

impl Drop for Groups {
    fn drop(&mut self) {
        let _ = apart("find \"$1\" -depth -type d -exec rmdir {} +", &self.0);
    }
}

/// What is missing for a machine, if anything is.
#[must_use]
pub fn missing() -> Option<&'static str> {
    let programs = ["systemd-nspawn", "debootstrap", "dpkg-shlibdeps", "ip", "nsenter", "unshare"];
    let missing = programs.into_iter().find(|program| skip::find(program).is_none());
    missing.or((!skip::is_root()).then_some("root"))
}

impl<'a> Machine<'a> {
    /// A new machine, booted, in the place of a host.
    #[must_use]
    pub fn boot(debian: Debian, hosts: &'a Hosts, host: Host) -> Self {
        let dir = tempfile::tempdir_in(root::folder()).expect("the folder of the roots can be written");
        for part in ["upper", "work", "disk", "cgroup"] {
            fs::create_dir(dir.path().join(part)).expect("a new folder can be written");
        }
        let mut machine = Self { hosts, host, debian, up: None, dir };
        machine.power_on();
        machine
    }

    /// Runs a command to its end, as root.
    #[must_use]
    pub fn run(&self, command: &Command) -> Finished {
        run(&mut self.inside(command), COMMAND)
    }

    /// The same for a command of plain words.
    #[must_use]
    pub fn say(&self, words: &[&str]) -> Finished {
        self.run(Command::new(words[0]).args(&words[1..]))
    }

    /// The same for a line of shell, which must succeed; what it wrote to standard output.
    pub fn shell(&self, line: &str) -> String {
        let finished = self.say(&["sh", "-c", line]);
        assert!(finished.status.success(), "{line}\n{}: {}", finished.status, finished.all());
        finished.stdout.trim_end().to_owned()
    }

    /// Starts a command of plain words that goes on beside others, with its output in the file `log` of this host. It ends
    /// with the machine.
    #[must_use]
    pub fn start(&self, name: &str, words: &[&str], log: &Path) -> Program {
        Program::start(name, &mut self.inside(Command::new(words[0]).args(&words[1..])), log)
    }

    /// The process id, as this host sees it, of a process of the machine.
    #[must_use]
    pub fn pid_outside(&self, pid: &str) -> String {
        let namespace = |process: &Path| fs::read_link(process.join("ns/pid")).ok();
        let own = namespace(&Path::new("/proc").join(self.leader().to_string()));
        let processes = fs::read_dir("/proc").expect("/proc can be read").flatten().map(|entry| entry.path());
        let is_it = |process: &PathBuf| {
            let status = fs::read_to_string(process.join("status")).unwrap_or_default();
            let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().last());
            inner == Some(pid) && namespace(process) == own
        };
        let found = processes.into_iter().find(is_it).unwrap_or_else(|| panic!("the machine has no process {pid}"));
        found.file_name().expect("a process has a number").to_string_lossy().into_owned()
    }

    /// `command` as it is run inside.
    #[must_use]
    pub fn inside(&self, command: &Command) -> Command {
        let mut whole = Command::new("nsenter");
        whole.args(["--all", "--target", &self.leader().to_string(), "--"]);
        whole.arg(command.get_program()).args(command.get_args());
        whole.env_clear().envs(ENVIRONMENT).stdin(Stdio::null());
        whole.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        whole
    }

    /// A file of the machine's, as this host reads and writes it. No part of the path may be an absolute link: that would
    /// lead to this host's own files.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.leader().to_string()).join("root").join(file.trim_start_matches('/'))
    }

    /// Writes a file. One that is there keeps its owner and mode.
    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(file), text).unwrap_or_else(|error| panic!("write {file} of a machine: {error}"));
    }

    /// What the journal has of a unit.
    #[must_use]
    pub fn journal(&self, unit: &str) -> String {
        self.say(&["journalctl", "--no-pager", "--output=cat", "--unit", unit]).all()
    }

    /// Installs a package, or another version of it; what dpkg said.
    pub fn install(&self, package: &Path) -> Finished {
        let there = "/root/package.deb";
        fs::copy(package, self.path(there)).expect("a machine's disk has room");
        let finished = self.say(&["dpkg", "--install", there]);
        assert!(finished.status.success(), "{}: {}", finished.status, finished.all());
        finished
    }

    /// Shuts it down and boots it again. Its disk is what it was; the rules in its kernel are gone, as they would be.
    pub fn reboot(&mut self) {
        self.power_off();
        let flushed = self.hosts.say(self.host, &["nft", "flush", "ruleset"]);
        assert!(flushed.status.success(), "{}", flushed.all());
        self.power_on();
    }

    fn power_on(&mut self) {
        let up = Up::start(self.debian, &self.hosts.namespace(self.host), self.dir.path());
        self.up = Some(up);
        let state = self.say(&["systemctl", "is-system-running", "--wait"]);
        assert_eq!(state.stdout.trim(), "running", "{}", self.say(&["systemctl", "--failed", "--no-pager"]).all());
    }

    fn power_off(&mut self) {
        // It may be gone before the command has said so.
        let _ = self.say(&["systemctl", "poweroff"]);
        let mut up = self.up.take().expect("a machine is up between two calls");
        let status = up.nspawn.wait(BOOT);
        assert!(status.success(), "the machine ended with {status}:\n{}", up.nspawn.log());
    }

    fn leader(&self) -> u32 {
        self.up.as_ref().expect("a machine is up between two calls").leader
    }
}

impl Up {
    /// Boots until the machine's systemd says that it has started everything.
    fn start(debian: Debian, namespace: &Path, dir: &Path) -> Self {
        let socket = dir.join("notify");
        let _ = fs::remove_file(&socket);
        let notified = UnixDatagram::bind(&socket).expect("a new folder takes a socket");
        notified.set_nonblocking(true).expect("a socket can be told not to wait");
        let name = dir.file_name().expect("a temporary folder has a name").to_string_lossy();
        // A machine's name is a host name.
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", START, "sh"]);
        command.arg(debian.root()).arg(dir).arg(&name).arg(namespace);
        // Control groups as Debian has them, whatever this host has.
        command.env("NOTIFY_SOCKET", &socket).env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        let mut nspawn = Program::start("systemd-nspawn", &mut command, &dir.join("console"));
        let mut said = String::new();
        until("a machine to boot", BOOT, || {
            assert!(nspawn.has_ended().is_none(), "the machine did not boot:\n{}", nspawn.log());
            said += &received(&notified).unwrap_or_default();
            said.lines().any(|line| line == "READY=1").then_some(())
        });
        let leader = said.lines().find_map(|line| line.strip_prefix("X_NSPAWN_LEADER_PID="));
        let leader = leader.and_then(|pid| pid.parse().ok()).expect("nspawn tells the machine's first process");
        Self { nspawn, leader, _groups: Groups(name) }
    }
}

/// The next message of sd_notify(3), with an end of line, if there is one.
fn received(notified: &UnixDatagram) -> Option<String> {
    let mut message = [0; 4096];
    match notified.recv(&mut message) {
        Ok(length) => Some(format!("{}\n", String::from_utf8_lossy(&message[..length]))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("hear from systemd-nspawn: {error}"),
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        if thread::panicking() && self.up.is_some() {
            let journal = self.say(&["journalctl", "--no-pager", "--output=short-precise", "--lines=80"]);
            eprintln!("--- the journal of {:?}:\n{}---", self.host, journal.all());
        }
        // nspawn shuts the machine down on SIGTERM, and its end ends all that runs in it.
        self.up = None;
    }
}
