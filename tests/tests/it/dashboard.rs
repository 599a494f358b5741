//! The dashboard of `scripts/grafana`, as far as it can be held without a Grafana: the parts that one asks for are there,
//! every expression is PromQL, and about metrics, labels and values that there are.

use std::{collections::BTreeSet, fs};

use adit_tests::{
    need,
    prometheus::{promtool, scripts},
    promql::{groupings, selectors},
    readme::Reference,
};
use serde_json::{Value, json};

use crate::alerts::hold_against_the_reference;

/// What Grafana knows, of what the dashboard uses.
const KINDS: [&str; 4] = ["row", "timeseries", "stat", "bargauge"];
const UNITS: [&str; 7] = ["none", "ops", "Bps", "s", "d", "percentunit", "short"];

fn dashboard() -> Value {
    let file = scripts("grafana").join("adit.json");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// Its panels, rows left out.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let all = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    let all: Vec<_> = all.collect();
    assert!(all.len() > 20, "it has panels");
    all
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn targets(panel: &Value) -> &[Value] {
    panel["targets"].as_array().map_or(&[], Vec::as_slice)
}

/// Its expressions, as Prometheus gets them for all hosts and a range of minutes.
fn expressions(panel: &Value) -> Vec<String> {
    let of = |target: &Value| text(&target["expr"]).replace("$__rate_interval", "5m").replace("$instance", ".*");
    targets(panel).iter().map(of).collect()
}

#[test]
fn its_parts_are_those_that_grafana_asks_for() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36), "{}", dashboard["schemaVersion"]);
    assert_eq!((text(&dashboard["uid"]), text(&dashboard["title"])), ("adit-agents", "adit"));
    // Imported, it takes the data source that is chosen there.
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let kinds: Vec<_> = variables.iter().map(|one| (text(&one["name"]), text(&one["type"]))).collect();
    assert_eq!(kinds, [("datasource", "datasource"), ("instance", "query")]);
    let source = json!({ "type": "prometheus", "uid": "${datasource}" });
    assert_eq!(variables[1]["datasource"], source);
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = text(&panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "the id of `{title}` is another's too");
        assert!(!title.is_empty() && KINDS.contains(&text(&panel["type"])), "`{title}`: {}", panel["type"]);
    }
    for panel in panels(&dashboard) {
        let title = text(&panel["title"]);
        assert!(!text(&panel["description"]).is_empty(), "`{title}` says what it shows");
        assert_eq!(panel["datasource"], source, "`{title}`");
        let unit = text(&panel["fieldConfig"]["defaults"]["unit"]);
        assert!(UNITS.contains(&unit), "`{title}`: {unit}");
        let references: BTreeSet<_> = targets(panel).iter().map(|target| text(&target["refId"])).collect();
        assert!(!references.is_empty() && references.len() == targets(panel).len(), "`{title}`: {references:?}");
        assert!(targets(panel).iter().all(|target| target["datasource"] == source), "`{title}`");
    }
}

#[test]
fn its_panels_lie_beside_one_another_and_within_the_page() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24 && w > 0 && h > 0, "{}", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{} lies over another at {cell:?}", panel["title"]);
        }
    }
}

#[test]
fn its_expressions_are_sound_to_promtool() {
    need!("promtool");
    // given a file of rules with each expression, for promtool reads those without a server
    let dashboard = dashboard();
    let all: Vec<String> = panels(&dashboard).into_iter().flat_map(expressions).collect();
    let rule = |(at, expr): (usize, &String)| json!({ "record": format!("dashboard:{at}"), "expr": expr });
    let rules: Vec<Value> = all.iter().enumerate().map(rule).collect();
    let dir = tempfile::tempdir().unwrap();
    let file = json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    fs::write(dir.path().join("rules.yml"), file.to_string()).unwrap();
    let said = promtool(dir.path(), &["check", "rules", "rules.yml"]).expect_success();
    assert!(said.contains(&format!("SUCCESS: {} rules found", all.len())), "{said}");
}

#[test]
fn it_speaks_only_of_metrics_labels_and_values_that_there_are_and_of_every_metric() {
    let dashboard = dashboard();
    let mut shown = BTreeSet::new();
    let reference = Reference::read();
    for panel in panels(&dashboard) {
        let title = text(&panel["title"]);
        for (expression, target) in expressions(panel).iter().zip(targets(panel)) {
            let found = selectors(expression);
            let legend = text(&target["legendFormat"]).replace("{{", "$labels.");
            hold_against_the_reference(title, &format!("{expression} {legend}"), &found);
            assert!(groupings(&legend).is_subset(&kept(expression, &found, &reference)), "`{title}`: {legend}");
            assert!(expression.contains("instance=~\".*\""), "`{title}` shows the hosts that are chosen");
            shown.extend(found.iter().filter_map(|one| Some(reference.find(&one.metric)?.0.clone())));
        }
    }
    let hidden: Vec<_> = reference.labels.keys().filter(|name| !shown.contains(*name)).collect();
    assert!(hidden.is_empty(), "the dashboard shows no {hidden:?}");
}

/// The labels that a legend may name: those that a sum keeps, or all where nothing is summed.
fn kept(expression: &str, found: &[adit_tests::promql::Selector], reference: &Reference) -> BTreeSet<String> {
    let by = groupings(expression);
    if !by.is_empty() {
        return by;
    }
    let of = |one: &adit_tests::promql::Selector| reference.find(&one.metric).map(|(_, labels)| labels.clone());
    found.iter().filter_map(of).flatten().chain(["instance".to_owned()]).collect()
}
