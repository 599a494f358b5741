//! Whatever a file may say survives being printed and read again.

use std::net::{IpAddr, SocketAddr};

use adit_protocol::Pattern;
use proptest::prelude::*;

use super::*;
use crate::capture::{CaptureMatch, CaptureRule, Captures};
use crate::config::{Strict, Zone};
use crate::identity::IdentityPattern;
use crate::listen::TcpListen;
use crate::net::{Net, Ports};
use crate::peers::Peers;
use crate::policy::Policy;
use crate::redirect::{Netfilter, Origin, Redirect, RedirectMode, Selector, Unmatched};
use crate::service::Source;
use crate::workload::{Glob, Then, Who, WorkloadRule, Workloads};

fn at(address: &str) -> TcpListen {
    TcpListen::At(address.parse().expect("an address"))
}

#[test]
fn a_wait_is_printed_in_the_greatest_unit_that_divides_it() {
    let rows = [(0, "0ms"), (1, "1ms"), (1_500, "1500ms"), (90_000, "90s"), (7_200_000, "2h"), (86_400_000, "1d")];
    for (millis, printed) in rows {
        assert_eq!(wait(Duration::from_millis(millis)), format!("\"{printed}\""));
    }
}

#[test]
fn a_size_is_printed_in_the_greatest_unit_that_divides_it() {
    let rows = [(0, "0"), (1, "1"), (1024, "\"1KiB\""), (64 << 20, "\"64MiB\""), (3 << 30, "\"3GiB\"")];
    for (bytes, printed) in rows {
        assert_eq!(size(bytes), printed);
    }
}

/// Every time the file can write: whole milliseconds, up to a year.
fn waits(least: u64) -> impl Strategy<Value = Duration> {
    let unit = prop::sample::select(vec![1, 1_000, 60_000, 3_600_000, 86_400_000]);
    (unit, least..=365).prop_map(|(unit, number)| Duration::from_millis(unit * number))
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let count = || prop::option::of(0..1_usize << 31);
    let balancer = prop::option::of(prop::sample::select(vec![BalancerKind::Least, BalancerKind::Ewma]));
    let on_leave = prop_oneof![Just(OnLeave::Keep), waits(0).prop_map(OnLeave::After)];
    let idle = prop::option::of(prop::option::of(waits(1)));
    let wait = || prop::option::of(waits(1));
    (wait(), idle, wait(), count(), count(), balancer, prop::option::of(on_leave)).prop_map(
        |(connect_timeout, idle, tunnel_idle, pool, warm, balancer, on_leave)| Settings {
            connect_timeout,
            idle,
            tunnel_idle,
            pool,
            warm,
            balancer,
            on_leave,
        },
    )
}

/// An entry that says something: one that says nothing is refused.
fn any_rule() -> impl Strategy<Value = PeerRule> {
    let matches = prop::sample::select(vec![
        PeerMatch::Logical(Pattern::parse("/svc/{service}").expect("a pattern")),
        PeerMatch::Bound(Pattern::parse("/#/srv/{name}/*").expect("a pattern")),
    ]);
    let verify = prop::sample::select(vec![
        PeerVerify::None,
        PeerVerify::Identity(Template::parse("spiffe://prod.internal/web").expect("a template")),
    ]);
    let unit = verify.prop_map(|verify| Unit { verify, sni: None, send_as: None });
    (matches, prop::option::of(unit), any_settings())
        .prop_map(|(matches, unit, settings)| PeerRule { matches, unit, settings })
        .prop_filter("says something", |rule| rule.unit.is_some() || rule.settings != Settings::default())
}

fn any_zones() -> impl Strategy<Value = Vec<Zone>> {
    let server = (any::<IpAddr>(), 1_u16..).prop_map(|(ip, port)| SocketAddr::new(ip, port));
    let servers = prop::collection::vec(server, 1..4);
    prop::collection::btree_map("[a-z_]{1,8}(\\.[a-z0-9]{1,8}){0,3}", servers, 0..5)
        .prop_map(|zones| zones.into_iter().map(|(name, servers)| Zone { name, servers }).collect())
}

/// A value or none of it, of a few.
fn maybe<T: Clone + std::fmt::Debug + 'static>(of: Vec<T>) -> impl Strategy<Value = Option<T>> {
    prop::option::of(prop::sample::select(of))
}

