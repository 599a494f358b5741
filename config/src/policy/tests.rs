//! What the judge says to a name, a peer and a certificate, and how far what it admits may reach. Each policy is read from
//! a file's text, as an agent's is.

use std::net::IpAddr;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::{Config, Net};

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

const DESTINATIONS: &str = r#"
[[inbound.service]]
name = "/{a}/{b}/{c}"
to = "127.0.0.1:1"
allow = ["web.prod"]

[[inbound.capture]]
ports = [5432, "6000-6100"]
allow = ["*.job.prod", "web.prod"]
source = "proxy-v1"

[[inbound.capture]]
ports = ["1-4142", "4144-65535"]
allow = ["root.prod", "ip:10.0.0.9"]
certificate = "redis"
"#;

#[test]
fn a_captured_name_is_served_by_the_first_capture_rule_that_has_its_port() {
    let policy = policy(DESTINATIONS);
    for (name, peer, certificate, expected) in [
        ("/dst/10.0.0.2/5432", "web.prod", None, "capture rule 1 allow 2 (web.prod)"),
        ("/dst/fd00::2/6100", "a.job.prod", None, "capture rule 1 allow 1 (*.job.prod)"),
        ("/dst/10.0.0.2/5432", "root.prod", None, "denied"),
        ("/dst/10.0.0.2/22", "root.prod", Some("redis"), "capture rule 2 allow 1 (root.prod)"),
        ("/dst/10.0.0.2/22", "10.0.0.9", Some("redis"), "capture rule 2 allow 2 (ip:10.0.0.9)"),
        ("/dst/10.0.0.2/22", "root.prod", Some("default"), "misdirected"),
        ("/dst/10.0.0.2/22", "web.prod", Some("default"), "denied"),
        ("/dst/10.0.0.2/4143", "root.prod", Some("redis"), "unknown"),
        ("/dst/10.0.0.2/05432", "web.prod", None, "unknown"),
        ("/dst/127.0.0.1/5432", "web.prod", None, "unknown"),
        ("/dst/a/b", "web.prod", None, "unknown"),
        ("/dst/10.0.0.2", "web.prod", None, "unknown"),
        ("/dst", "web.prod", None, "unknown"),
        ("/dsT/a/b", "web.prod", None, "rule 1 allow 1 (web.prod)"),
    ] {
        assert_eq!(judged(&policy, name, &[peer], certificate), expected, "{name} for {peer}");
    }
}

#[test]
fn no_service_takes_a_captured_name_whatever_its_pattern_is() {
    let policy = policy("[[inbound.service]]\nname = \"/{a}/{b}/{c}\"\nto = \"127.0.0.1:1\"\nallow = [\"web.prod\"]\n");
    assert_eq!(judged(&policy, "/dst/10.0.0.2/80", &["web.prod"], None), "unknown");
    assert!(policy.find(&Name::parse("/dst/10.0.0.2/80").unwrap()).is_none());
    assert!(policy.find(&Name::parse("/svc/10.0.0.2/80").unwrap()).is_some());
}

#[test]
fn a_captured_name_leads_to_the_address_it_holds_which_must_be_one_of_this_host() {
    let policy = policy(DESTINATIONS);
    let captured = admitted(&policy, "/dst/10.0.0.2/5432");
    let address = "10.0.0.2:5432".parse().unwrap();
    assert_eq!(captured.target(), Ok(&Backend::Tcp(address)));
    assert!(captured.must_be_own() && captured.may_reach(address) && !captured.may_reach_unix());
    assert!(
        !captured.may_reach("10.0.0.3:5432".parse().unwrap()) && !captured.may_reach("10.0.0.2:22".parse().unwrap())
    );
    assert_eq!((captured.service(), captured.source()), (1, Source::ProxyV1), "after the one service");
    assert_eq!((captured.captures().get("ip"), captured.captures().get("port")), (Some("10.0.0.2"), Some("5432")));
    let service = admitted(&policy, "/svc/a/b");
    assert_eq!((service.service(), service.source(), service.must_be_own()), (0, Source::Agent, false));
}

