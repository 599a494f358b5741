//! A configuration that changes under a running agent: what is new in it takes effect at once, all of it or nothing, and
//! no live stream ends but one whose right was withdrawn.

use std::{
    fs,
    io::{ErrorKind, Write},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

use adit_tests::{
    address::{Address, Wire},
    agent::{Agent, adit, replace},
    authority::Leaf,
    end::End,
    listener::Listener,
    live::Live,
    load::Service,
    mesh::{A, B, Mesh, Plan},
    process::Finished,
    wait::{LIMIT, until, within},
};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mknodat, open},
    process::{Resource, Rlimit, Signal, getrlimit, prlimit},
};

const ONE: &str = "/svc/one";
const TWO: &str = "/svc/two";
const NEW: &str = "/svc/new";

/// Longer than the agent takes to notice that its file has changed: it looks each second, and once more.
const NOTICED: Duration = Duration::from_secs(4);

#[test]
fn a_listener_is_added_by_a_signal_by_a_command_and_by_a_change_of_the_file() {
    let tells: [fn(&mut Agent); 3] = [
        |agent| agent.signal(Signal::HUP),
        |agent| {
            let said = agent.reload().expect_success();
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(said.contains("[[outbound.listener]] 127.0.0.1:0 -> /svc/new: opened"), "{said}");
        },
        |_| {},
    ];
    for tell in tells {
        let mut world = World::new();
        let mut live = world.open(ONE);
        world.mesh.b.edit(|text| text.replacen("\"/svc/one\"", "[\"/svc/one\", \"/svc/new\"]", 1));
        let _ = world.mesh.b.reload().expect_success();
        let a = &mut world.mesh.a;
        a.edit(|text| listener(text, NEW));
        tell(a);
        a.until_logged("127.0.0.1:0 -> /svc/new: opened");
        a.until_logged("configuration reloaded");
        until("the reload to be counted", LIMIT, || (reloads(a, "ok") == 1.0).then_some(()));
        a.look_at_doors();
        world.open(NEW).speaks();
        live.speaks();
        assert_eq!((reloads(&world.mesh.a, "failed"), fault(&world.mesh.a)), (0.0, 0.0));
    }
}

#[test]
fn who_asks_after_the_agent_has_seen_the_change_is_told_of_it_once() {
    let mut world = World::new();
    let a = &mut world.mesh.a;
    a.edit(|text| listener(text, NEW));
    a.until_logged("configuration reloaded");
    let said = a.reload();
    assert!(said.stdout.contains("127.0.0.1:0 -> /svc/new: opened"), "{}", said.all());
    assert!(said.stderr.contains("already in force"), "{}", said.all());
    let again = a.reload().expect_success();
    assert!(again.contains("nothing new to apply"), "{again}");
}

#[test]
fn a_signal_reads_a_file_that_has_not_changed_and_ends_nothing() {
    let world = World::new();
    let mut live = world.open(ONE);
    for agent in [&world.mesh.a, &world.mesh.b] {
        agent.signal(Signal::HUP);
        until("the reload to be counted", LIMIT, || (reloads(agent, "unchanged") == 1.0).then_some(()));
        agent.until_logged("nothing new to apply");
    }
    live.speaks();
    world.open(ONE).speaks();
}

#[test]
fn a_live_stream_goes_on_through_changes_that_are_not_about_its_right() {
    let mut world = World::new();
    let mut live = world.open(ONE);
    let limits = "\n[limits]\nidle = \"1h\"\nhandshake = \"9s\"\nstreams = 50\ntunnels = 60\nhandshakes = 10\n";
    world.mesh.a.edit(|text| format!("{}{limits}", listener(text, NEW)));
    world.mesh.b.edit(|text| format!("{}{limits}", text.replacen("/svc/two", "/svc/other", 1)));
    let of_a = world.mesh.a.reload().expect_success();
    assert!(of_a.contains("[limits] idle: \"off\" -> \"1h\"\n"), "{of_a}");
    let of_b = world.mesh.b.reload().expect_success();
    assert!(of_b.contains("[[inbound.service]] /svc/other: added\n"), "{of_b}");
    assert!(of_b.contains("[[inbound.service]] /svc/two: removed\n"), "{of_b}");
    assert_eq!(world.mesh.a.status()["limits"]["streams"], 50);
    live.speaks();
    live.ends_well();
}

