//! What configurations come to in rules: whole scripts, as a stranger would read them, and what must hold of every one.

use std::{io, path::Path};

use adit_config::{Config, Selector};

use super::{
    Account, Family, Hook, Plan, PlanError, Then, Way, iptables, nft,
    rule::{Rule, Test},
};

const HEAD: &str = r#"
[tls]
ca = "/ca.pem"
cert = "/cert.pem"
key = "/key.pem"
"#;

const OUTBOUND: &str = r#"
[outbound]
dtab = "/dst/{ip}/{port} => /$/inet/{ip}/4143"
[[outbound.peer]]
name = "/dst/{ip}/{port}"
identity = "host.test"
"#;

const INBOUND: &str = r#"
[inbound]
listen = ["0.0.0.0:4143"]
[[inbound.service]]
name = "/svc/redis"
to = "127.0.0.1:6379"
allow = ["*.web.test"]
"#;

fn config(text: &str) -> Config {
    match Config::parse(Path::new("adit.toml"), &format!("{HEAD}{text}")) {
        Ok((config, _)) => config,
        Err(problems) => panic!("{problems}"),
    }
}

/// Two users and a group.
fn accounts(account: Account<'_>) -> io::Result<Option<u32>> {
    Ok(match account {
        Account::User("adit") => Some(990),
        Account::User("redis") => Some(101),
        Account::Group("web") => Some(33),
        Account::User(_) | Account::Group(_) => None,
    })
}

fn plan(text: &str) -> Plan {
    Plan::of(&config(text), &accounts).unwrap()
}

fn fault(text: &str) -> String {
    Plan::of(&config(text), &accounts).unwrap_err().to_string()
}

fn redirecting(text: &str) -> String {
    format!("[netfilter]\nuser = \"adit\"\n{OUTBOUND}[outbound.redirect]\n{text}")
}

const BOTH_DOORS: &str = "listen = [\"127.0.0.1:4140\", \"[::1]:4141\"]\n";

#[test]
fn redirected_connections_are_these_rules_of_nft() {
    let plan = plan(&redirecting(&format!(
        r#"{BOTH_DOORS}
[[outbound.redirect.include]]
net = ["10.0.0.0/8", "fd00::/8", "127.0.0.5"]
port = [6379, "6000-6100"]
[[outbound.redirect.include]]
port = 5432
user = ["redis", "7"]
group = "web"
[[outbound.redirect.exclude]]
net = ["10.0.0.1"]
[[outbound.redirect.exclude]]
cgroup = ["system.slice/a.service", "b.slice"]
"#
    )));
    let wanted = r#"add table inet adit
delete table inet adit
table inet adit {
	chain output_redirect {
		type nat hook output priority -110; policy accept;
		meta mark 0xad17 counter return comment "own traffic, by its mark"
		meta skuid 990 counter return comment "own traffic, by its user"
		ip daddr 10.0.0.1 counter return comment "exclude 1"
		socket cgroupv2 level 1 "b.slice" counter return comment "exclude 2"
		socket cgroupv2 level 2 "system.slice/a.service" counter return comment "exclude 2"
		ip daddr 127.0.0.5 tcp dport { 6000-6100, 6379 } counter redirect to :4140 comment "include 1"
		fib daddr type local counter return comment "to this host itself"
		ip daddr 10.0.0.0/8 tcp dport { 6000-6100, 6379 } counter redirect to :4140 comment "include 1"
		meta nfproto ipv4 tcp dport 5432 meta skuid { 7, 101 } meta skgid 33 counter redirect to :4140 comment "include 2"
		ip6 daddr fd00::/8 tcp dport { 6000-6100, 6379 } counter redirect to :4141 comment "include 1"
		meta nfproto ipv6 tcp dport 5432 meta skuid { 7, 101 } meta skgid 33 counter redirect to :4141 comment "include 2"
	}

	chain output_reject {
		type filter hook output priority -10; policy accept;
		meta mark 0xad17 counter return comment "own traffic, by its mark"
		meta skuid 990 counter return comment "own traffic, by its user"
		ct state { established, related } tcp flags & (fin | syn | rst | ack) != syn counter return comment "decided when it began"
		ct status dnat counter return comment "brought to the door"
		ip daddr 10.0.0.1 counter return comment "exclude 1"
		socket cgroupv2 level 1 "b.slice" counter return comment "exclude 2"
		socket cgroupv2 level 2 "system.slice/a.service" counter return comment "exclude 2"
		ip daddr 127.0.0.5 tcp dport { 6000-6100, 6379 } counter reject with tcp reset comment "include 1, of no known connection"
		fib daddr type local counter return comment "to this host itself"
		ip daddr 10.0.0.0/8 tcp dport { 6000-6100, 6379 } counter reject with tcp reset comment "include 1, of no known connection"
		meta nfproto ipv4 tcp dport 5432 meta skuid { 7, 101 } meta skgid 33 counter reject with tcp reset comment "include 2, of no known connection"
		ip6 daddr fd00::/8 tcp dport { 6000-6100, 6379 } counter reject with tcp reset comment "include 1, of no known connection"
		meta nfproto ipv6 tcp dport 5432 meta skuid { 7, 101 } meta skgid 33 counter reject with tcp reset comment "include 2, of no known connection"
	}

	chain postrouting_home {
		type filter hook postrouting priority -10; policy accept;
		ip daddr 127.0.0.1 tcp dport 4140 oifname != "lo" counter drop comment "captured, and would leave"
		ip6 daddr ::1 tcp dport 4141 oifname != "lo" counter drop comment "captured, and would leave"
	}
}
"#;
    assert_eq!(nft::script(&plan), wanted);
    assert_eq!((plan.ways, plan.warnings), (vec![], vec![]));
}

