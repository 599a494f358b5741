//! One `adit run` process: its folder with configuration and certificates, its life, and the addresses it bound.
//! Everything here is what an operator could do by hand.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write,
    mem,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::{
    address::Address,
    authority::Credential,
    end::End,
    process::{Finished, Program, run},
    wait::{LIMIT, until},
};

/// How long `adit ping` may take: longer than the agent's own limit for opening a stream.
const PING: Duration = Duration::from_secs(30);
/// How long `adit upgrade` may take: longer than the new agent may take to be ready.
const UPGRADE: Duration = Duration::from_secs(90);

/// The agent of one host.
#[derive(Debug)]
pub struct Agent {
    name: String,
    dir: PathBuf,
    inside: Vec<String>,
    words: Vec<String>,
    program: Program,
    /// Agents before this one, which an upgrade has let drain; the oldest first.
    before: Vec<Program>,
    bound: Vec<Bound>,
}

/// One line of the ready file.
#[derive(Clone, Debug)]
struct Bound {
    listener: String,
    to: Option<String>,
    address: String,
}

impl Agent {
    /// Starts an agent from `adit.toml` in `dir` and waits until it is ready.
    #[must_use]
    pub fn start(name: &str, dir: &Path) -> Self {
        Self::start_inside(name, dir, &[])
    }

    /// The same, with the command that leads into another namespace before it.
    #[must_use]
    pub fn start_inside(name: &str, dir: &Path, inside: &[String]) -> Self {
        Self::start_with(name, dir, inside, &[])
    }

    /// The same, with more words for `adit run`.
    #[must_use]
    pub fn start_with(name: &str, dir: &Path, inside: &[String], words: &[&str]) -> Self {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut agent = Self {
            name: name.to_owned(),
            dir: dir.to_owned(),
            inside: inside.to_vec(),
            program: launch(name, dir, inside, &words),
            words,
            before: Vec::new(),
            bound: Vec::new(),
        };
        agent.until_ready();
        agent
    }

    /// Runs an agent whose start is expected to fail; what it said and how it ended.
    #[must_use]
    pub fn fail_to_start(dir: &Path) -> Finished {
        let mut command = command(&[]);
        run(command.arg("run").arg("--config").arg(dir.join("adit.toml")), LIMIT)
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its tunnel door is.
    #[must_use]
    pub fn inbound(&self) -> Address {
        Address::parse(&self.line("inbound", None).address)
    }

    /// Where its listener for the logical name `to` is.
    #[must_use]
    pub fn listener(&self, to: &str) -> Address {
        Address::parse(&self.line("outbound", Some(to)).address)
    }

    /// Where its admin door is.
    #[must_use]
    pub fn admin_address(&self) -> Address {
        Address::parse(&self.line("admin", None).address)
    }

    /// Waits for its end, which something else brings about.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        self.program.wait(limit)
    }

