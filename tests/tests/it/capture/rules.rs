//! The rules on a real host: put in place and taken away without a trace, told apart from what they should be, held for the
//! agent's life, and taken away again unless somebody confirms them.

use std::time::Duration;

use adit_tests::{
    end::End,
    field::{Field, Mode, Road, Tool},
    load::{Load, Service},
    need_the_field,
    netns::{Family, Host, Hosts},
    roads,
    wait::{LIMIT, until},
};

roads! {
    removal_leaves_the_hosts_own_rules_byte_for_byte: captured;
    status_tells_whether_the_rules_are_those_of_the_file: captured;
    an_agent_that_holds_its_rules_takes_them_with_it: captured;
    rules_that_are_replaced_under_load_let_nothing_by: captured;
    rules_that_nobody_confirms_go_again: redirecting;
    rules_that_somebody_confirms_stay: redirecting;
}

/// Rules of the host's own, of every kind, in every chain that ours go to.
const FOREIGN: &str = "
nft add table inet host
nft 'add chain inet host output { type filter hook output priority 0 ; }'
nft add rule inet host output tcp dport 12345 counter accept comment '\"of the host\"'
nft 'add chain inet host nat { type nat hook output priority -100 ; }'
nft add rule inet host nat tcp dport 12346 redirect to :1
for ip in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do
    $ip -t nat -A OUTPUT -p tcp --dport 12347 -j REDIRECT --to-ports 1
    $ip -t nat -A PREROUTING -p tcp --dport 12347 -j REDIRECT --to-ports 1
    $ip -t mangle -A PREROUTING -p tcp --dport 12348 -j MARK --set-mark 7
    $ip -t mangle -A OUTPUT -p tcp --dport 12348 -j MARK --set-mark 7
    $ip -A INPUT -p tcp --dport 12349 -j DROP
done
ip rule add fwmark 7 lookup 77
ip -6 rule add fwmark 7 lookup 77
ip route add 10.99.0.0/24 via 10.77.0.3 table 77
";

/// The old iptables shows a table from its first use on, and no tool takes one away.
const OLD_TABLES: &str = "
for ip in iptables-legacy ip6tables-legacy; do for table in filter nat mangle; do $ip -t $table -S >/dev/null; done; done
";

/// All that a host says of its rules, its routes, and what governs them.
const ALL: &str = "
nft --stateless list ruleset
for ip in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do $ip-save | grep -v '^#' | sed 's/\\[[0-9:]*\\]//'; done
for family in -4 -6; do
    ip $family rule
    ip $family route show table all | grep -v 'fe80:\\|multicast\\|^ff00' | sed 's/expires [0-9]*sec//'
