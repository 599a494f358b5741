//! What a captured connection is called, and so where it goes: by a host name's addresses, by its network, or by where it was
//! meant to go. What nothing knows is refused, or passed on in plaintext where the file says so, and nothing else is.

use std::io::ErrorKind;

use adit_tests::{
    address::Address,
    agent::Agent,
    authority::Leaf,
    dns::Dns,
    end::End,
    field::{A, B, Field, Mode, Road, Tool},
    listener::Listener,
    load::Service,
    need, need_the_field,
    netns::{Family, Host},
    wait::{LIMIT, until},
};

const CAPTURED: Road = Road::Captured(Tool::Nftables, Mode::Redirect);

/// A table that leads names of services to B, and nothing else.
const TO_B: &str = "/svc/{service} => /$/inet/10.77.0.2/4143 ;";

/// B must answer for every service.
fn b_answers() -> String {
    format!("[[outbound.peer]]\nname = \"/svc/{{service}}\"\nidentity = \"{B}\"\n")
}

/// B serves this name from its own loopback, so that no address of the destination is needed there.
fn serves(name: &str) -> String {
    format!("[[inbound.service]]\nname = \"{name}\"\nto = \"127.0.0.1:7100\"\nallow = [\"{A}\"]\n")
}

/// A word there and back again.
fn talk(field: &Field, family: Family, port: u16) -> std::io::Result<()> {
    field.hosts.on(Host::A, || End::try_echo(&Host::B.at(family, port)))
}

/// An echo service on B.
fn echo(field: &Field, at: &str) -> Service {
    Service::start_inside(&field.hosts.enter(Host::B), "echo", at)
}

fn passed(agent: &Agent) -> f64 {
    agent.metric("adit_streams_opened_total{direction=\"passed\"}")
}