#[test]
fn connections_given_to_the_door_as_they_are_are_these_rules_of_nft() {
    let plan = plan(&redirecting(&format!(
        r#"mode = "tproxy"
{BOTH_DOORS}
[[outbound.redirect.include]]
net = ["10.0.0.0/8"]
[[outbound.redirect.include]]
from = "forwarded"
port = 6379
interface = ["docker0"]
[[outbound.redirect.exclude]]
from = "forwarded"
net = ["10.0.0.1"]
"#
    )));
    let wanted = r#"add table inet adit
delete table inet adit
table inet adit {
	chain output_mark {
		type route hook output priority -140; policy accept;
		meta l4proto tcp ct state new tcp flags & (fin | syn | rst | ack) != syn fib saddr type != local counter drop comment "of a door, whose connection is forgotten"
		meta mark 0xad17 counter return comment "own traffic, by its mark"
		meta skuid 990 counter return comment "own traffic, by its user"
		meta l4proto tcp ct direction original ct mark 0xad19 counter ct mark set 0xad19 meta mark set 0xad18 accept comment "of a captured connection"
		ct state { established, related } tcp flags & (fin | syn | rst | ack) != syn counter return comment "decided when it began"
		fib daddr type local counter return comment "to this host itself"
		meta l4proto tcp ip daddr 10.0.0.0/8 counter ct mark set 0xad19 meta mark set 0xad18 accept comment "include 1"
	}

	chain prerouting_tproxy {
		type filter hook prerouting priority -140; policy accept;
		meta nfproto ipv4 meta l4proto tcp ct direction original ct mark 0xad19 counter ct mark set 0xad19 meta mark set 0xad18 tproxy ip to 127.0.0.1:4140 accept comment "of a captured connection"
		meta nfproto ipv6 meta l4proto tcp ct direction original ct mark 0xad19 counter ct mark set 0xad19 meta mark set 0xad18 tproxy ip6 to [::1]:4141 accept comment "of a captured connection"
		meta l4proto tcp ct direction original ct mark 0xad19 counter reject with tcp reset comment "captured, and the agent is away"
		ct state { established, related } tcp flags & (fin | syn | rst | ack) != syn counter return comment "decided when it began"
		ip daddr 10.0.0.1 counter return comment "exclude 1"
		fib daddr type local counter return comment "to this host itself"
		meta nfproto ipv4 tcp dport 6379 iifname "docker0" counter ct mark set 0xad19 meta mark set 0xad18 tproxy ip to 127.0.0.1:4140 accept comment "include 2"
		meta nfproto ipv6 tcp dport 6379 iifname "docker0" counter ct mark set 0xad19 meta mark set 0xad18 tproxy ip6 to [::1]:4141 accept comment "include 2"
		meta l4proto tcp ct direction original ct mark 0xad19 counter reject with tcp reset comment "captured, and the agent is away"
	}

	chain postrouting_home {
		type filter hook postrouting priority -10; policy accept;
		meta l4proto tcp meta mark 0xad18 oifname != "lo" counter drop comment "captured, and would leave"
		meta l4proto tcp ct direction original ct mark 0xad19 oifname != "lo" counter drop comment "captured, and would leave"
	}
}
"#;
    assert_eq!(nft::script(&plan), wanted);
    let ways: Vec<_> = plan.ways.iter().map(ToString::to_string).collect();
    let wanted = [
        "ip -4 route add local default dev lo table 44311 proto 173",
        "ip -6 route add local default dev lo table 44311 proto 173",
        "ip -4 rule add pref 173 fwmark 0xad18 lookup 44311 protocol 173",
        "ip -6 rule add pref 173 fwmark 0xad18 lookup 44311 protocol 173",
    ];
    assert_eq!(ways, wanted);
}

