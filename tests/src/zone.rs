//! A real name server, unbound, with a whole zone of its own. A test publishes the zone anew, and every change is taken at
//! once and whole, as a transfer from a primary would be: no query ever sees half of it.

use std::{fs, net::SocketAddr};

use crate::unbound::{Says, Unbound};

/// How long *no such name* holds, in seconds: the SOA's last number (RFC 2308, section 4).
const NEGATIVE_TTL: u32 = 1;

/// A running name server for one zone.
#[derive(Debug)]
pub struct Zone {
    unbound: Unbound,
    name: String,
}

impl Zone {
    /// Starts it with a zone that has no name in it yet.
    #[must_use]
    pub fn start(name: &str) -> Self {
        let unbound = Unbound::start(&[], |dir| {
            let file = dir.join("zone");
            fs::write(&file, text(name, &[]))?;
            let clauses = format!(
                r#"auth-zone:
    name: "{name}"
    zonefile: "{}"
    for-downstream: yes
    for-upstream: no
    fallback-enabled: no
"#,
                file.display()
            );
            Ok(Says { server: String::new(), clauses })
        });
        Self { unbound, name: name.to_owned() }
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.unbound.address()
    }

    /// The `[dns]` table that leads an agent here.
    #[must_use]
    pub fn table(&self) -> String {
        self.unbound.table()
    }

    /// The zone is now these records and no others, each as a zone file has it (RFC 1035, section 5.1): names that do not
    /// end in a dot are of this zone.
    pub fn publish<R: AsRef<str>>(&self, records: &[R]) {
        let records: Vec<&str> = records.iter().map(AsRef::as_ref).collect();
        let file = self.unbound.dir().join("zone");
        fs::write(file, text(&self.name, &records)).expect("the zone's folder can be written");
        self.unbound.control(&["auth_zone_reload", &self.name]);
    }
}

fn text(name: &str, records: &[&str]) -> String {
    let soa =
        format!("@ 60 IN SOA ns hostmaster 1 3600 600 86400 {NEGATIVE_TTL}\n@ 60 IN NS ns\nns 60 IN A 127.0.0.1\n");
    format!("$ORIGIN {name}.\n{soa}{}\n", records.join("\n"))
}
