//! What this process may do, against what its configuration asks for. Everything that is missing is told at once, before a
//! door is opened: which setting asks for it, and the lines of a systemd unit that give it. A feature that the file does not
//! use needs nothing, and none needs root.

use std::{fmt, io, net::SocketAddr};

use adit_config::{Config, ListenAddr, Origin, RedirectMode, Source, Who, workload::WorkloadRule};

use super::StartError;
use crate::sys::{
    accounts,
    caps::{Capability, Privileges},
};

/// Who puts netfilter's rules in place and takes them away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RulesBy {
    /// Somebody else, if anybody.
    Others,
    /// The agent, for as long as it lives.
    Agent,
}

/// A capability, and the setting that asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Need {
    capability: Capability,
    setting: String,
}

/// What a process lacks of what its configuration asks for.
#[derive(Debug)]
pub struct Lacking {
    missing: Vec<Need>,
    /// Every capability that the file asks for, those that are there with them: a unit's lines name all.
    all: Vec<Capability>,
}

/// What this process may do.
///
/// # Errors
/// It cannot be told.
pub(super) fn own() -> Result<Privileges, StartError> {
    Privileges::own().map_err(|error| StartError::System("looking at what this process may do", error))
}

/// Everything that `config` asks for and `own` lacks, told at once; a door that is `listening` already needs nothing.
///
/// # Errors
/// There is such a thing.
pub(super) fn check(
    config: &Config,
    rules: RulesBy,
    own: &Privileges,
    listening: &[SocketAddr],
) -> Result<(), Lacking> {
    let needs = needs(config, rules, own, listening);
    let mut all: Vec<_> = needs.iter().map(|need| need.capability).collect();
    all.sort_unstable_by_key(|capability| capability.name());
    all.dedup();
    let missing: Vec<_> = needs.into_iter().filter(|need| !own.has(need.capability)).collect();
    if missing.is_empty() { Ok(()) } else { Err(Lacking { missing, all }) }
}

/// Whether the rules would bring the agent's own connections back to its door: they know it by its user alone, and it runs as
/// another.
///
/// # Errors
/// They would.
pub(super) fn check_own(config: &Config, own: &Privileges) -> io::Result<()> {
    let redirect = config.outbound.as_ref().and_then(|outbound| outbound.redirect.as_ref());
    let is_local = redirect.is_some_and(|redirect| redirect.include.iter().any(|one| one.from == Origin::Local));
    match &config.netfilter.user {
        Some(user) if is_local && config.netfilter.mark.is_none() && !is_known_by_user(config, own) => {
            let uid = own.uid;
            Err(io::Error::other(format!(
                "[netfilter] user {user}: this agent runs as user {uid}, so its rules would capture its own connections; \
                 run it as {user}, or leave `mark` at its default"
            )))
        }
        Some(_) | None => Ok(()),
    }
}

/// The users that rules for single processes name and this host does not know: a rule about nobody, where somebody was meant
/// to be denied, lets that one through.
///
/// # Errors
/// The first of them.
pub(super) fn check_users(config: &Config) -> io::Result<()> {
    let rules = config.outbound.iter().flat_map(|outbound| &outbound.workloads.rules);
    for (number, WorkloadRule { who, .. }) in (1..).zip(rules) {
        if let Who::Process { user: Some(user), .. } = who {
            accounts::user(user).map_err(|error| {
                let what =
                    format!("[[outbound.workload]] {number}: {error}; write the number of a user of a directory");
                io::Error::new(error.kind(), what)
            })?;
        }
    }
    Ok(())
}

/// What the agent's own sockets are marked with: only where connections are captured, for it takes a capability. Where that
/// is missing and the rules know the agent by its user, they bear no mark.
pub(super) fn mark(config: &Config, own: &Privileges) -> Option<u32> {
    let redirect = config.outbound.as_ref().and_then(|outbound| outbound.redirect.as_ref());
    let mark = redirect.and(config.netfilter.mark)?;
    (own.has(Capability::NetAdmin) || !is_known_by_user(config, own)).then_some(mark)
}

/// Whether the rules know this process by its user.
pub(super) fn is_known_by_user(config: &Config, own: &Privileges) -> bool {
    config.netfilter.user.as_deref().is_some_and(|user| accounts::user(user).is_ok_and(|uid| uid == own.uid))
}

