//! The pairs: what carries the load from a plain front to a plain service.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    rc::Rc,
    time::Duration,
};

use adit_tests::{
    address::Address,
    agent::Agent,
    authority::{Authority, Leaf},
    field::{Field, Road},
    netns::Host,
    process::{Program, on_a_free_port},
};
use tempfile::TempDir;

const A: &str = "a.bench.example";
const B: &str = "b.bench.example";

/// The CPU time that the whole machine has used, its kernel's too, for whoever that was (proc(5), stat).
pub(crate) fn machine() -> Duration {
    let stat = fs::read_to_string("/proc/stat").expect("every kernel has it");
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).expect("its first line is of all CPUs");
    let all: Vec<u64> = line.split_whitespace().map(|ticks| ticks.parse().expect("a number of ticks")).collect();
    // User, nice, system; idle and waiting are none; interrupts and what they led to.
    Duration::from_millis([0, 1, 2, 5, 6].into_iter().map(|field| all[field]).sum::<u64>() * 10)
}

/// One CA and a credential for each end, the same for every pair.
pub(crate) struct Setup {
    dir: TempDir,
}

/// Two processes between a front and a service; none for the direct way.
pub(crate) struct Pair {
    name: String,
    front: Address,
    programs: Vec<(&'static str, Running)>,
    field: Option<Rc<Field>>,
    _dir: Option<TempDir>,
}

enum Running {
    Program(Program),
    Agent(Agent),
    Of(Rc<Field>, Host),
}

impl Pair {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn front(&self) -> &Address {
        &self.front
    }

    /// The agents of a field, if it is captured by `road`, and a front that leads through them, or past them.
    pub(crate) fn of_field(name: &str, front: Address, field: &Rc<Field>, road: Road) -> Self {
        let programs = if road.is_captured() { vec![("dialer", Host::A), ("acceptor", Host::B)] } else { Vec::new() };
        let programs = programs.into_iter().map(|(name, host)| (name, Running::Of(Rc::clone(field), host))).collect();
        Self { name: name.to_owned(), front, programs, field: Some(Rc::clone(field)), _dir: None }
    }

    /// The command that leads to where its front is.
    pub(crate) fn enter(&self) -> Vec<String> {
        self.field.as_ref().map_or_else(Vec::new, |field| field.hosts.enter(Host::A))
    }

    /// Its processes by name and id.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (&'static str, i32)> {
        self.programs.iter().map(|(name, running)| {
            let pid = match running {
                Running::Program(program) => program.pid(),
                Running::Agent(agent) => agent.pid(),
                Running::Of(field, host) => field.agent(*host).pid(),
            };
            (*name, pid.as_raw_nonzero().get())
        })
    }

    /// The CPU time that its processes have used, user and system (proc(5), stat: fields 14 and 15).
    pub(crate) fn cpu(&self) -> Duration {
        let ticks: u64 = self.processes().map(|(_, pid)| ticks(pid)).sum();
        Duration::from_millis(ticks * 10)
    }
}

fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let (_, fields) = stat.rsplit_once(')').expect("stat has the command in parentheses");
    fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number of ticks")).sum()
}

