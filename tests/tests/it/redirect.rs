//! `adit redirect`: what it installs, that it takes all of it away again and touches nothing else, and what it says of what
//! is there. On hosts of the test's own, with each tool; what the rules do to connections is in `delivers`.

mod delivers;
mod last_good;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use adit_tests::{
    agent::{Agent, adit, binary, replace},
    cgroup::{Group, MOUNT},
    mesh::alone,
    need, need_that,
    netns::{Host, Hosts, inside},
    process::{Finished, Program},
    skip::{find, is_root},
    wait::{LIMIT, until},
};
use rustix::process::Signal;
use tempfile::TempDir;

/// Every tool, by the words that `adit redirect` is told.
const TOOLS: [&str; 3] = ["", "--iptables=iptables-nft", "--iptables=iptables-legacy"];

const OUTBOUND: &str = "[outbound]\ndtab = \"/dst/{ip}/{port} => /$/inet/{ip}/4143\"\n\
    [[outbound.peer]]\nname = \"/dst/{ip}/{port}\"\nidentity = \"b.adit.example\"\n";
const DOOR: &str = "[outbound.redirect]\nlisten = [\"127.0.0.1:4140\", \"[::1]:4140\"]\n";
const INCLUDE: &str = "[[outbound.redirect.include]]\nnet = [\"10.77.0.0/24\", \"fd77::/64\"]\nport = [6379]\n";

/// Includes of every kind, and in tproxy mode routes too.
fn all_of_it(mode: &str) -> String {
    format!(
        "[inbound]\nlisten = [\"127.0.0.1:0\"]\nstrict = [5432]\n[[inbound.service]]\nname = \"/svc/a\"\nto = \"127.0.0.1:5432\"\n\
         allow = [\"*.web.test\"]\nsource = \"transparent\"\n{OUTBOUND}{DOOR}mode = \"{mode}\"\n{INCLUDE}\
         [[outbound.redirect.include]]\nport = [80, \"8000-8100\"]\nuser = [\"daemon\", \"nobody\"]\n\
         [[outbound.redirect.include]]\nfrom = \"forwarded\"\ninterface = \"docker0\"\n\
         [[outbound.redirect.exclude]]\nnet = [\"10.77.0.9\"]\n"
    )
}

