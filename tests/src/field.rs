//! The field of a capture: hosts in namespaces, an agent on A and one on B, and rules on A that bring its applications'
//! connections to the agent. The default is one in which all is well and every destination is captured by its address; a
//! scenario says only what differs, and runs over a [`Road`]: with no agent at all, or captured by each kind of rules.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    address::Address,
    agent::{Agent, binary, command, replace},
    authority::{Authority, Credential, Leaf},
    end::End,
    listener::Listener,
    netns::{Family, Host, Hosts, Recording},
    process::{Finished, run},
};

/// Host A's identity, beside its addresses.
pub const A: &str = "a.adit.example";
/// Host B's identity, beside its addresses.
pub const B: &str = "b.adit.example";

/// How long a command about rules may take.
const COMMAND: Duration = Duration::from_secs(30);

/// How an application on A gets to an address of B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// Straight, with no agent and no rules.
    Direct,
    /// By rules of this kind, in this mode, unaware.
    Captured(Tool, Mode),
}

/// What the rules are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// nft.
    Nftables,
    /// iptables over nftables.
    IptablesNft,
    /// iptables over its own, old kernel interface.
    IptablesLegacy,
}

/// How the rules bring a connection to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// REDIRECT.
    Redirect,
    /// TPROXY.
    Tproxy,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Tproxy => "tproxy",
        }
    }
}

/// The hosts with their agents, for as long as this value lives.
#[derive(Debug)]
pub struct Field {
    a: Option<Agent>,
    b: Option<Agent>,
    road: Road,
    /// The hosts.
    pub hosts: Hosts,
    /// Who issued the certificates of both agents.
    pub authority: Authority,
    _dir: TempDir,
}

/// What a field shall be.
#[derive(Debug)]
pub struct Plan {
    hosts: Hosts,
    dir: TempDir,
    authority: Authority,
    a_credential: Credential,
    b_credential: Credential,
    table: String,
    peers: String,
    door: String,
    includes: String,
    services: String,
    a_more: String,
    b_more: String,
    a_user: Option<(&'static str, &'static [&'static str])>,
    a_enter: &'static [&'static str],
}

impl Road {
    /// A field in which applications go this way.
    #[must_use]
    pub fn walk(self) -> Field {
        Field::plan().start(self)
    }

    /// What `adit redirect` is told of its tool.
    fn tool(self) -> &'static [&'static str] {
        match self {
            Self::Direct | Self::Captured(Tool::Nftables, _) => &[],
            Self::Captured(Tool::IptablesNft, _) => &["--iptables=iptables-nft"],
            Self::Captured(Tool::IptablesLegacy, _) => &["--iptables=iptables-legacy"],
        }
    }

    /// What the agents' files say, where there are agents.
    fn mode(self) -> Mode {
        match self {
            Self::Direct => Mode::Redirect,
            Self::Captured(_, mode) => mode,
        }
    }

    /// True if agents are on it.
    #[must_use]
    pub fn is_captured(self) -> bool {
        self != Self::Direct
    }
}

impl Field {
    /// A plan for hosts where every connection of A's to the wire's networks is captured, goes to the agent of the host
    /// that it was for, and on to any port there.
    #[must_use]
    pub fn plan() -> Plan {
        let authority = Authority::new("adit tests");
        let leaf = |name, host: Host| Leaf::dns(&[name]).ip(host.ip(Family::V4)).ip(host.ip(Family::V6));
        Plan {
            hosts: Hosts::join(),
            dir: tempfile::tempdir().expect("a temporary folder can be made"),
            a_credential: authority.issue(&leaf(A, Host::A)),
            b_credential: authority.issue(&leaf(B, Host::B)),
            authority,
            table: "/dst/{ip}/{port} => /$/inet/{ip}/4143 ;".to_owned(),
            peers: "[[outbound.peer]]\nname = \"/dst/{ip}/{port}\"\nidentity = \"ip:{ip}\"\n".to_owned(),
            door: String::new(),
            includes: "[[outbound.redirect.include]]\nnet = [\"10.77.0.0/24\", \"fd77::/64\"]\n".to_owned(),
            services: format!("[[inbound.capture]]\nports = [\"1-4142\", \"4144-65535\"]\nallow = [\"{A}\"]\n"),
            a_more: String::new(),
            b_more: String::new(),
            a_user: None,
            a_enter: &[],
        }
    }