impl Setup {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let authority = Authority::new("adit bench");
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &str| adit_tests::agent::replace(&at(name), text);
        write("ca.pem", authority.pem());
        for (name, dns) in [("a", A), ("b", B)] {
            let credential = authority.issue(&Leaf::dns(&[dns]));
            write(&format!("{name}.pem"), &credential.cert);
            write(&format!("{name}.key"), &credential.key);
            write(&format!("{name}.both"), &format!("{}{}", credential.cert, credential.key));
        }
        Self { dir }
    }

    /// The service itself, and adit in front of it, with and without recycling.
    pub(crate) fn direct_and_adit(&self, service: &Address) -> Vec<Pair> {
        vec![
            Pair { name: "direct".to_owned(), front: service.clone(), programs: Vec::new(), field: None, _dir: None },
            self.adit("adit", service, "", ""),
            self.adit("adit, no recycling", service, "", "tunnel_age = \"1ms\"\n"),
        ]
    }

    /// Every pair in front of this service.
    pub(crate) fn pairs(&self, service: &Address) -> Vec<Pair> {
        let mut pairs = self.direct_and_adit(service);
        pairs.extend([
            self.adit("adit, one thread", service, "[runtime]\nthreads = 1\n", ""),
            self.haproxy(service),
            self.stunnel(service),
        ]);
        pairs
    }

    /// Two agents; `more` are tables for both files, `limits` are lines of `[limits]`.
    pub(crate) fn adit(&self, name: &str, service: &Address, more: &str, limits: &str) -> Pair {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let b = self.agent(
            dir.path(),
            "b",
            &format!(
                "[inbound]\nlisten = [\"127.0.0.1:0\"]\n[[inbound.service]]\nname = \"/svc/bench\"\nto = \"{service}\"\nallow = [\"{A}\"]\n[log]\nlevel = \"warn\"\n{more}[limits]\n{limits}"
            ),
        );
        let port = b.inbound().to_string().rsplit_once(':').expect("an address has a port").1.to_owned();
        let a = self.agent(
            dir.path(),
            "a",
            &format!(
                "[outbound]\ndtab = \"/svc => /$/inet/127.0.0.1/{port}\"\n[[outbound.peer]]\nname = \"/svc/*\"\nidentity = \"{B}\"\n[[outbound.listener]]\nlisten = \"127.0.0.1:0\"\nto = \"/svc/bench\"\n[log]\nlevel = \"warn\"\n{more}[limits]\n{limits}"
            ),
        );
        let front = a.listener("/svc/bench");
        let programs = vec![("dialer", Running::Agent(a)), ("acceptor", Running::Agent(b))];
        Pair { name: name.to_owned(), front, programs, field: None, _dir: Some(dir) }
    }

    fn agent(&self, dir: &Path, name: &str, rest: &str) -> Agent {
        let dir = dir.join(name);
        fs::create_dir(&dir).expect("a temporary folder can be written");
        let at = |file: String| self.dir.path().join(file).display().to_string();
        let (ca, cert, key) = (at("ca.pem".to_owned()), at(format!("{name}.pem")), at(format!("{name}.key")));
        let text = format!("[tls]\nca = \"{ca}\"\ncert = \"{cert}\"\nkey = \"{key}\"\n{rest}");
        fs::write(dir.join("adit.toml"), text).expect("a temporary folder can be written");
        Agent::start(name, &dir)
    }

    fn haproxy(&self, service: &Address) -> Pair {
        let head = "global\n  maxconn 9000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 5m\n  timeout server 5m\n";
        let dir = self.dir.path().display();
        let (b, middle) = self.on_a_port("haproxy", |port| {
            let tls = format!("ssl crt {dir}/b.both ca-file {dir}/ca.pem verify required ssl-min-ver TLSv1.3");
            let config = format!("{head}listen b\n  bind 127.0.0.1:{port} {tls}\n  server s {service}\n");
            self.config(&format!("haproxy-b-{port}"), &config, &["haproxy", "-db", "-f"])
        });
        let (a, front) = self.on_a_port("haproxy", |port| {
            let tls = format!("ssl crt {dir}/a.both ca-file {dir}/ca.pem verify required verifyhost {B} sni str({B}) ssl-min-ver TLSv1.3");
            let config = format!("{head}listen a\n  bind 127.0.0.1:{port}\n  server s {middle} {tls}\n");
            self.config(&format!("haproxy-a-{port}"), &config, &["haproxy", "-db", "-f"])
        });
        let programs = vec![("dialer", Running::Program(a)), ("acceptor", Running::Program(b))];
        Pair { name: "HAProxy pair".to_owned(), front, programs, field: None, _dir: None }
    }

    fn stunnel(&self, service: &Address) -> Pair {
        let dir = self.dir.path().display();
        let head = |name: &str| {
            format!(
                "foreground = yes\npid =\nsslVersionMin = TLSv1.3\nCAfile = {dir}/ca.pem\ncert = {dir}/{name}.pem\nkey = {dir}/{name}.key\nverifyChain = yes\ndebug = 3\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n"
            )
        };
        let (b, middle) = self.on_a_port("stunnel", |port| {
            let config = format!("{}[b]\naccept = 127.0.0.1:{port}\nconnect = {service}\n", head("b"));
            self.config(&format!("stunnel-b-{port}"), &config, &["stunnel4"])
        });
        let (a, front) = self.on_a_port("stunnel", |port| {
            let config = format!(
                "{}[a]\nclient = yes\naccept = 127.0.0.1:{port}\nconnect = {middle}\ncheckHost = {B}\nsni = {B}\n",
                head("a")
            );
            self.config(&format!("stunnel-a-{port}"), &config, &["stunnel4"])
        });
        let programs = vec![("dialer", Running::Program(a)), ("acceptor", Running::Program(b))];
        Pair { name: "stunnel pair".to_owned(), front, programs, field: None, _dir: None }
    }

    fn config(&self, name: &str, text: &str, program: &[&str]) -> Command {
        let file = self.dir.path().join(name);
        fs::write(&file, text).expect("a temporary folder can be written");
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(file).stdin(Stdio::null());
        command
    }

    /// Starts a program on a port that nobody has, and waits until it answers there.
    fn on_a_port(&self, name: &str, mut command: impl FnMut(u16) -> Command) -> (Program, Address) {
        on_a_free_port(|port| {
            let log = self.dir.path().join(format!("{name}-{port}.log"));
            let mut program = Program::start(name, &mut command(port), &log);
            let address = Address::parse(&format!("127.0.0.1:{port}"));
            program.until_ready(|| std::net::TcpStream::connect(address.to_string()).ok());
            Ok((program, address))
        })
    }
}
