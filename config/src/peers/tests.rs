//! Whom a dialer expects for a name, and that nothing in a name makes it expect somebody else.

use std::path::Path;

use super::*;
use crate::Config;

fn peers(rules: &str) -> Peers {
    let text = format!("[tls]\nca = \"/ca\"\ncert = \"/c\"\nkey = \"/k\"\n[outbound]\n{rules}");
    let (config, _) = Config::parse(Path::new("adit.toml"), &text).unwrap_or_else(|problems| panic!("{problems}"));
    config.outbound.unwrap().peers
}

/// `who as name`, or why nobody.
fn expected(peers: &Peers, logical: &str, bound: &str) -> Result<String, String> {
    let name = |text| Name::parse(text).unwrap();
    let expectation = peers.expect(&name(logical), &name(bound)).map_err(|error| error.to_string())?;
    let who = match expectation.verify {
        Verify::Identity(identity) => identity.to_string(),
        Verify::None => "anybody".to_owned(),
    };
    Ok(format!("{who} by {:?} for {}", expectation.sni, expectation.name))
}

#[test]
fn the_first_rule_that_matches_is_taken_whole_and_no_match_refuses() {
    let peers = peers(
        r#"
[[outbound.peer]]
name = "/svc/legacy"
verify = "none"

[[outbound.peer]]
name = "/svc/{service}"
identity = "spiffe://prod/{service}"
sni = "{service}.prod"
as = "/app/{service}"

[[outbound.peer]]
bound = "/#/dns/{host}/*"
identity = "{host}"
"#,
    );
    let dns = "/#/dns/Redis.prod./4143";
    for (logical, expected_) in [
        ("/svc/legacy", "anybody by None for /svc/legacy"),
        ("/svc/redis", "spiffe://prod/redis by Some(\"redis.prod\") for /app/redis"),
        ("/other/redis", "redis.prod by Some(\"redis.prod\") for /other/redis"),
    ] {
        assert_eq!(expected(&peers, logical, dns).as_deref(), Ok(expected_), "{logical}");
    }
    let refused = expected(&peers, "/other/redis", "/$/inet/10.0.0.1/4143").unwrap_err();
    assert!(refused.contains("no [[outbound.peer]] that matches /other/redis"), "{refused}");
}

#[test]
fn each_setting_comes_from_the_first_entry_that_has_it_and_who_must_answer_from_the_first_that_says_any_of_it() {
    let peers = peers(
        r#"
[[outbound.peer]]
name = "/svc/ledger"
idle = "off"
balancer = "ewma"

[[outbound.peer]]
bound = "/#/dns/{host}/*"
idle = "5m"
connect_timeout = "2s"
on_leave = "30s"
identity = "{host}"

[[outbound.peer]]
name = "/svc/{service}"
identity = "{service}.prod"
connect_timeout = "9s"
pool = 0
on_leave = "keep"
"#,
    );
    let settings = |logical: &str, bound: &str| {
        let name = |text| Name::parse(text).unwrap();
        peers.settings(&name(logical), &name(bound))
    };
    let (dns, inet) = ("/#/dns/a.example/1", "/$/inet/10.0.0.1/1");
    let seconds = Duration::from_secs;
    let by_dns = Settings {
        idle: Some(Some(seconds(300))),
        connect_timeout: Some(seconds(2)),
        on_leave: Some(OnLeave::After(seconds(30))),
        pool: Some(0),
        ..Settings::default()
    };
    let by_name = Settings {
        connect_timeout: Some(seconds(9)),
        pool: Some(0),
        on_leave: Some(OnLeave::Keep),
        ..Settings::default()
    };
    let ledger = |settings: Settings| Settings { idle: Some(None), balancer: Some(BalancerKind::Ewma), ..settings };
    for (logical, bound, expected_) in [
        ("/svc/redis", dns, by_dns),
        ("/svc/redis", inet, by_name),
        ("/svc/ledger", dns, ledger(by_dns)),
        ("/svc/ledger", inet, ledger(by_name)),
        ("/other", inet, Settings::default()),
    ] {
        assert_eq!(settings(logical, bound), expected_, "{logical} at {bound}");
    }
    assert!(expected(&peers, "/svc/ledger", dns).unwrap().starts_with("a.example by"));
    assert!(expected(&peers, "/svc/ledger", inet).unwrap().starts_with("ledger.prod by"));
}

