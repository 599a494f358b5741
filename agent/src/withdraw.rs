//! The moment a right is withdrawn under a live stream: its peer's certificate is revoked, the bundle that vouched for it is
//! gone, or the rules that a reload brought no longer give it.

use std::{fmt, net::SocketAddr, sync::Arc};

use adit_config::{
    peers::{Expectation, Peers, Verify},
    policy::{Policy, Verdict},
    workload::{Ruling, Workloads},
};
use adit_protocol::Name;
use arc_swap::ArcSwap;

use crate::{
    addr::Address,
    end::{End, Ending, Side},
    identity::{Peer, Role, Store},
    streams::{Direction, Right, Stream, Streams},
};

/// Waits until `peer` is no longer good: looked at once now, and again whenever the certificates, bundle or lists change.
/// A certificate that merely expires ends no stream: renewal, of whichever certificate, would cut every long one.
pub async fn withdrawn(identity: &Arc<Store>, peer: &Peer, role: Role) -> Ending {
    // Subscribed before the first look, so that a change between the judge's look and this one is not missed.
    let mut changed = identity.changed();
    loop {
        if let Err(revoked) = identity.snapshot().stands(peer, role) {
            return Ending::new(End::Revoked, Side::Agent, revoked.reason);
        }
        if changed.changed().await.is_err() {
            // The store is gone with the agent; nothing is withdrawn any more.
            return std::future::pending().await;
        }
    }
}

/// The rules that give rights.
#[derive(Clone)]
pub struct Grounds {
    /// Who may reach what here.
    pub policy: Arc<Policy>,
    /// Who must answer elsewhere.
    pub peers: Arc<Peers>,
    /// Which local processes may go where.
    pub workloads: Arc<Workloads>,
    /// What may go on in plaintext.
    pub may_pass: Arc<MayPass>,
}

/// Whether a captured connection to this destination, which has this name, may go on in plaintext; if not, why.
pub type MayPass = dyn Fn(SocketAddr, &Name) -> Result<(), String> + Send + Sync;

/// The rules in force at one time.
struct Law {
    number: u64,
    grounds: Grounds,
}

/// The law in force, and the live streams under it.
pub struct Rights {
    law: ArcSwap<Law>,
    streams: Arc<Streams>,
}

impl Rights {
    /// The first law.
    pub fn new(grounds: Grounds, streams: Arc<Streams>) -> Arc<Self> {
        Arc::new(Self { law: ArcSwap::from_pointee(Law { number: 1, grounds }), streams })
    }

    /// The number of the law in force. Whoever judges by rules of their own keeps the number they came with.
    pub fn law(&self) -> u64 {
        self.law.load().number
    }

    /// Puts a new law in force, and returns its number. First this, then the rules that streams are judged by, then
    /// [`Rights::enforce`]: what is judged in between, by the old rules or by the new, is judged by this law again.
    pub fn announce(&self, grounds: Grounds) -> u64 {
        let number = self.law() + 1;
        self.law.store(Arc::new(Law { number, grounds }));
        number
    }

    /// Ends every live stream whose right is gone; returns how many.
    pub fn enforce(&self) -> usize {
        let law = self.law.load_full();
        self.streams.all().iter().filter(|stream| !law.lets(stream)).count()
    }

    /// Notes what a stream's right rests on, as rules of the law `judged_by` gave it. If another is in force meanwhile, the
    /// stream is judged by it now: it may have come too late to be met by [`Rights::enforce`].
    pub fn rest(&self, stream: &Stream, right: Right, judged_by: u64) {
        stream.rests_on(right);
        let law = self.law.load();
        if law.number != judged_by {
            law.lets(stream);
        }
    }
}

impl Law {
    /// Whether the stream may go on; if not, it is ended here.
    fn lets(&self, stream: &Stream) -> bool {
        let Some(right) = stream.right() else { return true };
        match self.judge(stream, &right) {
            Ok(()) => true,
            Err(why) => {
                stream.stop(End::Revoked, format!("a reload withdrew the right to {}: {why}", stream.name));
                false
            }
        }
    }

    fn judge(&self, stream: &Stream, right: &Right) -> Result<(), String> {
        let Grounds { policy, peers, workloads, may_pass } = &self.grounds;
        if stream.direction != Direction::Inbound {
            denied(workloads.judge(&stream.name, stream.came.process.as_ref()))?;
        }
        match right {
            Right::Passed { original } => may_pass(*original, &stream.name),
            Right::Inbound { peer, shown, at } => match policy.judge(&stream.name, peer, shown.as_deref()) {
                Verdict::Refused(refusal) => Err(refusal.to_string()),
                Verdict::Admitted(admitted) => {
                    let in_reach = match at {
                        None => true,
                        Some(Address::Tcp(address)) => admitted.may_reach(*address),
                        Some(Address::Unix(_)) => admitted.may_reach_unix(),
                    };
                    if in_reach { Ok(()) } else { Err(format!("{} does not reach this far", admitted.rule())) }
                }
            },
            Right::Outbound { bound, verify } => match peers.expect(&stream.name, bound) {
                Err(none) => Err(none.to_string()),
                Ok(Expectation { verify: now, rule, .. }) => demands_no_other(verify, &now)
                    .map_err(|identity| format!("[[outbound.peer]] {rule} wants {identity} to answer")),
            },
        }
    }
}