fn needs(config: &Config, rules: RulesBy, own: &Privileges, listening: &[SocketAddr]) -> Vec<Need> {
    let mut needs = Vec::new();
    let mut need = |capability, setting: String| needs.push(Need { capability, setting });
    let low = |address: &SocketAddr| {
        address.port() != 0 && address.port() < own.first_free_port && !listening.contains(address)
    };
    for (section, address) in doors(config).into_iter().filter(|(_, address)| low(address)) {
        let setting = format!("{section} listen {address}: a port below {}", own.first_free_port);
        need(Capability::NetBindService, setting);
    }
    for (section, owner) in owners(config) {
        if accounts::user(owner).is_ok_and(|uid| uid != own.uid) {
            need(Capability::Chown, format!("{section} owner {owner}: another user than the agent's"));
        }
    }
    for setting in transparent(config) {
        need(Capability::NetAdmin, setting);
    }
    // The mark that every agent has that captures. A user does as well.
    if let Some(mark) = mark(config, own) {
        let other = if config.netfilter.user.is_some() { "be" } else { "set [netfilter] user to" };
        let setting = format!("[netfilter] mark {mark:#x}: marking the agent's sockets; or {other} a user of its own");
        need(Capability::NetAdmin, setting);
    }
    if rules == RulesBy::Agent {
        need(Capability::NetAdmin, "adit run --redirect: netfilter's rules".to_owned());
    }
    needs
}

/// Every TCP door whose address the file has.
fn doors(config: &Config) -> Vec<(&'static str, SocketAddr)> {
    let tcp = |(section, listen)| match listen {
        ListenAddr::Tcp(address) => Some((section, address)),
        ListenAddr::Unix(_) | ListenAddr::Given(_) => None,
    };
    config.doors().into_iter().filter_map(tcp).collect()
}

/// Every owner that a socket file shall have.
fn owners(config: &Config) -> Vec<(&'static str, &str)> {
    let listeners = config.outbound.iter().flat_map(|outbound| &outbound.listeners);
    let listeners = listeners.filter_map(|listener| match &listener.listen {
        ListenAddr::Unix(unix) => Some(("[[outbound.listener]]", unix.owner.as_deref()?)),
        ListenAddr::Tcp(_) | ListenAddr::Given(_) => None,
    });
    let admin = config.admin.socket.iter().filter_map(|unix| Some(("[admin]", unix.owner.as_deref()?)));
    listeners.chain(admin).collect()
}

/// Every setting that lets the agent have addresses of others (IP_TRANSPARENT, ip(7)).
fn transparent(config: &Config) -> Vec<String> {
    let redirect = config.outbound.iter().filter_map(|outbound| outbound.redirect.as_ref());
    let tproxy = redirect.filter(|redirect| redirect.mode == RedirectMode::Tproxy);
    let tproxy = tproxy.map(|_| "[outbound.redirect] mode \"tproxy\"".to_owned());
    let policy = || config.inbound.iter().map(|inbound| &inbound.policy);
    let services = policy().flat_map(|policy| (1..).zip(&policy.services));
    let services = services.filter(|(_, service)| service.source == Source::Transparent);
    let captures = policy().flat_map(|policy| (1..).zip(&policy.captures));
    let captures = captures.filter(|(_, capture)| capture.source == Source::Transparent);
    tproxy
        .chain(services.map(|(number, _): (usize, _)| format!("[[inbound.service]] {number} source \"transparent\"")))
        .chain(captures.map(|(number, _): (usize, _)| format!("[[inbound.capture]] {number} source \"transparent\"")))
        .collect()
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration asks for what this process may not do:")?;
        for Need { capability, setting } in &self.missing {
            write!(f, "\n  {:<20}  {setting}", capability.name())?;
        }
        let all: Vec<_> = self.all.iter().map(|capability| capability.name()).collect();
        let all = all.join(" ");
        write!(
            f,
            "\nlet the [Service] section of its unit say:\n  AmbientCapabilities={all}\n  CapabilityBoundingSet={all}"
        )
    }
}

