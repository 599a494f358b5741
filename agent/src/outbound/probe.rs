//! A probe: everything a stream would go through, up to the far policy and the service's address, but nothing is connected
//! there. Its steps are told one by one, so that a person sees how far it came.

use std::{fmt, time::Duration};

use adit_config::Verify;
use adit_protocol::{Answer, Name, Phase, Preamble};
use tokio::time::Instant;

use super::{Asks, Outbound};
use crate::{
    addr::Address,
    streams::new_id,
    tunnel::{
        arrive::next_arrival,
        attempt::{Eager, attempt},
        close::close,
        dial::{Dialed, Key, dial},
        retry::Failure,
    },
    wire::tunnel::{Role, Tunnel},
};

/// One thing that was found out, in the order of finding.
#[derive(Clone, Debug)]
pub enum Step {
    /// What the name leads to.
    Resolved {
        /// The logical name.
        name: Name,
        /// The bound name.
        bound: Name,
        /// The endpoint that was picked.
        address: Address,
    },
    /// Who must answer there.
    Expected(Key),
    /// Who answered.
    Met {
        /// What it proved, or showed.
        peer: String,
        /// Its certificate's serial number, issuer, and how long it is still valid.
        certificate: String,
        /// TCP.
        connect: Duration,
        /// TLS.
        handshake: Duration,
    },
    /// What the far side would do.
    Answered {
        /// Where it would connect, and which rule admits.
        answer: Answer,
        /// From OPEN to the answer.
        took: Duration,
    },
}

impl Outbound {
    /// Sends a probe for `asks` to one endpoint, telling each step to `tell`.
    ///
    /// # Errors
    /// Why a stream would not open, in one line.
    pub async fn probe(&self, asks: &Asks, mut tell: impl FnMut(&Step)) -> Result<(), String> {
        let name = &asks.to;
        let routed = tokio::time::timeout(self.opening.all, self.router.route(name)).await;
        let balancer = routed
            .map_err(|_| format!("look-up of {name}: no answer within {:?}", self.opening.all))?
            .map_err(|error| format!("look-up of {name}: {error}"))?;
        let lease = balancer.pick(&[]).ok_or_else(|| format!("{name} has no endpoint now"))?;
        tell(&Step::Resolved { name: name.clone(), bound: lease.bound().clone(), address: lease.address().clone() });
        let (key, destination) = self.expect(&lease, asks).map_err(|ending| ending.detail)?;
        tell(&Step::Expected(key.clone()));
        let at = |failure: Failure| format!("{name} at {}: {failure}", key.address);
        let snapshot = self.identity.snapshot();
        let dialed = dial(&key, &snapshot, &self.options, self.opening.handshake).await;
        let mut dialed = dialed.map_err(|error| at(Failure::Dial(error)))?;
        tell(&Step::met(&dialed));
        let mut preamble = Preamble::to(destination);
        preamble.id = Some(new_id());
        preamble.probe = true;
        let began = Instant::now();
        let answer =
            attempt(&mut dialed, &preamble, None, &mut Eager::ended(), self.patience(self.opening.answer)).await;
        let took = began.elapsed();
        let answer = answer.map_err(at)?;
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
    fn met(dialed: &Dialed) -> Self {
        let peer = &dialed.peer;
        let left = peer.not_after.duration_since(std::time::SystemTime::now()).unwrap_or_default();
        let certificate = format!(
            "serial {}, issued by {}, valid for {} more days",
            peer.subject_serial,
            peer.issuer,
            left.as_secs() / 86_400
        );
        Self::Met {
            peer: peer.to_string(),
            certificate,
            connect: dialed.took.connect,
            handshake: dialed.took.handshake,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolved { name, bound, address } => write!(f, "resolved   {name} -> {bound} -> {address}"),
            Self::Expected(key) => {
                match &key.verify {
                    Verify::Identity(identity) => write!(f, "expects    {identity}")?,
                    Verify::None => {
                        write!(f, "expects    nobody: verify = \"none\" encrypts and does not authenticate")?;
                    }
                }
                match &key.sni {
                    Some(sni) => write!(f, ", asking for {sni}"),
                    None => write!(f, ", asking for no server name"),
                }
            }
            Self::Met { peer, certificate, connect, handshake } => {
                writeln!(f, "met        {peer} ({certificate})")?;
                write!(f, "took       connect {connect:.1?}, TLS handshake {handshake:.1?}")
            }
            Self::Answered { answer, took } => {
                let bound = answer.bound.as_deref().unwrap_or("a place it does not tell");
                let rule = answer.rule.as_deref().unwrap_or("a rule it does not tell");
                writeln!(f, "admitted   by {rule} of its policy")?;
                write!(f, "would open {bound} (answer after {took:.1?})")
            }
        }
    }
}
