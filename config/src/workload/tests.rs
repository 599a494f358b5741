//! What the rules make of a connection, by what is known of its process. Each set of rules is read from a file's text, as an
//! agent's is.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::Config;

fn workloads(rules: &str) -> Workloads {
    let text = format!(
        "[tls]\nca = \"/ca\"\ncert = \"/c\"\nkey = \"/k\"\n\
         [[tls.certificate]]\nid = \"web\"\ncert = \"/c\"\nkey = \"/k\"\n\
         [[tls.certificate]]\nid = \"job\"\ncert = \"/c\"\nkey = \"/k\"\n[outbound]\n{rules}"
    );
    let (config, _) = Config::parse(Path::new("adit.toml"), &text).unwrap_or_else(|problems| panic!("{problems}"));
    config.outbound.unwrap().workloads
}

fn process(uid: u32, user: Option<&str>, cgroup: Option<&str>, unit: Option<&str>) -> Workload {
    let own = |text: Option<&str>| text.map(str::to_owned);
    Workload { uid, user: own(user), cgroup: own(cgroup), unit: own(unit) }
}

fn web() -> Workload {
    process(33, Some("www-data"), Some("/system.slice/web.service"), Some("web.service"))
}

/// The certificate, `default`, or the rule that refused and why.
fn ruled(rules: &Workloads, name: &str, process: Option<&Workload>) -> String {
    match rules.judge(&Name::parse(name).unwrap(), process) {
        Ruling::Goes(certificate) => certificate.unwrap_or_else(|| "default".to_owned()),
        Ruling::Refused { rule, reason } => format!("{rule}: {reason}"),
    }
}

#[test]
fn the_first_rule_that_fits_decides() {
    let rules = workloads(
        r#"
[[outbound.workload]]
user = "1000"
name = "/svc/ledger"
deny = true

[[outbound.workload]]
unit = "web@*.service"
certificate = "web"

[[outbound.workload]]
user = "www-data"
cgroup = "/system.slice/web.service"
certificate = "web"

[[outbound.workload]]
cgroup = "/user.slice/*"
allow = true

[[outbound.workload]]
deny = true
"#,
    );
    let unit = process(7, None, Some("/system.slice/x"), Some("web@eu.service"));
    let user = process(1000, Some("ann"), Some("/user.slice/user-1000.slice/session-1.scope"), None);
    let other = process(5, Some("mallory"), Some("/system.slice/web.service"), Some("web.service"));
    for (process, name, expected) in [
        (web(), "/svc/redis", "web"),
        (unit, "/svc/redis", "web"),
        (user.clone(), "/svc/redis", "default"),
        (user, "/svc/ledger", "1: it denies user 1000"),
        (other, "/svc/redis", "5: it denies every process"),
        (process(9, None, Some("/user.slice"), None), "/svc/redis", "5: it denies every process"),
    ] {
        assert_eq!(ruled(&rules, name, Some(&process)), expected, "{process:?} to {name}");
    }
}

#[test]
fn without_a_rule_that_fits_a_connection_goes_as_it_would_without_rules() {
    let rules = workloads("[[outbound.workload]]\nunit = \"job.service\"\ncertificate = \"job\"\n");
    assert_eq!(ruled(&rules, "/svc/redis", Some(&web())), "default");
    assert_eq!(ruled(&Workloads::default(), "/svc/redis", None), "default");
}

#[test]
fn a_rule_that_is_reached_and_cannot_be_told_to_fit_refuses() {
    let rules = workloads(
        r#"
[[outbound.workload]]
unit = "web.service"
name = "/svc/{any}"
certificate = "web"

[[outbound.workload]]
certificate = "job"
"#,
    );
    let untold = "1: it is about unit web.service, and the process of this connection cannot be found";
    assert_eq!(ruled(&rules, "/svc/redis", None), untold);
    assert_eq!(ruled(&rules, "/dst/10.0.0.1/80", None), "job", "the first is about other names");
    let halfway = process(33, Some("www-data"), None, None);
    let untold = "1: it is about unit web.service, and the control group of this connection cannot be found";
    assert_eq!(ruled(&rules, "/svc/redis", Some(&halfway)), untold);
}

