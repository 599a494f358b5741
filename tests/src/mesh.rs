//! Two hosts on loopback, each with its agent: A's applications reach B's services by logical name. The default is a
//! mesh in which all is well; a scenario says only what differs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    address::{Address, Wire},
    agent::{Agent, put_program, replace},
    authority::{Authority, Credential, Leaf},
    process::Finished,
};

/// Host A's identity.
pub const A: &str = "a.adit.example";
/// Host B's identity.
pub const B: &str = "b.adit.example";

/// Two running agents.
#[derive(Debug)]
pub struct Mesh {
    /// The host of the applications: outbound listeners.
    pub a: Agent,
    /// The host of the services: a tunnel door.
    pub b: Agent,
    /// More hosts like B, with the same identity and the same services.
    pub more: Vec<Agent>,
    /// Who issued the certificates of both.
    pub authority: Authority,
    _dir: TempDir,
}

/// The folder of an agent that is in no mesh: A's identity, and a file with these sections, in which `{dir}` is the folder.
#[must_use]
pub fn alone(sections: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("adit tests");
    let credential = authority.issue(&Leaf::dns(&[A]));
    for (file, text) in [("ca.pem", authority.pem()), ("cert.pem", &credential.cert), ("key.pem", &credential.key)] {
        replace(&dir.path().join(file), text);
    }
    let tls = "[tls]\nca = \"{dir}/ca.pem\"\ncert = \"{dir}/cert.pem\"\nkey = \"{dir}/key.pem\"\n";
    let text = format!("{tls}{sections}").replace("{dir}", &dir.path().display().to_string());
    replace(&dir.path().join("adit.toml"), &text);
    dir
}

/// What a mesh shall be.
#[derive(Debug)]
pub struct Plan {
    dir: TempDir,
    authority: Authority,
    routes: Vec<Route>,
    table: Option<String>,
    b_table: Option<String>,
    peers: Option<String>,
    b_listen: String,
    more: usize,
    own_programs: bool,
    a_inside: Vec<String>,
    a: Host,
    b: Host,
}

#[derive(Debug)]
struct Host {
    credential: Credential,
    bundle: String,
    revoked: Option<String>,
    tls: Option<String>,
    more: String,
}

/// One service of B with A's listener for it.
#[derive(Clone, Debug)]
struct Route {
    name: String,
    service: Address,
    listen: Address,
    allow: String,
    more: String,
}

impl Mesh {
    /// A plan for two hosts that trust each other and have no service yet.
    #[must_use]
    pub fn plan() -> Plan {
        let authority = Authority::new("adit tests");
        let host = |name| Host {
            credential: authority.issue(&Leaf::dns(&[name])),
            bundle: authority.pem().to_owned(),
            revoked: None,
            tls: None,
            more: String::new(),
        };
        let (a, b) = (host(A), host(B));
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        Plan {
            dir,
            authority,
            routes: Vec::new(),
            table: None,
            b_table: None,
            peers: None,
            b_listen: "127.0.0.1:0".to_owned(),
            more: 0,
            own_programs: false,
            a_inside: Vec::new(),
            a,
            b,
        }
    }

    /// Where an application of host A reaches the service of this name.
    #[must_use]
    pub fn front(&self, name: &str) -> Address {
        self.a.listener(name)
    }

    /// `adit ping NAME` on host A.
    #[must_use]
    pub fn ping(&self, name: &str) -> Finished {
        self.a.ping(name)
    }
}

impl Plan {
    /// Who issues this mesh's certificates.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A file's path in the mesh's own folder, for sockets and the like.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// B serves `name` from `service`, A listens for it on the same wire, and A may use it.
    #[must_use]
    pub fn service(self, name: &str, service: &Address) -> Self {
        let listen = match service.wire() {
            Wire::Tcp => Address::any_port(),
            Wire::Unix => Address::Unix(self.path(&format!("front{}.sock", self.routes.len()))),
        };
        self.service_at(name, service, &listen)
    }

