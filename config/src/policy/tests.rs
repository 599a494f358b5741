//! What the judge says to a name, a peer and a certificate, and how far what it admits may reach. Each policy is read from
//! a file's text, as an agent's is.

use std::path::Path;

use super::*;
use crate::Config;

fn policy(inbound: &str) -> Policy {
    let text = format!(
        "[tls]\nca = \"/ca\"\ncert = \"/c\"\nkey = \"/k\"\n[[tls.certificate]]\nid = \"redis\"\ncert = \"/c\"\nkey = \"/k\"\n\
         [inbound]\nlisten = [\"127.0.0.1:4143\"]\n{inbound}"
    );
    let (config, _) = Config::parse(Path::new("adit.toml"), &text).unwrap_or_else(|problems| panic!("{problems}"));
    config.inbound.unwrap().policy
}

const SERVICES: &str = r#"
[[inbound.service]]
name = ["/svc/redis", "/svc/cache"]
to = "127.0.0.1:6379"
allow = ["web.prod", "*.job.prod", "spiffe://prod/web/*"]

[[inbound.service]]
name = "/svc/mysql"
to = "127.0.0.1:3306"
allow = ["web.prod"]
certificate = "redis"

[[inbound.service]]
name = "/svc/{any}"
to = "127.0.0.1:1"
allow = []
"#;

/// The verdict in a word or two: the rule that admitted, or the code.
fn judged(policy: &Policy, name: &str, peer: &[&str], certificate: Option<&str>) -> String {
    match policy.judge(&Name::parse(name).unwrap(), &identities(peer), certificate) {
        Verdict::Admitted(admitted) => admitted.rule(),
        Verdict::Refused(refusal) => refusal.code.label().to_owned(),
    }
}

fn identities(peer: &[&str]) -> Vec<Identity> {
    peer.iter().map(|text| Identity::parse(text).unwrap()).collect()
}

fn reason(policy: &Policy, name: &str, peer: &[&str]) -> (String, String) {
    match policy.judge(&Name::parse(name).unwrap(), &identities(peer), None) {
        Verdict::Admitted(admitted) => panic!("{name}: {}", admitted.rule()),
        Verdict::Refused(refusal) => (refusal.code.label().to_owned(), refusal.reason),
    }
}

#[test]
fn the_first_service_of_a_name_decides_and_nobody_is_admitted_unasked() {
    let policy = policy(SERVICES);
    for (name, peer, expected) in [
        ("/svc/redis", &["web.prod"][..], "rule 1 allow 1 (web.prod)"),
        ("/svc/cache", &["x.job.prod"], "rule 1 allow 2 (*.job.prod)"),
        ("/svc/redis", &["nobody.test", "spiffe://prod/web/1"], "rule 1 allow 3 (spiffe://prod/web/*)"),
        ("/svc/redis", &[], "denied"),
        ("/svc/redis", &["10.0.0.1"], "denied"),
        ("/svc/redis", &["job.prod"], "denied"),
        ("/svc/redis", &["a.b.job.prod"], "denied"),
        ("/svc/redis", &["web.prod.evil.test"], "denied"),
        ("/svc/redis", &["spiffe://prod/web"], "denied"),
        ("/svc/redis", &["spiffe://prod/website"], "denied"),
        ("/svc/redis", &["spiffe://prod.evil/web/1"], "denied"),
        ("/svc/Redis", &["web.prod"], "denied"),
        ("/svc/redis.", &["web.prod"], "denied"),
        ("/svc/redis/x", &["web.prod"], "unknown"),
        ("/svc", &["web.prod"], "unknown"),
        ("/redis", &["web.prod"], "unknown"),
    ] {
        assert_eq!(judged(&policy, name, peer, None), expected, "{name} for {peer:?}");
    }
}

#[test]
fn only_who_is_admitted_hears_that_a_service_is_bound_to_another_certificate() {
    let policy = policy(SERVICES);
    for (peer, certificate, expected) in [
        ("web.prod", Some("redis"), "rule 2 allow 1 (web.prod)"),
        ("web.prod", Some("default"), "misdirected"),
        ("web.prod", None, "misdirected"),
        ("else.prod", Some("redis"), "denied"),
        ("else.prod", None, "denied"),
    ] {
        assert_eq!(judged(&policy, "/svc/mysql", &[peer], certificate), expected, "{peer}, {certificate:?}");
    }
}