#[test]
fn the_same_is_said_to_iptables_in_chains_of_its_own() {
    let plan = plan(&redirecting(
        r#"listen = ["127.0.0.1:4140"]
mode = "tproxy"
[[outbound.redirect.include]]
net = ["10.0.0.0/8", "192.168.0.0/16"]
port = [6379, "6000-6100"]
user = ["redis"]
[[outbound.redirect.include]]
net = ["fd00::/8"]
"#,
    ));
    let wanted = r#"*mangle
:ADIT_CAPTURE - [0:0]
:ADIT_OUTPUT - [0:0]
:ADIT_POSTROUTING - [0:0]
:ADIT_PREROUTING - [0:0]
:ADIT_TPROXY - [0:0]
-A ADIT_CAPTURE -j CONNMARK --set-xmark 0xad19/0xffffffff
-A ADIT_CAPTURE -j MARK --set-xmark 0xad18/0xffffffff
-A ADIT_CAPTURE -j ACCEPT
-A ADIT_OUTPUT -p tcp -m conntrack --ctstate NEW -m tcp ! --syn -m addrtype ! --src-type LOCAL -m comment --comment "of a door, whose connection is forgotten" -j DROP
-A ADIT_OUTPUT -p tcp -m mark --mark 0xad17 -m comment --comment "own traffic, by its mark" -j RETURN
-A ADIT_OUTPUT -p tcp -m owner --uid-owner 990 -m comment --comment "own traffic, by its user" -j RETURN
-A ADIT_OUTPUT -p tcp -m conntrack --ctdir ORIGINAL -m connmark --mark 0xad19 -m comment --comment "of a captured connection" -j ADIT_CAPTURE
-A ADIT_OUTPUT -p tcp -m conntrack --ctstate ESTABLISHED,RELATED -m tcp ! --syn -m comment --comment "decided when it began" -j RETURN
-A ADIT_OUTPUT -p tcp -m addrtype --dst-type LOCAL -m comment --comment "to this host itself" -j RETURN
-A ADIT_OUTPUT -p tcp -d 10.0.0.0/8 -m multiport --dports 6000:6100,6379 -m owner --uid-owner 101 -m comment --comment "include 1" -j ADIT_CAPTURE
-A ADIT_OUTPUT -p tcp -d 192.168.0.0/16 -m multiport --dports 6000:6100,6379 -m owner --uid-owner 101 -m comment --comment "include 1" -j ADIT_CAPTURE
-A ADIT_POSTROUTING -p tcp -m mark --mark 0xad18 ! -o lo -m comment --comment "captured, and would leave" -j DROP
-A ADIT_POSTROUTING -p tcp -m conntrack --ctdir ORIGINAL -m connmark --mark 0xad19 ! -o lo -m comment --comment "captured, and would leave" -j DROP
-A ADIT_PREROUTING -p tcp -m conntrack --ctdir ORIGINAL -m connmark --mark 0xad19 -m comment --comment "of a captured connection" -j ADIT_TPROXY
-A ADIT_TPROXY -j CONNMARK --set-xmark 0xad19/0xffffffff
-A ADIT_TPROXY -p tcp -j TPROXY --on-port 4140 --on-ip 127.0.0.1 --tproxy-mark 0xad18/0xffffffff
-I OUTPUT -p tcp -m comment --comment "adit" -j ADIT_OUTPUT
-I PREROUTING -p tcp -m comment --comment "adit" -j ADIT_PREROUTING
-I POSTROUTING -p tcp -m comment --comment "adit" -j ADIT_POSTROUTING
COMMIT
"#;
    assert_eq!(iptables::restore(&plan, Family::V4), wanted);
    // The door listens at no IPv6 address: what is included of that family is refused.
    let refused = r#"-A ADIT_OUTPUT -p tcp -d fd00::/8 -m comment --comment "include 2, without a door" -j REJECT --reject-with tcp-reset"#;
    let restore = iptables::restore(&plan, Family::V6);
    assert!(restore.starts_with("*filter\n:ADIT_OUTPUT - [0:0]\n") && restore.contains(refused), "{restore}");
    assert!(
        plan.warnings[0].contains("no door for IPv6 connections of include 2, which are refused"),
        "{:?}",
        plan.warnings
    );
}

