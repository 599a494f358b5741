//! What Debian's users expect of a package: that it runs once it is installed, keeps what they wrote when it is upgraded or
//! removed, and leaves nothing when it is purged.

use std::fs;

use adit_tests::{
    agent::adit,
    machine::{self, Debian, Machine, package},
    need_that,
    netns::{Host, Hosts},
};

#[test]
fn on_debian_12_the_package_runs_when_installed_and_leaves_nothing_when_purged() {
    need_that!(machine::missing().is_none(), machine::missing().unwrap());
    live_and_die(Debian::Bookworm);
}

#[test]
fn on_debian_13_the_package_runs_when_installed_and_leaves_nothing_when_purged() {
    need_that!(machine::missing().is_none(), machine::missing().unwrap());
    live_and_die(Debian::Trixie);
}

#[test]
fn every_example_in_the_packages_file_holds_as_it_stands() {
    // given the file as it is installed, where an example is a line that begins with `#` and no space
    let installed = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/debian/adit.toml")).unwrap();
    let example =
        |line: &str| line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c != ' ')).map(str::to_owned);
    let examples = installed.lines().filter_map(example).count();
    assert!(examples > 10, "{examples}");
    // when an operator takes all of them, then they are right, with the file's own lines and with each other
    let all: String = installed.lines().map(|line| example(line).unwrap_or_else(|| line.to_owned()) + "\n").collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("adit.toml");
    for text in [installed, all] {
        fs::write(&file, text).unwrap();
        let said = adit(&["check", "--no-files", file.to_str().unwrap()]);
        assert!(said.all().ends_with(": no problem found\n"), "{}", said.all());
    }
}

fn live_and_die(debian: Debian) {
    // given a machine as Debian's installer leaves it
    let hosts = Hosts::join();
    let machine = Machine::boot(debian, &hosts, Host::A);
    let before = files(&machine);
    // when the package is installed, then the agent runs, and an operator can ask it
    let said = machine.install(&package("0.1.0-1")).all();
    assert!(said.contains("placeholder certificate"), "{said}");
    let first = running(&machine);
    assert_eq!(machine.shell("systemctl is-enabled adit.service"), "enabled");
    assert_eq!(machine.shell("adit check"), "/etc/adit/adit.toml: no problem found");
    // nobody but the agent and root reads the key, and the agent can write neither key nor configuration
    assert_eq!(modes(&machine), MODES);
    assert_eq!(machine.shell("getent passwd adit | cut -d: -f6,7"), "/nonexistent:/usr/sbin/nologin");
    // and nothing of the network reaches it
    assert_eq!(machine.shell("ss --no-header --listening --tcp --udp"), "");
    // and its manual can be read, in both chapters
    let pages = machine.shell("ls /usr/share/man/man1/adit*.gz /usr/share/man/man5/adit.toml.5.gz");
    assert!(pages.lines().count() > 10, "{pages}");

    // when an operator edits the file and the package is upgraded, then the agent was not stopped, and the file is the
    // operator's
    machine.shell("echo '# mine' >>/etc/adit/adit.toml");
    let key = machine.shell("cat /etc/adit/tls/host.key");
    machine.install(&package("0.1.0-2"));
    let _ = running(&machine);
    assert_eq!(machine.shell("tail -n 1 /etc/adit/adit.toml"), "# mine");
    assert_eq!(machine.shell("cat /etc/adit/tls/host.key"), key);

    // when it is removed, then nothing runs, and what the operator wrote stays
    machine.shell("dpkg --remove adit");
    assert_eq!(machine.say(&["pgrep", "-x", "adit"]).stdout, "");
    assert!(!machine.path("/usr/bin/adit").exists());
    assert_eq!(machine.shell("tail -n 1 /etc/adit/adit.toml"), "# mine");
    // and when it is installed again, then it runs by what was there
    machine.install(&package("0.1.0-2"));
    assert_ne!(running(&machine), first);
    assert_eq!(machine.shell("cat /etc/adit/tls/host.key"), key);

    // when it is purged, then there is nothing left of it
    machine.shell("dpkg --purge adit && rm /root/package.deb");
    assert_eq!(machine.say(&["pgrep", "-x", "adit"]).stdout, "");
    assert_eq!(files(&machine), before);
    assert_eq!(machine.shell("getent passwd adit; getent group adit; true"), "");
    assert_eq!(machine.shell("systemctl list-unit-files --no-legend 'adit*' || true"), "");
}

const MODES: &str = "\
/etc/adit root:root 755
/etc/adit/adit.toml root:root 644
/etc/adit/tls root:adit 750
/etc/adit/tls/ca.pem root:adit 644
/etc/adit/tls/host.key root:adit 640
/etc/adit/tls/host.pem root:adit 644
/run/adit/admin.sock adit:adit 660";

fn modes(machine: &Machine<'_>) -> String {
    machine.shell(
        "stat --format '%n %U:%G %a' /etc/adit /etc/adit/adit.toml /etc/adit/tls /etc/adit/tls/* /run/adit/admin.sock",
    )
}

/// Fails unless the agent runs and answers; its process id.
fn running(machine: &Machine<'_>) -> String {
    assert_eq!(machine.shell("systemctl is-active adit.service"), "active");
    let status = machine.say(&["adit", "status"]).expect_success();
    assert!(status.contains("ready"), "{status}");
    machine.shell("systemctl show --property MainPID --value adit.service")
}

/// Every file but those that change by themselves, and dpkg's own notes of what it did.
fn files(machine: &Machine<'_>) -> String {
    machine.shell(
        "find / -xdev -path /proc -prune -o -path /sys -prune -o -path /tmp -prune -o -path /var/log -prune \
         -o -path '/var/lib/dpkg/*-old' -o -path '/var/lib/systemd/*' -prune -o -print | LC_ALL=C sort",
    )
}