impl std::error::Error for Lacking {}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const PLAIN: Privileges = Privileges { capabilities: 0, uid: 4711, first_free_port: 1024 };

    fn with(capability: Capability) -> Privileges {
        Privileges { capabilities: 1 << capability as u8, ..PLAIN }
    }

    /// A file with these sections.
    fn config(more: &str) -> Config {
        let tls = "[tls]\nca = \"/ca\"\ncert = \"/cert\"\nkey = \"/key\"\n";
        let (config, _) = Config::parse(Path::new("adit.toml"), &format!("{tls}{more}"))
            .unwrap_or_else(|problems| panic!("{problems}"));
        config
    }

    fn told(config: &Config, own: &Privileges) -> String {
        check(config, RulesBy::Others, own, &[]).err().map(|lacking| lacking.to_string()).unwrap_or_default()
    }

    const REDIRECT: &str = "[outbound]\n[outbound.redirect]\nlisten = [\"127.0.0.1:4140\"]\n";
    const TRANSPARENT: &str = "[inbound]\nlisten = [\"0.0.0.0:443\"]\n[[inbound.service]]\nname = \"/svc/x\"\nto = \"127.0.0.1:9\"\nallow = [\"a.example\"]\nsource = \"transparent\"\n[admin]\nlisten = \"127.0.0.1:81\"\n";

    #[test]
    fn a_file_of_plain_features_needs_nothing() {
        let file = config(
            "[inbound]\nlisten = [\"0.0.0.0:4143\"]\n[outbound]\n[[outbound.listener]]\nlisten = \"127.0.0.1:0\"\nto = \"/svc/x\"\n[[outbound.peer]]\nname = \"/svc/{x}\"\nidentity = \"b.example\"\n",
        );
        assert_eq!(told(&file, &PLAIN), "");
        assert_eq!(mark(&file, &PLAIN), None);
    }

    #[test]
    fn all_that_is_missing_is_told_at_once_with_the_lines_that_give_it() {
        let expected = "the configuration asks for what this process may not do:\n  \
            CAP_NET_BIND_SERVICE  [inbound] listen 0.0.0.0:443: a port below 1024\n  \
            CAP_NET_BIND_SERVICE  [admin] listen 127.0.0.1:81: a port below 1024\n  \
            CAP_NET_ADMIN         [[inbound.service]] 1 source \"transparent\"\n\
            let the [Service] section of its unit say:\n  \
            AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE\n  \
            CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_BIND_SERVICE";
        assert_eq!(told(&config(TRANSPARENT), &PLAIN), expected);
        // and the lines name what is there already, lest they take it away
        let half = told(&config(TRANSPARENT), &with(Capability::NetBindService));
        assert!(!half.contains("listen") && half.contains("=CAP_NET_ADMIN CAP_NET_BIND_SERVICE"), "{half}");
        // nor does it take one to accept where somebody else has bound the socket
        let listening = ["0.0.0.0:443", "127.0.0.1:81"].map(|at| at.parse().unwrap());
        let given = check(&config(TRANSPARENT), RulesBy::Others, &PLAIN, &listening).unwrap_err().to_string();
        assert!(!given.contains("BIND_SERVICE"), "{given}");
        let lower = Privileges { first_free_port: 80, ..with(Capability::NetAdmin) };
        assert_eq!(told(&config(TRANSPARENT), &lower), "");
    }

    #[test]
    fn a_captured_connection_needs_the_mark_or_the_user() {
        let file = config(REDIRECT);
        assert!(
            told(&file, &PLAIN)
                .contains("[netfilter] mark 0xad17: marking the agent's sockets; or set [netfilter] user")
        );
        assert_eq!(told(&file, &with(Capability::NetAdmin)), "");
        assert_eq!(mark(&file, &with(Capability::NetAdmin)), Some(0xad17));
        let own = config(&format!("{REDIRECT}[netfilter]\nuser = \"4711\"\n"));
        assert_eq!(told(&own, &PLAIN), "");
        assert_eq!((mark(&own, &PLAIN), mark(&own, &with(Capability::NetAdmin))), (None, Some(0xad17)));
        let others = config(&format!("{REDIRECT}[netfilter]\nuser = \"4712\"\n"));
        assert!(told(&others, &PLAIN).contains("mark"), "the rules do not know it by its user");
    }

    #[test]
    fn rules_that_know_the_agent_by_another_user_alone_are_refused() {
        let file = |user: &str| {
            let include = "[[outbound.redirect.include]]\nport = 6379\n";
            config(&format!("{REDIRECT}{include}[netfilter]\nmark = \"off\"\nuser = \"{user}\"\n"))
        };
        assert!(check_own(&file("4711"), &PLAIN).is_ok());
        let told = check_own(&file("4712"), &PLAIN).unwrap_err().to_string();
        assert!(told.starts_with("[netfilter] user 4712: this agent runs as user 4711"), "{told}");
    }

    #[test]
    fn transparent_doors_and_held_rules_need_the_network() {
        let file = config(&format!("{REDIRECT}mode = \"tproxy\"\n[netfilter]\nuser = \"4711\"\n"));
        assert!(told(&file, &PLAIN).contains("CAP_NET_ADMIN         [outbound.redirect] mode \"tproxy\""));
        let held = check(&config(""), RulesBy::Agent, &PLAIN, &[]).unwrap_err().to_string();
        assert!(held.contains("CAP_NET_ADMIN         adit run --redirect"), "{held}");
    }

    #[test]
    fn a_socket_file_for_somebody_else_needs_to_be_given_away() {
        let file = |owner: u32| config(&format!("[admin]\nsocket = \"/run/adit/admin.sock\"\nowner = \"{owner}\"\n"));
        assert!(told(&file(0), &PLAIN).contains("CAP_CHOWN             [admin] owner 0"), "{}", told(&file(0), &PLAIN));
        assert_eq!(told(&file(4711), &PLAIN), "");
    }

    #[test]
    fn a_rule_about_a_user_whom_nobody_knows_is_an_error() {
        let rule = |user: &str| {
            let workload = format!("[[outbound.workload]]\nuser = \"{user}\"\ndeny = true\n");
            check_users(&config(&format!("[outbound]\n{workload}")))
        };
        let error = rule("nobody-of-this-name").unwrap_err().to_string();
        assert!(error.starts_with("[[outbound.workload]] 1: there is no user `nobody-of-this-name`"), "{error}");
        assert!(rule("root").is_ok() && rule("4711").is_ok());
    }
}