#[test]
fn service_ports_are_refused_to_other_hosts() {
    let text = INBOUND.replace("[[inbound.service]]", "strict = [\"4000-4142\", 6379]\n[[inbound.service]]");
    let wanted = r#"add table inet adit
delete table inet adit
table inet adit {
	chain input_strict {
		type filter hook input priority -10; policy accept;
		iifname "lo" counter return comment "from this host itself"
		ct direction original tcp dport { 4000-4142, 6379 } counter reject with tcp reset comment "strict"
	}
}
"#;
    assert_eq!(nft::script(&plan(&text)), wanted);
    let captures = "[[inbound.capture]]\nports = [5432, \"6380-6390\"]\nallow = [\"*.web.test\"]\n";
    let text = INBOUND.replace("[[inbound.service]]", "strict = true\n[[inbound.service]]") + captures;
    let script = nft::script(&plan(&text));
    assert!(script.contains("tcp dport { 5432, 6379-6390 } counter reject"), "{script}");
}

#[test]
fn answers_to_a_clients_address_come_home_without_any_capture() {
    let text = format!("{INBOUND}source = \"transparent\"\n");
    let plan = plan(&text);
    let wanted = r#"add table inet adit
delete table inet adit
table inet adit {
	chain output_mark {
		type route hook output priority -140; policy accept;
		meta mark 0xad18 counter ct mark set 0xad18 return comment "asks a service as its client"
		ct direction reply ct mark 0xad18 counter meta mark set 0xad18 return comment "a service answers its client"
		tcp sport 6379 ct state new tcp flags & (fin | syn | rst | ack) != syn counter drop comment "an answer to nobody knows whom"
		tcp sport 6379 ct state { invalid, untracked } counter drop comment "an answer to nobody knows whom"
	}

	chain postrouting_home {
		type filter hook postrouting priority -10; policy accept;
		meta l4proto tcp ct direction reply ct mark 0xad18 oifname != "lo" counter drop comment "an answer that would leave"
	}
}
"#;
    assert_eq!(nft::script(&plan), wanted);
    let table = 44311;
    let ways =
        [Way::Home(Family::V4, table), Way::Marked(Family::V4, 0xad18, table), Way::FromLoopback(Family::V4, table)];
    assert_eq!(plan.ways, ways);
}

