//! `adit redirect apply --last-good`: a host has the rules of the last file that could be used where those of its file cannot
//! be, and never older ones in the place of whole ones.

use std::{fs, os::unix::fs::PermissionsExt};

use adit_tests::{
    need, need_that,
    netns::Host,
    skip::{find, is_root},
};

use super::{DOOR, INCLUDE, OUTBOUND, Stage};

#[test]
fn a_file_that_cannot_be_used_leaves_the_rules_of_the_last_one_that_could_be_and_fails() {
    need!("ip", "nft", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    let stage = Stage::with(&format!("{OUTBOUND}{DOOR}{INCLUDE}"));
    let kept = tempfile::tempdir().unwrap();
    let kept = kept.path().join("last-good.toml").display().to_string();
    let apply = || stage.adit(&["apply", "--last-good", &kept]);
    // given a host that had no good file yet, then it has no rules
    stage.edit(|text| format!("{text}\nnonsense\n"));
    let refused = apply();
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("no rules were changed, for there is no file of before in"), "{}", refused.stderr);
    // and one that had, and has forgotten its rules
    stage.edit(|text| text.replace("\nnonsense\n", ""));
    let _ = apply().expect_success();
    let rules = stage.kernel();
    let _ = stage.adit(&["remove"]).expect_success();
    assert_ne!(stage.kernel(), rules);
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    for spoil in [true, false] {
        // when its file is wrong, or gone
        if spoil {
            stage.edit(|text| format!("{text}\nnonsense\n"));
        } else {
            stage.edit(|text| text.replace("\nnonsense\n", ""));
            fs::remove_file(stage.dir.path().join("adit.toml")).unwrap();
        }
        // then it has them again, and is told
        let told = apply();
        assert_eq!(told.status.code(), Some(1));
        assert!(
            told.stderr.contains("installed instead are the rules of the last file that could be used"),
            "{}",
            told.stderr
        );
        assert_eq!(stage.kernel(), rules);
        // but not in the place of rules that are there
        let told = apply();
        assert_eq!(told.status.code(), Some(1));
        assert!(told.stderr.contains("the rules that are in place stay"), "{}", told.stderr);
        assert_eq!(stage.kernel(), rules);
        let _ = stage.adit(&["remove"]).expect_success();
    }
}

#[test]
fn what_a_flush_has_left_of_rules_does_not_stand_in_for_them() {
    need!("ip", "nft", "iptables-nft", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    for (tool, flushes) in [
        (
            "",
            &[
                "nft flush table inet adit",
                "nft flush chain inet adit output_redirect",
                "nft delete table inet adit; nft add table inet adit",
            ][..],
        ),
        (
            "--iptables=iptables-nft",
            &[
                "iptables-nft -t nat -F OUTPUT",
                "iptables-nft -t nat -F",
                "ip6tables-nft -t nat -F; ip6tables-nft -t nat -X",
            ],
        ),
    ] {
        let stage = Stage::with(&format!("{OUTBOUND}{DOOR}{INCLUDE}"));
        let kept = tempfile::tempdir().unwrap();
        let kept = kept.path().join("last-good.toml").display().to_string();
        let apply = || stage.adit(&["apply", "--last-good", &kept, tool]);
        let _ = apply().expect_success();
        // But for what tells that a chain of the kernel was made for ours, which a flush takes away for good.
        let kernel = || stage.kernel().replace("\t\t counter\n", "");
        let rules = kernel();
        stage.edit(|text| format!("{text}\nnonsense\n"));
        for flush in flushes {
            // given a firewall that was made anew, and took some of ours along
            let _ = stage.hosts.say(Host::A, &["sh", "-c", flush]).expect_success();
            assert_ne!(kernel(), rules, "{flush}");
            // when the file is wrong by now, then all of them are there again
            let told = apply();
            assert!(
                told.stderr.contains("installed instead are the rules of the last file"),
                "{flush}: {}",
                told.stderr
            );
            assert_eq!(kernel(), rules, "{flush}");
        }
    }
}

#[test]
fn rules_whose_ways_are_gone_are_made_again() {
    need!("ip", "nft", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    let stage = Stage::with(&format!("{OUTBOUND}{DOOR}mode = \"tproxy\"\n{INCLUDE}"));
    let kept = tempfile::tempdir().unwrap();
    let kept = kept.path().join("last-good.toml").display().to_string();
    let apply = || stage.adit(&["apply", "--last-good", &kept]);
    let _ = apply().expect_success();
    let rules = stage.kernel();
    stage.edit(|text| format!("{text}\nnonsense\n"));
    // given that whoever manages the network has taken a routing rule that it did not know
    let _ = stage.hosts.say(Host::A, &["ip", "-4", "rule", "del", "fwmark", "0xad18"]).expect_success();
    assert_ne!(stage.kernel(), rules);
    let told = apply();
    assert!(told.stderr.contains("installed instead are the rules of the last file"), "{}", told.stderr);
    assert_eq!(stage.kernel(), rules);
}

#[test]
fn rules_that_the_kernel_refuses_or_nobody_confirms_leave_those_of_the_last_good_file() {
    need!("ip", "nft", "unshare");
    need_that!(is_root(), "only root changes the kernel's rules");
    let stage = Stage::with(&format!("{OUTBOUND}{DOOR}{INCLUDE}"));
    let kept = tempfile::tempdir().unwrap();
    let kept = kept.path().join("last-good.toml").display().to_string();
    let _ = stage.adit(&["apply", "--last-good", &kept]).expect_success();
    let (rules, good) = (stage.kernel(), fs::read(&kept).unwrap());
    // given a file whose rules nft does not take, though it could be read
    stage.edit(|text| format!("{text}[[outbound.redirect.include]]\nport = [54321]\n"));
    let stub = tempfile::tempdir().unwrap();
    let script = format!(
        "#!/bin/sh\ncase $* in '-f -') rules=$(cat); case $rules in *54321*) echo no such feature >&2; exit 1;; esac\n\
         printf '%s\\n' \"$rules\" | exec {0} -f - ;; *) exec {0} \"$@\" ;; esac\n",
        find("nft").unwrap().display()
    );
    fs::write(stub.path().join("nft"), script).unwrap();
    fs::set_permissions(stub.path().join("nft"), fs::Permissions::from_mode(0o755)).unwrap();
    let apply = || stage.adit_by(stub.path(), &["apply", "--last-good", &kept]);
    for (remains, told) in [
        (true, "the rules that are in place stay"),
        (false, "installed instead are the rules of the last file that could be used"),
    ] {
        if !remains {
            let _ = stage.adit(&["remove"]).expect_success();
        }
        // when they are applied, then those of before are in place
        let refused = apply();
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            refused.stderr.contains("no such feature") && refused.stderr.contains(told),
            "{remains}: {}",
            refused.stderr
        );
        assert_eq!(stage.kernel(), rules);
        assert_eq!(fs::read(&kept).unwrap(), good);
    }
    // and rules that nobody confirms are no good ones
    let taken_back = stage.adit(&["apply", "--confirm", "1s", "--last-good", &kept]);
    assert_eq!(taken_back.status.code(), Some(1));
    assert!(taken_back.stderr.contains("nobody confirmed in time"), "{}", taken_back.all());
    assert_eq!(stage.kernel(), rules);
    assert_eq!(fs::read(&kept).unwrap(), good);
}