done
grep . /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv4/conf/*/route_localnet /proc/sys/net/ipv4/ip_forward
";

/// Long enough for a SYN to have been sent again, which goes the first one's way.
const PATIENCE: Duration = Duration::from_secs(2);

fn all(hosts: &Hosts, host: Host) -> String {
    hosts.say(host, &["bash", "-c", &format!("{OLD_TABLES}{ALL}")]).expect_success()
}

/// Two such listings are the same, line for line; else the lines that are in one of them only.
fn assert_same(before: &str, after: &str) {
    let only = |of: &str, other: &str| {
        let others: Vec<&str> = other.lines().collect();
        of.lines().filter(|line| !others.contains(line)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(before == after, "gone: {:#?}\nnew: {:#?}\nin:\n{after}", only(before, after), only(after, before));
}

fn talk(field: &Field) -> std::io::Result<()> {
    field.hosts.on(Host::A, || End::try_echo(&Host::B.at(Family::V4, 7000)))
}

fn captured(field: &Field) -> f64 {
    field.a().metric("adit_streams_opened_total{direction=\"outbound\"}")
}

/// Rules on both sides: what is included, forwarded or excluded, and strict inbound.
fn of_every_kind(road: Road) -> Field {
    let includes = "[[outbound.redirect.include]]\nnet = [\"10.77.0.0/24\", \"fd77::/64\"]\nport = [6379, \"7000-7010\"]\n\
                    user = [\"daemon\", \"root\"]\n\n\
                    [[outbound.redirect.include]]\nfrom = \"forwarded\"\ninterface = [\"docker0\"]\n\n\
                    [[outbound.redirect.exclude]]\nport = [22]\n";
    let door = match road {
        Road::Captured(_, Mode::Redirect) => "listen = [\"0.0.0.0:4140\", \"[::]:4140\"]\nexpose = true\n",
        Road::Captured(_, Mode::Tproxy) | Road::Direct => "",
    };
    let services = "strict = true\n\n[[inbound.capture]]\nports = [7000]\nallow = [\"a.adit.example\"]\n";
    Field::plan().includes(includes).door(door).services(services).start_without_rules(road)
}

fn removal_leaves_the_hosts_own_rules_byte_for_byte(road: Road) {
    // given hosts with rules of their own, and agents that want every kind of rule
    let field = of_every_kind(road);
    let _echo = Service::start_inside(&field.hosts.enter(Host::B), "echo", "[::]:7000");
    for host in [Host::A, Host::B] {
        let _ = field.hosts.say(host, &["bash", "-e", "-c", FOREIGN]).expect_success();
        let before = all(&field.hosts, host);
        assert!(before.contains("of the host") && before.contains("12348"), "{before}");
        // when the rules are put in place, then once more, which changes nothing
        let _ = field.rules_on(host, &["apply"]).expect_success();
        let once = all(&field.hosts, host);
        assert_ne!(once, before);
        let _ = field.rules_on(host, &["apply"]).expect_success();
        assert_same(&once, &all(&field.hosts, host));
        // and are used: of A connections are captured, and B is strict about what comes by itself
        assert_eq!(talk(&field).is_ok(), host == Host::A);
        // and taken away, then all is as it was; and to take away what is not there is no failure
        for _ in 0..2 {
            let _ = field.rules_on(host, &["remove"]).expect_success();
            assert_same(&before, &all(&field.hosts, host));
        }
    }
}

fn status_tells_whether_the_rules_are_those_of_the_file(road: Road) {
    let field = Field::plan().start_without_rules(road);
    let _echo = Service::start_inside(&field.hosts.enter(Host::B), "echo", "[::]:7000");
    let status = |field: &Field| field.rules_on(Host::A, &["status"]);
    // when nothing is installed, status says so and fails
    assert!(!status(&field).status.success());
    let _ = field.rules("apply");
    talk(&field).unwrap();
    // when it is, status says so
    let told = status(&field);
    assert!(told.status.success(), "{}", told.all());
    // and when a rule is changed by hand, or the file says something else, it says that
    field.a().edit(|text| text.replace("10.77.0.0/24", "10.77.0.0/25"));
    let told = status(&field);
    assert!(!told.status.success(), "{}", told.all());
    let _ = field.rules("apply");
    assert!(status(&field).status.success());
    let _ = field.rules("remove");
    assert!(!status(&field).status.success());
}

fn an_agent_that_holds_its_rules_takes_them_with_it(road: Road) {
    let plan = Field::plan();
    let before = all(plan.hosts(), Host::A);
    let mut field = plan.start_holding(road);
    let _echo = Service::start_inside(&field.hosts.enter(Host::B), "echo", "[::]:7000");
    // when an agent holds its rules, then they are there once it is ready
    talk(&field).unwrap();
    assert_eq!(captured(&field), 1.0);
    assert_ne!(all(&field.hosts, Host::A), before);
    // and when it dies, they stay, so that nothing goes by itself
    field.a_mut().kill();
    assert!(field.hosts.on(Host::A, || End::try_connect_within(&Host::B.at(Family::V4, 7000), PATIENCE)).is_err());
    // and when it is back and ends, they end with it
    field.a_mut().restart();
    talk(&field).unwrap();
    field.a_mut().stop();
    assert_same(&before, &all(&field.hosts, Host::A));
    talk(&field).unwrap();
}

fn rules_that_are_replaced_under_load_let_nothing_by(road: Road) {
    // given connections that are captured, one after another
    let field = Field::plan().start(road);
    let _echo = Service::start_inside(&field.hosts.enter(Host::B), "echo", "[::]:7000");
    let at = Host::B.at(Family::V4, 7000).to_string();
    let wire = field.hosts.listen();
    let mut steady = Load::start_inside(&field.hosts.enter(Host::A), &["steady", &at, "4", "1"]);
    let _ = steady.until("begun", LIMIT);
    // when the rules are replaced again and again, by the same ones and by others
    for round in 0..6 {
        let (one, other) = ("port = [\"1-65535\"]", "port = [7000, 6379]");
        field.a().edit(|text| match round % 3 {
            0 => text.replace("fd77::/64\"]", &format!("fd77::/64\"]\n{one}")),
            1 => text.replace(one, other),
            _ => text.replace(&format!("\n{other}"), ""),
        });
        let before = captured(&field);
        let _ = field.rules("apply");
        until("more connections", LIMIT, || (captured(&field) > before + 8.0).then_some(()));
    }
    // then none has failed, and none has gone by itself
    let done = steady.rest(LIMIT).into_iter().next_back().unwrap();
    assert_eq!((&done["event"], &done["failed"], &done["hung"]), (&"done".into(), &0.into(), &0.into()), "{done}");
    assert_eq!(done["answered"].as_f64().unwrap(), captured(&field));
    assert!(wire.frames("tcp port 7000").is_empty());
}

fn rules_that_nobody_confirms_go_again(road: Road) {
    let field = Field::plan().start_without_rules(road);
    let _echo = Service::start_inside(&field.hosts.enter(Host::B), "echo", "[::]:7000");
    let before = all(&field.hosts, Host::A);
    // when rules are put in place to be confirmed, and are not, then they hold for a while and go
    let gone = field.rules_on(Host::A, &["apply", "--confirm", "1s"]);
    assert!(!gone.status.success(), "{}", gone.all());
    assert_same(&before, &all(&field.hosts, Host::A));
    talk(&field).unwrap();
    assert_eq!(captured(&field), 0.0);
}

fn rules_that_somebody_confirms_stay(road: Road) {
    let field = Field::plan().start_without_rules(road);
    let _echo = Service::start_inside(&field.hosts.enter(Host::B), "echo", "[::]:7000");
    // when somebody presses Enter in time
    let enter = ["sh", "-c", "echo | \"$@\"", "sh"];
    let kept = field.rules_within(Host::A, &enter, &["apply", "--confirm", "30s"]);
    assert!(kept.status.success(), "{}", kept.all());
    // then they stay
    talk(&field).unwrap();
    assert_eq!(captured(&field), 1.0);
    assert!(field.rules_on(Host::A, &["status"]).status.success());
}

#[test]
fn a_reload_changes_what_captured_connections_are_called_and_open_ones_go_on() {
    need_the_field!();
    // given captured connections by a rule to one name, one of them open
    let rule =
        |name: &str| format!("[[outbound.capture]]\nnet = \"10.77.0.0/24\"\nport = 7000\nto = \"/svc/{name}\"\n");
    let services = ["one", "two"].map(|name| {
        format!("[[inbound.service]]\nname = \"/svc/{name}\"\nto = \"127.0.0.1:7000\"\nallow = [\"a.adit.example\"]\n")
    });
    let plan = Field::plan().table("/svc => /$/inet/10.77.0.2/4143 ;").services(&services.join("\n"));
    let peers = "[[outbound.peer]]\nname = \"/svc/{service}\"\nidentity = \"b.adit.example\"\n";
    let mut field = plan.peers(peers).a_also(&rule("one")).start(Road::Captured(Tool::Nftables, Mode::Redirect));
    let service = field.service(7000);
    let (mut open, mut far) = field.ends(Family::V4, &service);
    open.send(b"before");
    assert_eq!(far.receive(6), b"before");
    // when the rule leads to another name
    field.a().edit(|text| text.replace(&rule("one"), &rule("two")));
    let _ = field.a_mut().reload().expect_success();
    // then a new connection has that name, and the open one goes on
    let (mut new, mut new_far) = field.ends(Family::V4, &service);
    new.send(b"new");
    assert_eq!(new_far.receive(3), b"new");
    open.send(b"after");
    assert_eq!(far.receive(5), b"after");
    let status = field.a().status();
    let streams = status["streams"].as_array().unwrap();
    let names: Vec<&str> = streams.iter().filter_map(|stream| stream["name"].as_str()).collect();
    assert!(names.contains(&"/svc/one") && names.contains(&"/svc/two"), "{names:?}");
    // and when no rule is left, a new one is refused, and both go on
    field.a().edit(|text| text.replace(&rule("two"), ""));
    let _ = field.a_mut().reload().expect_success();
    assert!(field.call(Family::V4, 7000).failure().is_some());
    for (end, far) in [(&mut open, &mut far), (&mut new, &mut new_far)] {
        end.send(b"still");
        assert_eq!(far.receive(5), b"still");
    }
}
