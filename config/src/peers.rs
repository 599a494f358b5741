//! What holds for the names a dialer asks for: whom it must find at the other end of a tunnel, and the settings of such
//! streams. Pure rules over names, judged before anything is dialled. No rule, no tunnel; nothing here falls back to a
//! weaker check.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use adit_protocol::{Captures, Name, Pattern, Template};

use crate::identity::{IP, Identity, IdentityError};

/// Every `[[outbound.peer]]`, in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Peers {
    /// Who must answer is taken whole from the first that matches and says so; each setting from the first that matches
    /// and has it.
    pub rules: Vec<PeerRule>,
}

/// One `[[outbound.peer]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerRule {
    /// Which names it is about.
    pub matches: PeerMatch,
    /// Who must answer, if the entry says so.
    pub unit: Option<Unit>,
    /// What else it says.
    pub settings: Settings,
}

/// What belongs together in an entry: who must answer, and what the acceptor is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Who must answer.
    pub verify: PeerVerify,
    /// The SNI to send where the expected identity is no DNS name.
    pub sni: Option<Template>,
    /// The name OPEN carries instead of the logical one.
    pub send_as: Option<Template>,
}

/// The settings of the streams to a name; what is `None` holds for it as for all names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Connecting and shaking hands, for each attempt; else `[limits] handshake`.
    pub connect_timeout: Option<Duration>,
    /// A stream on which nothing moves; `Some(None)` is `"off"`; else `[limits] idle`.
    pub idle: Option<Option<Duration>>,
    /// An idle tunnel in the pool; else `[limits] tunnel_idle_dialer`.
    pub tunnel_idle: Option<Duration>,
    /// Idle tunnels kept for one endpoint; else `[limits] tunnels_per_peer`.
    pub pool: Option<usize>,
    /// Tunnels kept ready for each endpoint; else `[limits] warm`.
    pub warm: Option<usize>,
    /// How an endpoint is picked; else [`BalancerKind::Least`].
    pub balancer: Option<BalancerKind>,
    /// What becomes of the streams of an endpoint that left the answer; else [`OnLeave::Keep`].
    pub on_leave: Option<OnLeave>,
}

/// How an endpoint is picked of two that are drawn by weight.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum BalancerKind {
    /// The one with fewer open streams.
    #[default]
    Least,
    /// The one with fewer open streams times what opening one took of late (peak EWMA).
    Ewma,
}

impl BalancerKind {
    /// Every kind, by the word the file uses.
    pub const WORDS: [(&'static str, BalancerKind); 2] = [("least", BalancerKind::Least), ("ewma", BalancerKind::Ewma)];

    /// The word the file uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            BalancerKind::Least => "least",
            BalancerKind::Ewma => "ewma",
        }
    }
}

/// What becomes of the streams of an endpoint that left the answer of its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnLeave {
    /// They go on.
    #[default]
    Keep,
    /// They end after this long, spread over as much again.
    After(Duration),
}

impl Settings {
    /// These, and from `later` what these do not have.
    #[must_use]
    fn or(self, later: Settings) -> Settings {
        Settings {
            connect_timeout: self.connect_timeout.or(later.connect_timeout),
            idle: self.idle.or(later.idle),
            tunnel_idle: self.tunnel_idle.or(later.tunnel_idle),
            pool: self.pool.or(later.pool),
            warm: self.warm.or(later.warm),
            balancer: self.balancer.or(later.balancer),
            on_leave: self.on_leave.or(later.on_leave),
        }
    }
}

/// Which names a rule is about; each pattern is matched whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerMatch {
    /// By the logical name: rewriting cannot change who must answer.
    Logical(Pattern),
    /// By the bound name the table led to.
    Bound(Pattern),
}

/// Who must answer, as a rule says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerVerify {
    /// This identity, captures filled in.
    Identity(Template),
    /// Anybody the authorities vouch for, or nobody: encryption without authentication.
    None,
}

/// What a tunnel for one stream must be: the key of a pool, with the endpoint and own credential.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Expectation {
    /// Who must answer.
    pub verify: Verify,
    /// The SNI to send: the expected DNS name, else the rule's `sni`, else none.
    pub sni: Option<String>,
    /// What OPEN carries.
    pub name: Name,
    /// The rule that said so, from 1.
    pub rule: usize,
}

/// How the acceptor's certificate is verified.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Verify {
    /// It must prove this identity.
    Identity(Identity),
    /// It is not looked at.
    None,
}

impl Peers {
    /// What to expect at the other end of a tunnel for `logical` that the table led to `bound`.
    ///
    /// # Errors
    /// No rule matches, or the one that does comes to nothing valid for this name.
    pub fn expect(&self, logical: &Name, bound: &Name) -> Result<Expectation, NoRule> {
        let mut matching = self.matching(logical, bound);
        let found = matching.find_map(|(number, rule, captures)| Some((number, rule.unit.as_ref()?, captures)));
        match found {
            Some((number, unit, captures)) => unit.expect(number, logical, &captures),
            None => Err(NoRule::NoMatch { logical: logical.clone(), bound: bound.clone() }),
        }
    }

    /// What holds for streams to `logical` that the table led to `bound`: each setting from the first entry that matches
    /// and has it.
    #[must_use]
    pub fn settings(&self, logical: &Name, bound: &Name) -> Settings {
        self.matching(logical, bound).fold(Settings::default(), |settings, (_, rule, _)| settings.or(rule.settings))
    }

