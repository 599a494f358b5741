//! Credentials from a SPIFFE Workload API: they come, rotate under load and go on through its death and its garbage; and
//! no trust domain vouches for what is another's.

mod federation;
mod upgrades;

use std::{
    io::ErrorKind,
    thread,
    time::{Duration, Instant},
};

use adit_tests::{
    address::{Address, Wire},
    agent::Agent,
    authority::{Authority, Credential, Leaf},
    churn,
    end::End,
    listener::Listener,
    load::Service,
    mesh::{Mesh, Plan},
    wait::{LIMIT, until},
    workload_api::{Set, WorkloadApi},
};

const ECHO: &str = "/svc/echo";

/// The ids of host A and host B.
const WEB: &str = "spiffe://one.example/web";
const REDIS: &str = "spiffe://one.example/redis";
/// Host B's, where it is of another trust domain.
const PARTNER: &str = "spiffe://two.example/redis";

/// Applications that open one stream after another.
const CALLERS: usize = 4;

/// Two hosts, each with a Workload API of its own.
struct World {
    mesh: Mesh,
    _echo: Service,
    a: WorkloadApi,
    b: WorkloadApi,
    one: Authority,
}

impl World {
    /// Both are of the trust domain one.example.
    fn start() -> Self {
        Self::with(|plan| plan)
    }

    fn with(more: impl FnOnce(Plan) -> Plan) -> Self {
        let one = Authority::new("one");
        let sets = [set(WEB, &one), set(REDIS, &one)];
        Self::between(one, sets, WEB, REDIS, more)
    }

    /// With these sets of A and B, where B admits `admitted`, and A expects `expected`.
    fn between(
        one: Authority,
        [a, b]: [Set; 2],
        admitted: &str,
        expected: &str,
        more: impl FnOnce(Plan) -> Plan,
    ) -> Self {
        let plan = Mesh::plan();
        let a = WorkloadApi::start(&plan.path("a.sock"), a);
        let b = WorkloadApi::start(&plan.path("b.sock"), b);
        let echo = Service::start(Wire::Tcp, "echo");
        let peers = format!("[[outbound.peer]]\nname = \"/svc/{{service}}\"\nidentity = \"{expected}\"\n");
        let plan = plan.service(ECHO, echo.address()).only_for(admitted).peers(&peers);
        let mesh = more(plan.a_tls(&a.tls()).b_tls(&b.tls())).start();
        Self { mesh, _echo: echo, a, b, one }
    }

    fn echoes(&self) -> std::io::Result<()> {
        End::try_echo(&self.mesh.front(ECHO))
    }

    fn serial_of(agent: &Agent) -> String {
        agent.status()["certificates"][0]["serial"].as_str().expect("a serial is text").to_owned()
    }

    /// While streams are opened all the time, `happens`; how many got through, and how many did not.
    fn under_load(&self, happens: impl FnOnce(&Self)) -> (usize, usize) {
        let calls = churn::under_load(&self.mesh.front(ECHO), || happens(self));
        (calls.good, calls.bad)
    }
}

fn svid(id: &str, authority: &Authority) -> Credential {
    authority.issue(&Leaf::dns(&[]).uri(id))
}

/// A new certificate of `id`, in a trust domain of one authority.
fn set(id: &str, authority: &Authority) -> Set {
    Set::of(id, &svid(id, authority), &[authority])
}

fn fault(agent: &Agent) -> String {
    agent.status()["tls_fault"].as_str().unwrap_or_default().to_owned()
}

fn until_fault(agent: &Agent, said: &str) {
    until(&format!("a fault that says {said:?}"), LIMIT, || fault(agent).contains(said).then_some(()));
}

fn until_sound(agent: &Agent) {
    until("the fault to end", LIMIT, || fault(agent).is_empty().then_some(()));
}

#[test]
fn two_agents_are_who_their_workload_api_says_and_show_where_it_is() {
    let world = World::start();
    world.echoes().unwrap();
    // then the status names the source, and what came from it
    let status = world.mesh.a.status();
    assert!(status["workload_api"]["socket"].as_str().unwrap().ends_with("a.sock"), "{status}");
    assert!(status["workload_api"]["fault"].is_null(), "{status}");
    assert_eq!(status["certificates"][0]["names"][0], WEB);
    assert_eq!(status["certificates"][0]["id"], "default");
    // and so do `check`, which asks it, and the printed file
    let file = world.mesh.a.file();
    let printed = adit_tests::agent::adit(&["check", "--print", file.to_str().unwrap()]).expect_success();
    assert!(printed.contains(&world.a.tls()), "{printed}");
}

