//! What a captured connection asks for: where it was meant to go, and the name that the rules give to that. A file of its
//! own, for it is decided before the story of a connection begins; it dials nothing and passes nothing on.

mod hosts;

pub use hosts::{HostStatus, Hosts};

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use adit_config::{Captured, Captures, Dtab, Redirect, RedirectMode, Unmatched, capture::default_name_of};
use adit_protocol::{Code, Name, RefusalCode};
use tokio::{net::TcpStream, time::Instant};

use super::Asks;
use crate::{
    end::{End, Ending, Side},
    flight::By,
    wire::plain::before_rewriting,
};

/// The rules of one configuration for captured connections.
#[derive(Debug)]
pub struct Capture {
    /// Which names destinations have.
    pub rules: Captures,
    /// What is known of the host names among the rules.
    pub hosts: Arc<Hosts>,
    /// How connections are brought here.
    pub mode: RedirectMode,
    /// What becomes of a destination that neither a rule nor the table knows.
    pub unmatched: Unmatched,
    /// The client certificate where the rule says none.
    pub certificate: Option<String>,
    /// How long an address counts that a host name had once.
    pub remember: Duration,
}

/// What becomes of a captured connection.
#[derive(Debug)]
pub enum Found {
    /// It is carried to what it asks for.
    Carry(Asks),
    /// It goes on to its destination in plaintext: nothing knows the name, and the file says so.
    Pass(Name),
    /// It is reset.
    Refuse(Name, Ending),
}

/// Why a connection at the door is none that was captured.
#[derive(Debug)]
pub enum NotCaptured {
    /// It was made to the door itself.
    Loop,
    /// The kernel does not say where it was meant to go.
    Unknown(io::Error),
}

impl Capture {
    /// By what `redirect` says.
    pub fn new(redirect: &Redirect, rules: &Captures, hosts: &Arc<Hosts>) -> Self {
        Self {
            rules: rules.clone(),
            hosts: Arc::clone(hosts),
            mode: redirect.mode,
            unmatched: redirect.unmatched,
            certificate: redirect.certificate.clone(),
            remember: redirect.remember,
        }
    }

    /// Where the connection was meant to go that came in at `door`.
    ///
    /// # Errors
    /// It was not captured.
    pub fn destination(&self, socket: &TcpStream, door: SocketAddr) -> Result<SocketAddr, NotCaptured> {
        let own = socket.local_addr().map_err(NotCaptured::Unknown)?;
        let original = match self.mode {
            RedirectMode::Redirect => before_rewriting(socket).map_err(NotCaptured::Unknown)?,
            // Nothing was rewritten: this end is the other host's address (IP_TRANSPARENT, ip(7)).
            RedirectMode::Tproxy => own,
        };
        let original = SocketAddr::new(original.ip().to_canonical(), original.port());
        if is_door(self.mode, original, own, door) { Err(NotCaptured::Loop) } else { Ok(original) }
    }

    /// What a connection to `original` asks for, once enough is known; by `deadline` at the latest.
    pub async fn find(&self, original: SocketAddr, table: &Dtab, deadline: Instant) -> Found {
        let refuse = |end, rule: usize, why: String| {
            let ending = Ending::new(end, Side::Agent, format!("[[outbound.capture]] {rule}: {why}"));
            Found::Refuse(default_name_of(original), ending)
        };
        loop {
            match self.name(original) {
                Captured::Default { name, never: None } if self.passes(&name, table) => return Found::Pass(name),
                Captured::Default { name, never: Some(rule) } if self.passes(&name, table) => {
                    let why =
                        "its host has never had an address, so it may be meant, and is not passed on in plaintext";
                    return refuse(End::Refused(RefusalCode::Known(Code::Unknown)), rule, why.to_owned());
                }
                Captured::Default { name, .. } => return self.carry(original, name, None, By::Destination),
                Captured::Named { name, certificate, rule } => {
                    return self.carry(original, name, certificate, By::Capture(rule));
                }
                Captured::Waits { rule, host } => {
                    match self.hosts.told(&host, original.ip().to_canonical(), deadline).await {
                        Ok(()) => {}
                        Err(why) => return refuse(End::Unreachable, rule, why),
                    }
                }
                Captured::Faulty { rule, message } => {
                    return refuse(End::Refused(RefusalCode::Known(Code::Unknown)), rule, message);
                }
            }
        }
    }

    /// Whether a connection to `original` that was passed on may go on so, as far as is known now.
    ///
    /// # Errors
    /// Why it may not.
    pub fn may_pass(&self, original: SocketAddr, table: &Dtab) -> Result<(), String> {
        match self.name(original) {
            Captured::Default { .. } if self.unmatched == Unmatched::Refuse => {
                Err("[outbound.redirect] unmatched is \"refuse\"".to_owned())
            }
            Captured::Default { name, .. } if table.is_about(&name) => {
                Err("a rule of the table is about it".to_owned())
            }
            Captured::Default { never: None, .. } => Ok(()),
            Captured::Default { never: Some(rule), .. }
            | Captured::Named { rule, .. }
            | Captured::Waits { rule, .. }
            | Captured::Faulty { rule, .. } => Err(format!("[[outbound.capture]] {rule} may be about it")),
        }
    }

    fn carry(&self, original: SocketAddr, to: Name, certificate: Option<String>, by: By) -> Found {
        let certificate = certificate.or_else(|| self.certificate.clone());
        Found::Carry(Asks { to, certificate, original: Some(original), by })
    }

    fn name(&self, original: SocketAddr) -> Captured {
        self.rules.name(original, |host, ip| self.hosts.has(host, ip, self.remember))
    }

