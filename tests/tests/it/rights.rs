//! Rights that end under a live stream: a revocation or a bundle without the peer's CA ends it, on either side; a
//! certificate that has merely expired ends none, and lets no further stream through on the tunnel that it opened.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use adit_tests::{
    address::Address,
    agent::{Agent, replace},
    authority::{Authority, Credential, Leaf},
    end::End,
    listener::Listener,
    live::Live,
    mesh::{A, B, Mesh},
    wait::{LIMIT, until},
};

const ECHO: &str = "/svc/echo";

/// Long enough to start two agents and to open a stream in.
const SHORT_LIFE: Duration = Duration::from_secs(5);

#[test]
fn a_revocation_of_either_side_ends_its_live_streams_and_refuses_the_next() {
    for side in [A, B] {
        let world = World::new();
        let (of, judge) = if side == A { (&world.a, &world.mesh.b) } else { (&world.b, &world.mesh.a) };
        let live = world.open();
        replace(&judge.dir().join("crl.pem"), &world.mesh.authority.revoke(&[of]));
        live.ends_in_a_reset();
        judge.until_logged("certificate_revoked");
        world.refuses_another();
    }
}

#[test]
fn a_bundle_that_loses_the_peers_ca_ends_its_live_streams_and_refuses_the_next() {
    for side in [A, B] {
        let world = World::new();
        let judge = if side == A { &world.mesh.b } else { &world.mesh.a };
        let live = world.open();
        replace(&judge.dir().join("ca.pem"), Authority::new("another").pem());
        live.ends_in_a_reset();
        judge.until_logged("unknown_ca");
        world.refuses_another();
    }
}

#[test]
fn a_certificate_that_expires_ends_no_stream_and_opens_none_on_the_tunnel_it_made() {
    for side in [A, B] {
        let began = Instant::now();
        let world = World::with(side);
        // given a live stream, and an idle tunnel, both of while the certificate was good
        let mut live = world.open();
        drop(world.open());
        until("the tunnel to be idle", LIMIT, || (world.mesh.a.metric("adit_tunnels_idle") == 1.0).then_some(()));
        // when it has expired, and a renewal has made both agents look again
        // A second more, for certificates count in whole ones.
        let over = SHORT_LIFE + Duration::from_secs(1);
        until("the certificate to be bad", LIMIT, || (began.elapsed() > over).then_some(()));
        renew(if side == A { &world.mesh.b } else { &world.mesh.a }, &world.mesh.authority, side);
        // then the next stream is refused, and the live one goes on
        world.refuses_another();
        world.mesh.a.until_logged("expired");
        live.speaks();
    }
}

#[test]
fn a_tunnel_whose_stream_outlives_a_change_of_the_lists_is_retired_after_it() {
    // given a live stream, and then a list of B's that says nothing of its peer
    let world = World::new();
    let mut live = world.open();
    replace(&world.mesh.b.dir().join("crl.pem"), &world.mesh.authority.revoke(&[&world.b]));
    until_reloaded(&world.mesh.b, 0.0);
    live.speaks();
    // when the stream is over, then its tunnel is not kept, though A has no reason of its own to drop it
    drop(live);
    until("B to have no tunnel", LIMIT, || (world.mesh.b.metric("adit_tunnels_accepted") == 0.0).then_some(()));
    // and the next stream takes a fresh one
    world.open().speaks();
    assert_eq!(world.mesh.a.metric("adit_tunnels_used_total{kind=\"fresh\"}"), 2.0);
}

/// The other host's certificate is renewed, and that has been seen.
fn renew(agent: &Agent, authority: &Authority, expired: &str) {
    let before = reloads(agent);
    agent.swap_credential(&authority.issue(&Leaf::dns(&[if expired == A { B } else { A }])));
    until_reloaded(agent, before);
}

fn reloads(agent: &Agent) -> f64 {
    agent.metric("adit_tls_reloads_total{outcome=\"ok\"}")
}

fn until_reloaded(agent: &Agent, before: f64) {
    until("the change to be seen", LIMIT, || (reloads(agent) > before).then_some(()));
}

/// Two agents that keep lists, and a service behind B.
struct World {
    mesh: Mesh,
    service: Listener,
    a: Credential,
    b: Credential,
}

impl World {
    fn new() -> Self {
        Self::with("")
    }

    /// The certificate of the host `short` lives for a short while only.
    fn with(short: &str) -> Self {
        let plan = Mesh::plan();
        let issue = |name: &str| {
            let leaf = Leaf::dns(&[name]);
            plan.authority().issue(&if name == short { leaf.for_only(SHORT_LIFE) } else { leaf })
        };
        let (a, b) = (issue(A), issue(B));
        let nobody = plan.authority().revoke(&[]);
        let service = Listener::at(&Address::any_port());
        let plan = plan.a_shows(a.clone()).b_shows(b.clone()).a_revokes(nobody.clone()).b_revokes(nobody);
        let mesh = plan.service(ECHO, service.address()).start();
        Self { mesh, service, a, b }
    }

    fn open(&self) -> Live {
        Live::open(&self.mesh.front(ECHO), &self.service)
    }

    fn refuses_another(&self) {
        let mut client = End::connect(&self.mesh.front(ECHO));
        assert_eq!(client.failure_after(b"hello"), Some(ErrorKind::ConnectionReset));
        assert!(!self.service.has_caller());
    }
}