#[test]
fn a_refusal_of_a_captured_name_says_why() {
    let open = policy(DESTINATIONS);
    for (name, why) in [
        ("/dst/10.0.0.2/5432", "capture rule 1 does not admit a.test"),
        ("/dst/10.0.0.2/4143", "this agent serves no /dst/10.0.0.2/4143: no capture rule has its port"),
        (
            "/dst/::1/5432",
            "this agent serves no /dst/::1/5432: loopback, link-local, multicast and unspecified addresses are never served",
        ),
        (
            "/dst/::ffff:10.0.0.2/5432",
            "this agent serves no /dst/::ffff:10.0.0.2/5432: that is spelled /dst/10.0.0.2/5432",
        ),
        ("/dst/010.0.0.2/05432", "this agent serves no /dst/010.0.0.2/05432: its address is none"),
    ] {
        assert_eq!(reason(&open, name, &["a.test"]).1, why);
    }
    let concealed = policy(&format!("conceal = true\n{DESTINATIONS}"));
    let told = ("denied".to_owned(), "no rule admits a.test".to_owned());
    for name in ["/dst/10.0.0.2/5432", "/dst/10.0.0.2/4143", "/dst/127.0.0.1/5432", "/dst/x", "/svc/a/b"] {
        assert_eq!(reason(&concealed, name, &["a.test"]), told, "{name}");
    }
}

/// The networks of which no address may be reached by a captured name, written out: the test's own list.
const NEAR: [&str; 9] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "::1/128",
    "fe80::/10",
    "ff00::/8",
];

/// Addresses of which many are near, or near in another shape.
fn addresses() -> impl Strategy<Value = IpAddr> {
    let near_v4 = prop::sample::select(vec![[0, 0], [127, 0], [169, 254], [224, 0], [239, 255], [255, 255], [10, 0]]);
    let v4 = (near_v4, any::<[u8; 2]>()).prop_map(|([a, b], [c, d])| std::net::Ipv4Addr::new(a, b, c, d));
    let near_v6 = prop::sample::select(vec![0, 0xfe80, 0xfebf, 0xff02, 0xfd00, 0x2001]);
    let v6 = (near_v6, any::<u16>()).prop_map(|(a, h)| std::net::Ipv6Addr::new(a, 0, 0, 0, 0, 0, 0, h));
    prop_oneof![
        any::<IpAddr>(),
        v4.clone().prop_map(IpAddr::V4),
        v4.prop_map(|v4| IpAddr::V6(v4.to_ipv6_mapped())),
        v6.prop_map(IpAddr::V6),
    ]
}

proptest! {
    #[test]
    fn no_near_address_is_ever_admitted_in_any_spelling(
        ip in addresses(),
        spelling in 0_usize..5,
        port in prop_oneof![Just("5432".to_owned()), "[0-9+x]{0,6}"],
    ) {
        let policy = policy(
            "[[inbound.capture]]\nports = [\"1-4142\", \"4144-65535\"]\nallow = [\"web.prod\"]\n",
        );
        let text = match (spelling, ip) {
            (0, ip) => ip.to_string(),
            (1, IpAddr::V4(v4)) => format!("::ffff:{v4}"),
            (2, IpAddr::V4(v4)) => v4.to_bits().to_string(),
            (3, ip) => ip.to_string().to_uppercase(),
            (4, IpAddr::V6(v6)) => v6.segments().map(|segment| format!("{segment:04x}")).join(":"),
            (_, ip) => format!("{ip}%1"),
        };
        let Ok(name) = Name::parse(&format!("/dst/{text}/{port}")) else { return Ok(()) };
        let verdict = policy.judge(&name, &identities(&["web.prod"]), None);
        let is_near = NEAR.iter().any(|net| Net::parse(net).unwrap().contains(ip));
        match verdict {
            Verdict::Admitted(admitted) => {
                let Ok(Backend::Tcp(address)) = admitted.target() else { panic!("{name} leads elsewhere") };
                prop_assert!(!is_near, "{} was admitted", name);
                prop_assert_eq!(name.as_str(), format!("/dst/{}/{}", address.ip(), address.port()));
                prop_assert!(admitted.must_be_own() && !address.ip().to_canonical().is_loopback());
                prop_assert!(address.port() != 0 && address.port() != 4143);
                let other = SocketAddr::new(ip, address.port());
                prop_assert_eq!(admitted.may_reach(other), other.ip().to_canonical() == address.ip());
            }
            Verdict::Refused(refusal) => {
                let must_pass = spelling == 0 && port == "5432" && !is_near && ip.to_canonical() == ip;
                prop_assert!(!must_pass, "{} was refused: {}", name, refusal);
            }
        }
    }
}