#[test]
fn a_refusal_names_the_rule_and_the_peer_and_never_who_is_admitted() {
    let open = policy(SERVICES);
    let (code, why) = reason(&open, "/svc/redis", &["a.test", "b.test", "c.test", "d.test"]);
    assert_eq!((code.as_str(), why.as_str()), ("denied", "rule 1 does not admit a.test, b.test, c.test and 1 more"));
    let (_, nobody) = reason(&open, "/svc/redis", &[]);
    assert_eq!(nobody, "rule 1 does not admit a peer without an identity");
}

#[test]
fn a_concealing_agent_says_the_same_of_what_it_serves_and_of_what_it_does_not() {
    let concealed = policy(&format!("conceal = true\n{SERVICES}"));
    let told = reason(&concealed, "/svc/redis", &["a.test"]);
    assert_eq!(told, ("denied".to_owned(), "no rule admits a.test".to_owned()));
    for name in ["/svc/mysql", "/svc/none", "/no/such/name"] {
        assert_eq!(reason(&concealed, name, &["a.test"]), told, "{name}");
    }
}

const CAPTURED: &str = r#"
[[inbound.service]]
name = "/db/{host}/{port}"
to = "/$/inet/{host}/{port}"
allow = ["web.prod"]
reach = ["0.0.0.0/0:5432", "[::/0]:5432", "10.1.0.0/16:6379"]

[[inbound.service]]
name = "/any/{a}/{b}/{c}/{d}"
to = "/{a}/{b}/{c}/{d}"
allow = ["web.prod"]
reach = ["10.1.0.0/16:5432"]
"#;

fn admitted(policy: &Policy, name: &str) -> Admitted {
    match policy.judge(&Name::parse(name).unwrap(), &identities(&["web.prod"]), None) {
        Verdict::Admitted(admitted) => admitted,
        Verdict::Refused(refusal) => panic!("{name}: {refusal}"),
    }
}

#[test]
fn what_a_peer_captured_reaches_no_further_than_the_file_says_and_never_near() {
    let policy = policy(CAPTURED);
    let admitted = admitted(&policy, "/db/h/5432");
    for (address, may) in [
        ("10.1.2.3:5432", true),
        ("10.1.2.3:6379", true),
        ("[::ffff:10.1.2.3]:6379", true),
        ("[2001:db8::1]:5432", true),
        ("10.2.2.3:6379", false),
        ("10.1.2.3:22", false),
        ("127.0.0.1:5432", false),
        ("127.8.8.8:5432", false),
        ("[::1]:5432", false),
        ("[::ffff:127.0.0.1]:5432", false),
        ("0.0.0.0:5432", false),
        ("0.1.2.3:5432", false),
        ("[::]:5432", false),
        ("[::ffff:0.0.0.0]:5432", false),
        ("169.254.169.254:5432", false),
        ("[::ffff:169.254.169.254]:5432", false),
        ("[fe80::1]:5432", false),
        ("224.0.0.1:5432", false),
        ("255.255.255.255:5432", false),
        ("[ff02::1]:5432", false),
    ] {
        assert_eq!(admitted.may_reach(address.parse().unwrap()), may, "{address}");
    }
    assert!(!admitted.may_reach_unix());
}

#[test]
fn a_peers_words_may_spell_a_bound_name_and_stay_within_reach() {
    let policy = policy(CAPTURED);
    let admitted = admitted(&policy, "/any/$/unix/run/x.sock");
    assert_eq!(admitted.target(), Ok(&Backend::Name(Name::parse("/$/unix/run/x.sock").unwrap())));
    assert!(!admitted.may_reach_unix());
    assert!(!admitted.may_reach("10.2.0.1:5432".parse().unwrap()));
}

#[test]
fn what_the_file_writes_out_is_reached_wherever_it_is() {
    let policy = policy(SERVICES);
    let admitted = admitted(&policy, "/svc/redis");
    assert!(admitted.may_reach("127.0.0.1:6379".parse().unwrap()) && admitted.may_reach_unix());
}
