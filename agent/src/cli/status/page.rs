//! The status page as text: sections of aligned columns. It reads the JSON leniently, for the agent that answers may be
//! of another version than this command: what is not there is shown as `-` or left out.

use std::fmt::Write;

use serde_json::Value;

use crate::identity::text::printable;

/// Rows of a section that are shown; `--json` has all of them.
const ROWS: usize = 40;

/// The whole page.
pub(super) fn page(status: &Value) -> String {
    let mut page = head(status);
    let mut section = |title: &str, header: &[&str], rows: Vec<Vec<String>>| page += &table(title, header, &rows);
    section("listeners", &["door", "address", "leads to"], rows(&status["listeners"], listener));
    section(
        "certificates",
        &["id", "names", "expires in", "issuer", "serial"],
        rows(&status["certificates"], certificate),
    );
    section(
        "services",
        &["name", "to", "allow", "certificate", "most streams", "sees"],
        rows(&status["services"], service),
    );
    for side in list(&status["routes"]) {
        let title = format!("names, {}", text(&side["side"]));
        section(&title, &["name", "leads to", "unused for"], rows(&side["routes"], route));
        section(
            "endpoints",
            &["bound name", "address", "tier", "weight", "health", "streams", "opened in", "last error"],
            endpoints(side),
        );
        section("left out for one name", &["name", "address", "tried again in", "its words"], refused(side));
    }
    section("namers", &["bound name", "state", "age", "addresses", "last error"], rows(&status["names"], host));
    section(
        "hosts that capture rules are about",
        &["host", "addresses", "had before", "fault"],
        rows(&status["captured_hosts"], captured_host),
    );
    section(
        "idle tunnels to",
        &["address", "who must answer", "certificate", "tunnels"],
        rows(&status["tunnels_idle"], idle),
    );
    section("tunnels from", &["peer", "tunnels"], rows(&status["tunnels_accepted"], accepted));
    let live = format!("streams, {} live", text(&status["streams_live"]));
    section(&live, STREAM, rows(&status["streams"], stream));
    section("predecessors", &["process", "version", "up", "streams", "fault"], rows(&status["predecessors"], before));
    for one in list(&status["predecessors"]) {
        let title = format!("streams of predecessor {}, {} live", text(&one["pid"]), text(&one["streams_live"]));
        section(&title, STREAM, rows(&one["streams"], stream));
    }
    page + &limits(&status["limits"])
}

/// The columns of a stream.
const STREAM: &[&str] = &["way", "name", "from", "to", "peer", "age", "sent", "received"];

/// An agent of before an upgrade.
fn before(one: &Value) -> Vec<String> {
    let fault = if one["fault"].is_null() { String::new() } else { error(&one["fault"]) };
    let up = duration(&one["uptime_seconds"]);
    vec![text(&one["pid"]), text(&one["version"]), up, text(&one["streams_live"]), fault]
}

fn head(status: &Value) -> String {
    let up = duration(&status["uptime_seconds"]);
    let state = if status["draining"] == true { "draining" } else { "ready" };
    let mut head = format!("adit {}, {state}, up {up}, pid {}\n", text(&status["version"]), text(&status["pid"]));
    let config = &status["config"];
    if let Some(fault) = config["fault"].as_str() {
        // Writing to a String cannot fail.
        let lines: Vec<_> = fault.lines().map(printable).collect();
        let _ = writeln!(head, "config fault: {}", lines.join("\n              "));
        let _ = writeln!(head, "              (what was in force before stays)");
    }
    if let Some(fault) = status["tls_fault"].as_str().map(printable) {
        let _ = writeln!(head, "TLS fault: {fault}\n           (what was in force before stays)");
    }
    if let Some(socket) = status["workload_api"]["socket"].as_str().map(printable) {
        let api = &status["workload_api"];
        let state = if api["fault"].is_null() { "follows" } else { "lost" };
        let _ = writeln!(
            head,
            "certificates: {state} the SPIFFE Workload API {socket}, last set {} ago",
            duration(&api["age_seconds"])
        );
    }
    for waiting in list(&config["waits_for_restart"]) {
        let _ = writeln!(head, "a restart applies: {}", text(waiting));
    }
    if let Some(file) = config["file"].as_str().map(printable) {
        let _ = writeln!(head, "{file}, in force for {}", duration(&config["age_seconds"]));
    }
    head
}