#[test]
fn forwarded_connections_are_led_where_the_door_can_be_reached() {
    let forwarded = |listen: &str| {
        plan(&redirecting(&format!(
            "listen = [{listen}]\nexpose = true\n[[outbound.redirect.include]]\nfrom = \"forwarded\"\nport = 80\n\
             [[outbound.redirect.include]]\nport = 81\n"
        )))
    };
    let thens = |plan: &Plan, hook: Hook, family: Family| -> Vec<Then> {
        let rules = plan.chains.iter().filter(|chain| chain.hook == hook).flat_map(|chain| &chain.rules);
        rules.filter(|rule| rule.family == Some(family)).map(|rule| rule.then).collect()
    };
    // A loopback address is nothing to other hosts.
    let near = forwarded("\"127.0.0.1:4140\", \"[::1]:4140\"");
    assert_eq!(thens(&near, Hook::NatPrerouting, Family::V4), []);
    assert_eq!(thens(&near, Hook::RejectForward, Family::V4), [Then::Reset]);
    assert_eq!(near.warnings.len(), 2, "{:?}", near.warnings);
    // One that listens everywhere is at the interface's address.
    let wide = forwarded("\"0.0.0.0:4140\", \"[::]:4141\"");
    assert_eq!(thens(&wide, Hook::NatPrerouting, Family::V6), [Then::Redirect(4141)]);
    assert_eq!(thens(&wide, Hook::NatOutput, Family::V4), [Then::Redirect(4140)]);
    assert_eq!(wide.warnings, Vec::<String>::new());
    // One at an address of its own is led to by it, from processes too.
    let door = "10.0.0.1:4140".parse().unwrap();
    let one = forwarded("\"10.0.0.1:4140\"");
    assert_eq!(thens(&one, Hook::NatPrerouting, Family::V4), [Then::Dnat(door)]);
    assert_eq!(thens(&one, Hook::NatOutput, Family::V4), [Then::Dnat(door)]);
    assert_eq!(thens(&one, Hook::RejectForward, Family::V6), [Then::Reset]);
    assert!(nft::script(&one).contains("counter dnat ip to 10.0.0.1:4140 comment"));
    assert!(iptables::restore(&one, Family::V4).contains("-j DNAT --to-destination 10.0.0.1:4140"));
}

#[test]
fn the_agents_own_traffic_comes_first_wherever_processes_are_captured_or_refused() {
    for mode in ["redirect", "tproxy"] {
        let plan = plan(&redirecting(&format!(
            "mode = \"{mode}\"\nlisten = [\"127.0.0.1:4140\"]\n[[outbound.redirect.include]]\nport = 80\n\
             [[outbound.redirect.exclude]]\nport = 81\n"
        )));
        let chains: Vec<_> = plan
            .chains
            .iter()
            .filter(|chain| matches!(chain.hook, Hook::MarkOutput | Hook::NatOutput | Hook::RejectOutput))
            .collect();
        assert_eq!(chains.len(), 2, "one that captures IPv4, one that refuses IPv6");
        for chain in chains {
            // What is dropped on the way is nobody's connection.
            let rules = chain.rules.iter().filter(|rule| rule.then != Then::Drop);
            let first: Vec<_> = rules.take(2).map(|rule| (rule.tests.as_slice(), rule.then)).collect();
            let (mark, user) = ([Test::Mark(0xad17)], [Test::User(vec![990])]);
            assert_eq!(first, [(&mark[..], Then::Leave), (&user[..], Then::Leave)], "{:?}", chain.hook);
        }
    }
}