    /// The same, with A's listener at a given address.
    #[must_use]
    pub fn service_at(mut self, name: &str, service: &Address, listen: &Address) -> Self {
        let (name, service, listen) = (name.to_owned(), service.clone(), listen.clone());
        self.routes.push(Route { name, service, listen, allow: A.to_owned(), more: String::new() });
        self
    }

    /// Only `allow` may use the service added last.
    #[must_use]
    pub fn only_for(mut self, allow: &str) -> Self {
        allow.clone_into(&mut self.routes.last_mut().expect("a service was added before").allow);
        self
    }

    /// More keys of B's service added last.
    #[must_use]
    pub fn with(mut self, keys: &str) -> Self {
        self.routes.last_mut().expect("a service was added before").more += keys;
        self
    }

    /// A shows this certificate.
    #[must_use]
    pub fn a_shows(mut self, credential: Credential) -> Self {
        self.a.credential = credential;
        self
    }

    /// B shows this certificate.
    #[must_use]
    pub fn b_shows(mut self, credential: Credential) -> Self {
        self.b.credential = credential;
        self
    }

    /// A has this `[tls]` in place of the one that names its files, which are written all the same.
    #[must_use]
    pub fn a_tls(mut self, keys: &str) -> Self {
        self.a.tls = Some(format!("[tls]\n{keys}\n"));
        self
    }

    /// B has this `[tls]`.
    #[must_use]
    pub fn b_tls(mut self, keys: &str) -> Self {
        self.b.tls = Some(format!("[tls]\n{keys}\n"));
        self
    }

    /// A has this revocation list.
    #[must_use]
    pub fn a_revokes(mut self, list: String) -> Self {
        self.a.revoked = Some(list);
        self
    }

    /// B has this revocation list.
    #[must_use]
    pub fn b_revokes(mut self, list: String) -> Self {
        self.b.revoked = Some(list);
        self
    }

    /// A's delegation table, with `{port}` for the port of B's tunnel door; straight to B unless told.
    #[must_use]
    pub fn table(mut self, table: &str) -> Self {
        self.table = Some(table.to_owned());
        self
    }

    /// B's delegation table, for services that are names.
    #[must_use]
    pub fn b_table(mut self, table: &str) -> Self {
        self.b_table = Some(table.to_owned());
        self
    }

    /// Where B's tunnel door is; a free port of 127.0.0.1 unless told.
    #[must_use]
    pub fn b_listens(mut self, at: &str) -> Self {
        at.clone_into(&mut self.b_listen);
        self
    }

    /// So many more hosts like B.
    #[must_use]
    pub fn more_hosts(mut self, count: usize) -> Self {
        self.more = count;
        self
    }

    /// Each agent runs from a file of its own in its folder, which can be replaced.
    #[must_use]
    pub fn own_programs(mut self) -> Self {
        self.own_programs = true;
        self
    }