fn listener(door: &Value) -> Vec<String> {
    let to = match (&door["to"], &door["certificate"]) {
        (Value::String(to), Value::String(certificate)) => format!("{} as {}", printable(to), printable(certificate)),
        (Value::String(to), _) => printable(to),
        _ => String::new(),
    };
    vec![text(&door["listener"]), text(&door["address"]), to]
}

fn certificate(one: &Value) -> Vec<String> {
    let left = match one["expires_in_seconds"].as_i64() {
        Some(past) if past < 0 => "EXPIRED".to_owned(),
        _ => duration(&one["expires_in_seconds"]),
    };
    vec![text(&one["id"]), joined(&one["names"]), left, text(&one["issuer"]), text(&one["serial"])]
}

fn service(one: &Value) -> Vec<String> {
    let optional = |key: &str| if one[key].is_null() { String::new() } else { text(&one[key]) };
    vec![
        joined(&one["name"]),
        text(&one["to"]),
        joined(&one["allow"]),
        optional("certificate"),
        optional("max_streams"),
        optional("source"),
    ]
}

fn route(one: &Value) -> Vec<String> {
    vec![text(&one["name"]), text(&one["tree"]), duration(&one["idle_s"])]
}

fn endpoints(side: &Value) -> Vec<Vec<String>> {
    let of = |balancer: &Value| {
        let bound = text(&balancer["bound"]);
        let row = |endpoint: &Value| {
            let health = match endpoint["down_for_ms"].as_u64() {
                Some(left) => format!("{}, tried again in {}", text(&endpoint["health"]), millis(left)),
                None => text(&endpoint["health"]),
            };
            let took = endpoint["opened_in_ms"].as_u64().map_or_else(|| "-".to_owned(), millis);
            let (address, open) = (text(&endpoint["address"]), text(&endpoint["open"]));
            let (tier, weight) = (text(&endpoint["tier"]), text(&endpoint["weight"]));
            vec![bound.clone(), address, tier, weight, health, open, took, error(&endpoint["last_error"])]
        };
        list(&balancer["endpoints"]).iter().map(row).collect::<Vec<_>>()
    };
    list(&side["balancers"]).iter().flat_map(of).collect()
}

/// Endpoints that are well, and have not got what one name asks for.
fn refused(side: &Value) -> Vec<Vec<String>> {
    let each = list(&side["balancers"]).iter().flat_map(|balancer| list(&balancer["refused"]));
    let row = |one: &Value| {
        let left = one["for_ms"].as_u64().map_or_else(|| "-".to_owned(), millis);
        vec![text(&one["name"]), text(&one["address"]), left, text(&one["why"])]
    };
    each.map(row).collect()
}

fn captured_host(one: &Value) -> Vec<String> {
    let fault = if one["fault"].is_null() { String::new() } else { text(&one["fault"]) };
    vec![text(&one["host"]), joined(&one["addresses"]), joined(&one["remembered"]), fault]
}

fn host(one: &Value) -> Vec<String> {
    let stale = if one["state"] == "bound" && one["last_error"].is_string() { ", stale" } else { "" };
    let fault = if one["last_error"].is_null() { &one["bad_lines"][0] } else { &one["last_error"] };
    let age = one["age_ms"].as_u64().map_or_else(|| "-".to_owned(), millis);
    vec![text(&one["name"]), text(&one["state"]) + stale, age, joined(&one["addresses"]), error(fault)]
}

fn idle(one: &Value) -> Vec<String> {
    vec![text(&one["address"]), text(&one["expects"]), text(&one["certificate"]), text(&one["idle"])]
}

fn accepted(one: &Value) -> Vec<String> {
    vec![text(&one["peer"]), text(&one["tunnels"])]
}

