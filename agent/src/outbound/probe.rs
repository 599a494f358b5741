//! A probe: everything a stream would go through, up to the far policy and the service's address, but nothing is connected
//! there. Its steps are told one by one, so that a person sees how far it came.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use adit_config::limits::ATTEMPTS;
use adit_protocol::{Answer, Name, Phase, Preamble};
use tokio::time::Instant;

use super::{Asks, Outbound};
use crate::{
    addr::Address,
    balance::Lease,
    identity::{Credential, Peer, text::date},
    router::Way,
    streams::new_id,
    tunnel::{
        arrive::next_arrival,
        attempt::{Eager, attempt},
        close::close,
        dial::{DialError, Dialed, Key, Took, dial},
        retry::{Failure, Next, Was, next},
    },
    wire::tunnel::{Role, Tunnel},
};

/// One thing that was found out, in the order of finding.
#[derive(Clone, Debug)]
pub enum Step {
    /// What the name leads to.
    Resolved {
        /// The bound name.
        bound: Name,
        /// Its endpoints.
        addresses: Vec<String>,
    },
    /// What we show of ourselves.
    Shows {
        /// The id of the certificate.
        id: String,
        /// What it proves.
        names: Vec<String>,
        /// Its last moment.
        until: SystemTime,
    },
    /// The endpoint that was picked, and who must answer there.
    Expected(Key),
    /// This endpoint failed, and the next one is tried, as for a stream.
    Failed(Failure),
    /// Who answered.
    Met {
        /// What it proved, or showed.
        peer: String,
        /// Its certificate's serial number, issuer, and how long it is still valid.
        certificate: String,
        /// What that took.
        took: Took,
    },
    /// What the far side would do.
    Answered {
        /// Where it would connect, and which rule admits.
        answer: Answer,
        /// From OPEN to the answer.
        took: Duration,
    },
}

/// Why a probe came to nothing.
enum Miss {
    /// This host's own rules or files: no other endpoint would do.
    Own(String),
    /// What happened at an endpoint.
    At(Failure),
}

/// What a probe has tried so far.
#[derive(Default)]
struct Tried {
    avoid: Vec<Address>,
    /// The ways all of whose endpoints are to be avoided.
    spent: Vec<Arc<Way>>,
    last: Option<(Address, Failure)>,
}

impl Tried {
    fn told(self, name: &Name) -> String {
        match self.last {
            Some((address, failure)) => format!("{name} at {address}: {failure}"),
            None => format!("{name} has no endpoint now"),
        }
    }
}

impl Outbound {
    /// Sends a probe for `asks`, to as many endpoints as a stream would try, telling each step to `tell`.
    ///
    /// # Errors
    /// Why a stream would not open, in one line.
    pub async fn probe(&self, asks: &Asks, mut tell: impl FnMut(&Step)) -> Result<(), String> {
        let deadline = Instant::now() + self.opening.all;
        let mut tried = Tried::default();
        loop {
            let way = match self.route(&tried.spent, &asks.to, deadline).await {
                Ok(way) => way,
                Err(ending) if tried.spent.is_empty() => return Err(ending.detail),
                // What happened at an endpoint says more than that there is no other.
                Err(_) => return Err(tried.told(&asks.to)),
            };
            tell(&Step::resolved(&way));
            if tried.spent.is_empty() {
                tell(&self.shows(asks)?);
            }
            while let Some(lease) = way.pick(&tried.avoid) {
                if let Some((_, failure)) = tried.last.take() {
                    tell(&Step::Failed(failure));
                }
                match self.probe_at(&way, &lease, asks, &mut tell).await {
                    Ok(()) => return Ok(()),
                    Err(Miss::Own(why)) => return Err(why),
                    Err(Miss::At(failure)) => {
                        let over = next(&failure, Was::Fresh) == Next::Stop;
                        tried.avoid.push(lease.address().clone());
                        tried.last = Some((lease.address().clone(), failure));
                        if over || tried.avoid.len() == ATTEMPTS {
                            return Err(tried.told(&asks.to));
                        }
                    }
                }
            }
            tried.spent.push(way);
        }
    }

