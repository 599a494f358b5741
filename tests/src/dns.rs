//! A real name server, unbound, whose answers a test changes while it runs: an address, none such, a failure, silence.

use std::net::SocketAddr;

use crate::unbound::{Says, Unbound};

/// The zone that the server answers for.
pub const ZONE: &str = "mesh.example";

/// A running name server.
#[derive(Debug)]
pub struct Dns(Unbound);

impl Dns {
    /// Starts it; every name of [`ZONE`] is unknown at first.
    #[must_use]
    pub fn start() -> Self {
        Self::start_inside(&[])
    }

    /// The same, with the command that leads into another namespace before it.
    #[must_use]
    pub fn start_inside(inside: &[String]) -> Self {
        Self(Unbound::start(inside, |_| {
            let server = format!(
                r#"    do-not-query-localhost: no
    cache-max-ttl: 0
    cache-max-negative-ttl: 0
    local-zone: "{ZONE}." static
"#
            );
            let clauses = format!(
                r#"# Behind it is a zone whose file is not there: a failure.
auth-zone:
    name: "{ZONE}"
    primary: 127.0.0.1@1
    fallback-enabled: no
"#
            );
            Ok(Says { server, clauses })
        }))
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// The `[dns]` table that leads an agent here.
    #[must_use]
    pub fn table(&self) -> String {
        self.0.table()
    }

    /// Answers `name` with these addresses, A or AAAA, for `ttl` seconds.
    pub fn answer(&self, name: &str, ttl: u32, addresses: &[&str]) {
        self.speak_of(name);
        self.control(&["local_data_remove", name]);
        self.add(name, ttl, addresses);
    }

    /// Ends its silence about `name` with these addresses: at no moment it says that there is no such name.
    pub fn break_silence(&self, name: &str, ttl: u32, addresses: &[&str]) {
        // They lie in the silent zone, which then speaks.
        self.add(name, ttl, addresses);
        self.control(&["local_zone", name, "static"]);
    }

    /// Says that there is no such name.
    pub fn deny(&self, name: &str) {
        self.answer(name, 0, &[]);
    }

    /// Fails on every name: SERVFAIL.
    pub fn fail(&self) {
        self.control(&["local_zone_remove", ZONE]);
    }

    /// Says nothing when asked about `name`.
    pub fn keep_silent_about(&self, name: &str) {
        self.control(&["local_zone", name, "always_deny"]);
    }

    fn add(&self, name: &str, ttl: u32, addresses: &[&str]) {
        for address in addresses {
            let kind = if address.contains(':') { "AAAA" } else { "A" };
            self.control(&["local_data", &format!("{name}. {ttl} IN {kind} {address}")]);
        }
    }

    fn speak_of(&self, name: &str) {
        self.control(&["local_zone_remove", name]);
        self.control(&["local_zone", ZONE, "static"]);
    }

    fn control(&self, words: &[&str]) {
        self.0.control(words);
    }
}