fn stream(one: &Value) -> Vec<String> {
    let mut from = text(&one["from"]);
    for (word, key) in [(", of", "workload"), (", captured on its way to", "original")] {
        if let Some(told) = one[key].as_str().map(printable) {
            // Writing to a String cannot fail.
            let _ = write!(from, "{word} {told}");
        }
    }
    let mut row = vec![text(&one["direction"]), text(&one["name"]), from, text(&one["to"]), text(&one["peer"])];
    row.extend([duration(&one["age_seconds"]), text(&one["bytes_sent"]), text(&one["bytes_received"])]);
    row
}

/// `key value`, three to a line, in the order of the answer.
fn limits(limits: &Value) -> String {
    let Some(limits) = limits.as_object() else { return String::new() };
    let shown = |(key, value): (&String, &Value)| match (printable(key), value) {
        (key, Value::Null) => format!("{key} off"),
        (key, Value::Number(seconds)) if seconds.is_f64() => format!("{key} {}", duration(value)),
        (key, other) => format!("{key} {}", text(other)),
    };
    let all: Vec<_> = limits.iter().map(shown).collect();
    let rows: Vec<Vec<String>> = all.chunks(3).map(<[String]>::to_vec).collect();
    table("limits", &[], &rows)
}

/// A title and rows in aligned columns; nothing at all if there are no rows. Columns that are empty are left out.
fn table(title: &str, header: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let header: Vec<String> = header.iter().map(|word| (*word).to_owned()).collect();
    let lines = || [&header].into_iter().chain(rows.iter().take(ROWS)).filter(|row| !row.is_empty());
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let used: Vec<_> = (0..columns).filter(|at| rows.iter().any(|row| !cell(row, *at).is_empty())).collect();
    let width = |at: usize| lines().map(|row| cell(row, at).chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = used.iter().map(|at| width(*at)).collect();
    let mut out = format!("\n{title}\n");
    for row in lines() {
        let cells = used.iter().zip(&widths).map(|(at, width)| format!("{:<width$}", cell(row, *at)));
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    if rows.len() > ROWS {
        let _ = writeln!(out, "  and {} more (--json shows them)", rows.len() - ROWS);
    }
    out
}

fn cell(row: &[String], at: usize) -> &str {
    row.get(at).map_or("", String::as_str)
}

fn rows(value: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    list(value).iter().map(row).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    }
}

/// An error is the last column: without one nothing stands there.
fn error(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default())
}

