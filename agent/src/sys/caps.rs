//! What this process may do that not every one may: its capabilities (capabilities(7)), its user, and from which port on
//! anybody may listen. Values to judge by; what needs which is not known here.

use std::{fs, io};

/// The greatest port that needs a capability, plus one, where the system does not say (ip(7), ip_unprivileged_port_start).
const FIRST_FREE_PORT: u16 = 1024;

/// A capability that some feature of adit needs; the number is its bit (linux/capability.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// Giving files away.
    Chown = 0,
    /// Listening on a low port.
    NetBindService = 10,
    /// Marking sockets, binding to addresses of others, changing netfilter's rules and routes.
    NetAdmin = 12,
}

impl Capability {
    /// As systemd.exec(5) and capabilities(7) write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chown => "CAP_CHOWN",
            Self::NetBindService => "CAP_NET_BIND_SERVICE",
            Self::NetAdmin => "CAP_NET_ADMIN",
        }
    }
}

/// What this process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// Its effective capabilities, a bit each.
    pub capabilities: u64,
    /// Its effective user.
    pub uid: u32,
    /// The first port that needs no capability to listen on.
    pub first_free_port: u16,
}

impl Privileges {
    /// Those of this process.
    ///
    /// # Errors
    /// `/proc` cannot be read, or says nothing of it.
    pub fn own() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let capabilities = effective(&status)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/status tells no CapEff"))?;
        // A kernel without this setting knows the first 1023 only.
        let first_free_port = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(FIRST_FREE_PORT);
        Ok(Self { capabilities, uid: rustix::process::geteuid().as_raw(), first_free_port })
    }

    /// Whether it has this one.
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities & (1 << capability as u8) != 0
    }
}

/// The line `CapEff:` of proc_pid_status(5), in hexadecimal.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read_bit_by_bit() {
        let status = "Name:\tadit\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000001000\nCapBnd:\t000001ffffffffff\n";
        let capabilities = effective(status).unwrap();
        let privileges = Privileges { capabilities, uid: 1, first_free_port: 1024 };
        assert!(privileges.has(Capability::NetAdmin));
        assert!(!privileges.has(Capability::NetBindService));
        assert_eq!(effective("Name:\tadit\n"), None);
    }

    #[test]
    fn this_process_knows_its_own() {
        let own = Privileges::own().unwrap();
        assert_eq!(own.uid, rustix::process::geteuid().as_raw());
    }
}
