//! The alerts of `scripts/prometheus`: sound to promtool, about metrics that there are, and firing in a real Prometheus on
//! what real agents say.

use std::{collections::BTreeSet, fs};

use adit_tests::{
    address::Address,
    agent::replace,
    authority::Leaf,
    end::End,
    listener::Listener,
    mesh::{A, Mesh},
    need,
    prometheus::{Alert, Prometheus, promtool, rules, scripts},
    promql::{Selector, groupings, selectors},
    readme::{self, Reference},
    wait::{LIMIT, until},
};
use rustix::process::Signal;
use serde::Deserialize;

const ECHO: &str = "/svc/echo";
const SECRET: &str = "/svc/secret";
const NARROW: &str = "/svc/narrow";

/// Labels that Prometheus itself gives.
const GIVEN: [&str; 4] = ["job", "instance", "alertname", "le"];

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: String,
    expr: String,
    labels: Labels,
    annotations: Annotations,
}

#[derive(Deserialize)]
struct Labels {
    severity: String,
}

#[derive(Deserialize)]
struct Annotations {
    summary: String,
}

fn alerts() -> Vec<Rule> {
    let read: Rules = serde_saphyr::from_str(&rules()).unwrap();
    let all: Vec<Rule> = read.groups.into_iter().flat_map(|group| group.rules).collect();
    assert!(all.len() > 20, "the file has alerts");
    all
}

#[test]
fn promtool_finds_nothing_wrong() {
    need!("promtool");
    let dir = scripts("prometheus");
    for words in [
        &["check", "rules", "adit.rules.yml"][..],
        &["check", "config", "prometheus.yml"],
        &["test", "rules", "adit.test.yml"],
    ] {
        let said = promtool(&dir, words).expect_success();
        assert!(said.contains("SUCCESS"), "{words:?}: {said}");
    }
}

#[test]
fn every_alert_is_tested_to_fire_and_says_which_host_what_and_how_bad() {
    let tests = fs::read_to_string(scripts("prometheus").join("adit.test.yml")).unwrap();
    for Rule { alert, labels, annotations, .. } in alerts() {
        let case = tests.split("  - name: ").find(|case| case.starts_with(&format!("{alert}\n")));
        let case = case.unwrap_or_else(|| panic!("adit.test.yml has no case of {alert}"));
        assert!(case.contains(&format!("alertname: {alert}\n        exp_alerts:\n")), "{alert} is tested to fire");
        assert!(["critical", "warning", "info"].contains(&labels.severity.as_str()), "{alert}: {}", labels.severity);
        // Where no agent is left there is no instance to name.
        let whose = if alert == "AditNowhere" { "job {{ $labels.job }}: " } else { "{{ $labels.instance }}: " };
        assert!(annotations.summary.starts_with(whose), "{alert}: {}", annotations.summary);
    }
}

#[test]
fn alerts_speak_only_of_metrics_labels_and_values_that_there_are() {
    for Rule { alert, expr, annotations, .. } in alerts() {
        let found = selectors(&expr);
        assert!(!found.is_empty() || expr.contains("up{job=\"adit\"}"), "{alert} is about agents");
        hold_against_the_reference(&alert, &format!("{expr} {}", annotations.summary), &found);
    }
}

/// That every metric is in the README's reference, which real agents' pages are held against in `metrics`, with every
/// label, and that every value of a label is told there.
pub(crate) fn hold_against_the_reference(whose: &str, text: &str, found: &[Selector]) {
    let (reference, readme) = (Reference::read(), readme::text());
    let mut known: BTreeSet<String> = GIVEN.map(str::to_owned).into();
    for Selector { metric, labels } in found {
        let (_, of) = reference.find(metric).unwrap_or_else(|| panic!("{whose}: no agent tells {metric}"));
        known.extend(of.iter().cloned());
        for (label, values) in labels.iter().filter(|(label, _)| !GIVEN.contains(&label.as_str())) {
            assert!(of.contains(label), "{whose}: {metric} has no label {label}");
            for value in values {
                assert!(readme.contains(&format!("`{value}`")), "{whose}: {metric} has no {label}=\"{value}\"");
            }
        }
    }
    for label in groupings(text) {
        assert!(known.contains(&label), "{whose}: no metric of it has a label {label}");
    }
}

