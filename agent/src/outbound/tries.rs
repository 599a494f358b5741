//! The attempts of one stream: where to try next, where not again, and what is said once none is left. Decisions alone; the
//! story carries them out.

use std::sync::Arc;

use adit_config::limits::ATTEMPTS;
use adit_protocol::Name;

use crate::{
    addr::Address,
    balance::Lease,
    end::{End, Ending, Side},
    router::Way,
    streams::Direction,
    telemetry::metrics,
    tunnel::retry::{Failure, Next, Was, next},
};

/// Which tunnels an attempt may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// Of the pool, or a fresh one.
    Any,
    /// A fresh one only, at the endpoint of the attempt before.
    Fresh,
}

impl On {
    pub(super) fn was(self, recycled: bool) -> Was {
        match (self, recycled) {
            (Self::Fresh, _) => Was::Again,
            (Self::Any, true) => Was::Recycled,
            (Self::Any, false) => Was::Fresh,
        }
    }
}

/// The attempts of one stream: how many, where not again, and what the last one said.
#[derive(Default)]
pub(super) struct Tries {
    pub(super) made: usize,
    /// Those in which the acceptor was sent OPEN: what the protocol counts.
    asked: usize,
    pub(super) avoid: Vec<Address>,
    /// The ways all of whose endpoints are to be avoided.
    pub(super) spent: Vec<Arc<Way>>,
    again: Option<Lease>,
    over: bool,
    last: Option<(Address, Failure)>,
}

impl Tries {
    /// Where to try next, if anywhere (PROTOCOL.md section 4: at most 3 attempts). An endpoint to which no tunnel could be
    /// opened costs none of them, and none is gone to again.
    pub(super) fn next(&mut self, pick: impl FnOnce(&[Address]) -> Option<Lease>) -> Option<(Lease, On)> {
        if self.is_over() {
            return None;
        }
        let next = match self.again.take() {
            Some(lease) => (lease, On::Fresh),
            None => (pick(&self.avoid)?, On::Any),
        };
        self.made += 1;
        if self.made > 1 {
            metrics::open_retried();
        }
        Some(next)
    }

    /// Whether no endpoint would do.
    pub(super) fn is_over(&self) -> bool {
        self.over || self.asked == ATTEMPTS
    }

    pub(super) fn failed(&mut self, lease: Lease, failure: Failure, was: Was) {
        let address = lease.address().clone();
        if !matches!(failure, Failure::Dial(_)) {
            self.asked += 1;
        }
        match next(&failure, was) {
            Next::Stop => self.over = true,
            Next::SameOnFresh => self.again = Some(lease),
            Next::Elsewhere => self.avoid.push(address.clone()),
        }
        self.last = Some((address, failure));
    }

    /// What the record says when no attempt is left.
    pub(super) fn ending(self, name: &Name) -> Ending {
        let Some((address, failure)) = self.last else {
            return Ending::new(End::Unreachable, Side::Agent, format!("{name} has no endpoint now"));
        };
        let detail = match self.made {
            1 => format!("{name} at {address}: {failure}"),
            made => format!("{name}: {made} attempts, the last at {address}: {failure}"),
        };
        match failure {
            Failure::Refused(refusal) => {
                metrics::refused(Direction::Outbound, refusal.code.label());
                Ending::new(End::Refused(refusal.code), Side::Peer, detail)
            }
            Failure::Application(_) => Ending::new(End::Reset, Side::Local, detail),
            Failure::Protocol(_) => Ending::new(End::Protocol, Side::Peer, detail),
            Failure::Dial(_) | Failure::Lost { .. } | Failure::Silent { .. } => {
                Ending::new(End::Unreachable, Side::Peer, detail)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use adit_config::peers::{BalancerKind, OnLeave};

    use crate::balance::Balancer;

    use super::*;
    use crate::{addr::Weighted, tunnel::dial::DialError, wire::channel::PeerEnd};

    fn balancer(endpoints: u16) -> Balancer {
        let bound = Name::parse("/#/dns/db/4143").unwrap();
        let balancer = Balancer::new(bound, BalancerKind::Least, OnLeave::Keep);
        let addresses: Vec<_> = (1..=endpoints).map(|port| Address::Tcp(([127, 0, 0, 1], port).into())).collect();
        balancer.update(&addresses.into_iter().map(Weighted::plain).collect());
        balancer
    }

    #[test]
    fn an_endpoint_that_cannot_be_reached_costs_no_attempt_and_is_not_gone_back_to() {
        let balancer = balancer(5);
        let mut tries = Tries::default();
        let mut seen = std::collections::HashSet::new();
        while let Some((lease, _)) = tries.next(|avoid| balancer.pick(avoid)) {
            assert!(seen.insert(lease.address().to_string()), "{} twice", lease.address());
            tries.failed(lease, Failure::Dial(DialError::ConnectTimeout(Duration::ZERO)), Was::Fresh);
        }
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn three_acceptors_at_most_are_sent_open() {
        let balancer = balancer(5);
        let mut tries = Tries::default();
        let mut asked = 0;
        while let Some((lease, _)) = tries.next(|avoid| balancer.pick(avoid)) {
            asked += 1;
            let lost = Failure::Lost { end: PeerEnd::Bare(None), handed: false, spoken: false };
            tries.failed(lease, lost, Was::Fresh);
        }
        assert_eq!(asked, ATTEMPTS);
    }
}