#[test]
fn more_ports_than_a_rule_of_iptables_holds_are_several_rules() {
    // Fourteen single ports, and a range that counts twice.
    let ports: Vec<_> = (0..14).map(|i| (1000 + 2 * i).to_string()).chain(["\"2000-2001\"".to_owned()]).collect();
    let ports = ports.join(", ");
    let plan = plan(&redirecting(&format!("{BOTH_DOORS}[[outbound.redirect.include]]\nport = [{ports}]\n")));
    let restore = iptables::restore(&plan, Family::V4);
    let rules: Vec<_> = restore.lines().filter(|line| line.contains("\"include 1\"")).collect();
    assert_eq!(rules.len(), 2, "{rules:#?}");
    assert!(rules[0].contains("1024,1026 ") && rules[1].contains("-m tcp --dport 2000:2001"), "{rules:#?}");
}

#[test]
fn an_account_that_is_not_there_is_named_with_its_place() {
    let include = |line: &str| redirecting(&format!("{BOTH_DOORS}[[outbound.redirect.include]]\nport = 1\n{line}\n"));
    let text = fault(&include("user = [\"nobody-here\"]"));
    assert_eq!(
        text,
        "[[outbound.redirect.include]] 1: this host has no user \"nobody-here\"; add it, or write the number of one of a directory"
    );
    assert!(fault(&include("group = [\"redis\"]")).contains("no group \"redis\""));
    let text = fault("[netfilter]\nuser = \"gone\"\n");
    assert!(text.starts_with("[netfilter]: this host has no user \"gone\""), "{text}");
}

#[test]
fn a_file_that_asks_for_nothing_comes_to_an_empty_script() {
    let plan = plan(INBOUND);
    assert!(plan.is_empty());
    assert_eq!(nft::script(&plan), "add table inet adit\ndelete table inet adit\n");
    assert_eq!(iptables::restore(&plan, Family::V4), "");
}

/// Whatever a reader of files lets through, nothing but a name is ever written into a rule.
#[test]
fn nothing_that_a_file_names_can_end_the_word_it_stands_in() {
    let hostile = [
        "a\"; flush ruleset; \"",
        "a\nflush ruleset",
        "a}",
        "a b",
        "a;b",
        "$(id)",
        "a'",
        "../a",
        "",
        "a\\\"",
        "-j",
        "*",
    ];
    for name in hostile {
        for which in ["cgroup", "interface", "user"] {
            let mut selector = Selector::default();
            let list = match which {
                "cgroup" => &mut selector.cgroups,
                "interface" => &mut selector.interfaces,
                _ => &mut selector.users,
            };
            list.push(name.to_owned());
            let mut config = config(&redirecting(&format!("{BOTH_DOORS}[[outbound.redirect.include]]\nport = 1\n")));
            config.outbound.as_mut().unwrap().redirect.as_mut().unwrap().include = vec![selector];
            match Plan::of(&config, &accounts) {
                Err(PlanError::Name { .. } | PlanError::NoAccount { .. }) => {}
                Err(other) => panic!("{which} {name:?}: {other}"),
                Ok(plan) => assert!(which == "cgroup" && name == "-j", "{which} {name:?}: {}", nft::script(&plan)),
            }
        }
    }
}

#[test]
fn every_rule_says_what_it_is_for() {
    let plan = plan(&redirecting(&format!("{BOTH_DOORS}mode = \"tproxy\"\n[[outbound.redirect.include]]\nport = 1\n")));
    let rules: Vec<&Rule> = plan.chains.iter().flat_map(|chain| &chain.rules).collect();
    assert!(rules.len() > 5);
    assert!(rules.iter().all(|rule| !rule.comment.is_empty() && !rule.comment.contains(['"', '\'', '\\'])));
}