fn one_of<T: Clone + std::fmt::Debug + 'static, const N: usize>(
    words: [(&'static str, T); N],
) -> impl Strategy<Value = T> {
    prop::sample::select(words.map(|(_, value)| value).to_vec())
}

fn any_ports() -> impl Strategy<Value = Vec<Ports>> {
    let ports = (1..=u16::MAX, 0..=9_u16).prop_map(|(first, more)| Ports { first, last: first.saturating_add(more) });
    prop::collection::vec(ports, 0..4)
}

fn texts(of: &'static str) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(of, 0..3)
}

fn any_selector() -> impl Strategy<Value = Selector> {
    let nets = ["10.0.0.0/8", "10.1.2.3", "fd00::/8", "::/0"].map(|net| Net::parse(net).expect("a network")).to_vec();
    let words = (texts("[a-z][a-z0-9_.-]{0,8}"), texts("[0-9]{1,5}"), texts("[a-z]{1,5}(/[a-z:@\\\\._-]{1,5}x){0,2}"));
    let from = one_of(Origin::WORDS);
    (from, prop::collection::vec(prop::sample::select(nets), 0..3), any_ports(), words, texts("[a-z][a-z0-9.-]{0,14}"))
        .prop_map(|(from, nets, ports, (users, groups, cgroups), interfaces)| match from {
            Origin::Local => Selector { from, nets, ports, users, groups, cgroups, interfaces: Vec::new() },
            Origin::Forwarded => Selector { from, nets, ports, interfaces, ..Selector::default() },
        })
        .prop_filter("has a condition", |one| *one != Selector { from: one.from, ..Selector::default() })
}

fn any_redirect() -> impl Strategy<Value = Redirect> {
    let settings = (one_of(RedirectMode::WORDS), one_of(Unmatched::WORDS), waits(0), maybe(vec!["default".to_owned()]));
    let selectors = || prop::collection::vec(any_selector(), 0..3);
    // Of a network that no include has, so that none takes one away.
    let excludes = selectors().prop_map(|selectors| {
        let nets = vec![Net::parse("192.0.2.1").expect("a network")];
        selectors.into_iter().map(|selector| Selector { nets: nets.clone(), ..selector }).collect()
    });
    (settings, selectors(), excludes).prop_map(|((mode, unmatched, remember, certificate), include, exclude)| {
        Redirect {
            listen: vec![at("0.0.0.0:4140"), at("[::]:4140")],
            mode,
            unmatched,
            remember,
            certificate,
            expose: true,
            include,
            exclude,
        }
    })
}

/// Entries that leave each other something: each has a network or a host of its own.
fn any_captures() -> impl Strategy<Value = Captures> {
    let to = vec!["/dst/{ip}/{port}", "/svc/redis", "/net-{ip}/p{port}"];
    let rule = (any::<bool>(), any_ports(), prop::sample::select(to), maybe(vec!["default".to_owned()]));
    prop::collection::vec(rule, 0..5).prop_map(|rules| Captures {
        rules: (0..)
            .zip(rules)
            .map(|(index, (by_host, ports, to, certificate))| CaptureRule {
                matches: match by_host {
                    true => CaptureMatch::Host(format!("h{index}.example")),
                    false => CaptureMatch::Net(Net::parse(&format!("10.{index}.0.0/16")).expect("a network")),
                },
                ports,
                to: Template::parse(to).expect("a template"),
                certificate,
            })
            .collect(),
    })
}

/// Entries that leave each other something: what cannot be found comes first, then each has a unit of its own.
fn any_workloads() -> impl Strategy<Value = Workloads> {
    let then = vec![Then::Deny, Then::Allow, Then::Certificate("default".to_owned())];
    let glob = |text: &str| Glob::parse(text).expect("a glob");
    let conditions =
        (maybe(vec!["www-data".to_owned(), "1000".to_owned()]), maybe(vec![glob("/a/*"), glob("/b.slice")]));
    let names = prop::sample::subsequence(vec!["/svc/{any}", "/dst/*/5432"], 0..=2);
    let rule = (conditions, names, prop::sample::select(then));
    (any::<bool>(), prop::collection::vec(rule, 0..5)).prop_map(move |(unknown, rules)| Workloads {
        rules: (0..)
            .zip(rules)
            .map(|(index, ((user, cgroup), names, then))| WorkloadRule {
                who: match (unknown, index) {
                    (true, 0) => Who::Unknown,
                    _ => Who::Process { unit: Some(glob(&format!("u{index}@*.service"))), user, cgroup },
                },
                names: names.into_iter().map(|name| Pattern::parse(name).expect("a pattern")).collect(),
                then,
            })
            .collect(),
    })
}

fn any_inbound() -> impl Strategy<Value = Inbound> {
    let allow =
        ["*.web.example", "ip:10.0.0.1", "spiffe://prod/web/*"].map(|one| IdentityPattern::parse(one).expect("one"));
    let allow = prop::sample::subsequence(allow.to_vec(), 0..=3);
    let rule =
        (allow, maybe(vec!["default".to_owned()]), one_of(Source::WORDS), prop::option::of(1..100_u32), maybe_wait());
    let strict = prop_oneof![
        Just(Strict::Off),
        Just(Strict::Services),
        prop::collection::vec((5000..6000_u16).prop_map(Ports::one), 1..3).prop_map(Strict::Ports),
    ];
    (any::<bool>(), strict, prop::collection::vec(rule, 0..3)).prop_map(|(conceal, strict, rules)| {
        let captures = (1..).zip(rules).map(|(index, (allow, certificate, source, max_streams, connect_timeout))| {
            let ports = vec![Ports { first: index * 100, last: index * 100 + 9 }, Ports::one(index)];
            CaptureService { ports, allow, certificate, max_streams, connect_timeout, source }
        });
        Inbound {
            listen: vec![at("127.0.0.1:4143")],
            dtab: Dtab::default(),
            policy: Policy { services: Vec::new(), captures: captures.collect(), conceal },
            strict,
        }
    })
}

fn maybe_wait() -> impl Strategy<Value = Option<Duration>> {
    prop::option::of(waits(1))
}

/// Two marks that differ, and a user where there is but one.
fn any_netfilter() -> impl Strategy<Value = Netfilter> {
    let mark = prop::option::of(1..u32::MAX);
    (mark, 1..u32::MAX, 256..=u32::MAX, maybe(vec!["adit".to_owned()])).prop_map(|(mark, other, route_table, user)| {
        let route_mark = if mark == Some(other) { u32::MAX } else { other };
        let user = user.or_else(|| mark.is_none().then(|| "1000".to_owned()));
        Netfilter { mark, route_mark, route_table, user }
    })
}

proptest! {
    #[test]
    fn anything_said_of_captured_connections_survives_being_printed(
        inbound in prop::option::of(any_inbound()),
        redirect in prop::option::of(any_redirect()),
        captures in any_captures(),
        workloads in any_workloads(),
        netfilter in any_netfilter(),
    ) {
        let text = "[tls]\nca = \"/ca\"\ncert = \"/cert\"\nkey = \"/key\"\n";
        let (mut config, _) = Config::parse(Path::new("short.toml"), text).expect("a good file");
        config.inbound = inbound;
        config.outbound = Some(Outbound { redirect, captures, workloads, ..Outbound::default() });
        config.netfilter = netfilter;
        let printed = config.to_toml();
        let read = Config::parse(Path::new("printed.toml"), &printed).map(|(config, _)| config);
        prop_assert_eq!(read, Ok(config), "{}", printed);
    }

    #[test]
    fn any_rules_zones_and_folder_survive_being_printed(
        rules in prop::collection::vec(any_rule(), 0..4),
        zones in any_zones(),
        folder in "(/[^/\\x00]{1,12}){1,3}",
    ) {
        let text = "[tls]\nca = \"/ca\"\ncert = \"/cert\"\nkey = \"/key\"\n";
        let (mut config, _) = Config::parse(Path::new("short.toml"), text).expect("a good file");
        config.outbound = Some(Outbound { peers: Peers { rules }, ..Outbound::default() });
        config.dns.zones = zones;
        config.fs.folder = folder.into();
        let printed = config.to_toml();
        let read = Config::parse(Path::new("printed.toml"), &printed).map(|(config, _)| config);
        prop_assert_eq!(read, Ok(config), "{}", printed);
    }

    #[test]
    fn any_text_survives_its_quotes(text in "(?s).{0,40}") {
        let file = format!("key = {}", quote(&text));
        let read = toml::de::DeTable::parse(&file).expect("a quoted text is TOML");
        let value = read.get_ref().get("key").and_then(|value| value.get_ref().as_str());
        prop_assert_eq!(value, Some(text.as_str()));
    }
}