#[test]
fn a_user_without_a_known_name_is_told_by_number_alone() {
    let nameless = process(1000, None, Some("/x"), None);
    let by_number = workloads("[[outbound.workload]]\nuser = \"1000\"\ndeny = true\n");
    assert_eq!(ruled(&by_number, "/svc/a", Some(&nameless)), "1: it denies user 1000");
    let by_name = workloads("[[outbound.workload]]\nuser = \"ann\"\ndeny = true\n");
    let untold = "1: it is about user ann, and the name of the user of this connection cannot be found";
    assert_eq!(ruled(&by_name, "/svc/a", Some(&nameless)), untold);
    assert_eq!(ruled(&by_name, "/svc/a", Some(&web())), "default");
}

#[test]
fn one_condition_that_surely_does_not_hold_passes_a_rule_over_whatever_is_not_known() {
    let rules = workloads(
        "[[outbound.workload]]\nuser = \"redis\"\nunit = \"web.service\"\ncertificate = \"web\"\n\
         [[outbound.workload]]\nuser = \"33\"\ncertificate = \"job\"\n",
    );
    assert_eq!(ruled(&rules, "/svc/a", Some(&process(33, Some("www-data"), None, None))), "job");
    assert!(ruled(&rules, "/svc/a", Some(&process(999, Some("redis"), None, None))).starts_with("1: it is about"));
}

#[test]
fn what_cannot_be_found_can_be_spoken_of() {
    let rules = workloads(
        "[[outbound.workload]]\nunknown = true\nallow = true\n\
         [[outbound.workload]]\nunit = \"web.service\"\ncertificate = \"web\"\n",
    );
    assert_eq!(ruled(&rules, "/svc/a", None), "default");
    assert_eq!(ruled(&rules, "/svc/a", Some(&web())), "web");
    let denied = workloads("[[outbound.workload]]\nunknown = true\ndeny = true\n");
    assert_eq!(ruled(&denied, "/svc/a", None), "1: it denies processes that cannot be found");
    assert_eq!(ruled(&denied, "/svc/a", Some(&web())), "default");
}

#[test]
fn a_star_stands_for_any_text_and_for_none() {
    for (glob, text, expected) in [
        ("web.service", "web.service", true),
        ("web.service", "web.servic", false),
        ("web.service", "xweb.service", false),
        ("*", "", true),
        ("web*", "web", true),
        ("web*", "we", false),
        ("*.service", "a.service", true),
        ("a*a", "a", false),
        ("a*a", "aa", true),
        ("a*a", "axa", true),
    ] {
        assert_eq!(Glob::parse(glob).unwrap().matches(text), expected, "{glob} on {text}");
    }
    assert_eq!(Glob::parse("*.*"), None);
}

proptest! {
    /// Whatever the rules are: to know less of a process never gets it a certificate or lets it go on by another rule.
    #[test]
    fn hiding_gains_nothing(order in prop::collection::vec(0_usize..4, 0..6), hides in 0_usize..3) {
        let all = [
            "unit = \"web.service\"\ncertificate = \"web\"",
            "user = \"www-data\"\nallow = true",
            "cgroup = \"/system.slice/*\"\ndeny = true",
            "unit = \"job.service\"\ndeny = true",
        ];
        let rules: Vec<_> = order.iter().map(|at| workloads(&format!("[[outbound.workload]]\n{}\n", all[*at]))).collect();
        let rules = Workloads { rules: rules.into_iter().flat_map(|one| one.rules).collect() };
        let known = match hides {
            0 => None,
            1 => Some(Workload { cgroup: None, unit: None, ..web() }),
            _ => Some(Workload { user: None, ..web() }),
        };
        let (open, hidden) = (ruled(&rules, "/svc/a", Some(&web())), ruled(&rules, "/svc/a", known.as_ref()));
        prop_assert!(hidden == open || hidden.contains("cannot be found"), "{} became {}", open, hidden);
    }

    #[test]
    fn what_is_shown_of_a_glob_is_the_glob(text in "[a-z.]{0,5}\\*?[a-z.]{0,5}") {
        prop_assert_eq!(Glob::parse(&text).unwrap().to_string(), text);
    }
}
