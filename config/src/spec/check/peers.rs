//! `[[outbound.peer]]`: each entry says whom it is about and who must answer, and every door leads to
//! a name that some entry is about.

use crate::peers::{PeerMatch, Peers};
use crate::spec::Spec;
use crate::spec::outbound::{ListenerSpec, OutboundSpec, PeerSpec};
use crate::spec::report::Report;

pub(super) fn check(spec: &Spec, report: &mut Report) {
    let Some(outbound) = &spec.outbound else {
        return;
    };
    for peer in &outbound.peers {
        names(peer, report);
        unit(peer, report);
        idle_sni(peer, report);
    }
    listeners(outbound, report);
}

fn names(peer: &PeerSpec, report: &mut Report) {
    match (peer.says.name, peer.says.bound) {
        (true, false) | (false, true) => {}
        (true, true) => {
            let help = "keep `name`, which rewriting cannot change, or make two entries";
            report.problem(peer.at, "this entry has both `name` and `bound`", help);
        }
        (false, false) => {
            let message = "this entry does not say which names it is about";
            report.problem(peer.at, message, "add `name = \"/svc/{service}\"`");
        }
    }
}

/// The entry is taken whole, so one that does not say who must answer would refuse all it matches.
fn unit(peer: &PeerSpec, report: &mut Report) {
    match (peer.says.identity, peer.says.verify) {
        (true, false) => {}
        (false, true) => warn_unverified(peer, report),
        (true, true) => {
            let help = "remove `verify` to have the identity verified, or else `identity`";
            report.problem(peer.at, "this entry has both `identity` and `verify`", help);
        }
        (false, false) => {
            let help = "add `identity = \"{service}.prod.internal\"`";
            report.problem(peer.at, "this entry does not say who must answer", help);
        }
    }
}

fn warn_unverified(peer: &PeerSpec, report: &mut Report) {
    if let Some(none) = &peer.unverified {
        let message = "`verify = \"none\"` takes any peer for the right one";
        report.warn(none.at, message, "say who must answer with `identity`");
    }
}

/// PROTOCOL.md section 1: the expected DNS name is sent, so an `sni` beside it is not.
fn idle_sni(peer: &PeerSpec, report: &mut Report) {
    let (Some(identity), Some(sni)) = (&peer.identity, &peer.sni) else {
        return;
    };
    if !identity.value.as_str().starts_with("spiffe://") {
        let message = "`sni` is never sent: the DNS name in `identity` is";
        report.problem(sni.at, message, "leave it out");
    }
}

/// Only where rules by logical name alone decide can it be told before a table is asked.
fn listeners(outbound: &OutboundSpec, report: &mut Report) {
    let rules: Option<Vec<_>> = outbound.peers.iter().map(PeerSpec::rule).collect();
    let Some(rules) = rules else { return };
    let peers = Peers { rules };
    if peers.rules.iter().any(|rule| matches!(rule.matches, PeerMatch::Bound(_))) {
        return;
    }
    for listener in &outbound.listeners {
        refused(listener, &peers, report);
    }
}

fn refused(listener: &ListenerSpec, peers: &Peers, report: &mut Report) {
    let Some(to) = &listener.to else { return };
    if let Err(cause) = peers.expect(&to.value, &to.value) {
        report.warn(to.at, "every connection to this listener will be refused", cause.to_string());
    }
}