#[test]
fn on_healthy_agents_none_fires() {
    need!("prometheus");
    // given two agents that carry a stream, with a list of revoked certificates
    let service = Listener::at(&Address::any_port());
    let plan = Mesh::plan().service(ECHO, service.address());
    let list = plan.authority().revoke(&[]);
    let mesh = plan.b_revokes(list).start();
    let mut client = End::connect(&mesh.front(ECHO));
    client.send(b"hello");
    let _served = service.accept();
    // when Prometheus has looked at them for a while
    let prometheus = Prometheus::watch(&[("a", &mesh.a), ("b", &mesh.b)]);
    until("ten looks", LIMIT, || {
        prometheus.query("min(count_over_time(up{job=\"adit\"}[1m]))").filter(|looks| *looks >= 10.0)
    });
    // then it has what the alerts are about, and calls nobody
    let left = prometheus.query("min(adit_revocation_list_next_update_timestamp_seconds - time())");
    assert!(left.is_some_and(|left| left > 3600.0), "{left:?}");
    assert_eq!(prometheus.query("sum(adit_endpoints{instance=\"a\",health=\"up\"})"), Some(1.0));
    assert_eq!(prometheus.query("sum(adit_bound_names{instance=\"a\",state=\"up\"})"), Some(1.0));
    assert_eq!(prometheus.query("sum(adit_service_connects_total{instance=\"b\",outcome=\"ok\"})"), Some(1.0));
    assert_eq!(faults(&prometheus), Vec::<Alert>::new());
}

/// The alerts that fire, but for an answer that a busy machine delays beyond the half second that Prometheus waits here.
fn faults(prometheus: &Prometheus) -> Vec<Alert> {
    let mut all = prometheus.alerts();
    all.retain(|alert| alert.name != "AditAbsent");
    all
}

#[test]
fn a_dead_host_and_a_dead_service_call_somebody_and_back_again_nobody() {
    need!("prometheus");
    let service = Listener::at(&Address::any_port());
    let mut mesh = Mesh::plan().service(ECHO, service.address()).start();
    let fails = |mesh: &Mesh| End::connect(&mesh.front(ECHO)).failure().is_some().then_some(());
    let prometheus = Prometheus::watch(&[("a", &mesh.a), ("b", &mesh.b)]);
    // when the service is gone
    let at = service.address().clone();
    drop(service);
    until("a stream to fail", LIMIT, || fails(&mesh));
    // then its own host says so, and the other that streams fail
    let fires = |name: &str, instance: &str| {
        until(name, LIMIT, || {
            fails(&mesh).expect("the service is down");
            prometheus.alerts().into_iter().find(|alert| alert.name == name && alert.instance == instance)
        })
    };
    let down = fires("AditServiceDown", "b");
    assert!(down.summary.contains(&format!("100% of streams to service {ECHO}")), "{}", down.summary);
    fires("AditStreamsFail", "a");
    // and it is over once it serves again
    let service = Listener::at(&at);
    let serve = || {
        let mut client = End::connect(&mesh.front(ECHO));
        client.send(b"hello");
        let served = service.try_accept();
        client.finish();
        served.map(|_| ())
    };
    until("a stream to be served", LIMIT, serve);
    until("more streams to be served than failed", LIMIT, || {
        serve()?;
        let down = |alert: &Alert| alert.name == "AditServiceDown";
        (!prometheus.alerts().iter().any(down)).then_some(())
    });
    // when the whole host is gone
    mesh.b.kill();
    until("a stream to fail", LIMIT, || fails(&mesh));
    // then the alert names the name
    let down = prometheus.until_fires("AditNameDown", "a");
    assert!(down.summary.contains(ECHO), "{}", down.summary);
    prometheus.until_fires("AditAbsent", "b");
}

