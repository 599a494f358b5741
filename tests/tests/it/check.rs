//! `adit check`: what an operator sees, on which stream, with which exit code.

use std::fs;
use std::process::{Command, Output};

use adit_tests::agent;
use tempfile::TempDir;

/// One warning: encryption without authentication.
const GOOD: &str = r#"
[tls]
ca = "/etc/adit/tls/ca.pem"
cert = "/etc/adit/tls/host.pem"
key = "/etc/adit/tls/host.key"

[outbound]
dtab = "/svc => /$/inet/10.77.0.2/4143"

[[outbound.peer]]
name = "/svc/{service}"
verify = "none"
"#;

fn check(file: &str, print: bool) -> Output {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("adit.toml"), file).unwrap();
    let mut command = Command::new(agent::binary());
    command.current_dir(dir.path()).args(["check", "--no-files"]);
    // The two ways to name a file are one.
    command.args(if print { &["adit.toml"][..] } else { &["--config", "adit.toml"] });
    if print {
        command.arg("--print");
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_printed_file_is_checked_and_printed_as_it_is() {
    let first = check(GOOD, true);
    let printed = text(&first.stdout);
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert!(printed.contains("\nhandshake = \"10s\""), "{printed}");
    assert!(text(&first.stderr).starts_with("adit.toml:12:10: warning: "), "{}", text(&first.stderr));
    let again = check(printed, true);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert_eq!(text(&again.stdout), printed);
}

#[test]
fn every_problem_is_a_line_of_standard_error_and_nothing_is_printed() {
    let bad = GOOD.replace("verify = \"none\"", "verify = \"full\"\nidentiy = \"b.prod.internal\"");
    let checked = check(&bad, true);
    assert_eq!(checked.status.code(), Some(1));
    assert_eq!(text(&checked.stdout), "");
    let expected = "adit.toml:12:10: `verify` is \"full\"; write \"none\", or leave it out to have `identity` verified\n\
                    adit.toml:13:1: unknown key `identiy` in [[outbound.peer]]; did you mean `identity`?\n";
    assert_eq!(text(&checked.stderr), expected);
}