    /// Host A's agent.
    #[must_use]
    pub fn a(&self) -> &Agent {
        self.a.as_ref().expect("this road has agents")
    }

    /// The same, to be changed.
    pub fn a_mut(&mut self) -> &mut Agent {
        self.a.as_mut().expect("this road has agents")
    }

    /// Host B's agent.
    #[must_use]
    pub fn b(&self) -> &Agent {
        self.b.as_ref().expect("this road has agents")
    }

    /// The agent of A or B.
    #[must_use]
    pub fn agent(&self, host: Host) -> &Agent {
        match host {
            Host::A => self.a(),
            Host::B => self.b(),
            Host::C | Host::Container | Host::Wire => panic!("{host:?} has no agent"),
        }
    }

    /// A listening service on B, at this port of all its addresses.
    #[must_use]
    pub fn service(&self, port: u16) -> Listener {
        self.hosts.on(Host::B, || Listener::at(&Address::parse(&format!("[::]:{port}"))))
    }

    /// An application on A connects to this port of B.
    #[must_use]
    pub fn call(&self, family: Family, port: u16) -> End {
        self.hosts.on(Host::A, || End::connect(&Host::B.at(family, port)))
    }

    /// A new connection's two ends: A's application's, and the service's on B.
    #[must_use]
    pub fn ends(&self, family: Family, service: &Listener) -> (End, End) {
        let client = self.call(family, service.address().port());
        (client, service.accept())
    }

    /// `adit redirect WORD` on A, by this road's tool; it must succeed.
    pub fn rules(&self, word: &str) -> String {
        self.rules_on(Host::A, &[word]).expect_success()
    }

    /// `adit redirect WORDS` on a host, by this road's tool.
    #[must_use]
    pub fn rules_on(&self, host: Host, words: &[&str]) -> Finished {
        self.rules_within(host, &[], words)
    }

    /// The same, with a command before it that leads elsewhere within the host.
    #[must_use]
    pub fn rules_within(&self, host: Host, enter: &[&str], words: &[&str]) -> Finished {
        let mut inside = self.hosts.enter(host);
        inside.extend(enter.iter().map(|word| (*word).to_owned()));
        let mut adit = command(&inside);
        adit.arg("redirect").args(words).args(self.road.tool()).arg("--config").arg(self.agent(host).file());
        run(adit.stdin(Stdio::null()), COMMAND)
    }

    /// What the bystander must have heard of `secret`, which crossed this road: every byte of it where no agent is, and
    /// else nothing but tunnels.
    pub fn assert_unheard(&self, wire: &Recording<'_>, secret: &str) {
        assert_eq!(wire.holds(secret), self.road == Road::Direct, "{secret} on the wire of {:?}", self.road);
        if self.road.is_captured() {
            assert_eq!(wire.frames("tcp and not port 4143"), Vec::<String>::new(), "frames outside the tunnels");
            assert!(!wire.frames("tcp port 4143").is_empty(), "no tunnel crossed the wire");
        }
    }
}

impl Plan {
    /// Who issues this field's certificates.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The hosts, which are up already.
    #[must_use]
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// A file's path in the field's own folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// B shows this certificate.
    #[must_use]
    pub fn b_shows(mut self, credential: Credential) -> Self {
        self.b_credential = credential;
        self
    }

    /// A's delegation table.
    #[must_use]
    pub fn table(mut self, table: &str) -> Self {
        table.clone_into(&mut self.table);
        self
    }

    /// A's `[[outbound.peer]]` rules.
    #[must_use]
    pub fn peers(mut self, peers: &str) -> Self {
        peers.clone_into(&mut self.peers);
        self
    }

    /// More of A's `[outbound.redirect]`; with a `listen` of its own, that goes instead of the default one.
    #[must_use]
    pub fn door(mut self, keys: &str) -> Self {
        self.door += keys;
        self
    }

    /// Which connections are captured, as `[[outbound.redirect.include]]` tables and their like.
    #[must_use]
    pub fn includes(mut self, tables: &str) -> Self {
        tables.clone_into(&mut self.includes);
        self
    }

    /// What B serves, as `[[inbound.capture]]` and `[[inbound.service]]` tables.
    #[must_use]
    pub fn services(mut self, tables: &str) -> Self {
        tables.clone_into(&mut self.services);
        self
    }

    /// More tables for A's file.
    #[must_use]
    pub fn a_also(mut self, more: &str) -> Self {
        self.a_more += more;
        self
    }