#[test]
fn certificates_and_bundles_rotate_each_second_under_load_and_no_stream_fails() {
    const ROTATIONS: usize = 10;
    let world = World::start();
    let calls = world.under_load(|world| {
        for rotation in 0..ROTATIONS {
            let began = Instant::now();
            let before = [World::serial_of(&world.mesh.a), World::serial_of(&world.mesh.b)];
            // when both get another certificate, and every other time a bundle that is another
            let more = Authority::new("one, next");
            let bundle = if rotation % 2 == 0 { vec![&world.one, &more] } else { vec![&world.one] };
            world.a.give(Set::of(WEB, &svid(WEB, &world.one), &bundle));
            world.b.give(Set::of(REDIS, &svid(REDIS, &world.one), &bundle));
            // then both have it before the second is over
            until("both to show another certificate", LIMIT, || {
                let now = [World::serial_of(&world.mesh.a), World::serial_of(&world.mesh.b)];
                (now[0] != before[0] && now[1] != before[1]).then_some(())
            });
            until("the second to be over", LIMIT, || (began.elapsed() >= Duration::from_secs(1)).then_some(()));
        }
    });
    println!("{} streams over {ROTATIONS} rotations, {} failed", calls.0, calls.1);
    assert_eq!(calls.1, 0, "of {} streams some failed", calls.0);
    assert!(calls.0 > 100, "only {} streams", calls.0);
}

#[test]
fn an_authority_is_replaced_under_load_and_at_most_a_stream_that_rested_on_it_fails() {
    let world = World::start();
    let next = Authority::new("one, next");
    let calls = world.under_load(|world| {
        let serials = || [World::serial_of(&world.mesh.a), World::serial_of(&world.mesh.b)];
        let mut before = serials();
        // when the next authority is first believed, then signs, and then the old one is dropped
        for (signs, bundle) in
            [(&world.one, vec![&world.one, &next]), (&next, vec![&world.one, &next]), (&next, vec![&next])]
        {
            world.a.give(Set::of(WEB, &svid(WEB, signs), &bundle));
            world.b.give(Set::of(REDIS, &svid(REDIS, signs), &bundle));
            until("both to have the step", LIMIT, || {
                let now = serials();
                (now[0] != before[0] && now[1] != before[1]).then(|| before = now)
            });
            for _ in 0..20 {
                let _ = world.echoes();
            }
        }
    });
    // Streams of a moment that rested on the old authority end with it; what is new is served all the time.
    println!("{} streams over the change of an authority, {} failed", calls.0, calls.1);
    assert!(calls.1 <= 2 * CALLERS, "of {} streams {} failed", calls.0, calls.1);
    world.echoes().unwrap();
}

#[test]
fn a_workload_api_that_dies_leaves_what_it_gave_in_force_and_is_followed_again() {
    let mut world = World::start();
    let mut live = End::connect(&world.mesh.front(ECHO));
    live.send(b"one");
    assert_eq!(live.receive(3), b"one");
    let before = World::serial_of(&world.mesh.a);
    // when it dies
    world.a.die();
    // then that is told in the status, the log and the metric, and streams open as before
    until_fault(&world.mesh.a, "stream is broken");
    world.mesh.a.until_logged("what it gave last stays in force");
    assert_eq!(world.mesh.a.metric("adit_workload_api_fault"), 1.0);
    world.echoes().unwrap();
    // and when it comes back with another certificate, that is taken
    world.a.give(set(WEB, &world.one));
    world.a.come_back();
    until("another certificate", LIMIT, || (World::serial_of(&world.mesh.a) != before).then_some(()));
    until_sound(&world.mesh.a);
    assert_eq!(world.mesh.a.metric("adit_workload_api_fault"), 0.0);
    world.echoes().unwrap();
    live.send(b"two");
    assert_eq!(live.receive(3), b"two");
}