    fn shows(&self, asks: &Asks) -> Result<Step, String> {
        let id = asks.certificate.as_deref();
        let missing = || format!("this host has no certificate `{}`", id.unwrap_or("default"));
        self.identity.snapshot().credential(id).map(Step::shows).ok_or_else(missing)
    }

    async fn probe_at(&self, way: &Way, lease: &Lease, asks: &Asks, tell: &mut impl FnMut(&Step)) -> Result<(), Miss> {
        let (key, destination) = self.expect(way, lease, asks).map_err(|ending| Miss::Own(ending.detail))?;
        tell(&Step::Expected(key.clone()));
        let limit = self.opening.under(way.settings()).handshake;
        let dialed = dial(&key, &self.identity.snapshot(), self.ours(), limit).await;
        let mut dialed = match dialed {
            Ok(dialed) => dialed,
            Err(DialError::Setup(why)) => return Err(Miss::Own(why)),
            Err(error) => return Err(Miss::At(Failure::Dial(error))),
        };
        tell(&Step::met(&dialed));
        let mut preamble = Preamble::to(destination);
        preamble.id = Some(new_id());
        preamble.probe = true;
        let began = Instant::now();
        let answer =
            attempt(&mut dialed, &preamble, None, &mut Eager::ended(), self.patience(self.opening.answer)).await;
        let took = began.elapsed();
        let answer = answer.map_err(Miss::At)?;
        tell(&Step::Answered { answer, took });
        // The answer is what was asked for; DONE only makes the close a clean one.
        let _ = tokio::time::timeout(self.opening.answer, over(&mut dialed.tunnel, self.limits.frame)).await;
        close(dialed.tunnel).await;
        Ok(())
    }
}

/// Reads to DONE, or to the tunnel's end.
async fn over(tunnel: &mut Tunnel, frame: Duration) {
    while !matches!(tunnel.role(), Role::Dialer(dialer) if dialer.phase() == Phase::Idle) {
        if next_arrival(tunnel, frame).await.is_err() {
            return;
        }
    }
}

impl Step {
    fn resolved(way: &Way) -> Self {
        let endpoints = way.balancer().status().endpoints;
        let addresses = endpoints.into_iter().map(|endpoint| endpoint.address).collect();
        Self::Resolved { bound: way.bound().clone(), addresses }
    }

    fn shows(credential: &Credential) -> Self {
        Self::Shows { id: credential.id.clone(), names: credential.names.clone(), until: credential.not_after }
    }

    fn met(dialed: &Dialed) -> Self {
        let peer: &Peer = &dialed.peer;
        let until = validity(peer.not_after);
        let certificate = format!("serial {}, issued by {}, {until}", peer.subject_serial, peer.issuer);
        Self::Met { peer: peer.to_string(), certificate, took: dialed.took }
    }
}

/// `valid until 2027-02-23T02:34:58Z (89 days)`.
fn validity(until: SystemTime) -> String {
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    format!("valid until {} ({} days)", date(until), left.as_secs() / 86_400)
}

fn millis(span: Duration) -> String {
    format!("{:.2} ms", span.as_secs_f64() * 1e3)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolved { bound, addresses } => write!(f, "leads to    {bound}: {}", addresses.join(", ")),
            Self::Shows { id, names, until } => {
                write!(f, "shows       {} (certificate `{id}`, {})", names.join(", "), validity(*until))
            }
            Self::Expected(key) => {
                write!(f, "tries       {}, expecting {}", key.address, key.expected())?;
                match &key.sni {
                    Some(sni) => write!(f, " (server name {sni})"),
                    None => write!(f, " (no server name)"),
                }
            }
            Self::Failed(failure) => write!(f, "failed      {failure}"),
            Self::Met { peer, certificate, took } => {
                writeln!(f, "met         {peer}")?;
                writeln!(f, "            {certificate}")?;
                write!(f, "took        TCP {}, TLS {}", millis(took.connect), millis(took.handshake))
            }
            Self::Answered { answer, took } => {
                let bound = answer.bound.as_deref().unwrap_or("a place it does not tell");
                let rule = answer.rule.as_deref().unwrap_or("a rule it does not tell");
                writeln!(f, "answered    after {}", millis(*took))?;
                writeln!(f, "admitted    by {rule} of its policy")?;
                write!(f, "would open  {bound}")
            }
        }
    }
}