    /// More tables for B's file.
    #[must_use]
    pub fn b_also(mut self, more: &str) -> Self {
        self.b_more += more;
        self
    }

    /// A's agent runs as this user, with these capabilities and no other (`net_admin`).
    #[must_use]
    pub fn a_runs_as(mut self, user: &'static str, capabilities: &'static [&'static str]) -> Self {
        self.a_user = Some((user, capabilities));
        self
    }

    /// A's agent is led elsewhere within its host by this command.
    #[must_use]
    pub fn a_enters(mut self, enter: &'static [&'static str]) -> Self {
        self.a_enter = enter;
        self
    }

    /// The tables about captured connections that A's file will have on this road, for a B that captures too.
    #[must_use]
    pub fn outbound(&self, road: Road) -> String {
        self.a_file(road.mode())
    }

    /// A file with a credential in the field's folder, PREFIX.pem and PREFIX.key, for a further `[[tls.certificate]]`.
    #[must_use]
    pub fn certificate(self, id: &str, leaf: &Leaf) -> Self {
        let credential = self.authority.issue(leaf);
        let at = |suffix: &str| self.path(&format!("{id}.{suffix}"));
        replace(&at("pem"), &credential.cert);
        replace(&at("key"), &credential.key);
        let table = format!(
            "\n[[tls.certificate]]\nid = \"{id}\"\ncert = \"{}\"\nkey = \"{}\"\n",
            at("pem").display(),
            at("key").display()
        );
        self.a_also(&table)
    }

    /// Starts both agents and applies A's rules, where this road has any.
    #[must_use]
    pub fn start(self, road: Road) -> Field {
        let field = self.start_without_rules(road);
        if field.road.is_captured() {
            let _ = field.rules("apply");
        }
        field
    }

    /// Starts both agents, where this road has any, and leaves the rules of the hosts alone.
    #[must_use]
    pub fn start_without_rules(self, road: Road) -> Field {
        self.start_with(road, &[])
    }

    /// Starts both agents, and A's holds its rules for its life (`adit run --redirect`).
    #[must_use]
    pub fn start_holding(self, road: Road) -> Field {
        self.start_with(road, &[&["--redirect"], road.tool()].concat())
    }

    fn start_with(self, road: Road, words: &[&str]) -> Field {
        let (a_file, b_file) = (self.a_file(road.mode()), self.b_file());
        let b = self.settle("b", &self.b_credential, &b_file);
        let a = self.settle("a", &self.a_credential, &a_file);
        let mut enter_a = self.hosts.enter(Host::A);
        enter_a.extend(self.a_enter.iter().map(|word| (*word).to_owned()));
        if let Some((user, capabilities)) = self.a_user {
            enter_a.extend(self.become_user(user, capabilities, &a));
        }
        let start = |name, dir: &Path, enter: &[String], words: &[&str]| {
            road.is_captured().then(|| Agent::start_with(name, dir, enter, words))
        };
        let b = start("host B", &b, &self.hosts.enter(Host::B), &[]);
        let a = start("host A", &a, &enter_a, words);
        Field { a, b, road, hosts: self.hosts, authority: self.authority, _dir: self.dir }
    }

    fn a_file(&self, mode: Mode) -> String {
        let Self { table, peers, door, includes, a_more, .. } = self;
        let listen = if door.contains("listen") { "" } else { "listen = [\"127.0.0.1:4140\", \"[::1]:4140\"]\n" };
        let mode = mode.word();
        format!(
            "[outbound]\ndtab = \"{table}\"\n\n{peers}\n\
             [outbound.redirect]\n{listen}mode = \"{mode}\"\n{door}\n{includes}\n{a_more}"
        )
    }

    fn b_file(&self) -> String {
        let Self { services, b_more, .. } = self;
        format!("[inbound]\nlisten = [\"0.0.0.0:4143\", \"[::]:4143\"]\n\n{services}\n{b_more}")
    }

    /// Writes a host's folder, `adit.toml` and all it names, and returns its path.
    fn settle(&self, name: &str, credential: &Credential, part: &str) -> PathBuf {
        let dir = self.path(name);
        fs::create_dir(&dir).expect("the field's folder can be written");
        for (file, text) in
            [("ca.pem", self.authority.pem()), ("cert.pem", &credential.cert), ("key.pem", &credential.key)]
        {
            replace(&dir.join(file), text);
        }
        let at = dir.display();
        let text = format!(
            "[tls]\nca = \"{at}/ca.pem\"\ncert = \"{at}/cert.pem\"\nkey = \"{at}/key.pem\"\n\n{part}\n\
             [admin]\nsocket = \"{at}/admin.sock\"\n"
        );
        replace(&dir.join("adit.toml"), &text);
        dir
    }