#[test]
fn what_cannot_be_used_leaves_the_last_set_in_force() {
    let world = World::start();
    let one = &world.one;
    let expired = one.issue(&Leaf::dns(&[]).uri(WEB).expired());
    let two_ids = one.issue(&Leaf::dns(&[]).uri(WEB).uri(REDIS));
    let good = || set(WEB, one);
    for (garbage, said) in [
        (Set::empty(), "missing required field"),
        (good().with_chain(b"no certificate"), "stream is broken"),
        (good().with_chain(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), "stream is broken"),
        (good().with_bundle(b""), "missing required field"),
        (good().with_bundle(b"no bundle"), "stream is broken"),
        (good().with_bundle_of(&svid(WEB, one)), "is not a CA's"),
        (good().with_key_of(&good()), "key that is of no use"),
        (Set::of(WEB, &expired, &[one]), "expired at"),
        (Set::of(WEB, &two_ids, &[one]), "stream is broken"),
        (Set::of(WEB, &one.issue(&Leaf::dns(&["a.one.example"])), &[one]), "stream is broken"),
    ] {
        // when it gives what is of no use
        let before = World::serial_of(&world.mesh.a);
        world.a.give(garbage);
        // then that is told, and what was in force stays
        until_fault(&world.mesh.a, said);
        assert_eq!(World::serial_of(&world.mesh.a), before);
        world.echoes().unwrap();
        // and what is of use again is taken
        world.a.give(good());
        until("another certificate", LIMIT, || (World::serial_of(&world.mesh.a) != before).then_some(()));
        until_sound(&world.mesh.a);
    }
}

#[test]
fn who_is_no_longer_registered_keeps_what_it_had() {
    let world = World::start();
    world.a.deny();
    until_fault(&world.mesh.a, "stream is broken");
    assert!(fault(&world.mesh.a).contains("no identity issued"), "{}", fault(&world.mesh.a));
    world.echoes().unwrap();
}

#[test]
fn a_certificate_without_a_spiffe_id_has_nobody_to_vouch_for_it() {
    // given a dialer whose files hold a certificate that B's own authority has signed, without a SPIFFE id
    let one = Authority::new("one");
    let plan = Mesh::plan();
    let bare = one.issue(&Leaf::dns(&["a.one.example"]));
    let b = WorkloadApi::start(&plan.path("b.sock"), set(REDIS, &one));
    let service = Listener::at(&Address::any_port());
    let peers = format!("[[outbound.peer]]\nname = \"/svc/{{service}}\"\nidentity = \"{REDIS}\"\n");
    let plan = plan.service(ECHO, service.address()).only_for("a.one.example").peers(&peers);
    let ca = plan.path("one.pem");
    std::fs::write(&ca, one.pem()).unwrap();
    for (name, text) in [("bare.pem", &bare.cert), ("bare.key", &bare.key)] {
        adit_tests::agent::replace(&plan.path(name), text);
    }
    let path = |name| plan.path(name).display().to_string();
    let tls = format!("ca = \"{}\"\ncert = \"{}\"\nkey = \"{}\"", ca.display(), path("bare.pem"), path("bare.key"));
    let mesh = plan.a_tls(&tls).b_tls(&b.tls()).start();
    // then B refuses it in the handshake
    assert_eq!(End::connect(&mesh.front(ECHO)).failure_after(b"hello"), Some(ErrorKind::ConnectionReset));
    assert!(!service.has_caller());
}

#[test]
fn an_agent_whose_workload_api_gives_nothing_does_not_start_and_says_why() {
    for is_there in [false, true] {
        let plan = Mesh::plan();
        let mut api = WorkloadApi::at(&plan.path("b.sock"));
        if is_there {
            api.come_back();
        }
        let service = Address::parse("127.0.0.1:1");
        let tls = format!("{}\nspiffe_wait = \"1s\"", api.tls());
        let ended = plan.b_tls(&tls).service(ECHO, &service).fail_to_start_b();
        assert_eq!(ended.status.code(), Some(1), "{}", ended.all());
        let said = if is_there { "no identity issued" } else { "No such file" };
        for said in ["b.sock", "gave no certificate within 1s", said] {
            assert!(ended.stderr.contains(said), "no {said:?} in {}", ended.stderr);
        }
    }
}

#[test]
fn a_start_waits_for_a_workload_api_that_comes_later() {
    let one = Authority::new("one");
    let plan = Mesh::plan();
    let mut api = WorkloadApi::at(&plan.path("b.sock"));
    api.give(set(REDIS, &one));
    let log = plan.path("b").join("log");
    let service = Listener::at(&Address::any_port());
    let plan = plan.b_tls(&api.tls()).service(ECHO, service.address());
    thread::scope(|scope| {
        // when it is not there before the agent has looked for it
        scope.spawn(|| {
            until("the agent to look", LIMIT, || {
                std::fs::read_to_string(&log).is_ok_and(|log| log.contains("is broken")).then_some(())
            });
            api.come_back();
        });
        // then the agent is ready all the same
        let (b, _dir) = plan.start_b();
        assert_eq!(b.status()["certificates"][0]["names"][0], REDIS);
    });
}