/// The failure of a connection that is refused, and no end.
fn refused(field: &Field, family: Family, port: u16) {
    assert_eq!(field.call(family, port).failure_after(b"let me in"), Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_host_rule_names_what_goes_to_an_address_of_that_host() {
    need_the_field!();
    need!("unbound", "unbound-control");
    // given a name server on A that knows one name, with an address of either family
    let plan = Field::plan();
    let dns = Dns::start_inside(&plan.hosts().enter(Host::A));
    dns.answer("redis.mesh.example", 1, &["10.77.0.2", "fd77::2"]);
    let rule = "[[outbound.capture]]\nhost = \"redis.mesh.example\"\nport = 6379\nto = \"/svc/redis\"\n";
    let plan = plan.table(TO_B).peers(&b_answers()).services(&serves("/svc/redis"));
    let field = plan.a_also(rule).a_also(&dns.table()).start(CAPTURED);
    let _echo = echo(&field, "127.0.0.1:7100");
    for family in Family::BOTH {
        // when an application connects to the address, as it always did
        talk(&field, family, 6379).unwrap();
        // then it has reached the service of that name, and both records say where it was meant to go
        let original = format!("original={}", Host::B.at(family, 6379));
        for agent in [field.a(), field.b()] {
            agent.until_logged(&original);
            let log = agent.log();
            let record = log.lines().find(|line| line.contains(&original)).unwrap();
            assert!(record.contains("name=/svc/redis"), "{record}");
        }
        // and another port of that address is not the rule's
        refused(&field, family, 6380);
    }
}

#[test]
fn an_address_that_a_host_left_is_remembered_and_a_new_one_is_learnt() {
    need_the_field!();
    need!("unbound", "unbound-control");
    let plan = Field::plan();
    let dns = Dns::start_inside(&plan.hosts().enter(Host::A));
    dns.answer("redis.mesh.example", 1, &["10.77.0.2"]);
    let rule = "[[outbound.capture]]\nhost = \"redis.mesh.example\"\nto = \"/svc/redis\"\n";
    let plan = plan.table(TO_B).peers(&b_answers()).services(&serves("/svc/redis"));
    let field = plan.a_also(rule).a_also(&dns.table()).start(CAPTURED);
    let _echo = echo(&field, "127.0.0.1:7100");
    let talk_to = |host: Host| field.hosts.on(Host::A, || End::try_echo(&host.at(Family::V4, 6379)));
    talk_to(Host::B).unwrap();
    assert!(talk_to(Host::C).is_err(), "C is no address of that name");
    // when the name moves, then its new address is its own, and an application that kept the old one goes on
    dns.answer("redis.mesh.example", 1, &["10.77.0.3"]);
    until("the new address to be known", LIMIT, || talk_to(Host::C).ok());
    talk_to(Host::B).unwrap();
}

#[test]
fn a_connection_that_a_host_rule_may_be_about_waits_for_the_name_server_and_is_never_passed_on() {
    need_the_field!();
    need!("unbound", "unbound-control");
    // given a name server that says nothing, and a file that lets what nothing knows pass in plaintext
    let plan = Field::plan();
    let dns = Dns::start_inside(&plan.hosts().enter(Host::A));
    dns.keep_silent_about("redis.mesh.example");
    let rule = "[[outbound.capture]]\nhost = \"redis.mesh.example\"\nport = 6379\nto = \"/svc/redis\"\n";
    let limits = "\n[limits]\nopen = \"3s\"\nhandshake = \"2s\"\nanswer = \"2s\"\n";
    let plan = plan.table(TO_B).peers(&b_answers()).services(&serves("/svc/redis")).door("unmatched = \"pass\"\n");
    let field = plan.a_also(rule).a_also(&dns.table()).a_also(limits).start(CAPTURED);
    let _plain = echo(&field, "[::]:6379");
    let wire = field.hosts.listen();
    // when an application connects to a port of the rule, then it is refused in the end
    refused(&field, Family::V4, 6379);
    assert_eq!(passed(field.a()), 0.0);
    assert!(!wire.holds("let me in"));
    assert!(wire.frames("tcp port 6379").is_empty());
    // and once the name server speaks, it is carried
    let _echo = echo(&field, "127.0.0.1:7100");
    dns.break_silence("redis.mesh.example", 1, &["10.77.0.2"]);
    until("the name to be known", LIMIT, || talk(&field, Family::V4, 6379).ok());
    assert!(wire.frames("tcp port 6379").is_empty());
}

#[test]
fn a_net_rule_names_what_goes_to_a_network() {
    need_the_field!();
    let rule = "[[outbound.capture]]\nnet = \"10.77.0.0/24\"\nport = [7000, \"7002-7003\"]\nto = \"/svc/{ip}-{port}\"\n\n\
                [[outbound.capture]]\nnet = \"fd77::/64\"\nto = \"/svc/{ip}-{port}\"\n";
    let plan = Field::plan().table(TO_B).peers(&b_answers()).services(&serves("/svc/{address}-{port}"));
    let field = plan.a_also(rule).start(CAPTURED);
    let _echo = echo(&field, "127.0.0.1:7100");
    for (family, port) in [(Family::V4, 7000), (Family::V4, 7003), (Family::V6, 7000), (Family::V6, 7001)] {
        talk(&field, family, port).unwrap();
        field.b().until_logged(&format!("name=/svc/{}-{port}", Host::B.ip(family)));
    }
    refused(&field, Family::V4, 7001);
}

#[test]
fn both_records_tell_the_application_and_where_it_was_meant_to_go() {
    need_the_field!();
    let field = CAPTURED.walk();
    let service = field.service(7000);
    for family in Family::BOTH {
        let (mut client, mut server) = field.ends(family, &service);
        let (from, original) = (client.address().to_string(), Host::B.at(family, 7000).to_string());
        client.finish();
        assert_eq!(server.receive_rest(), b"");
        drop((client, server));
        for agent in [field.a(), field.b()] {
            let record = until("the record", LIMIT, || {
                let log = agent.log();
                log.lines().find(|line| line.contains("stream closed") && line.contains(&from)).map(str::to_owned)
            });
            assert!(record.contains(&format!("original={original}")), "{record}");
            assert!(record.contains(&format!("name=/dst/{}/7000", Host::B.ip(family))), "{record}");
        }
    }
}

#[test]
fn an_ipv4_address_in_the_dress_of_ipv6_is_called_what_it_is() {
    need_the_field!();
    for mode in [Mode::Redirect, Mode::Tproxy] {
        let field = Road::Captured(Tool::Nftables, mode).walk();
        let _echo = echo(&field, "[::]:7000");
        field.hosts.on(Host::A, || End::try_echo(&Address::parse("[::ffff:10.77.0.2]:7000"))).unwrap();
        field.b().until_logged("name=/dst/10.77.0.2/7000");
    }
}

#[test]
fn who_answers_for_an_address_must_have_it_in_its_certificate() {
    need_the_field!();
    // given a B whose certificate has another host's addresses
    let plan = Field::plan();
    let leaf = Leaf::dns(&[B]).ip(Host::C.ip(Family::V4)).ip(Host::C.ip(Family::V6));
    let credential = plan.authority().issue(&leaf);
    let field = plan.b_shows(credential).start(CAPTURED);
    let service = field.service(7000);
    let wire = field.hosts.listen();
    for family in Family::BOTH {
        refused(&field, family, 7000);
        field.a().until_logged(&format!("{}", Host::B.ip(family)));
    }
    assert!(!service.has_caller());
    assert!(!wire.holds("let me in"));
}

#[test]
fn a_constant_identity_may_answer_for_every_address() {
    need_the_field!();
    let plan = Field::plan();
    let credential = plan.authority().issue(&Leaf::dns(&[B]));
    let peers = format!("[[outbound.peer]]\nname = \"/dst/{{ip}}/{{port}}\"\nidentity = \"{B}\"\n");
    let field = plan.b_shows(credential).peers(&peers).start(CAPTURED);
    let _echo = echo(&field, "[::]:7000");
    for family in Family::BOTH {
        talk(&field, family, 7000).unwrap();
    }
}

#[test]
fn what_nothing_knows_is_refused() {
    need_the_field!();
    let field = Field::plan().table(TO_B).peers(&b_answers()).start(CAPTURED);
    let service = field.service(7000);
    let wire = field.hosts.listen();
    for family in Family::BOTH {
        refused(&field, family, 7000);
        field.a().until_logged(&format!("name=/dst/{}/7000", Host::B.ip(family)));
    }
    assert!(!service.has_caller());
    assert!(wire.frames("tcp").is_empty(), "nothing left the host");
    assert_eq!(passed(field.a()), 0.0);
}

#[test]
fn what_nothing_knows_is_passed_on_and_told_apart_where_the_file_says_so() {
    need_the_field!();
    for mode in [Mode::Redirect, Mode::Tproxy] {
        // given a table that knows port 7000 of every address, and no other
        let plan = Field::plan().table("/dst/{ip}/7000 => /$/inet/{ip}/4143 ;").door("unmatched = \"pass\"\n");
        let field = plan.start(Road::Captured(Tool::Nftables, mode));
        let (known, unknown) = (field.service(7000), field.service(7001));
        let wire = field.hosts.listen();
        for (family, so_far) in [(Family::V4, 1.0), (Family::V6, 2.0)] {
            // when an application connects to another, it goes on as it is
            let (mut client, mut server) = field.ends(family, &unknown);
            let said = format!("plainly over {family:?}");
            client.send(said.as_bytes());
            assert_eq!(server.receive(said.len()), said.as_bytes());
            server.send(b"and back");
            client.finish();
            assert_eq!(server.receive_rest(), b"");
            server.finish();
            assert_eq!(client.receive_rest(), b"and back");
            // then that is counted and logged apart, and can be seen
            until("the count", LIMIT, || (passed(field.a()) == so_far).then_some(()));
            let to = Host::B.at(family, 7001);
            let told = until("the record", LIMIT, || {
                let log = field.a().log();
                log.lines().find(|line| line.contains(&format!("original={to}"))).map(str::to_owned)
            });
            assert!(told.contains("direction=\"passed\""), "{told}");
            assert!(wire.holds(&said));
            // and what the table knows is not passed on
            let (mut client, mut server) = field.ends(family, &known);
            let said = format!("privately over {family:?}");
            client.send(said.as_bytes());
            assert_eq!(server.receive(said.len()), said.as_bytes());
            assert!(!wire.holds(&said));
        }
        assert_eq!(passed(field.a()), 2.0);
    }
}

#[test]
fn what_a_rule_knows_is_never_passed_on_whatever_comes_of_it() {
    need_the_field!();
    // given B's agent, which is told to let A into no port, and a file that lets what nothing knows pass
    let services = "[[inbound.capture]]\nports = [7000]\nallow = [\"nobody.adit.example\"]\n";
    let table = "/dst/{ip}/7000 => /$/inet/{ip}/4143 ; /dst/{ip}/7001 => ! ; /dst/{ip}/7002 => /#/dns/none.invalid/4143 ; \
                 /dst/{ip}/7003 => ~ ; /dst/{ip}/7004 => $ ;";
    let field = Field::plan().table(table).services(services).door("unmatched = \"pass\"\n").start(CAPTURED);
    let wire = field.hosts.listen();
    for port in 7000..=7004 {
        let service = field.service(port);
        refused(&field, Family::V4, port);
        assert!(!service.has_caller(), "{port}");
        assert!(wire.frames(&format!("tcp port {port}")).is_empty(), "{port}");
    }
    assert_eq!(passed(field.a()), 0.0);
}

#[test]
fn what_may_be_a_hosts_that_dns_does_not_know_is_refused_and_never_passed_on() {
    need_the_field!();
    need!("unbound", "unbound-control");
    let plan = Field::plan();
    let dns = Dns::start_inside(&plan.hosts().enter(Host::A));
    dns.deny("nobody.mesh.example");
    let rule = "[[outbound.capture]]\nhost = \"nobody.mesh.example\"\nport = 6379\nto = \"/svc/redis\"\n";
    let plan = plan.table(TO_B).peers(&b_answers()).door("unmatched = \"pass\"\n");
    let field = plan.a_also(rule).a_also(&dns.table()).start(CAPTURED);
    let _plain = [6379, 6380].map(|port| echo(&field, &format!("[::]:{port}")));
    let wire = field.hosts.listen();
    for family in Family::BOTH {
        refused(&field, family, 6379);
    }
    assert_eq!(passed(field.a()), 0.0);
    assert!(wire.frames("tcp port 6379").is_empty());
    field.a().until_logged("its host has never had an address");
    // and what is not about that port is passed on as ever
    talk(&field, Family::V4, 6380).unwrap();
}

#[test]
fn a_host_without_an_agent_is_not_reached_at_all() {
    need_the_field!();
    let field = Field::plan().door("unmatched = \"pass\"\n").start(CAPTURED);
    let plain = field.hosts.on(Host::C, || Listener::at(&Address::parse("[::]:7000")));
    let wire = field.hosts.listen();
    for family in Family::BOTH {
        let mut client = field.hosts.on(Host::A, || End::connect(&Host::C.at(family, 7000)));
        assert_eq!(client.failure_after(b"is anybody there?"), Some(ErrorKind::ConnectionReset));
        field.a().until_logged(&format!("name=/dst/{}/7000", Host::C.ip(family)));
    }
    assert!(!plain.has_caller());
    assert!(!wire.holds("is anybody there?"));
}

#[test]
fn a_reload_that_withdraws_plaintext_ends_what_was_passed_on() {
    need_the_field!();
    let plan = Field::plan().table("/dst/{ip}/7000 => /$/inet/{ip}/4143 ;").door("unmatched = \"pass\"\n");
    let mut field = plan.start(CAPTURED);
    let (known, unknown) = (field.service(7000), field.service(7001));
    let (mut carried, mut carried_far) = field.ends(Family::V4, &known);
    let (mut plain, mut plain_far) = field.ends(Family::V4, &unknown);
    for (end, far) in [(&mut carried, &mut carried_far), (&mut plain, &mut plain_far)] {
        end.send(b"before");
        assert_eq!(far.receive(6), b"before");
    }
    // when the file lets nothing pass any more
    field.a().edit(|text| text.replace("unmatched = \"pass\"\n", ""));
    let _ = field.a_mut().reload().expect_success();
    // then what was passed on ends at both ends, what is carried goes on, and a new one is refused
    assert_eq!(plain.failure(), Some(ErrorKind::ConnectionReset));
    assert_eq!(plain_far.failure(), Some(ErrorKind::ConnectionReset));
    carried.send(b"after");
    assert_eq!(carried_far.receive(5), b"after");
    refused(&field, Family::V4, 7001);
    assert_eq!(passed(field.a()), 1.0);
}