    /// All it has logged, over every start.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.log()
    }

    /// Waits until its log holds `text`, and fails the test, showing the log, if it never does.
    pub fn until_logged(&self, text: &str) {
        let what = format!("{} to log `{text}`", self.name);
        until(&what, LIMIT, || self.log().contains(text).then_some(()));
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.program.pid()
    }

    /// Kills it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Asks it to drain and end; fails the test unless it exits with success.
    pub fn stop(&mut self) {
        let status = self.program.stop();
        assert!(status.success(), "{} drained and then ended with {status}", self.name);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    /// Starts it again after its end. Its tunnel door is where it was; other listeners may have moved.
    pub fn restart(&mut self) {
        self.pin();
        let _ = fs::remove_file(self.ready_file());
        self.program = launch(&self.name, &self.dir, &self.inside, &self.words);
        self.until_ready();
    }

    /// Replaces its certificate and key on disk, which a running agent sees. Each file changes in one step.
    pub fn swap_credential(&self, credential: &Credential) {
        replace(&self.dir.join("key.pem"), &credential.key);
        replace(&self.dir.join("cert.pem"), &credential.cert);
    }

    /// Rewrites its configuration file in one step; an agent that is told, or looks, reads it again.
    pub fn edit(&self, edit: impl FnOnce(&str) -> String) {
        replace(&self.file(), &edit(&self.text()));
    }

    /// What its configuration file says.
    #[must_use]
    pub fn text(&self) -> String {
        fs::read_to_string(self.file()).expect("the agent has a configuration file")
    }

    /// Its configuration file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.dir.join("adit.toml")
    }

    /// `adit reload` on this host, whose file must open an admin socket. Then its doors are those of now.
    #[must_use]
    pub fn reload(&mut self) -> Finished {
        let mut command = command(&self.inside);
        let finished = run(command.arg("reload").arg("--config").arg(self.file()), LIMIT);
        self.look_at_doors();
        finished
    }

    /// `adit upgrade` on this host, whose file must open an admin socket. If it succeeds, this is the new agent, and the one
    /// before it is the last of those before.
    #[must_use]
    pub fn upgrade(&mut self) -> Finished {
        let mut command = command(&self.inside);
        let finished = run(command.arg("upgrade").arg("--config").arg(self.file()), UPGRADE);
        if finished.status.success() {
            self.adopt(&finished);
        }
        finished
    }

    /// Takes the process that an `adit upgrade` has told of for the agent.
    pub fn adopt(&mut self, upgraded: &Finished) {
        let pid =
            upgraded.stdout.split("serves as process ").nth(1).and_then(|rest| rest.split(';').next()?.parse().ok());
        let pid = pid.unwrap_or_else(|| panic!("no process in {}", upgraded.all()));
        let next = Program::adopt(&self.name, pid, &self.dir.join("log"));
        self.before.push(mem::replace(&mut self.program, next));
    }

    /// Puts a shell script in the place of the agent's own program, which its folder must have (see
    /// [`Plan::own_programs`](crate::mesh::Plan::own_programs)). `{adit}` is the program itself.
    pub fn replace_program(&self, script: &str) {
        let script = format!("#!/bin/sh\n{}\n", script.replace("{adit}", &binary().display().to_string()));
        self.replace_program_by(script.as_bytes(), 0o755);
    }

    /// The same with a file of these bytes and this mode.
    pub fn replace_program_by(&self, bytes: &[u8], mode: u32) {
        let (program, beside) = (self.program_file(), self.dir.join("adit.new"));
        assert!(program.exists(), "{} runs a program of its own", self.name);
        // In one step, as a package does it: no process has it open for writing when it is run.
        fs::write(&beside, bytes)
            .and_then(|()| fs::set_permissions(&beside, fs::Permissions::from_mode(mode)))
            .and_then(|()| fs::rename(&beside, &program))
            .unwrap_or_else(|error| panic!("replace {}: {error}", program.display()));
    }

    /// Where its own program is, if it has one.
    #[must_use]
    pub fn program_file(&self) -> PathBuf {
        self.dir.join("adit")
    }

    /// The agents before this one, which an upgrade has let drain; the oldest first.
    pub fn before(&mut self) -> &mut [Program] {
        &mut self.before
    }

    /// Its status page.
    #[must_use]
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.admin("/status")).expect("the status page is JSON")
    }

    /// Takes its doors from its status page, where a reload has changed them.
    pub fn look_at_doors(&mut self) {
        let status = self.status();
        let doors = status["listeners"].as_array().expect("the status page lists the listeners");
        self.bound = doors.iter().filter_map(Bound::of).collect();
    }

    /// `adit ping NAME` on this host.
    #[must_use]
    pub fn ping(&self, name: &str) -> Finished {
        let mut command = command(&self.inside);
        run(command.args(["ping", name, "--config"]).arg(self.dir.join("adit.toml")), PING)
    }

    /// The answer's body to GET `path` at its admin door.
    #[must_use]
    pub fn admin(&self, path: &str) -> String {
        let answer = self.admin_answer("GET", path);
        let (_, body) = answer.split_once("\r\n\r\n").expect("an answer has a head and a body");
        body.to_owned()
    }

    /// The whole answer to a request without a body at its admin door, head and all.
    #[must_use]
    pub fn admin_answer(&self, method: &str, path: &str) -> String {
        let address = self.admin_address();
        let mut end = End::connect(&address);
        end.send(format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes());
        String::from_utf8(end.receive_rest()).expect("the admin door answers in text")
    }

    /// A metric's value, by its name and labels as `/metrics` writes them; 0 if it has none yet.
    #[must_use]
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.admin("/metrics");
        let values = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        values.map(|value| value.parse::<f64>().expect("a metric is a number")).next().unwrap_or(0.0)
    }

    /// The endpoints that its outbound side knows of, each with its health, as `/status` shows them.
    #[must_use]
    pub fn endpoints(&self) -> BTreeMap<String, String> {
        let status: Value = serde_json::from_str(&self.admin("/status")).expect("the status is JSON");
        let routes = status["routes"].as_array().into_iter().flatten().filter(|route| route["side"] == "outbound");
        let balancers = routes.flat_map(|route| route["balancers"].as_array().into_iter().flatten());
        let endpoints = balancers.flat_map(|balancer| balancer["endpoints"].as_array().into_iter().flatten());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        endpoints.map(|endpoint| (text(&endpoint["address"]), text(&endpoint["health"]))).collect()
    }

    fn until_ready(&mut self) {
        let expected = expected_listeners(&self.dir);
        let file = self.ready_file();
        self.bound = self.program.until_ready(|| {
            let text = fs::read_to_string(&file).ok()?;
            let bound: Vec<Bound> = text.lines().filter_map(Bound::parse).collect();
            (bound.len() >= expected).then_some(bound)
        });
    }

    fn line(&self, listener: &str, to: Option<&str>) -> &Bound {
        self.bound
            .iter()
            .find(|bound| bound.listener == listener && bound.to.as_deref() == to)
            .unwrap_or_else(|| panic!("{} has no {listener} listener to {to:?}: {:?}", self.name, self.bound))
    }

    fn ready_file(&self) -> PathBuf {
        self.dir.join("ready")
    }

    /// Writes the tunnel door's port into the file, so that the next start finds its peers where they look for it.
    fn pin(&self) {
        let file = self.dir.join("adit.toml");
        let text = fs::read_to_string(&file).expect("the agent has a configuration file");
        if self.bound.iter().any(|bound| bound.listener == "inbound") {
            let pinned = format!("listen = [\"{}\"]", self.inbound());
            fs::write(&file, text.replacen("listen = [\"127.0.0.1:0\"]", &pinned, 1))
                .expect("its folder can be written");
        }
    }
}

