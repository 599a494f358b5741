//! `[[outbound.peer]]`: each entry says whom it is about, and who must answer or some setting; every door leads to a
//! name for which some entry says who must answer.

use adit_protocol::Name;

use crate::peers::{NoRule, Peers, names_dns};
use crate::spec::Spec;
use crate::spec::outbound::{OutboundSpec, PeerSpec};
use crate::spec::report::{At, Report};

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
            report.problem(peer.at, "this [[outbound.peer]] has both `name` and `bound`", help);
        }
        (false, false) => {
            let message = "this [[outbound.peer]] does not say which names it is about";
            report.problem(peer.at, message, "add `name = \"/svc/{service}\"`");
        }
    }
}

/// Who must answer is taken whole, so an entry that has `sni` or `as` alone would refuse all it matches; one that has
/// nothing at all was meant to say something.
fn unit(peer: &PeerSpec, report: &mut Report) {
    match (peer.says.identity, peer.says.verify) {
        (true, false) => {}
        (false, true) => warn_unverified(peer, report),
        (true, true) => {
            let help = "remove `verify` to have the identity verified, or else `identity`";
            report.problem(peer.at, "this [[outbound.peer]] has both `identity` and `verify`", help);
        }
        (false, false) if !peer.says.told && !peer.says.settings.is_empty() => {}
        (false, false) => {
            let help = "add `identity = \"{service}.prod.internal\"`";
            report.problem(peer.at, "this [[outbound.peer]] does not say who must answer", help);
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
    if names_dns(&identity.value) {
        let message = "`sni` is never sent: the DNS name in `identity` is";
        report.problem(sni.at, message, "leave it out");
    }
}

/// A door of whose destinations none has a rule; where the table leads nowhere, that is said by `leads`.
fn listeners(outbound: &OutboundSpec, report: &mut Report) {
    let rules: Option<Vec<_>> = outbound.peers.iter().map(PeerSpec::rule).collect();
    let Some(rules) = rules else { return };
    let peers = Peers { rules };
    for to in &outbound.asks() {
        let Ok(tree) = outbound.dtab.look_up(&to.value) else {
            continue;
        };
        let refusals: Vec<_> =
            tree.leaves().into_iter().map(|bound| peers.expect(&to.value, bound.path()).err()).collect();
        if let Some(Some(cause)) = refusals.first()
            && refusals.iter().all(Option::is_some)
        {
            refused(to, cause, report);
        }
    }
}

fn refused(to: &At<Name>, cause: &NoRule, report: &mut Report) {
    match cause {
        NoRule::NoMatch { logical, bound } => {
            let message = format!(
                "every connection here will be refused: no [[outbound.peer]] that matches {logical} says who must answer"
            );
            let help = format!(
                "add one with `identity` and `name = \"{logical}\"`, or, for where it leads, `bound = \"{bound}\"`"
            );
            report.warn(to.at, message, help);
        }
        NoRule::Identity { .. } | NoRule::Template { .. } | NoRule::Bound { .. } => {
            report.warn(to.at, format!("every connection here will be refused by {cause}"), "");
        }
    }
}
