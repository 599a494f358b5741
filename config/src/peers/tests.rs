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
    assert!(refused.contains("no [[outbound.peer]] matches /other/redis"), "{refused}");
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
fn no_stream_asks_for_a_bound_name() {
    let plain = peers("[[outbound.peer]]\nbound = \"/$/inet/*/*\"\nidentity = \"a.prod\"\n");
    let bound = "/$/inet/10.0.0.1/4143";
    assert!(expected(&plain, bound, bound).unwrap_err().contains("cannot be asked for"));
    let renamed = peers("[[outbound.peer]]\nname = \"/svc/{a}\"\nidentity = \"a.prod\"\nas = \"/{a}/inet/h/1\"\n");
    assert!(expected(&renamed, "/svc/$", bound).unwrap_err().contains("cannot be asked for"));
    assert!(expected(&renamed, "/svc/a", bound).is_ok());
}