    /// Whether what no capture rule names goes on in plaintext: the file says so, and no rule of the table is about it.
    fn passes(&self, name: &Name, table: &Dtab) -> bool {
        self.unmatched == Unmatched::Pass && !table.is_about(name)
    }
}

impl NotCaptured {
    /// A short word for a metric's label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl fmt::Display for NotCaptured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loop => f.write_str(
                "it was made to the door for captured connections itself, which would come back to it for ever; \
                 connect to where it should go",
            ),
            Self::Unknown(error) => write!(
                f,
                "the kernel does not say where it was meant to go ({error}): no rule brought it here, or `mode` is not \
                 that of the rules",
            ),
        }
    }
}

/// Whether a connection, whose end here is `own`, was made to the door itself. Under TPROXY a door on every address cannot
/// tell its own from another host's of that port, and takes none of that port.
fn is_door(mode: RedirectMode, original: SocketAddr, own: SocketAddr, door: SocketAddr) -> bool {
    match mode {
        RedirectMode::Redirect => original == own,
        RedirectMode::Tproxy => own.port() == door.port() && (door.ip().is_unspecified() || own.ip() == door.ip()),
    }
}

#[cfg(test)]
mod tests {
    use adit_config::{CaptureMatch, CaptureRule, Net, Ports};
    use adit_protocol::Template;
    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    use super::*;
    use crate::naming::{Namers, Settings};

    fn capture(unmatched: Unmatched, rules: Vec<(CaptureMatch, &str)>) -> Capture {
        let namers = Namers::new(Settings::default(), TaskTracker::new(), CancellationToken::new());
        let rule = |(matches, to): (CaptureMatch, &str)| CaptureRule {
            matches,
            ports: vec![Ports::one(6379)],
            to: Template::parse(to).unwrap(),
            certificate: Some("of the rule".to_owned()),
        };
        Capture {
            rules: Captures { rules: rules.into_iter().map(rule).collect() },
            hosts: Hosts::new(Arc::new(namers)),
            mode: RedirectMode::Redirect,
            unmatched,
            certificate: Some("of the door".to_owned()),
            remember: Duration::from_secs(1),
        }
    }

    async fn found(capture: &Capture, original: &str, table: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(5);
        match capture.find(original.parse().unwrap(), &Dtab::parse(table).unwrap(), deadline).await {
            Found::Carry(Asks { to, certificate, .. }) => format!("{to} with {}", certificate.unwrap_or_default()),
            Found::Pass(name) => format!("pass {name}"),
            Found::Refuse(name, ending) => format!("refuse {name}: {}", ending.detail),
        }
    }

    #[tokio::test]
    async fn only_what_neither_a_rule_nor_the_table_is_about_goes_in_plaintext() {
        let net = CaptureMatch::Net(Net::parse("10.0.0.0/8").unwrap());
        let pass = capture(Unmatched::Pass, vec![(net.clone(), "/svc/none")]);
        let table = "/dst/{ip}/5432 => /$/inet/{ip}/4143 ; /dst/{ip}/22 => ! ; /dst/{ip}/25 => ~";
        assert_eq!(found(&pass, "10.0.0.2:80", table).await, "pass /dst/10.0.0.2/80");
        // a rule's name that no table knows, and names of the table's whatever comes of them
        assert_eq!(found(&pass, "10.0.0.2:6379", table).await, "/svc/none with of the rule");
        for port in [5432, 22, 25] {
            let carried = format!("/dst/10.0.0.2/{port} with of the door");
            assert_eq!(found(&pass, &format!("10.0.0.2:{port}"), table).await, carried);
        }
        let refuse = capture(Unmatched::Refuse, vec![(net, "/svc/none")]);
        assert_eq!(found(&refuse, "10.0.0.2:80", table).await, "/dst/10.0.0.2/80 with of the door");
    }

    #[tokio::test]
    async fn what_may_be_a_hosts_is_not_passed_on_while_nothing_is_known_of_the_host() {
        let host = CaptureMatch::Host("redis.test".to_owned());
        let pass = capture(Unmatched::Pass, vec![(host, "/svc/redis")]);
        let told = found(&pass, "10.0.0.2:6379", "").await;
        assert!(told.starts_with("refuse /dst/10.0.0.2/6379: [[outbound.capture]] 1: redis.test"), "{told}");
        assert_eq!(found(&pass, "10.0.0.2:80", "").await, "pass /dst/10.0.0.2/80");
    }

    #[test]
    fn a_connection_to_the_door_itself_was_not_captured() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (door, wide) = (at("127.0.0.1:4140"), at("0.0.0.0:4140"));
        let table = [
            (RedirectMode::Redirect, "10.0.0.2:6379", "127.0.0.1:4140", door, false),
            (RedirectMode::Redirect, "127.0.0.1:4140", "127.0.0.1:4140", door, true),
            (RedirectMode::Redirect, "10.0.0.1:4140", "10.0.0.1:4140", wide, true),
            (RedirectMode::Tproxy, "10.0.0.2:6379", "10.0.0.2:6379", door, false),
            (RedirectMode::Tproxy, "10.0.0.2:4140", "10.0.0.2:4140", door, false),
            (RedirectMode::Tproxy, "127.0.0.1:4140", "127.0.0.1:4140", door, true),
            (RedirectMode::Tproxy, "10.0.0.2:4140", "10.0.0.2:4140", wide, true),
        ];
        for (mode, original, own, door, is_it) in table {
            assert_eq!(is_door(mode, at(original), at(own), door), is_it, "{mode:?} {original} {own} {door}");
        }
    }
}