#[test]
fn a_right_that_the_policy_withdraws_ends_its_streams_and_no_other_on_a_recycled_tunnel_too() {
    let mut world = World::new();
    // given live streams to two services, the second's on a tunnel that the first has used before
    world.open(ONE).ends_well();
    until("the tunnel to be idle", LIMIT, || (world.mesh.a.metric("adit_tunnels_idle") == 1.0).then_some(()));
    let two = world.open(TWO);
    assert_eq!(world.mesh.a.metric("adit_tunnels_used_total{kind=\"recycled\"}"), 1.0);
    let fresh_two = world.open(TWO);
    let mut one = world.open(ONE);
    // and an idle tunnel of the same peer
    world.open(ONE).ends_well();
    until("the tunnel to be idle", LIMIT, || (world.mesh.a.metric("adit_tunnels_idle") == 1.0).then_some(()));
    // when the second is for somebody else
    let mine = format!("to = \"{}\"\nallow = [\"{A}\"]", world.two.address());
    world.mesh.b.edit(|text| swap(text, &mine, &mine.replace(A, "c.adit.example")));
    let said = world.mesh.b.reload().expect_success();
    // then its streams end, are told as such on both hosts, and nobody gets in any more by whatever tunnel
    assert!(said.contains("[[inbound.service]] /svc/two: changed\n"), "{said}");
    assert!(said.contains("the right they lived by is withdrawn: 2\n"), "{said}");
    two.ends_in_a_reset();
    fresh_two.ends_in_a_reset();
    let why = "a reload withdrew the right to /svc/two: denied: rule 2 does not admit a.adit.example";
    world.mesh.b.until_logged(why);
    let ended = "adit_streams_ended_total{direction=\"inbound\",end=\"revoked\",side=\"agent\"}";
    until("both ends to be counted", LIMIT, || (world.mesh.b.metric(ended) == 2.0).then_some(()));
    world.mesh.a.until_logged("end=revoked");
    world.refuses(TWO);
    // and the first goes on
    one.speaks();
    world.open(ONE).speaks();
}

#[test]
fn a_rule_that_wants_another_peer_ends_the_streams_to_this_one_and_no_other() {
    let peer = |name: &str| format!("[[outbound.peer]]\nname = \"{name}\"\nidentity = \"{B}\"\n");
    let mut world = World::of(|plan| plan.peers(&format!("{}{}", peer(ONE), peer(TWO))));
    let (mut one, two) = (world.open(ONE), world.open(TWO));
    world.mesh.a.edit(|text| swap(text, &peer(TWO), &peer(TWO).replace(B, "c.adit.example")));
    let said = world.mesh.a.reload().expect_success();
    assert!(said.contains("[[outbound.peer]] name /svc/two: changed\n"), "{said}");
    two.ends_in_a_reset();
    world.mesh.a.until_logged("a reload withdrew the right to /svc/two: [[outbound.peer]] 2 wants c.adit.example");
    one.speaks();
    // and when no rule is left for it, the first ends too
    world.mesh.a.edit(|text| swap(text, &peer(ONE), ""));
    let _ = world.mesh.a.reload().expect_success();
    one.ends_in_a_reset();
    world.mesh.a.until_logged("a reload withdrew the right to /svc/one: no [[outbound.peer]] that matches /svc/one");
}

#[test]
fn a_changed_table_takes_new_streams_elsewhere_and_lets_live_ones_go_on() {
    let (here, there) = (Listener::at(&Address::any_port()), Listener::at(&Address::any_port()));
    let table = |service: &Listener| format!("/db => /$/inet/127.0.0.1/{}", service.address().port());
    let plan = with_sockets(Mesh::plan()).b_table(&table(&here)).service(ONE, &Address::parse("127.0.0.1:9"));
    let mut mesh = plan.start();
    mesh.b.edit(|text| swap(text, "to = \"127.0.0.1:9\"", "to = \"/db\""));
    let _ = mesh.b.reload().expect_success();
    let mut live = Live::open(&mesh.front(ONE), &here);
    // when the table of the inbound side changes
    mesh.b.edit(|text| swap(text, &table(&here), &table(&there)));
    assert_eq!(mesh.b.reload().expect_success(), "[inbound] dtab: changed\n");
    Live::open(&mesh.front(ONE), &there).speaks();
    live.speaks();
    // and when that of the outbound side forbids the name
    mesh.a.edit(|text| swap(text, " ;\"", " ; /svc/one => !\""));
    assert_eq!(mesh.a.reload().expect_success(), "[outbound] dtab: changed\n");
    let mut refused = End::connect(&mesh.front(ONE));
    assert_eq!(refused.failure_after(b"hello"), Some(ErrorKind::ConnectionReset));
    live.speaks();
}

