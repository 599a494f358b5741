//! Two hosts on one machine: two network namespaces joined by a pair of virtual cables. Root only. The names are this
//! process's own, and nothing of them is left afterwards.

use std::{
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::process::run;

/// How long an `ip` command may take.
const IP: Duration = Duration::from_secs(10);

/// Host A's address.
pub const A: &str = "10.77.0.1";
/// Host B's address.
pub const B: &str = "10.77.0.2";

/// The two hosts.
#[derive(Debug)]
pub struct Hosts {
    a: String,
    b: String,
}

impl Hosts {
    /// Makes them, each with loopback and its address on the cable.
    #[must_use]
    pub fn join() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let hosts = Self { a: format!("adit-{unique}-a"), b: format!("adit-{unique}-b") };
        let Self { a, b } = &hosts;
        for host in [a, b] {
            ip(&format!("netns add {host}"));
            ip(&format!("-n {host} link set lo up"));
        }
        // Inside the namespaces the cable's ends have names of their own, so no other test's can clash.
        ip(&format!("-n {a} link add cable type veth peer name cable netns {b}"));
        for (host, address) in [(a, A), (b, B)] {
            ip(&format!("-n {host} address add {address}/24 dev cable"));
            ip(&format!("-n {host} link set cable up"));
        }
        hosts
    }

    /// The command that leads into host A.
    #[must_use]
    pub fn in_a(&self) -> Vec<String> {
        enter(&self.a)
    }

    /// The command that leads into host B.
    #[must_use]
    pub fn in_b(&self) -> Vec<String> {
        enter(&self.b)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in [&self.a, &self.b] {
            let _ = Command::new("ip").args(["netns", "delete", host]).status();
        }
    }
}

/// `command` as it is run inside a namespace.
#[must_use]
pub fn inside(enter: &[String], command: &Command) -> Command {
    let mut whole = Command::new(&enter[0]);
    whole.args(&enter[1..]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            whole.env(key, value);
        }
    }
    whole
}

fn enter(host: &str) -> Vec<String> {
    ["ip", "netns", "exec", host].map(str::to_owned).to_vec()
}

fn ip(words: &str) {
    let _ = run(Command::new("ip").args(words.split(' ')), IP).expect_success();
}