    /// A's agent runs inside what this command leads into.
    #[must_use]
    pub fn a_inside(mut self, inside: &[&str]) -> Self {
        self.a_inside = inside.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// A's `[[outbound.peer]]` rules; B's own identity for every name unless told.
    #[must_use]
    pub fn peers(mut self, peers: &str) -> Self {
        self.peers = Some(peers.to_owned());
        self
    }

    /// More tables for A's file.
    #[must_use]
    pub fn a_also(mut self, more: &str) -> Self {
        self.a.more.push_str(more);
        self
    }

    /// More tables for B's file.
    #[must_use]
    pub fn b_also(mut self, more: &str) -> Self {
        self.b.more.push_str(more);
        self
    }

    /// Writes the files and starts both agents, B first.
    #[must_use]
    pub fn start(self) -> Mesh {
        self.start_with_between(|b| ((), b.port())).0
    }

    /// The same, with something between A and B: `between` is told where B is and says at which port A finds it.
    #[must_use]
    pub fn start_with_between<T>(self, between: impl FnOnce(&Address) -> (T, u16)) -> (Mesh, T) {
        let b_dir = self.b.settle(self.dir.path(), "b", &self.b_file());
        self.put_program(&b_dir);
        let b = Agent::start("host B", &b_dir);
        let (between, port) = between(&b.inbound());
        let more = |number: usize| {
            let dir = self.b.settle(self.dir.path(), &format!("b{number}"), &self.b_file());
            Agent::start(&format!("host B{number}"), &dir)
        };
        let more = (2..2 + self.more).map(more).collect();
        let a_dir = self.a.settle(self.dir.path(), "a", &self.a_file(port));
        self.put_program(&a_dir);
        let a = Agent::start_inside("host A", &a_dir, &self.a_inside);
        (Mesh { a, b, more, authority: self.authority, _dir: self.dir }, between)
    }

    /// Writes the files and starts A alone, whose table says `{port}` is `port`: somebody else plays B.
    #[must_use]
    pub fn start_a(self, port: u16) -> (Agent, TempDir) {
        let a_dir = self.a.settle(self.dir.path(), "a", &self.a_file(port));
        (Agent::start("host A", &a_dir), self.dir)
    }

    /// Writes the files and starts B alone: somebody else plays A.
    #[must_use]
    pub fn start_b(self) -> (Agent, TempDir) {
        let b_dir = self.b.settle(self.dir.path(), "b", &self.b_file());
        (Agent::start("host B", &b_dir), self.dir)
    }

    /// Writes the files and runs B where its start is expected to fail; what it said and how it ended.
    #[must_use]
    pub fn fail_to_start_b(self) -> Finished {
        let b_dir = self.b.settle(self.dir.path(), "b", &self.b_file());
        Agent::fail_to_start(&b_dir)
    }

    fn put_program(&self, dir: &Path) {
        if self.own_programs {
            put_program(dir);
        }
    }

    fn b_file(&self) -> String {
        let mut text = format!("[inbound]\nlisten = [\"{}\"]\n", self.b_listen);
        if let Some(table) = &self.b_table {
            text += &format!("dtab = \"{table}\"\n");
        }
        for Route { name, service, allow, more, .. } in &self.routes {
            text += &format!(
                "\n[[inbound.service]]\nname = \"{name}\"\nto = \"{service}\"\nallow = [\"{allow}\"]\n{more}\n"
            );
        }
        text
    }

    fn a_file(&self, port: u16) -> String {
        let straight = "/svc/{service} => /$/inet/127.0.0.1/{port} ;";
        let table = self.table.as_deref().unwrap_or(straight).replace("{port}", &port.to_string());
        let anybody = format!("[[outbound.peer]]\nname = \"/svc/{{service}}\"\nidentity = \"{B}\"\n");
        let peers = self.peers.as_deref().unwrap_or(&anybody);
        let mut text = format!("[outbound]\ndtab = \"{table}\"\n\n{peers}");
        for Route { name, listen, .. } in &self.routes {
            text += &format!("\n[[outbound.listener]]\nlisten = \"{listen}\"\nto = \"{name}\"\n");
        }
        text
    }
}

impl Host {
    /// Writes a host's folder, `adit.toml` and all it names, and returns its path.
    fn settle(&self, mesh: &Path, name: &str, part: &str) -> PathBuf {
        let dir = mesh.join(name);
        fs::create_dir(&dir).expect("the mesh's folder can be written");
        let at = |file: &str| dir.join(file).display().to_string();
        let write = |file: &str, text: &str| {
            replace(&dir.join(file), text);
        };
        write("ca.pem", &self.bundle);
        write("cert.pem", &self.credential.cert);
        write("key.pem", &self.credential.key);
        let revoked = self.revoked.as_ref().map(|list| {
            write("crl.pem", list);
            format!("crl = [\"{}\"]\n", at("crl.pem"))
        });
        let tls = format!(
            "[tls]\nca = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\n{}",
            at("ca.pem"),
            at("cert.pem"),
            at("key.pem"),
            revoked.unwrap_or_default()
        );
        let tls = self.tls.clone().unwrap_or(tls);
        let admin = "[admin]\nlisten = \"127.0.0.1:0\"\n";
        write("adit.toml", &format!("{tls}\n{part}\n{admin}\n{}", self.more));
        dir
    }
}