#[test]
fn a_listener_that_is_gone_or_has_moved_refuses_and_its_streams_go_on() {
    let mut world = World::new();
    let (mut one, mut two) = (world.open(ONE), world.open(TWO));
    let (gone, moved) = (world.mesh.front(ONE), world.mesh.front(TWO));
    let entry = |at: &str, name: &str| format!("\n[[outbound.listener]]\nlisten = \"{at}\"\nto = \"{name}\"\n");
    world.mesh.a.edit(|text| {
        let without = swap(text, &entry("127.0.0.1:0", ONE), "");
        swap(&without, &entry("127.0.0.1:0", TWO), &entry("127.0.0.2:0", TWO))
    });
    let said = world.mesh.a.reload().expect_success();
    assert_eq!(said.lines().count(), 3, "{said}");
    for door in [gone, moved] {
        assert_eq!(End::try_connect(&door).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    one.speaks();
    two.speaks();
    world.open(TWO).speaks();
    assert!(world.mesh.front(TWO).to_string().starts_with("127.0.0.2:"));
}

#[test]
fn a_listener_that_leads_elsewhere_never_closes() {
    // given a door that applications keep connecting to
    let (one, two) = (Service::start(Wire::Tcp, "echo"), Service::start(Wire::Tcp, "echo"));
    let (mut mesh, door) = with_unix_front(&one, &two);
    let (over, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let over_at_last = Over(&over);
        let connecting = scope.spawn(|| {
            while !over.load(Relaxed) {
                End::try_echo(&door).unwrap();
                opened.fetch_add(1, Relaxed);
            }
        });
        // when it leads to one name and the other, in turn
        for turn in 0..20 {
            let (from, to) = if turn % 2 == 0 { (ONE, TWO) } else { (TWO, ONE) };
            let leads = |name: &str| format!("front.sock\"\nto = \"{name}\"");
            mesh.a.edit(|text| swap(text, &leads(from), &leads(to)));
            let said = mesh.a.reload().expect_success();
            assert!(said.contains("the door stays open"), "{said}");
            let before = opened.load(Relaxed);
            until("further streams", LIMIT, || (opened.load(Relaxed) > before + 1).then_some(()));
        }
        drop(over_at_last);
        connecting.join().unwrap();
    });
    // then every stream went through, some to each
    let served = |name: &str| mesh.a.log().lines().any(|line| line.contains("end=closed") && line.contains(name));
    assert!(served("name=/svc/one") && served("name=/svc/two"));
}

#[test]
fn a_door_takes_over_the_address_of_one_that_closes() {
    // given a live stream, and a fresh tunnel for each further one
    let service = Listener::at(&Address::any_port());
    let fresh = "\n[limits]\ntunnel_age = \"1ms\"\n";
    let mut mesh = with_sockets(Mesh::plan()).service(ONE, service.address()).a_also(fresh).start();
    let mut live = Live::open(&mesh.front(ONE), &service);
    let (port, admin) = (mesh.b.inbound().port(), mesh.b.admin_address());
    // when the tunnel door is opened to everybody, and closed to all but this host again, then it is always there
    let mut now = "listen = [\"127.0.0.1:0\"]".to_owned();
    for address in ["0.0.0.0", "127.0.0.1", "0.0.0.0"] {
        let next = format!("listen = [\"{address}:{port}\"]");
        mesh.b.edit(|text| swap(text, &now, &next));
        let said = mesh.b.reload().expect_success();
        assert!(said.contains(&format!("[inbound] {address}:{port}: opened\n")), "{said}");
        Live::open(&mesh.front(ONE), &service).speaks();
        now = next;
    }
    live.speaks();
    // and when it is to be where the admin door was, then it is
    let tunnels = format!("listen = [\"{admin}\"]");
    mesh.b.edit(|text| swap(&swap(text, "[admin]\nlisten = \"127.0.0.1:0\"\n", "[admin]\n"), &now, &tunnels));
    let said = adit(&["reload", "--config", &mesh.b.file().display().to_string()]).expect_success();
    assert!(said.contains(&format!("[inbound] {admin}: opened\n")), "{said}");
    let to_b = format!("/{port}");
    mesh.a.edit(|text| swap(text, &to_b, &format!("/{}", admin.port())));
    let _ = mesh.a.reload().expect_success();
    Live::open(&mesh.front(ONE), &service).speaks();
    live.speaks();
}

#[test]
fn a_bad_file_changes_nothing_and_says_why_everywhere() {
    let mut world = World::new();
    let mut live = world.open(ONE);
    // when the file has two problems
    let good = world.mesh.b.text();
    world.mesh.b.edit(|text| swap(&swap(text, "to = ", "too = "), "allow = ", "alow = "));
    let refused = world.mesh.b.reload();
    // then the command fails and prints what `adit check` prints
    assert_eq!(refused.status.code(), Some(1), "{}", refused.all());
    let file = world.mesh.b.file().display().to_string();
    assert_eq!(refused.stderr, adit(&["check", &file]).stderr);
    assert_eq!(refused.stdout, "");
    // and the agent, which has seen the change, tells every problem with its place, once
    world.mesh.b.until_logged("configuration not reloaded; what was in force stays");
    let log = world.mesh.b.log();
    for problem in refused.stderr.lines() {
        assert!(problem.contains("adit.toml:"), "{problem}");
        assert_eq!(log.matches(problem).count(), 1, "{problem}\n{log}");
    }
    assert_eq!((reloads(&world.mesh.b, "failed"), fault(&world.mesh.b)), (1.0, 1.0));
    let page = adit(&["status", "--socket", &socket(&world.mesh.b)]).expect_success();
    assert!(page.contains("config fault: ") && page.contains("unknown key `too`"), "{page}");
    assert_eq!(adit(&["status", "--config", &file]).expect_success().lines().nth(1), page.lines().nth(1));
    // and all is as it was
    live.speaks();
    world.open(ONE).speaks();
    world.open(TWO).speaks();
    // and asked by somebody who cannot read the file, the agent says the same
    let asked = adit(&["reload", "--socket", &socket(&world.mesh.b)]);
    assert_eq!((asked.status.code(), asked.stderr), (Some(1), refused.stderr));
    // when it is mended, that is over
    world.mesh.b.edit(|_| good);
    let said = world.mesh.b.reload().expect_success();
    assert!(said.contains("nothing new to apply"), "{said}");
    assert_eq!(fault(&world.mesh.b), 0.0);
    assert_eq!(world.mesh.b.status()["config"]["fault"], serde_json::Value::Null);
}

#[test]
fn a_file_that_asks_for_what_cannot_be_had_changes_nothing_until_it_can() {
    let mut world = World::new();
    let mut live = world.open(ONE);
    // given a port that somebody else has
    let taken = Listener::at(&Address::any_port());
    let port = taken.address().to_string();
    world.mesh.a.edit(|text| {
        listener(text, NEW).replace("127.0.0.1:0\"\nto = \"/svc/new", &format!("{port}\"\nto = \"/svc/new"))
            + "\n[limits]\nidle = \"1h\"\n"
    });
    let refused = world.mesh.a.reload();
    assert_eq!(refused.status.code(), Some(1));
    let words = format!("listening on {port}: Address already in use");
    assert!(refused.stderr.starts_with(&words), "{}", refused.stderr);
    assert_eq!(world.mesh.a.status()["limits"]["idle"], serde_json::Value::Null, "not even a limit");
    assert_eq!(fault(&world.mesh.a), 1.0);
    live.speaks();
    world.open(ONE).speaks();
    // when it is free, then the agent sees by itself
    drop(taken);
    until("the file to be in force", LIMIT, || (fault(&world.mesh.a) == 0.0).then_some(()));
    assert_eq!(world.mesh.a.status()["limits"]["idle"], 3600.0);
    assert_eq!(world.mesh.a.log().matches(&words).count(), 1, "told once");
    End::connect(&Address::parse(&port)).finish();
    live.speaks();
}

#[test]
fn a_file_is_not_taken_while_it_is_being_written() {
    let world = World::new();
    let a = &world.mesh.a;
    let text = listener(&a.text(), NEW);
    let (first, last) = text.split_at(text.len() - 10);
    // when its writer takes longer than some looks, with half a line there all the time
    fs::write(a.file(), first).unwrap();
    let mut file = fs::File::options().append(true).open(a.file()).unwrap();
    let mut looks = 0;
    let _: Option<()> = within(NOTICED, || {
        file.write_all(b" ").unwrap();
        looks += 1;
        None
    });
    assert!(looks > 10);
    // then nothing was read
    assert_eq!((reloads(a, "ok"), reloads(a, "failed"), reloads(a, "unchanged")), (0.0, 0.0, 0.0));
    // and when it is done, all of it is
    file.set_len(first.len() as u64).unwrap();
    file.write_all(last.as_bytes()).unwrap();
    until("the file to be in force", LIMIT, || (reloads(a, "ok") == 1.0).then_some(()));
    assert_eq!(reloads(a, "failed"), 0.0);
}

#[test]
fn a_pipe_in_the_place_of_the_file_is_refused_at_once_and_keeps_no_agent_from_its_end() {
    let mut world = World::new();
    let mut live = world.open(ONE);
    let a = &mut world.mesh.a;
    let (file, text, socket) = (a.file(), a.text(), socket(a));
    let put_a_pipe = || {
        fs::remove_file(&file).unwrap();
        mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    };
    // when a pipe stands there into which nobody ever writes, then who asks hears of it
    put_a_pipe();
    let refused = adit(&["reload", "--socket", &socket]);
    assert!(!refused.status.success(), "{}", refused.all());
    one_line(&refused, &["adit.toml: is no regular file, and is not read again; put the file back in its place"]);
    // and a file that comes back is followed again
    fs::remove_file(&file).unwrap();
    replace(&file, &listener(&text, NEW));
    a.until_logged("127.0.0.1:0 -> /svc/new: opened");
    live.speaks();
    live.ends_well();
    put_a_pipe();
    a.until_logged("is no regular file");
    a.stop();
}

#[test]
fn an_agent_ends_though_a_reload_waits_for_a_key_that_never_comes() {
    let world = World::new();
    let mut mesh = world.mesh;
    let key = mesh.b.dir().join("slow.key");
    mknodat(CWD, &key, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    mesh.b.edit(|text| swap(text, "key.pem", "slow.key"));
    mesh.b.signal(Signal::HUP);
    // Nobody can write to a pipe before it is read.
    let write = || open(&key, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).ok();
    let _writer = until("the agent to read the key", LIMIT, write);
    mesh.b.stop();
}

#[test]
fn a_file_that_could_not_be_read_for_want_of_a_descriptor_is_read_once_there_is_one() {
    let world = World::new();
    let a = &world.mesh.a;
    // given an agent that has more descriptors than it may have
    let few = Rlimit { current: Some(0), ..getrlimit(Resource::Nofile) };
    let before = prlimit(Some(a.pid()), Resource::Nofile, few).unwrap();
    // when its file changes, and there are more of them then
    a.edit(|text| format!("{text}\n[limits]\nidle = \"1h\"\n"));
    a.until_logged("adit.toml: cannot be read: Too many open files");
    prlimit(Some(a.pid()), Resource::Nofile, before).unwrap();
    // then what it says is in force, though it was not changed again
    a.until_logged("configuration reloaded");
    assert_eq!(a.status()["limits"]["idle"], 3600.0);
}

#[test]
fn what_only_a_restart_applies_is_named() {
    let mut world = World::new();
    world.mesh.a.edit(|text| format!("{text}\n[runtime]\nthreads = 2\n"));
    for _ in 0..2 {
        let finished = world.mesh.a.reload();
        assert_eq!(finished.stderr, "warning: only a restart applies [runtime] threads: \"auto\" -> 2\n");
        assert!(finished.expect_success().contains("nothing new to apply"));
    }
    world.mesh.a.until_logged("only a restart applies [runtime] threads");
    assert_eq!(world.mesh.a.status()["config"]["waits_for_restart"][0], "[runtime] threads: \"auto\" -> 2");
    assert_eq!(fault(&world.mesh.a), 0.0);
}

#[test]
fn other_tls_files_are_in_force_with_the_rest_or_not_at_all() {
    let mut world = World::new();
    let mut live = world.open(ONE);
    let dir = world.mesh.b.dir().to_owned();
    let other = world.mesh.authority.issue(&Leaf::dns(&[B, "other.adit.example"]));
    let edited =
        |text: &str| swap(&swap(text, "cert.pem", "other.pem"), "key.pem", "other.key") + "\n[limits]\nidle = \"1h\"\n";
    // when they are not there, then nothing changes
    world.mesh.b.edit(edited);
    let refused = world.mesh.b.reload();
    assert!(!refused.status.success() && refused.stderr.contains("other.pem"), "{}", refused.all());
    assert_eq!(world.mesh.b.status()["limits"]["idle"], serde_json::Value::Null);
    // when they are, then a reload that names them succeeds
    replace(&dir.join("other.key"), &other.key);
    replace(&dir.join("other.pem"), &other.cert);
    until("the files to be in force", LIMIT, || {
        (world.mesh.b.status()["certificates"][0]["names"][1] == "other.adit.example").then_some(())
    });
    assert_eq!(world.mesh.b.status()["limits"]["idle"], 3600.0);
    live.speaks();
    world.open(ONE).speaks();
}

#[test]
fn a_reload_takes_up_new_certificates_at_once_and_fails_where_those_on_disk_cannot_be_used() {
    let mut world = World::new();
    let mut live = world.open(ONE);
    let serial = |world: &World| world.mesh.b.status()["certificates"][0]["serial"].as_str().unwrap().to_owned();
    // when a new pair is there, then it is in force once the reload has been answered
    let before = serial(&world);
    let credential = world.mesh.authority.issue(&Leaf::dns(&[B]));
    world.mesh.b.swap_credential(&credential);
    let _ = world.mesh.b.reload().expect_success();
    let good = serial(&world);
    assert_ne!(good, before);
    // when what is there is no pair, then whoever reloads is told, with what is new in the file in force
    let mut broken = world.mesh.authority.issue(&Leaf::dns(&[B]));
    broken.key.clone_from(&credential.key);
    world.mesh.b.swap_credential(&broken);
    world.mesh.b.edit(|text| format!("{text}\n[limits]\nidle = \"1h\"\n"));
    for _ in 0..2 {
        let told = world.mesh.b.reload();
        assert_eq!(told.status.code(), Some(1), "{}", told.all());
        assert!(told.stderr.contains("[tls]: what is on disk is not in force"), "{}", told.stderr);
    }
    assert_eq!((serial(&world), &world.mesh.b.status()["limits"]["idle"]), (good, &serde_json::json!(3600.0)));
    live.speaks();
    // and no more once it is
    world.mesh.b.swap_credential(&credential);
    let _ = world.mesh.b.reload().expect_success();
    world.open(ONE).ends_well();
}

#[test]
fn a_service_has_as_many_streams_as_the_file_says_now() {
    let mut world = World::new();
    let one = format!("to = \"{}\"\n", world.one.address());
    let most = |count: &str| format!("{one}max_streams = {count}\n");
    world.mesh.b.edit(|text| swap(text, &one, &most("1")));
    let mut first = world.open(ONE);
    // The stream came before the limit; it counts once it is read.
    let _ = world.mesh.b.reload().expect_success();
    world.refuses(ONE);
    world.mesh.b.edit(|text| swap(text, &most("1"), &most("2")));
    let _ = world.mesh.b.reload().expect_success();
    let second = world.open(ONE);
    world.refuses(ONE);
    // Two are one too many then, and both go on.
    world.mesh.b.edit(|text| swap(text, &most("2"), &most("1")));
    let _ = world.mesh.b.reload().expect_success();
    second.ends_well();
    until("the place to be given up", LIMIT, || (world.mesh.b.status()["streams_live"] == 1).then_some(()));
    world.refuses(ONE);
    first.speaks();
    first.ends_well();
    until("the place to be given back", LIMIT, || (world.mesh.b.status()["streams_live"] == 0).then_some(()));
    world.open(ONE).speaks();
}

#[test]
fn a_service_that_is_given_another_name_still_counts_the_streams_it_has() {
    let mut world = World::new();
    let one = format!("to = \"{}\"\n", world.one.address());
    world.mesh.b.edit(|text| swap(text, &one, &format!("{one}max_streams = 1\n")));
    let _ = world.mesh.b.reload().expect_success();
    let mut first = world.open(ONE);
    for (was, is) in
        [("\"/svc/one\"", "[\"/svc/one\", \"/svc/new\"]"), ("[\"/svc/one\", \"/svc/new\"]", "\"/svc/one\"")]
    {
        world.mesh.b.edit(|text| swap(text, was, is));
        let _ = world.mesh.b.reload().expect_success();
        world.refuses(ONE);
        first.speaks();
    }
    first.ends_well();
    until("the place to be given back", LIMIT, || (world.mesh.b.status()["streams_live"] == 0).then_some(()));
    world.open(ONE).speaks();
}

#[test]
fn an_agent_that_drains_opens_no_door_and_still_withdraws_a_right() {
    let mut world = World::new();
    let (one, mut two) = (world.open(ONE), world.open(TWO));
    world.mesh.b.signal(Signal::TERM);
    world.mesh.b.until_logged("draining");
    let mine = format!("to = \"{}\"\nallow = [\"{A}\"]", world.one.address());
    let doors = "listen = [\"127.0.0.1:0\"]";
    world.mesh.b.edit(|text| {
        let text = swap(text, &mine, &mine.replace(A, "c.adit.example"));
        swap(&text, doors, "listen = [\"127.0.0.1:0\", \"127.0.0.2:0\"]")
    });
    let reloaded = world.mesh.b.reload();
    assert!(reloaded.stderr.contains("the agent drains: its doors stay as they are"), "{}", reloaded.all());
    let _ = reloaded.expect_success();
    one.ends_in_a_reset();
    two.speaks();
    assert!(!world.mesh.b.admin("/status").contains("127.0.0.2"));
    two.ends_well();
    assert!(world.mesh.b.wait(LIMIT).success());
}

#[test]
fn hundreds_of_reloads_cost_no_stream() {
    let echo = Service::start(Wire::Tcp, "echo");
    let plan = with_sockets(Mesh::plan()).service(ONE, echo.address()).service(TWO, echo.address());
    let mut mesh = plan.start();
    let mut live = End::connect(&mesh.front(ONE));
    let fronts = [mesh.front(ONE), mesh.front(TWO)];
    let (over, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (of_a, of_b) = (mesh.a.text(), mesh.b.text());
    let (to_b, straight) = (of_a.lines().find(|line| line.starts_with("dtab")).unwrap(), "/svc/{service} =>");
    // Each says the same of these names in other words, and something else besides.
    let other_a = listener(&of_a, NEW).replacen(to_b, &to_b.replace(straight, "/svc/* =>"), 1)
        + "\n[limits]\nidle = \"1h\"\nstreams = 500\n";
    let other_b = of_b.replacen("allow = [", "max_streams = 50\nallow = [\"c.adit.example\", ", 2)
        + "\n[limits]\nhandshakes = 20\nconnect = \"4s\"\n";
    thread::scope(|scope| {
        let over_at_last = Over(&over);
        let loads: Vec<_> = fronts
            .iter()
            .map(|front| {
                scope.spawn(|| {
                    while !over.load(Relaxed) {
                        End::try_echo(front).unwrap_or_else(|error| panic!("stream {}: {error}", opened.load(Relaxed)));
                        opened.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        for turn in 0..100 {
            let [a, b] = if turn % 2 == 0 { [&other_a, &other_b] } else { [&of_a, &of_b] };
            mesh.a.edit(|_| a.clone());
            mesh.b.edit(|_| b.clone());
            let _ = mesh.a.reload().expect_success();
            let _ = mesh.b.reload().expect_success();
            live.send(b"still");
            assert_eq!(live.receive(5), b"still");
        }
        drop(over_at_last);
        for load in loads {
            load.join().unwrap();
        }
    });
    assert!(opened.load(Relaxed) > 200, "{} streams", opened.load(Relaxed));
    for agent in [&mesh.a, &mesh.b] {
        assert_eq!((reloads(agent, "ok"), reloads(agent, "failed")), (100.0, 0.0));
    }
}

#[test]
fn the_command_says_what_is_missing() {
    let echo = Service::start(Wire::Tcp, "echo");
    let mesh = Mesh::plan().service(ONE, echo.address()).start();
    one_line(
        &adit(&["reload", "--config", &mesh.a.file().display().to_string()]),
        &["opens no admin socket", "SIGHUP"],
    );
    one_line(&adit(&["reload", "--socket", "/nowhere/admin.sock"]), &["no agent answers at unix:/nowhere/admin.sock"]);
    let moved = mesh.a.dir().join("moved.toml");
    replace(&moved, &(mesh.a.text() + "socket = \"/nowhere/admin.sock\"\n"));
    one_line(&adit(&["reload", "--config", &moved.display().to_string()]), &["no agent answers", "with --socket"]);
}

fn one_line(finished: &Finished, words: &[&str]) {
    assert_eq!(finished.status.code(), Some(1), "{}", finished.all());
    assert_eq!(finished.all().lines().count(), 1, "{}", finished.all());
    for word in words {
        assert!(finished.stderr.contains(word), "no `{word}` in {}", finished.stderr);
    }
}

/// Both agents answer at an admin socket. To be called first: the mesh's own [admin] stands last in the file.
fn with_sockets(plan: Plan) -> Plan {
    let line = |name: &str| format!("socket = \"{}\"\n", plan.path(name).display());
    let (a, b) = (line("a.sock"), line("b.sock"));
    plan.a_also(&a).b_also(&b)
}

/// A door of A's on a unix socket that leads to the first of two services.
fn with_unix_front(one: &Service, two: &Service) -> (Mesh, Address) {
    let plan = with_sockets(Mesh::plan());
    let front = Address::Unix(plan.path("front.sock"));
    let plan = plan.service_at(ONE, one.address(), &front).service(TWO, two.address());
    (plan.start(), front)
}

/// The file with one more listener, at a port of the kernel's choice.
fn listener(text: &str, name: &str) -> String {
    let entry = format!("[[outbound.listener]]\nlisten = \"127.0.0.1:0\"\nto = \"{name}\"\n\n[admin]");
    swap(text, "[admin]", &entry)
}

/// The text with its first `from` written as `to`.
fn swap(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no `{from}` in:\n{text}");
    text.replacen(from, to, 1)
}

fn reloads(agent: &Agent, outcome: &str) -> f64 {
    agent.metric(&format!("adit_config_reloads_total{{outcome=\"{outcome}\"}}"))
}

fn fault(agent: &Agent) -> f64 {
    agent.metric("adit_config_fault")
}

/// The path of its admin socket.
fn socket(agent: &Agent) -> String {
    let text = agent.text();
    let line = text.lines().find_map(|line| line.strip_prefix("socket = ")).unwrap();
    line.trim_matches('"').to_owned()
}

/// Ends the load of a test however that ends: a scope waits for its threads, also while it fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Two agents that answer at admin sockets, and two services behind B.
struct World {
    mesh: Mesh,
    one: Listener,
    two: Listener,
}

impl World {
    fn new() -> Self {
        Self::of(|plan| plan)
    }

    fn of(more: impl FnOnce(Plan) -> Plan) -> Self {
        let (one, two) = (Listener::at(&Address::any_port()), Listener::at(&Address::any_port()));
        let plan = with_sockets(Mesh::plan()).service(ONE, one.address()).service(TWO, two.address());
        Self { mesh: more(plan).start(), one, two }
    }

    /// A new stream; what is not the second service leads to the first.
    fn open(&self, name: &str) -> Live {
        Live::open(&self.mesh.front(name), if name == TWO { &self.two } else { &self.one })
    }

    fn refuses(&self, name: &str) {
        let mut client = End::connect(&self.mesh.front(name));
        assert_eq!(client.failure_after(b"hello"), Some(ErrorKind::ConnectionReset));
    }
}