#[test]
fn an_entry_of_settings_says_nothing_of_who_must_answer() {
    let peers = peers(
        r#"
[[outbound.peer]]
name = "/svc/{service}"
pool = 1

[[outbound.peer]]
bound = "/$/inet/{ip}/*"
identity = "{ip}x.prod"

[[outbound.peer]]
name = "/svc/redis"
identity = "redis.prod"
"#,
    );
    let (inet, dns) = ("/$/inet/10.0.0.1/1", "/#/dns/a.example/1");
    let name = |text| Name::parse(text).unwrap();
    let rule = |bound| peers.expect(&name("/svc/redis"), &name(bound)).map(|expectation| expectation.rule);
    assert_eq!((rule(inet), rule(dns)), (Ok(2), Ok(3)));
    assert_eq!(
        expected(&peers, "/svc/cache", dns).unwrap_err(),
        "no [[outbound.peer]] that matches /svc/cache (bound to /#/dns/a.example/1) says who must answer; add one with \
         `identity`"
    );
}

#[test]
fn no_capture_makes_an_identity_of_another_kind_or_place() {
    let rule =
        |identity: &str| peers(&format!("[[outbound.peer]]\nname = \"/svc/x{{s}}\"\nidentity = \"{identity}\"\n"));
    let table = [
        ("{s}.prod", "a", Some("a.prod")),
        ("{s}.prod", "A.b", Some("a.b.prod")),
        ("{s}.prod", "a.", None),
        ("{s}.prod", ".a", None),
        ("{s}.prod", "a..b", None),
        ("{s}.prod", "-a", None),
        ("{s}.prod", "a:80", None),
        ("{s}.prod", "a@b", None),
        ("{s}.prod", "a%00", None),
        ("{s}.prod", "a#b", None),
        ("{s}", "a.prod.", Some("a.prod")),
        ("{s}", "10.0.0.1", None),
        ("{s}", "ip:10.0.0.1", None),
        ("i{s}", "p:10.0.0.1", None),
        ("ip:{s}", "10.0.0.1", Some("10.0.0.1")),
        ("ip:{s}", "fd00::1", Some("fd00::1")),
        ("ip:10.0.0.{s}", "1", Some("10.0.0.1")),
        ("ip:{s}", "010.0.0.1", None),
        ("ip:{s}", "::ffff:10.0.0.1", None),
        ("ip:{s}", "fe80::1%eth0", None),
        ("ip:{s}", "a.prod", None),
        ("ip:{s}", "spiffe:", None),
        ("{s}", "::1", None),
        ("{s}", "spiffe:", None),
        ("10.0.0.{s}", "1", None),
        ("spiffe://prod/{s}", "a", Some("spiffe://prod/a")),
        ("spiffe://prod/{s}", ".", None),
        ("spiffe://prod/{s}", "..", None),
        ("spiffe://prod/{s}", "a%2fb", None),
        ("spiffe://prod/{s}", "a#b", None),
        ("spiffe://prod/{s}", "a:b", None),
        ("spiffe://{s}/web", "prod@evil", None),
        ("spiffe://{s}/web", "prod:1", None),
        ("spiffe://{s}/web", "PROD", None),
    ];
    for (identity, capture, who) in table {
        let got = expected(&rule(identity), &format!("/svc/x{capture}"), "/$/inet/10.0.0.1/4143");
        let got = got.ok().map(|text| text.split(' ').next().unwrap_or_default().to_owned());
        assert_eq!(got.as_deref(), who, "{identity} of {capture}");
    }
}

#[test]
fn an_address_that_is_asked_for_is_sent_as_no_sni() {
    let peers = peers(
        r#"
[[outbound.peer]]
name = "/dst/{ip}/22"
identity = "ip:{ip}"
sni = "hosts.prod"

[[outbound.peer]]
name = "/dst/{ip}/{port}"
identity = "ip:{ip}"
"#,
    );
    let bound = "/$/inet/10.0.0.1/4143";
    let by = |sni: &str, name: &str| Ok(format!("10.0.0.1 by {sni} for {name}"));
    assert_eq!(expected(&peers, "/dst/10.0.0.1/80", bound), by("None", "/dst/10.0.0.1/80"));
    assert_eq!(expected(&peers, "/dst/10.0.0.1/22", bound), by("Some(\"hosts.prod\")", "/dst/10.0.0.1/22"));
    let refused = expected(&peers, "/dst/redis.prod/80", bound).unwrap_err();
    assert!(refused.contains("`ip:redis.prod` is no address"), "{refused}");
}

#[test]
fn no_stream_asks_for_a_bound_name() {
    let plain = peers("[[outbound.peer]]\nbound = \"/$/inet/*/*\"\nidentity = \"a.prod\"\n");
    let bound = "/$/inet/10.0.0.1/4143";
    assert!(expected(&plain, bound, bound).unwrap_err().contains("cannot be asked for"));
    let renamed = peers("[[outbound.peer]]\nname = \"/svc/{a}\"\nidentity = \"a.prod\"\nas = \"/{a}/inet/h/1\"\n");
    assert!(expected(&renamed, "/svc/$", bound).unwrap_err().contains("cannot be asked for"));
    assert!(expected(&renamed, "/svc/a", bound).is_ok());
}