#[test]
fn applying_twice_is_applying_once_and_removal_leaves_every_other_rule_byte_for_byte() {
    need!("ip", "nft", "iptables-nft", "iptables-legacy", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    for mode in ["redirect", "tproxy"] {
        let stage = Stage::with(&all_of_it(mode));
        stage.others_rules();
        let before = stage.kernel();
        for tool in TOOLS {
            assert!(stage.adit(&["apply", tool]).expect_success().starts_with("applied: "));
            let once = stage.kernel();
            assert_ne!(once, before, "{mode} {tool}");
            assert!(once.contains("table inet others"), "{once}");
            let _ = stage.adit(&["apply", tool]).expect_success();
            assert_eq!(stage.kernel(), once, "{mode} {tool}, applied twice");
            let status = stage.adit(&["status"]);
            assert_eq!(status.status.code(), Some(0), "{mode} {tool}: {}", status.all());
            assert!(status.stdout.contains("configuration: matches"), "{}", status.stdout);
            let _ = stage.adit(&["remove"]).expect_success();
            assert_eq!(stage.kernel(), before, "{mode} {tool}, removed");
            let said = stage.adit(&["remove"]).expect_success();
            assert_eq!(said, "nothing of adit's is installed\n");
        }
        // and one tool's take the place of another's
        for tool in TOOLS {
            let _ = stage.adit(&["apply", tool]).expect_success();
            assert_eq!(stage.adit(&["status"]).status.code(), Some(0), "{tool} after another");
        }
        let _ = stage.adit(&["remove"]).expect_success();
        assert_eq!(stage.kernel(), before, "{mode}, one after another");
    }
}

#[test]
fn what_print_shows_is_what_the_tools_take() {
    need!("ip", "nft", "iptables-nft", "iptables-legacy", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    let stage = Stage::with(&format!("{OUTBOUND}{DOOR}{INCLUDE}"));
    let script = stage.adit(&["print"]).expect_success();
    stage.feed("nft -f -", &script);
    assert_eq!(stage.adit(&["status"]).status.code(), Some(0));
    let _ = stage.adit(&["remove"]).expect_success();
    for tool in ["iptables-nft", "iptables-legacy"] {
        let printed = stage.adit(&["print", "--iptables"]).expect_success();
        let (v4, v6) = printed.split_once("# IPv6").unwrap();
        stage.feed(&format!("{tool}-restore --noflush"), v4);
        stage.feed(&format!("{}-restore --noflush", tool.replace("iptables", "ip6tables")), &format!("#{v6}"));
        let status = stage.adit(&["status"]);
        assert_eq!(status.status.code(), Some(0), "{tool}: {}", status.all());
        let _ = stage.adit(&["remove"]).expect_success();
    }
}

#[test]
fn status_tells_what_is_missing_too_much_or_asked_for_since() {
    need!("ip", "nft", "iptables-nft", "iptables-legacy", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    let stage = Stage::with(&all_of_it("tproxy"));
    stage.differs(&["installed: nothing", "no rules are installed", "missing: ip -4 rule add"]);
    let _ = stage.adit(&["apply"]).expect_success();
    // a rule that somebody has added, one that is gone, and a route that is
    for (command, told) in [
        ("nft add rule inet adit output_mark tcp dport 1 accept", "not wanted in chain output_mark: tcp dport 1"),
        ("nft flush chain inet adit input_strict", "missing in chain input_strict: "),
        ("ip route del local default dev lo table 44311", "missing: ip -4 route add local default dev lo"),
        ("ip -6 rule del fwmark 0xad18", "missing: ip -6 rule add pref 173 fwmark 0xad18"),
        ("nft delete table inet adit", "no rules are installed"),
    ] {
        stage.host(command);
        stage.differs(&[told]);
        let _ = stage.adit(&["apply"]).expect_success();
        assert_eq!(stage.adit(&["status"]).status.code(), Some(0), "mended after `{command}`");
    }
    // the same of chains, where others' rules may stand before ours
    let _ = stage.adit(&["apply", "--iptables=iptables-legacy"]).expect_success();
    for (command, told) in [
        (
            "iptables-legacy -t mangle -A ADIT_OUTPUT -p tcp -j ACCEPT",
            "not wanted in IPv4 table mangle: -A ADIT_OUTPUT",
        ),
        ("ip6tables-legacy -t filter -F ADIT_INPUT", "missing in IPv6 table filter: -A ADIT_INPUT"),
        ("iptables-legacy -t mangle -I OUTPUT -p tcp -j ACCEPT", "stands before the jump to adit's chain (IPv4): "),
    ] {
        stage.host(command);
        stage.differs(&[told]);
        let _ = stage.adit(&["apply", "--iptables=iptables-legacy"]).expect_success();
        assert_eq!(stage.adit(&["status"]).status.code(), Some(0), "mended after `{command}`");
    }
    // and a file that asks for more than it did
    stage.edit(|text| text.replace("port = [6379]", "port = [6379, 7000]"));
    stage.differs(&["missing in IPv4 table mangle: ", "--dports 6379,7000", "not wanted in IPv4 table mangle: "]);
}

#[test]
fn rules_that_nobody_confirms_go_away_again_and_confirmed_ones_stay() {
    need!("ip", "nft", "iptables-legacy", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    for tool in ["", "--iptables=iptables-legacy"] {
        let stage = Stage::with(&all_of_it("tproxy"));
        stage.others_rules();
        let before = stage.kernel();
        // in time, nobody says a word; standard input is at its end, which is no word either
        let ended = stage.adit(&["apply", tool, "--confirm", "1s"]);
        assert_eq!(ended.status.code(), Some(1), "{}", ended.all());
        assert!(ended.stderr.contains("nobody confirmed in time: what was there before is back"), "{}", ended.stderr);
        assert_eq!(stage.kernel(), before);
        // somebody presses Enter
        let mut confirming = stage.confirm(tool);
        confirming.say("\n");
        assert!(confirming.program.wait(LIMIT).success());
        let kept = stage.kernel();
        assert_ne!(kept, before);
        assert_eq!(stage.adit(&["status"]).status.code(), Some(0));
        // the terminal goes, or an operator thinks better of it: the earlier ones are back
        stage.edit(|text| text.replace("port = [6379]", "port = [6379, 7000]"));
        for signal in [Signal::HUP, Signal::INT, Signal::TERM, Signal::QUIT, Signal::TSTP] {
            let mut confirming = stage.confirm(tool);
            assert_ne!(stage.kernel(), kept, "the new ones are in place meanwhile");
            confirming.program.signal(signal);
            assert_eq!(confirming.program.wait(LIMIT).code(), Some(1));
            assert_eq!(stage.kernel(), kept, "{signal:?} {tool}");
        }
    }
}

#[test]
fn a_tool_that_fails_half_way_leaves_things_as_they_were() {
    need!("ip", "nft", "iptables-nft", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    let stage = Stage::with(&all_of_it("tproxy"));
    stage.others_rules();
    let before = stage.kernel();
    // routes are there before rules are, and IPv4's rules before IPv6's
    let refuse = "echo 'no such feature in this kernel' >&2; exit 1";
    for (program, condition, words) in [
        ("nft", "[ \"$1\" = -f ]", ["apply", ""]),
        ("ip6tables-nft-restore", "[ \"$1\" = --noflush ]", ["apply", "--iptables=iptables-nft"]),
    ] {
        let stub = tempfile::tempdir().unwrap();
        let script =
            format!("#!/bin/sh\nif {condition}; then {refuse}; fi\nexec {} \"$@\"\n", find(program).unwrap().display());
        fs::write(stub.path().join(program), script).unwrap();
        fs::set_permissions(stub.path().join(program), fs::Permissions::from_mode(0o755)).unwrap();
        let failed = stage.adit_by(stub.path(), &words);
        assert_eq!(failed.status.code(), Some(1), "{program}");
        assert!(failed.stderr.contains("says: no such feature in this kernel"), "{}", failed.stderr);
        assert_eq!(stage.kernel(), before, "{program} failed");
    }
}

#[test]
fn a_rule_that_the_kernel_does_not_take_is_shown_with_the_part_of_the_file_that_asks_for_it() {
    need!("ip", "iptables-nft", "iptables-legacy", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    // a control group that the file system shows, and that the kernel does not find from where it is asked
    let path = format!("adit-refused-{}", std::process::id());
    let group = Group::make(&path);
    let enter: Vec<String> = group.enter().into_iter().chain(["unshare".to_owned(), "--cgroup".to_owned()]).collect();
    let enter: Vec<&str> = enter.iter().map(String::as_str).collect();
    let include = format!("{INCLUDE}[[outbound.redirect.include]]\ncgroup = \"{path}\"\n");
    let stage = Stage::with(&format!("{OUTBOUND}{DOOR}{include}"));
    stage.others_rules();
    let before = stage.kernel();
    for tool in ["--iptables=iptables-nft", "--iptables=iptables-legacy"] {
        let failed = stage.adit_within(&enter, &["apply", tool]);
        assert_eq!(failed.status.code(), Some(1), "{tool}");
        let of_the_rule = failed.stderr.lines().find(|line| line.starts_with("  of the rule: "));
        assert!(
            of_the_rule.is_some_and(
                |line| line.contains("\"include 2, of no known connection\"") || line.contains("\"include 2\"")
            ),
            "{tool}: {}",
            failed.stderr
        );
        assert_eq!(stage.kernel(), before, "{tool}");
    }
}

#[test]
fn a_missing_tool_is_named_with_the_package_that_brings_it() {
    need!("ip", "nft");
    need_that!(is_root(), "only root changes the kernel's rules");
    let stage = Stage::with(&format!("{OUTBOUND}{DOOR}{INCLUDE}"));
    let failed = stage.adit(&["apply", "--iptables=/nowhere/iptables-legacy"]);
    assert_eq!(failed.status.code(), Some(1));
    let wanted = "`/nowhere/iptables-legacy-restore --version`: it is not installed; install Debian's package iptables";
    assert!(failed.stderr.contains(wanted), "{}", failed.stderr);
    let failed = stage.adit(&["apply", "--iptables=ipfwadm"]);
    assert!(failed.stderr.contains("no command like `iptables`"), "{}", failed.stderr);
}

#[test]
fn who_may_not_change_rules_is_told_what_it_takes() {
    need!("setpriv");
    let dir = alone(&format!("{OUTBOUND}{DOOR}{INCLUDE}"));
    let file = dir.path().join("adit.toml");
    for word in ["apply", "status", "remove"] {
        let mut command = Command::new("setpriv");
        if is_root() {
            command.args(["--inh-caps", "-all", "--bounding-set", "-all"]);
        }
        command.arg(binary()).args(["redirect", word, "--config"]).arg(&file);
        let ended = adit_tests::process::run(&mut command, LIMIT);
        assert_eq!(ended.status.code(), Some(1), "{word}");
        assert!(ended.stderr.contains("need CAP_NET_ADMIN: run this as root"), "{word}: {}", ended.stderr);
    }
    // printing takes nothing
    let printed = adit(&["redirect", "print", "--config", file.to_str().unwrap()]).expect_success();
    assert!(printed.contains("table inet adit {"), "{printed}");
}

#[test]
fn what_is_installed_is_removed_whatever_the_file_says_by_then() {
    need!("ip", "nft", "iptables-legacy", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    let stage = Stage::with(&all_of_it("tproxy"));
    stage.edit(|text| format!("{text}\n[netfilter]\nroute_mark = 77\nroute_table = 1234\n"));
    stage.others_rules();
    let before = stage.kernel();
    let _ = stage.adit(&["apply", "--iptables=iptables-legacy"]).expect_success();
    stage.edit(|_| "this is no configuration".to_owned());
    let said = stage.adit(&["remove"]).expect_success();
    assert!(said.contains("removed the chains of ip6tables-legacy") && said.contains("table 1234"), "{said}");
    assert_eq!(stage.kernel(), before);
}

#[test]
fn a_control_group_that_is_made_anew_is_told_and_one_that_is_not_there_refused() {
    need!("ip", "nft", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    let path = format!("adit-test-{}", std::process::id());
    let include = format!("[[outbound.redirect.include]]\ncgroup = \"{path}\"\n");
    let stage = Stage::with(&format!("{OUTBOUND}{DOOR}{include}"));
    let nowhere = ["sh", "-c", "mount -t tmpfs none /sys/fs/cgroup && exec \"$@\"", "sh"];
    let refused = stage.adit_within(&nowhere, &["apply"]);
    assert!(refused.stderr.contains("/sys/fs/cgroup is no cgroup2"), "{}", refused.stderr);
    let refused = stage.adit_within(&MOUNT, &["apply"]);
    assert_eq!(refused.status.code(), Some(1));
    let wanted = format!("/sys/fs/cgroup/{path}: there is no such control group");
    assert!(refused.stderr.contains(&wanted), "{}", refused.stderr);
    let first = Group::make(&path);
    let _ = stage.adit_within(&MOUNT, &["apply"]).expect_success();
    assert_eq!(stage.adit_within(&MOUNT, &["status"]).status.code(), Some(0));
    drop(first);
    let status = stage.adit_within(&MOUNT, &["status"]);
    assert_eq!(status.status.code(), Some(3), "{}", status.all());
    assert!(status.stdout.contains(&wanted), "{}", status.stdout);
    let _second = Group::make(&path);
    let status = stage.adit_within(&MOUNT, &["status"]);
    assert_eq!(status.status.code(), Some(3), "{}", status.all());
    assert!(status.stdout.contains("missing in chain output_redirect: "), "{}", status.stdout);
}

#[test]
fn an_agent_that_holds_the_rules_has_them_before_it_is_ready_and_takes_them_away_once_it_has_drained() {
    need!("ip", "nft", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    let stage = Stage::with(&format!("{OUTBOUND}{DOOR}{INCLUDE}[admin]\nsocket = \"{{dir}}/admin.sock\"\n"));
    stage.others_rules();
    let before = stage.kernel();
    let enter = stage.hosts.enter(Host::A);
    let mut agent = Agent::start_with("the agent", stage.dir.path(), &enter, &["--redirect"]);
    assert_eq!(stage.adit(&["status"]).status.code(), Some(0));
    // a reload replaces them
    stage.edit(|text| text.replace("port = [6379]", "port = [6379, 7000]"));
    assert_eq!(stage.adit(&["status"]).status.code(), Some(3));
    let said = agent.reload().expect_success();
    assert!(said.contains("the kernel's rules: replaced, ") || said.contains("nothing new"), "{said}");
    until("the new rules", LIMIT, || (stage.adit(&["status"]).status.code() == Some(0)).then_some(()));
    // a crash leaves them, so that nothing goes by itself; the next agent takes them over
    agent.kill();
    assert_eq!(stage.adit(&["status"]).status.code(), Some(0));
    agent.restart();
    assert_eq!(stage.adit(&["status"]).status.code(), Some(0));
    agent.stop();
    assert_eq!(stage.kernel(), before);
    // and one that cannot have them does not start
    stage.edit(|text| text.replace("port = [6379, 7000]", "user = \"nobody-of-this-host\""));
    let mut command = Command::new(binary());
    command.args(["run", "--redirect", "--config"]).arg(agent.file());
    let failed = stage.hosts.run(Host::A, &command);
    assert_eq!(failed.status.code(), Some(1));
    assert!(failed.all().contains("this host has no user \"nobody-of-this-host\""), "{}", failed.all());
    assert_eq!(stage.kernel(), before);
}

#[test]
fn an_agent_that_holds_the_rules_puts_back_what_somebody_takes_away() {
    need!("ip", "nft", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    let stage = Stage::with(&format!("{OUTBOUND}{DOOR}mode = \"tproxy\"\n{INCLUDE}"));
    let enter = stage.hosts.enter(Host::A);
    let agent = Agent::start_with("the agent", stage.dir.path(), &enter, &["--redirect"]);
    for taking in [&["ip", "rule", "del", "pref", "173"][..], &["nft", "delete", "table", "inet", "adit"]] {
        let _ = stage.hosts.say(Host::A, taking).expect_success();
        assert_eq!(stage.adit(&["status"]).status.code(), Some(3));
        until("the rules to be back", LIMIT, || (stage.adit(&["status"]).status.code() == Some(0)).then_some(()));
    }
    agent.until_logged("somebody had taken the kernel's rules away; they are back");
}

#[test]
fn an_agent_takes_no_rules_away_that_were_put_in_the_place_of_its_own() {
    need!("ip", "nft", "iptables-legacy", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    for tool in ["", "--iptables=iptables-legacy"] {
        let stage = Stage::with(&format!("{OUTBOUND}{DOOR}{INCLUDE}"));
        let enter = stage.hosts.enter(Host::A);
        let mut agent = Agent::start_with("the agent", stage.dir.path(), &enter, &["--redirect"]);
        let _ = stage.adit(&["apply", tool]).expect_success();
        agent.stop();
        let status = stage.adit(&["status"]);
        assert_eq!(status.status.code(), Some(0), "{tool}: {}", status.all());
        let _ = stage.adit(&["remove"]).expect_success();
        // and none that are not there are none of somebody else's
        agent.restart();
        let _ = stage.adit(&["remove"]).expect_success();
        agent.stop();
        assert_eq!(stage.adit(&["remove"]).expect_success(), "nothing of adit's is installed\n");
    }
}

#[test]
fn rules_that_several_apply_at_once_are_in_place_whole() {
    need!("ip", "nft", "iptables-nft", "iptables-legacy", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    let stage = Stage::with(&all_of_it("tproxy"));
    for tool in TOOLS {
        std::thread::scope(|scope| {
            let apply = || scope.spawn(|| stage.adit(&["apply", tool]).expect_success());
            let applying: Vec<_> = (0..4).map(|_| apply()).collect();
            applying.into_iter().for_each(|one| _ = one.join().unwrap());
        });
        assert_eq!(stage.adit(&["status"]).status.code(), Some(0), "{tool}");
        let _ = stage.adit(&["remove"]).expect_success();
    }
}

#[test]
fn an_agent_that_holds_the_rules_makes_them_again_for_a_control_group_that_was_made_anew() {
    need!("ip", "nft", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    let path = format!("adit-renewed-{}", std::process::id());
    let stage = Stage::with(&format!("{OUTBOUND}{DOOR}[[outbound.redirect.include]]\ncgroup = \"{path}\"\n"));
    let first = Group::make(&path);
    let enter: Vec<String> = stage.hosts.enter(Host::A).into_iter().chain(MOUNT.map(str::to_owned)).collect();
    let mut agent = Agent::start_with("the agent", stage.dir.path(), &enter, &["--redirect"]);
    drop(first);
    let _second = Group::make(&path);
    agent.until_logged("made anew: what it connected to until now was not captured");
    assert_eq!(stage.adit_within(&MOUNT, &["status"]).status.code(), Some(0));
    agent.stop();
}

/// Hosts, and a file for A.
struct Stage {
    hosts: Hosts,
    dir: TempDir,
}

/// An `apply --confirm` that waits.
struct Confirming {
    program: Program,
}

impl Stage {
    fn with(sections: &str) -> Self {
        Self { hosts: Hosts::join(), dir: alone(sections) }
    }

    fn edit(&self, edit: impl FnOnce(&str) -> String) {
        let file = self.dir.path().join("adit.toml");
        let text = fs::read_to_string(&file).unwrap();
        let next = edit(&text);
        assert_ne!(next, text, "the edit changes something");
        replace(&file, &next);
    }

    /// `adit redirect WORDS` on A; words that are empty are left out.
    fn adit(&self, words: &[&str]) -> Finished {
        self.adit_within(&[], words)
    }

    /// The same, behind a command that leads elsewhere.
    fn adit_within(&self, enter: &[&str], words: &[&str]) -> Finished {
        self.hosts.run(Host::A, &self.command(enter, words))
    }

    /// The same, where programs are found in this folder first.
    fn adit_by(&self, folder: &Path, words: &[&str]) -> Finished {
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
        self.adit_within(&["env", &format!("PATH={path}")], words)
    }

    fn command(&self, enter: &[&str], words: &[&str]) -> Command {
        let binary = binary().display().to_string();
        let mut all: Vec<&str> = enter.to_vec();
        all.extend([binary.as_str(), "redirect"]);
        all.extend(words.iter().filter(|word| !word.is_empty()));
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).arg("--config").arg(self.dir.path().join("adit.toml"));
        command
    }

    /// Starts an `apply --confirm`, and waits until its rules are in place.
    fn confirm(&self, tool: &str) -> Confirming {
        let log = self.dir.path().join("confirm.log");
        let _ = fs::remove_file(&log);
        let mut command = inside(&self.hosts.enter(Host::A), &self.command(&[], &["apply", tool, "--confirm", "9m"]));
        let err = fs::File::create(&log).unwrap();
        let mut program =
            Program::spawn("confirm", command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(err), &log);
        program.until_ready(|| fs::read_to_string(&log).ok().filter(|said| said.contains("press Enter within 540 s")));
        Confirming { program }
    }

    /// A command of plain words on A, which must succeed.
    fn host(&self, command: &str) -> String {
        let words: Vec<_> = command.split(' ').collect();
        self.hosts.say(Host::A, &words).expect_success()
    }

    fn feed(&self, command: &str, input: &str) {
        let file = self.dir.path().join("input");
        fs::write(&file, input).unwrap();
        let _ = self.hosts.say(Host::A, &["sh", "-c", &format!("{command} <{}", file.display())]).expect_success();
    }

    /// Rules that are none of ours, of every kind, and routes.
    fn others_rules(&self) {
        self.feed("nft -f -", "table inet others {\n chain output {\n  type nat hook output priority -100;\n  tcp dport 9 redirect to :10\n }\n}\n");
        self.host("iptables-nft -A INPUT -p tcp --dport 9 -j ACCEPT");
        for ip in ["iptables", "ip6tables"] {
            for table in ["nat", "mangle", "filter"] {
                self.host(&format!("{ip}-legacy -t {table} -A OUTPUT -p tcp --dport 9 -j ACCEPT"));
            }
        }
        self.host("ip rule add fwmark 7 lookup 44311");
        self.host("ip route add 192.0.2.0/24 dev lo table 44311");
        self.host("ip -6 rule add fwmark 7 lookup 7");
    }

    /// All that the kernel has of rules and routes, without what counts or changes by itself.
    fn kernel(&self) -> String {
        let asked = [
            "nft -s list ruleset",
            "iptables-legacy-save",
            "ip6tables-legacy-save",
            "ip -4 rule",
            "ip -6 rule",
            "ip -4 route show table all",
            "ip -6 route show table 44311",
        ];
        let answers = asked.map(|command| {
            // A table that is not there is an error to `ip`.
            let words: Vec<_> = command.split(' ').collect();
            let answer = self.hosts.say(Host::A, &words).stdout;
            let lines = answer.lines().filter(|line| !line.starts_with('#'));
            // `:OUTPUT ACCEPT [3:180]` counts whatever passes.
            let lines = lines.map(|line| if line.starts_with(':') { line.split(" [").next().unwrap() } else { line });
            format!("== {command}\n{}\n", lines.collect::<Vec<_>>().join("\n"))
        });
        answers.concat()
    }

    /// `adit redirect status` says that it differs, and this.
    fn differs(&self, told: &[&str]) {
        let status = self.adit(&["status"]);
        assert_eq!(status.status.code(), Some(3), "{}", status.all());
        assert!(status.stdout.contains("configuration: differs"), "{}", status.stdout);
        for line in told {
            assert!(status.stdout.contains(line), "no `{line}` in:\n{}", status.stdout);
        }
    }
}

impl Confirming {
    fn say(&mut self, text: &str) {
        use std::io::Write;
        let mut input = self.program.child().stdin.take().unwrap();
        input.write_all(text.as_bytes()).unwrap();
    }
}