#[test]
fn refusals_limits_and_bad_files_call_somebody() {
    need!("prometheus");
    // given two healthy agents
    let service = Listener::at(&Address::any_port());
    let narrow = format!(
        "[[inbound.service]]\nname = \"{NARROW}\"\nto = \"{}\"\nallow = [\"{A}\"]\nmax_streams = 1\n",
        service.address()
    );
    let front = format!("[[outbound.listener]]\nlisten = \"127.0.0.1:0\"\nto = \"{NARROW}\"\n");
    let plan = Mesh::plan().service(SECRET, service.address()).only_for("b.web.example");
    let mesh = plan.b_also(&narrow).a_also(&front).start();
    let prometheus = Prometheus::watch(&[("a", &mesh.a), ("b", &mesh.b)]);
    assert_eq!(faults(&prometheus), Vec::<Alert>::new());
    // when one asks for what it may not have
    assert!(End::connect(&mesh.front(SECRET)).failure().is_some());
    let refused = prometheus.until_fires("AditRefusals", "b");
    assert!(refused.summary.contains("`denied`"), "{}", refused.summary);
    // and two for what serves one
    let mut first = End::connect(&mesh.front(NARROW));
    first.send(b"hello");
    let _served = service.accept();
    assert!(End::connect(&mesh.front(NARROW)).failure().is_some());
    let limit = prometheus.until_fires("AditLimitReached", "b");
    assert!(limit.summary.contains("`service_streams`"), "{}", limit.summary);
    // and a certificate is near its end
    mesh.a.swap_credential(&mesh.authority.issue(&Leaf::dns(&[A]).for_only(std::time::Duration::from_secs(300))));
    let ends = prometheus.until_fires("AditCertificateEnds", "a");
    assert!(ends.summary.contains("`default`"), "{}", ends.summary);
    // and then is no certificate
    replace(&mesh.a.dir().join("cert.pem"), "none");
    prometheus.until_fires("AditTlsFault", "a");
    // and a file cannot be in force
    mesh.a.edit(|text| format!("{text}\n[nonsense]\n"));
    prometheus.until_fires("AditConfigFault", "a");
    // and an agent waits for its streams to end
    mesh.b.signal(Signal::TERM);
    prometheus.until_fires("AditDrainHangs", "b");
}

#[test]
fn what_a_reload_removes_leaves_no_series_that_an_alert_would_stay_on() {
    // given an agent with two certificates and a revocation list
    let plan = Mesh::plan();
    let (list, second) = (plan.authority().revoke(&[]), plan.authority().issue(&Leaf::dns(&["web.adit.example"])));
    let (cert, key) = (plan.path("web.pem"), plan.path("web.key"));
    replace(&cert, &second.cert);
    replace(&key, &second.key);
    let more =
        format!("[[tls.certificate]]\nid = \"web\"\ncert = \"{}\"\nkey = \"{}\"\n", cert.display(), key.display());
    let mesh = plan.b_revokes(list).b_also(&more).start();
    let told = |mesh: &Mesh, series: &str| mesh.b.admin("/metrics").contains(series);
    assert!(told(&mesh, "adit_certificate_expiry_timestamp_seconds{id=\"web\"}"));
    assert!(told(&mesh, "adit_revocation_list_next_update_timestamp_seconds{file="));
    // when its file names neither any more
    mesh.b.edit(|text| {
        let kept = text.replace(&more, "");
        kept.lines().filter(|line| !line.starts_with("crl = ")).map(|line| format!("{line}\n")).collect()
    });
    // then its page has neither
    until("the series to go", LIMIT, || {
        let left = told(&mesh, "{id=\"web\"}") || told(&mesh, "next_update_timestamp_seconds{file=");
        (!left).then_some(())
    });
    assert!(told(&mesh, "adit_certificate_expiry_timestamp_seconds{id=\"default\"}"));
}