/// Which certificate the process shows now is for its next stream to ask.
fn denied(ruling: Ruling) -> Result<(), String> {
    match ruling {
        Ruling::Goes(_) => Ok(()),
        Ruling::Refused { rule, reason } => Err(format!("[[outbound.workload]] {rule}: {reason}")),
    }
}

/// Whoever had to prove an identity is as good where nobody has to prove any.
fn demands_no_other<'a>(was: &Verify, now: &'a Verify) -> Result<(), &'a adit_config::Identity> {
    match now {
        Verify::Identity(identity) if was != now => Err(identity),
        Verify::Identity(_) | Verify::None => Ok(()),
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights(law {})", self.law())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use adit_config::{Config, Identity, Workload};

    use super::*;
    use crate::streams::{Came, Registered, new_id};

    /// The rules of a file whose services and peers are these.
    fn rules(services: &str, peers: &str) -> Grounds {
        let text = format!(
            "[tls]\nca = \"/ca\"\ncert = \"/cert\"\nkey = \"/key\"\n\
             [inbound]\nlisten = [\"127.0.0.1:1\"]\ndtab = \"/db => /#/dns\"\n{services}\n[outbound]\n{peers}"
        );
        let (config, _) = Config::parse(Path::new("adit.toml"), &text).unwrap_or_else(|problems| panic!("{problems}"));
        let (policy, outbound) = (Arc::new(config.inbound.unwrap().policy), config.outbound.unwrap());
        let (peers, workloads) = (Arc::new(outbound.peers), Arc::new(outbound.workloads));
        Grounds { policy, peers, workloads, may_pass: Arc::new(|_, _| Err("nothing passes".to_owned())) }
    }

    const SERVICE: &str = "[[inbound.service]]\nname = \"/svc/x\"\nto = \"127.0.0.1:9\"\nallow = [\"a.example\"]\n";
    const REACH: &str = "[[inbound.service]]\nname = \"/svc/{x}\"\nto = \"/db/{x}/5\"\nreach = [\"10.0.0.0/8:5\"]\nallow = [\"a.example\"]\n";
    const PEER: &str = "[[outbound.peer]]\nname = \"/svc/{x}\"\nidentity = \"b.example\"\n";
    const ANYBODY: &str = "[[outbound.peer]]\nname = \"/svc/{x}\"\nverify = \"none\"\n";

    fn stream(streams: &Arc<Streams>, direction: Direction) -> Registered {
        streams.register(direction, new_id(), Name::parse("/svc/x").unwrap(), Came::default())
    }

    fn inbound(at: Option<&str>) -> Right {
        let at = at.map(|at| Address::Tcp(at.parse().unwrap()));
        Right::Inbound { peer: vec![Identity::name("a.example").unwrap()], shown: None, at }
    }

    fn outbound(identity: Option<&str>) -> Right {
        let verify = identity.map_or(Verify::None, |name| Verify::Identity(Identity::name(name).unwrap()));
        Right::Outbound { bound: Name::parse("/$/inet/10.0.0.1/1").unwrap(), verify }
    }

    #[test]
    fn a_new_law_ends_the_streams_whose_right_it_does_not_give_and_no_other() {
        let table = [
            (inbound(None), SERVICE.to_owned(), PEER, None),
            (inbound(None), SERVICE.replace("127.0.0.1:9", "127.0.0.1:10"), PEER, None),
            (inbound(None), SERVICE.replace("a.example", "c.example"), PEER, Some("rule 1 does not admit a.example")),
            (inbound(None), SERVICE.replace("/svc/x", "/svc/y"), PEER, Some("this agent serves no /svc/x")),
            (inbound(Some("10.0.0.1:5")), REACH.to_owned(), PEER, None),
            (inbound(Some("11.0.0.1:5")), REACH.to_owned(), PEER, Some("does not reach this far")),
            (outbound(Some("b.example")), SERVICE.to_owned(), ANYBODY, None),
            (outbound(Some("c.example")), SERVICE.to_owned(), PEER, Some("[[outbound.peer]] 1 wants b.example")),
            (outbound(None), SERVICE.to_owned(), PEER, Some("[[outbound.peer]] 1 wants b.example")),
            (Right::Passed { original: ([10, 0, 0, 2], 80).into() }, SERVICE.to_owned(), PEER, Some("nothing passes")),
            (outbound(Some("b.example")), SERVICE.to_owned(), "", Some("no [[outbound.peer]] that matches")),
        ];
        for (right, services, peers, ended) in table {
            let streams = Streams::new();
            let before = Grounds { may_pass: Arc::new(|_, _| Ok(())), ..rules(SERVICE, PEER) };
            let rights = Rights::new(before, Arc::clone(&streams));
            let live = stream(&streams, Direction::Inbound);
            let unjudged = stream(&streams, Direction::Inbound);
            rights.rest(&live, right.clone(), rights.law());
            assert!(live.ending().is_none());
            rights.announce(rules(&services, peers));
            assert_eq!(rights.enforce(), usize::from(ended.is_some()), "{right:?}");
            match (live.ending(), ended) {
                (None, None) => {}
                (Some(ending), Some(why)) => {
                    assert_eq!((ending.end, ending.side), (End::Revoked, Side::Agent));
                    assert!(ending.detail.contains(why), "{}", ending.detail);
                }
                (found, _) => panic!("{right:?}: {found:?}, expected {ended:?}"),
            }
            assert!(unjudged.ending().is_none(), "what was not judged yet will be");
        }
    }

    #[test]
    fn a_captured_stream_goes_on_while_its_port_and_its_peer_are_served() {
        let capture =
            |ports: &str, allow: &str| format!("[[inbound.capture]]\nports = [{ports}]\nallow = [\"{allow}\"]\n");
        let table = [
            (capture("\"5000-6000\"", "a.example"), None),
            (capture("22", "c.example") + &capture("5432", "a.example"), None),
            (capture("5432", "c.example"), Some("does not admit a.example")),
            (capture("22", "a.example"), Some("serves no /dst/10.0.0.1/5432")),
            (SERVICE.to_owned(), Some("serves no /dst/10.0.0.1/5432")),
        ];
        for (next, ended) in table {
            let streams = Streams::new();
            let rights = Rights::new(rules(&capture("5432", "a.example"), PEER), Arc::clone(&streams));
            let name = Name::parse("/dst/10.0.0.1/5432").unwrap();
            let live = streams.register(Direction::Inbound, new_id(), name, Came::default());
            rights.rest(&live, inbound(Some("10.0.0.1:5432")), rights.law());
            assert!(live.ending().is_none());
            rights.announce(rules(&next, PEER));
            assert_eq!(rights.enforce(), usize::from(ended.is_some()), "{next}");
            let detail = live.ending().map_or_else(String::new, |ending| ending.detail);
            assert!(detail.contains(ended.unwrap_or_default()), "{detail}");
        }
    }

    #[test]
    fn a_law_that_denies_a_process_ends_its_streams_to_elsewhere_and_no_others() {
        let streams = Streams::new();
        let rights = Rights::new(rules(SERVICE, PEER), Arc::clone(&streams));
        let of = |direction, user: Option<&str>, right| {
            let process = user.map(|user| Workload { user: Some(user.to_owned()), ..Workload::default() });
            let came = Came { process, ..Came::default() };
            let live = streams.register(direction, new_id(), Name::parse("/svc/x").unwrap(), came);
            rights.rest(&live, right, rights.law());
            live
        };
        let good = of(Direction::Outbound, Some("web"), outbound(Some("b.example")));
        let denied = of(Direction::Outbound, Some("batch"), outbound(Some("b.example")));
        let hidden = of(Direction::Outbound, None, outbound(Some("b.example")));
        let inbound = of(Direction::Inbound, None, inbound(None));
        let deny = "[[outbound.workload]]\nuser = \"batch\"\ndeny = true\n";
        rights.announce(rules(SERVICE, &format!("{PEER}{deny}")));
        assert_eq!(rights.enforce(), 2, "of the hidden one it cannot be told");
        let why = denied.ending().unwrap().detail;
        assert!(why.contains("[[outbound.workload]] 1: it denies user batch"), "{why}");
        assert!(hidden.ending().is_some() && good.ending().is_none() && inbound.ending().is_none());
    }

    #[test]
    fn a_stream_that_was_judged_by_the_old_rules_and_comes_after_the_walk_is_judged_again() {
        let streams = Streams::new();
        let rights = Rights::new(rules(SERVICE, PEER), Arc::clone(&streams));
        let judged_by = rights.law();
        let late = stream(&streams, Direction::Inbound);
        let now = rights.announce(rules(&SERVICE.replace("a.example", "c.example"), PEER));
        assert_eq!(rights.enforce(), 0, "it rests on nothing yet");
        rights.rest(&late, inbound(None), judged_by);
        assert_eq!(late.ending().map(|ending| ending.end), Some(End::Revoked));
        let judged_by_it = stream(&streams, Direction::Inbound);
        rights.rest(&judged_by_it, outbound(Some("b.example")), now);
        assert!(judged_by_it.ending().is_none());
    }
}