impl Bound {
    fn parse(line: &str) -> Option<Self> {
        Self::of(&serde_json::from_str(line).ok()?)
    }

    fn of(line: &Value) -> Option<Self> {
        let text = |key: &str| line[key].as_str().map(str::to_owned);
        Some(Self { listener: text("listener")?, to: text("to"), address: text("address")? })
    }
}

/// The `adit` binary: what `ADIT_BIN` names, else the one built beside the tests, else the other profile's.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(named) = env::var_os("ADIT_BIN") {
        return named.into();
    }
    let profile = beside_the_tests();
    let target = profile.parent().expect("a profile's folder is in the target folder");
    [profile.join("adit"), target.join("release/adit"), target.join("debug/adit")]
        .into_iter()
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!(
                "no adit binary near {}: build it with `cargo build --release -p adit`, or name one in ADIT_BIN",
                profile.display()
            )
        })
}

/// `adit ARGUMENTS`, to its end.
#[must_use]
pub fn adit(arguments: &[&str]) -> Finished {
    run(command(&[]).args(arguments), LIMIT)
}

/// The same, with text on its standard input.
#[must_use]
pub fn adit_with_input(arguments: &[&str], input: &str) -> Finished {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let file = dir.path().join("stdin");
    fs::write(&file, input).expect("a new folder can be written");
    let input = fs::File::open(&file).expect("what was written can be read");
    run(command(&[]).args(arguments).stdin(input), LIMIT)
}

/// The folder that cargo put this build's binaries into.
pub(crate) fn beside_the_tests() -> PathBuf {
    let test = env::current_exe().expect("a process knows its own binary");
    let deps = test.parent().expect("a binary is in a folder");
    let profile = if deps.ends_with("deps") { deps.parent() } else { Some(deps) };
    profile.expect("a profile's folder holds deps").to_owned()
}

/// The `adit` command, inside another namespace if so told.
pub(crate) fn command(inside: &[String]) -> Command {
    command_of(&binary(), inside)
}

fn command_of(binary: &Path, inside: &[String]) -> Command {
    match inside.split_first() {
        None => Command::new(binary),
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(binary);
            command
        }
    }
}

/// Gives the agent of this folder a program of its own, which can be replaced: a link, a name for the same file.
pub fn put_program(dir: &Path) {
    let (from, to) = (binary(), dir.join("adit"));
    // Where the folder is on another file system, the file is copied.
    let put = fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop));
    put.unwrap_or_else(|error| panic!("put {} at {}: {error}", from.display(), to.display()));
}

/// Writes beside the file and renames, so that no reader sees half of it. Its owner alone may read it: it may be a key.
pub fn replace(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    // What is left of an earlier attempt would keep its own mode.
    let _ = fs::remove_file(&beside);
    let mut options = fs::File::options();
    options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&beside, file))
        .unwrap_or_else(|error| panic!("replace {}: {error}", file.display()));
}

fn launch(name: &str, dir: &Path, inside: &[String], words: &[String]) -> Program {
    let own = Some(dir.join("adit")).filter(|file| file.is_file());
    let mut command = command_of(&own.unwrap_or_else(binary), inside);
    command.arg("run").args(words).arg("--config").arg(dir.join("adit.toml"));
    command.arg("--ready-file").arg(dir.join("ready"));
    Program::start(name, &mut command, &dir.join("log"))
}

/// How many TCP and unix listeners the configuration opens: the ready file is whole when it has as many lines.
fn expected_listeners(dir: &Path) -> usize {
    let text = fs::read_to_string(dir.join("adit.toml")).expect("the agent has a configuration file");
    text.lines().filter(|line| line.trim_start().starts_with("listen")).count()
}