    /// The words that make a command run as this user of the machine, who is given A's folder. The binary may be where
    /// only root can go, so the user has a copy.
    fn become_user(&self, user: &str, capabilities: &[&str], dir: &Path) -> Vec<String> {
        let copy = self.path("adit");
        fs::copy(binary(), &copy).expect("the binary can be copied");
        let id = |flag| {
            let said = run(Command::new("id").args([flag, user]), COMMAND).expect_success();
            said.trim().parse::<u32>().expect("a user's id is a number")
        };
        let (uid, gid) = (id("-u"), id("-g"));
        let own = |path: &Path| chown(path, Some(uid), Some(gid)).expect("root gives files away");
        for entry in fs::read_dir(dir).expect("the folder was made").flatten() {
            own(&entry.path());
        }
        own(dir);
        own(self.dir.path());
        // A new user has none of root's capabilities but those that are said to outlive the change (capabilities(7)).
        let kept =
            ["-all".to_owned()].into_iter().chain(capabilities.iter().map(|capability| format!("+{capability}")));
        let kept = kept.collect::<Vec<_>>().join(",");
        let become_it =
            format!("setpriv --reuid={uid} --regid={gid} --clear-groups --inh-caps={kept} --ambient-caps={kept}");
        let words = format!("shift; exec {become_it} {} \"$@\"", copy.display());
        // What follows is the binary, in whose place the copy goes.
        ["sh", "-c", &words, "sh"].map(str::to_owned).to_vec()
    }
}

/// Makes each scenario, a function of a [`Road`], into a test for each road: `scenario::direct`,
/// `scenario::nftables_redirect` and so on. `all` is every one, `main` those that differ most, `captured` all but the direct
/// one, `redirecting` each kind of rules once.
#[macro_export]
macro_rules! roads {
    ($($scenario:ident: $set:ident;)+) => {
        $(mod $scenario { $crate::roads!(@ $scenario $set); })+
    };
    (@ $scenario:ident main) => {
        $crate::roads!(@ $scenario direct ($crate::field::Road::Direct));
        $crate::roads!(@ $scenario nftables_redirect Nftables Redirect);
        $crate::roads!(@ $scenario nftables_tproxy Nftables Tproxy);
    };
    (@ $scenario:ident redirecting) => {
        $crate::roads!(@ $scenario nftables Nftables Redirect);
        $crate::roads!(@ $scenario iptables_nft IptablesNft Redirect);
        $crate::roads!(@ $scenario iptables_legacy IptablesLegacy Redirect);
    };
    (@ $scenario:ident captured) => {
        $crate::roads!(@ $scenario nftables_redirect Nftables Redirect);
        $crate::roads!(@ $scenario nftables_tproxy Nftables Tproxy);
        $crate::roads!(@ $scenario iptables_nft_redirect IptablesNft Redirect);
        $crate::roads!(@ $scenario iptables_nft_tproxy IptablesNft Tproxy);
        $crate::roads!(@ $scenario iptables_legacy_redirect IptablesLegacy Redirect);
        $crate::roads!(@ $scenario iptables_legacy_tproxy IptablesLegacy Tproxy);
    };
    (@ $scenario:ident all) => {
        $crate::roads!(@ $scenario direct ($crate::field::Road::Direct));
        $crate::roads!(@ $scenario captured);
    };
    (@ $scenario:ident $name:ident $tool:ident $mode:ident) => {
        $crate::roads!(@ $scenario $name (
            $crate::field::Road::Captured($crate::field::Tool::$tool, $crate::field::Mode::$mode)
        ));
    };
    (@ $scenario:ident $name:ident ($road:expr)) => {
        #[test]
        fn $name() {
            $crate::need_the_field!();
            super::$scenario($road);
        }
    };
}

/// Returns from the test, loudly, unless a field can be made here.
#[macro_export]
macro_rules! need_the_field {
    () => {
        $crate::need!("ip", "nft", "iptables-nft", "iptables-legacy", "tcpdump");
        $crate::need_that!($crate::skip::is_root(), "only root makes namespaces");
    };
}