fn joined(value: &Value) -> String {
    let all: Vec<_> = list(value).iter().map(text).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

fn millis(millis: u64) -> String {
    if millis == 0 {
        return "<1ms".to_owned();
    }
    if millis < 1000 { format!("{millis}ms") } else { duration(&Value::from(millis / 1000)) }
}

/// Seconds as a person says them: the greatest unit and the next.
fn duration(seconds: &Value) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let Some(exact) = seconds.as_f64() else { return "-".to_owned() };
    if exact < 1.0 && exact > 0.0 {
        return format!("{exact:.1}s");
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "negative ones are zero, as they should"
    )]
    let whole = exact as u64;
    let mut parts = UNITS.iter().scan(whole, |left, (unit, name)| {
        let count = *left / unit;
        *left %= unit;
        Some((count, *name))
    });
    let Some((count, name)) = parts.find(|(count, _)| *count > 0) else { return "0s".to_owned() };
    match parts.next() {
        Some((next, unit)) if next > 0 => format!("{count}{name} {next}{unit}"),
        _ => format!("{count}{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let table = table("title", &["a", "b", "c"], &[row(["long cell", "", "x"]), row(["s", "", "y"])]);
        assert_eq!(table, "\ntitle\n  a          c\n  long cell  x\n  s          y\n");
    }

    #[test]
    fn times_are_told_by_their_greatest_units() {
        let told = [0, 59, 61, 3600, 90_061].map(|seconds| duration(&Value::from(seconds)));
        assert_eq!(told, ["0s", "59s", "1m 1s", "1h", "1d 1h"]);
        assert_eq!(duration(&json!(0.25)), "0.2s");
    }

    #[test]
    fn an_answer_of_another_version_is_shown_as_far_as_it_goes() {
        let page = page(&json!({ "version": "9", "services": [{ "name": ["/svc/a"] }], "new": 1 }));
        assert!(page.starts_with("adit 9, ready"), "{page}");
        assert!(page.contains("  /svc/a  -   -\n"), "{page}");
    }

    #[test]
    fn a_workload_api_is_named_with_how_it_does() {
        let api = json!({ "socket": "unix:/run/a.sock", "age_seconds": 3, "fault": null });
        assert!(page(&json!({ "workload_api": api })).contains("follows the SPIFFE Workload API unix:/run/a.sock"));
        let api = json!({ "socket": "unix:/run/a.sock", "age_seconds": 3, "fault": "gone" });
        assert!(page(&json!({ "workload_api": api })).contains("lost the SPIFFE Workload API unix:/run/a.sock"));
        assert!(!page(&json!({})).contains("SPIFFE"));
    }

    #[test]
    fn nothing_that_an_agent_says_moves_the_cursor_of_a_terminal() {
        // every string of an answer, and a word of the limits, is of somebody who wants to
        let evil = "a\u{1b}[2J\u{9b}1m\r\u{202e}b";
        let strings = |keys: &[&str]| Value::Object(keys.iter().map(|key| ((*key).to_owned(), json!(evil))).collect());
        let lists = |keys: &[&str]| Value::Object(keys.iter().map(|key| ((*key).to_owned(), json!([evil]))).collect());
        let both = |texts: &[&str], several: &[&str]| {
            let mut both = strings(texts);
            both.as_object_mut().unwrap().append(lists(several).as_object_mut().unwrap());
            both
        };
        let stream =
            strings(&["direction", "name", "from", "workload", "original", "to", "peer", "bytes_sent", "age_seconds"]);
        let endpoint = strings(&["address", "health", "tier", "weight", "open", "last_error"]);
        let side = json!({ "side": evil, "routes": [strings(&["name", "tree"])],
            "balancers": [{ "bound": evil, "endpoints": [endpoint], "refused": [strings(&["name", "address", "why"])] }] });
        let predecessor =
            json!({ "pid": evil, "version": evil, "streams_live": evil, "fault": evil, "streams": [stream] });
        let mut limits = serde_json::Map::new();
        limits.insert(evil.to_owned(), json!(evil));
        let page = page(&json!({
            "version": evil, "pid": evil, "tls_fault": evil, "streams_live": evil,
            "config": both(&["file", "fault"], &["waits_for_restart"]),
            "workload_api": strings(&["socket"]),
            "listeners": [strings(&["listener", "address", "to", "certificate"])],
            "certificates": [both(&["id", "issuer", "serial"], &["names"])],
            "services": [both(&["to", "certificate", "max_streams", "source"], &["name", "allow"])],
            "routes": [side],
            "names": [both(&["name", "state", "last_error"], &["addresses", "bad_lines"])],
            "captured_hosts": [both(&["host", "fault"], &["addresses", "remembered"])],
            "tunnels_idle": [strings(&["address", "expects", "certificate", "idle"])],
            "tunnels_accepted": [strings(&["peer", "tunnels"])],
            "streams": [stream], "predecessors": [predecessor], "limits": limits,
        }));
        assert!(page.matches("a\\u{1b}[2J").count() > 50, "{page}");
        assert!(page.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)), "{page:?}");
    }

    #[test]
    fn what_is_wrong_stands_at_the_top() {
        let config = json!({ "file": "/adit.toml", "age_seconds": 61, "fault": "a\nb", "waits_for_restart": ["c"] });
        let page = page(&json!({ "draining": true, "config": config, "tls_fault": "host.pem: is empty" }));
        let config_fault = "\nconfig fault: a\n              b\n              (what was in force before stays)\n";
        assert!(page.contains("draining") && page.contains(config_fault), "{page}");
        assert!(page.contains("\nTLS fault: host.pem: is empty\n"), "{page}");
        assert!(page.contains("\na restart applies: c\n/adit.toml, in force for 1m 1s\n"), "{page}");
    }
}
