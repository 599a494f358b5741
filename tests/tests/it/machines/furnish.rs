//! What an operator brings to two machines: the package, credentials that were made elsewhere, a file each, and the rules
//! that capture what the applications of A open to the services of B.

use std::{fs, path::Path};

use adit_tests::{
    agent::adit,
    machine::{Debian, Machine, package},
    netns::{A, B, Family, Host, Hosts},
    resp::Resp,
};

/// What both machines' files begin with.
const FILE: &str = r#"
[tls]
ca = "/etc/adit/tls/ca.pem"
cert = "/etc/adit/tls/host.pem"
key = "/etc/adit/tls/host.key"

[admin]
socket = "/run/adit/admin.sock"

[log]
format = "journald"

[netfilter]
user = "adit"
"#;

/// The machine of the applications.
const FILE_OF_A: &str = r#"
[outbound]
dtab = "/dst/{ip}/{port} => /$/inet/{ip}/4143"

[[outbound.peer]]
name = "/dst/{ip}/{port}"
identity = "ip:{ip}"

[outbound.redirect]
listen = "127.0.0.1:4140"

[[outbound.redirect.include]]
net = "10.77.0.0/24"
port = [5432, 6379]
"#;

/// The machine of the services, which nobody reaches around the agent.
const FILE_OF_B: &str = r#"
[inbound]
listen = "10.77.0.2:4143"
strict = true

[[inbound.capture]]
ports = [5432, 6379]
allow = ["ip:10.77.0.1"]
"#;

/// The version that [`furnish`] installs, and the one after it.
pub(super) const VERSIONS: [&str; 2] = ["0.1.0-1", "0.1.0-2"];

/// Both machines as Debian's installer leaves them, A and B, with Redis on B.
pub(super) fn boot(hosts: &Hosts) -> (Machine<'_>, Machine<'_>) {
    let a = Machine::boot(Debian::Bookworm, hosts, Host::A);
    let b = Machine::boot(Debian::Bookworm, hosts, Host::B);
    b.shell(&format!("printf 'bind {B}\\nprotected-mode no\\n' >>/etc/redis/redis.conf"));
    b.shell("systemctl enable --now redis-server.service");
    (a, b)
}

/// Installs the package on both, and what an operator brings.
pub(super) fn furnish(a: &Machine<'_>, b: &Machine<'_>) {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca");
    let ca = ca.to_str().unwrap();
    let _ = adit(&["ca", "init", "--dir", ca]).expect_success();
    let package = package(VERSIONS[0]);
    for (machine, name, ip, file) in [(a, "a", A, FILE_OF_A), (b, "b", B, FILE_OF_B)] {
        let pair = dir.path().join(name);
        let issue = ["ca", "issue", "--dir", ca, "--dns", &format!("{name}.prod.internal"), "--ip", ip, "--out"];
        let _ = adit(&[&issue[..], &[pair.to_str().unwrap()]].concat()).expect_success();
        machine.install(&package);
        for (from, to) in [
            ("ca/ca.pem".to_owned(), "ca.pem"),
            (format!("{name}.pem"), "host.pem"),
            (format!("{name}.key"), "host.key"),
        ] {
            bring(machine, &dir.path().join(from), &format!("/etc/adit/tls/{to}"));
        }
        machine.write("/etc/adit/adit.toml", format!("{FILE}{file}"));
        machine.shell("systemctl restart adit.service && systemctl enable --now adit-redirect.service");
    }
}

fn bring(machine: &Machine<'_>, file: &Path, to: &str) {
    machine.write(to, fs::read(file).unwrap());
}

/// Lets PostgreSQL serve the machine's neighbours, which asks nobody for a password: who may come, the agents say.
pub(super) fn serve_postgres(b: &Machine<'_>) {
    b.shell(&format!("echo \"listen_addresses = '{B}'\" >>/etc/postgresql/15/main/postgresql.conf"));
    b.shell("echo 'host all all samenet trust' >>/etc/postgresql/15/main/pg_hba.conf");
    b.shell("systemctl enable --now postgresql.service");
}

/// The process that systemd takes for the agent.
pub(super) fn main_pid(machine: &Machine<'_>) -> String {
    property(machine, "MainPID")
}

/// What systemd says of the agent's unit.
pub(super) fn property(machine: &Machine<'_>, name: &str) -> String {
    machine.shell(&format!("systemctl show --property {name} --value adit.service"))
}

/// A client's connection to Redis on B, from A.
pub(super) struct Redis(Resp);

impl Redis {
    /// Connects; whoever is refused fails the test.
    pub(super) fn connect(hosts: &Hosts) -> Self {
        Self(hosts.on(Host::A, || Resp::connect(&Host::B.at(Family::V4, 6379))))
    }

    /// It is answered.
    pub(super) fn serves(&mut self) {
        assert_eq!(self.0.ask(&[b"PING"]), b"+PONG");
    }
}