    /// The entries that match, each with its number from 1 and what its pattern captured: the one matcher.
    fn matching(&self, logical: &Name, bound: &Name) -> impl Iterator<Item = (usize, &PeerRule, Captures)> {
        let numbered = self.rules.iter().enumerate();
        numbered.filter_map(|(index, rule)| Some((index + 1, rule, rule.matches.captures(logical, bound)?)))
    }
}

impl PeerMatch {
    pub(crate) fn captures(&self, logical: &Name, bound: &Name) -> Option<Captures> {
        match self {
            PeerMatch::Logical(pattern) => pattern.matches(logical),
            PeerMatch::Bound(pattern) => pattern.matches(bound),
        }
    }
}

impl Unit {
    fn expect(&self, rule: usize, logical: &Name, captures: &Captures) -> Result<Expectation, NoRule> {
        let verify = self.verify.fill(rule, captures)?;
        let sni = self.sni(rule, &verify, captures)?;
        let name = self.name(rule, logical, captures)?;
        Ok(Expectation { verify, sni, name, rule })
    }

    /// PROTOCOL.md section 1: the expected DNS name goes before the rule's own.
    fn sni(&self, rule: usize, verify: &Verify, captures: &Captures) -> Result<Option<String>, NoRule> {
        match (verify, &self.sni) {
            (Verify::Identity(Identity::Dns(name)), _) => Ok(Some(name.clone())),
            (_, None) => Ok(None),
            (_, Some(template)) => server_name(&fill(rule, template, captures)?)
                .map(Some)
                .map_err(|cause| NoRule::Identity { rule, cause }),
        }
    }

    fn name(&self, rule: usize, logical: &Name, captures: &Captures) -> Result<Name, NoRule> {
        let name = match &self.send_as {
            None => logical.clone(),
            Some(template) => parse_name(rule, &fill(rule, template, captures)?)?,
        };
        // PROTOCOL.md section 6: the wire selects a target, it never supplies one.
        if name.is_bound() { Err(NoRule::Bound { rule, name }) } else { Ok(name) }
    }
}

impl PeerVerify {
    fn fill(&self, rule: usize, captures: &Captures) -> Result<Verify, NoRule> {
        match self {
            PeerVerify::None => Ok(Verify::None),
            PeerVerify::Identity(template) => identity(template, &fill(rule, template, captures)?)
                .map(Verify::Identity)
                .map_err(|cause| NoRule::Identity { rule, cause }),
        }
    }
}

/// What a template came to. Its kind is the rule's to say: what a name holds never makes an address of what was to be a DNS
/// name.
fn identity(template: &Template, text: &str) -> Result<Identity, IdentityError> {
    match Identity::name(text)? {
        Identity::Ip(_) if !template.as_str().starts_with(IP) => Err(IdentityError {
            message: format!("`{text}` is an address, and the rule does not ask for one"),
            help: "begin the rule's `identity` with `ip:` if it shall",
        }),
        identity => Ok(identity),
    }
}

/// Whether an `identity` is a DNS name, whatever it is filled in with.
pub(crate) fn names_dns(identity: &Template) -> bool {
    !["spiffe://", IP].iter().any(|kind| identity.as_str().starts_with(kind))
}

/// An SNI is a DNS name and nothing else (RFC 6066 section 3).
pub(crate) fn server_name(text: &str) -> Result<String, IdentityError> {
    match Identity::name(text)? {
        Identity::Dns(name) => Ok(name),
        Identity::Spiffe(_) | Identity::Ip(_) => Err(IdentityError {
            message: format!("`{text}` is no DNS name, and an SNI is nothing else"),
            help: "write a DNS name that the acceptor's certificate covers",
        }),
    }
}

fn fill(rule: usize, template: &Template, captures: &Captures) -> Result<String, NoRule> {
    template.expand(captures).map_err(|cause| NoRule::Template { rule, message: cause.to_string() })
}

fn parse_name(rule: usize, text: &str) -> Result<Name, NoRule> {
    Name::parse(text).map_err(|cause| NoRule::Template { rule, message: format!("`{text}` is no name: {cause}") })
}

/// Why no expectation can be formed, and so no tunnel be opened. To the caller all are one refusal;
/// the variants are for what is told to the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoRule {
    /// No `[[outbound.peer]]` matches.
    NoMatch {
        /// The name the application asked for.
        logical: Name,
        /// Where the table led.
        bound: Name,
    },
    /// The rule's identity or SNI, filled in for this name, is none.
    Identity {
        /// The rule, from 1.
        rule: usize,
        /// What is wrong with it.
        cause: IdentityError,
    },
    /// The rule cannot be filled in for this name.
    Template {
        /// The rule, from 1.
        rule: usize,
        /// What is wrong with it.
        message: String,
    },
    /// OPEN would carry a bound name.
    Bound {
        /// The rule, from 1.
        rule: usize,
        /// The name.
        name: Name,
    },
}

impl fmt::Display for NoRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoRule::NoMatch { logical, bound } => write!(
                f,
                "no [[outbound.peer]] that matches {logical} (bound to {bound}) says who must answer; add \
                 one with `identity`"
            ),
            NoRule::Identity { rule, cause } => write!(f, "[[outbound.peer]] {rule}: {cause}"),
            NoRule::Template { rule, message } => write!(f, "[[outbound.peer]] {rule}: {message}"),
            NoRule::Bound { rule, name } => write!(
                f,
                "[[outbound.peer]] {rule}: the bound name {name} cannot be asked for; give the \
                 entry an `as`"
            ),
        }
    }
}

impl Error for NoRule {}

#[cfg(test)]
mod tests;