#[test]
fn a_certificate_that_expires_with_its_workload_api_dead_opens_no_stream_and_ends_none() {
    const LIFE: Duration = Duration::from_secs(5);
    let mut world = World::start();
    let began = Instant::now();
    let before = World::serial_of(&world.mesh.a);
    let short = world.one.issue(&Leaf::dns(&[]).uri(WEB).for_only(LIFE));
    world.a.give(Set::of(WEB, &short, &[&world.one]));
    until("the short certificate", LIMIT, || (World::serial_of(&world.mesh.a) != before).then_some(()));
    let mut live = End::connect(&world.mesh.front(ECHO));
    live.send(b"one");
    assert_eq!(live.receive(3), b"one");
    world.a.die();
    until("the certificate to expire", LIMIT, || (began.elapsed() > LIFE + Duration::from_secs(1)).then_some(()));
    assert!(world.echoes().is_err());
    world.mesh.a.until_logged("expired");
    live.send(b"two");
    assert_eq!(live.receive(3), b"two");
    // and with the next one all is well
    world.a.give(set(WEB, &world.one));
    world.a.come_back();
    until("a stream", LIMIT, || world.echoes().ok());
}

#[test]
fn a_reload_goes_from_files_to_a_workload_api_and_back_with_a_stream_alive() {
    // given an agent with files of the same authority, and an admin socket
    let one = Authority::new("one");
    let plan = Mesh::plan();
    let api = WorkloadApi::start(&plan.path("api.sock"), set(WEB, &one));
    let dead = WorkloadApi::at(&plan.path("dead.sock"));
    let b = WorkloadApi::start(&plan.path("b.sock"), set(REDIS, &one));
    let held = svid(WEB, &one);
    for (name, text) in [("one.pem", one.pem()), ("web.pem", &held.cert), ("web.key", &held.key)] {
        adit_tests::agent::replace(&plan.path(name), text);
    }
    let path = |name: &str| plan.path(name).display().to_string();
    let files = format!("ca = \"{}\"\ncert = \"{}\"\nkey = \"{}\"", path("one.pem"), path("web.pem"), path("web.key"));
    let socket = path("admin.sock");
    let echo = Service::start(Wire::Tcp, "echo");
    let peers = format!("[[outbound.peer]]\nname = \"/svc/{{service}}\"\nidentity = \"{REDIS}\"\n");
    let plan = plan.service(ECHO, echo.address()).only_for(WEB).peers(&peers);
    let mut mesh = plan.a_tls(&files).b_tls(&b.tls()).start();
    mesh.a.edit(|text| text.replace("[admin]", &format!("[admin]\nsocket = \"{socket}\"")));
    until("the admin socket", LIMIT, || std::path::Path::new(&socket).exists().then_some(()));
    let mut live = End::connect(&mesh.front(ECHO));
    live.send(b"one");
    assert_eq!(live.receive(3), b"one");
    let by_file = World::serial_of(&mesh.a);
    // when the file names a Workload API that is not there, then nothing changes
    mesh.a.edit(|text| text.replace(&files, &format!("{}\nspiffe_wait = \"1s\"", dead.tls())));
    let failed = mesh.a.reload();
    assert!(!failed.status.success() && failed.all().contains("dead.sock"), "{}", failed.all());
    assert_eq!(World::serial_of(&mesh.a), by_file);
    End::try_echo(&mesh.front(ECHO)).unwrap();
    // when it names one that is
    mesh.a.edit(|text| text.replace(&format!("{}\nspiffe_wait = \"1s\"", dead.tls()), &api.tls()));
    let _said = mesh.a.reload().expect_success();
    assert_ne!(World::serial_of(&mesh.a), by_file);
    assert!(mesh.a.status()["workload_api"]["fault"].is_null());
    End::try_echo(&mesh.front(ECHO)).unwrap();
    // and back
    mesh.a.edit(|text| text.replace(&api.tls(), &files));
    let _said = mesh.a.reload().expect_success();
    assert_eq!(World::serial_of(&mesh.a), by_file);
    assert!(mesh.a.status().get("workload_api").is_none());
    End::try_echo(&mesh.front(ECHO)).unwrap();
    live.send(b"two");
    assert_eq!(live.receive(3), b"two");
}
