//! Starts that fail: one clear line that names the file or the door and what is wrong with it, exit code 1, and never a
//! word of READY. (Certificates that cannot serve are in `certificates`.)

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    process::Command,
};

use adit_tests::{
    agent::binary,
    authority::{Authority, Leaf},
    mesh::B,
    need,
    process::{Finished, run},
    skip::is_root,
    wait::LIMIT,
};
use tempfile::TempDir;

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    for part in [
        format!("[inbound]\nlisten = [\"{at}\"]\n{SERVICE}"),
        format!(
            "[outbound]\ndtab = \"/svc => /$/inet/127.0.0.1/9\"\n[[outbound.listener]]\nlisten = \"{at}\"\nto = \"/svc/a\"\n{PEER}"
        ),
        format!("{SOUND}[admin]\nlisten = \"{at}\""),
    ] {
        let host = Host::with(&part);
        host.fails(&[&at, "Address already in use", "another process listens there"]);
    }
}

#[test]
fn a_socket_file_in_use_is_named_and_stays() {
    let host = Host::with(SOUND);
    let file = host.path("taken.sock");
    let _taken = UnixListener::bind(&file).unwrap();
    host.write(&format!("{SOUND}[admin]\nsocket = \"{}\"", file.display()));
    host.fails(&["unix:", "taken.sock", "address in use", "another process listens there"]);
    assert!(file.exists());
}

#[test]
fn an_address_of_no_interface_is_named() {
    // TEST-NET-1 (RFC 5737): no host has it.
    let host = Host::with(&format!("[inbound]\nlisten = [\"192.0.2.1:4143\"]\n{SERVICE}"));
    host.fails(&["192.0.2.1:4143", "no interface of this host has this address"]);
}

#[test]
fn a_key_that_may_not_be_read_is_named() {
    need!("setpriv");
    let host = Host::with(SOUND);
    fs::set_permissions(host.path("key.pem"), fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything, unless it has given that right away (capabilities(7)).
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
    }
    command.arg(binary());
    host.fails_by(&mut command, &["key.pem", "Permission denied", "let the agent's user read it"]);
}

#[test]
fn a_missing_file_is_named() {
    for (file, advice) in [("ca.pem", "[tls]"), ("cert.pem", "[tls]"), ("key.pem", "[tls]")] {
        let host = Host::with(SOUND);
        fs::remove_file(host.path(file)).unwrap();
        host.fails(&[file, "No such file or directory", advice]);
    }
    let host = Host::with(SOUND);
    fs::remove_file(host.path("adit.toml")).unwrap();
    host.fails(&["adit.toml", "No such file or directory"]);
}

#[test]
fn a_malformed_file_is_told_by_its_place() {
    for (part, words) in [
        ("[inbound\n", &["adit.toml:6:"][..]),
        ("[inbound]\nlisten = 4143", &["adit.toml:7:10: "][..]),
        ("[inbound]\nlisten = [\"127.0.0.1:0\"]\nconceall = true", &["adit.toml:8:1: ", "conceal"][..]),
    ] {
        Host::with(part).fails(words);
    }
}

#[test]
fn every_problem_of_a_file_has_its_line() {
    let host = Host::with("[inbound]\nlisten = 4143\nconceall = true\n\n[logg]\nlevel = 1");
    let ended = host.start(&mut Command::new(binary()));
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.stderr.lines().count(), 3, "{}", ended.stderr);
}

#[test]
fn a_ready_file_that_cannot_be_written_is_named() {
    let host = Host::with(SOUND);
    let ready = host.path("missing/ready");
    let ended = run(
        Command::new(binary()).arg("run").arg("--config").arg(host.path("adit.toml")).arg("--ready-file").arg(ready),
        LIMIT,
    );
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("missing/ready"), "{}", ended.stderr);
}

/// An inbound side that nothing is wrong with.
const SOUND: &str = "[inbound]\nlisten = [\"127.0.0.1:0\"]\n\n[[inbound.service]]\nname = \"/svc/a\"\nto = \"127.0.0.1:9\"\nallow = [\"a.adit.example\"]\n";

const SERVICE: &str = "[[inbound.service]]\nname = \"/svc/a\"\nto = \"127.0.0.1:9\"\nallow = [\"a.adit.example\"]\n";

const PEER: &str = "[[outbound.peer]]\nname = \"/svc/a\"\nidentity = \"b.adit.example\"";

/// A host's folder, whole but for what a scenario breaks.
struct Host(TempDir);

impl Host {
    fn with(part: &str) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        let authority = Authority::new("adit tests");
        let credential = authority.issue(&Leaf::dns(&[B]));
        let texts = [("ca.pem", authority.pem()), ("cert.pem", &credential.cert), ("key.pem", &credential.key)];
        for (file, text) in texts {
            fs::write(host.path(file), text).unwrap();
            fs::set_permissions(host.path(file), fs::Permissions::from_mode(0o600)).unwrap();
        }
        host.write(part);
        host
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.0.path().join(file)
    }

    /// The file: `[tls]` in its first five lines, then `part`.
    fn write(&self, part: &str) {
        let at = |file: &str| self.path(file).display().to_string();
        let (ca, cert, key) = (at("ca.pem"), at("cert.pem"), at("key.pem"));
        let text = format!("[tls]\nca = \"{ca}\"\ncert = \"{cert}\"\nkey = \"{key}\"\n\n{part}\n");
        fs::write(self.path("adit.toml"), text).unwrap();
    }

    fn fails(&self, words: &[&str]) {
        self.fails_by(&mut Command::new(binary()), words);
    }

    /// It ends with 1, having said all of `words` in its one line of error, and was never ready.
    fn fails_by(&self, command: &mut Command, words: &[&str]) {
        let ended = self.start(command);
        assert_eq!(ended.status.code(), Some(1), "{}", ended.all());
        let errors: Vec<_> = ended.all().lines().filter(|line| !line.contains(" WARN ")).map(str::to_owned).collect();
        assert_eq!(errors.len(), 1, "{}", ended.all());
        for word in words {
            assert!(ended.stderr.contains(word), "no `{word}` in {}", ended.stderr);
        }
        assert!(!self.path("ready").exists());
    }

    fn start(&self, command: &mut Command) -> Finished {
        command.arg("run").arg("--config").arg(self.path("adit.toml")).arg("--ready-file").arg(self.path("ready"));
        run(command, LIMIT)
    }
}
