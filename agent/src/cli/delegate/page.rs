//! A report as text: the tree, indented, with what is known of each bound name under it, and one line at the end that
//! says what would become of the next stream.

use std::fmt::Write;

use crate::router::delegate::{Endpoint, Expects, Fate, Place, Report, Row, Standing, What};

/// Deeper rows are not set further to the right: no screen is that wide.
const DEEPEST: usize = 30;

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let mut page = String::new();
    let picked = match &report.outcome {
        Fate::To { address, bound, .. } => Some((bound.as_str(), address.as_str())),
        Fate::Refused(_) | Fate::Pending(_) => None,
    };
    for row in &report.rows {
        let indent = "  ".repeat(row.depth.min(DEEPEST));
        // Writing to a String cannot fail.
        _ = writeln!(page, "{indent}{}", head(row, report.in_file));
        if let What::Bound(place) = &row.what {
            let lines = details(place, picked.filter(|_| place.standing <= Standing::Drawn));
            lines.iter().for_each(|line| _ = writeln!(page, "{}", format!("{indent}    {line}").trim_end()));
        }
    }
    let is_drawn = |row: &Row| matches!(&row.what, What::Bound(place) if place.standing == Standing::Drawn);
    let drawn = if report.rows.iter().any(is_drawn) { " (drawn by weight: the next may go elsewhere)" } else { "" };
    _ = writeln!(page, "\n{}{drawn}", last(&report.outcome));
    page
}

fn last(fate: &Fate) -> String {
    match fate {
        Fate::To { address, down: true, .. } => format!("would try {address}, which is down"),
        Fate::To { address, .. } => format!("would go to {address}"),
        Fate::Refused(why) => format!("would be refused: {why}"),
        Fate::Pending(why) => format!("pending: {why}"),
    }
}

/// A row's own line.
fn head(row: &Row, in_file: bool) -> String {
    let weight = row.weight.map_or_else(String::new, |weight| format!("{weight} * "));
    let behind = if row.behind_a_stop { "   (never reached: a `!` or `$` comes first)" } else { "" };
    let what = match &row.what {
        What::Name { name } => name.clone(),
        What::Unknown { name } => format!("{name}   no rule knows it"),
        What::Rule { number, text, line, column } => {
            let of = if in_file { "" } else { " of the table" };
            format!("rule {number} ({line}:{column}{of})  {text}")
        }
        What::Choice { sign } => match sign.as_str() {
            "|" => "|   the first that is there".to_owned(),
            "||" => "||  the first that is up".to_owned(),
            _ => "&   one of these, by weight".to_owned(),
        },
        What::Stop { sign } => match sign.as_str() {
            "~" => "~   nothing: the next is asked".to_owned(),
            "!" => "!   forbidden".to_owned(),
            _ => "$   there, without an address".to_owned(),
        },
        What::Wrong { name, error } => format!("{name}   {error}"),
        What::Bound(place) => bound(place),
    };
    format!("{weight}{what}{behind}")
}

fn bound(place: &Place) -> String {
    let residual = match place.residual.as_str() {
        "" => String::new(),
        residual => format!("   (left over and ignored: {residual})"),
    };
    let standing = match place.standing {
        Standing::PassedOver => "   (not taken: another branch comes first)",
        Standing::Down => "   (not taken: all of it is down)",
        Standing::Unasked => "   (not asked)",
        Standing::Taken | Standing::Drawn | Standing::Waited | Standing::Absent | Standing::Behind => "",
    };
    format!("{}{residual}{standing}", place.name)
}

/// What is known of a bound name, a line each.
fn details(place: &Place, picked: Option<(&str, &str)>) -> Vec<String> {
    let mut lines: Vec<_> = answer(place).into_iter().map(|answer| format!("answer      {answer}")).collect();
    if let Some(error) = &place.last_error {
        lines.push(format!("last error  {error}"));
    }
    if place.standing == Standing::Absent {
        return lines;
    }
    match &place.expects {
        Some(Expects::Rule { rule, identity, asks_for }) => {
            let who = identity.as_deref().unwrap_or("nothing: it is not verified");
            lines.push(format!("must prove  {who} ([[outbound.peer]] {rule}), asked for {asks_for}"));
        }
        Some(Expects::Refused(why)) => lines.push(format!("refused     {why}")),
        None => {}
    }
    if !place.settings.is_empty() {
        let all: Vec<_> = place.settings.iter().map(|one| format!("{} = {}", one.key, one.value)).collect();
        lines.push(format!("settings    {}", all.join(", ")));
    }
    let here = picked.filter(|(bound, _)| *bound == place.name).map(|(_, address)| address);
    lines.extend(endpoints(&place.endpoints, here));
    lines
}

/// What the namer said.
fn answer(place: &Place) -> Option<String> {
    let age = place.age_ms.map(|age| format!(", {} old", span(age)));
    let next = place.next_ms.map(|next| format!(", asked again in {}", span(next)));
    let when = age.unwrap_or_default() + &next.unwrap_or_default();
    match place.state.as_deref()? {
        // An address as written was never asked for.
        "bound" if when.is_empty() && place.name.starts_with("/$/") => None,
        "bound" => Some(match place.endpoints.len() {
            1 => format!("1 address{when}"),
            count => format!("{count} addresses{when}"),
        }),
        "negative" => Some(format!("no such name, or no address{when}")),
        "pending" => Some("none yet".to_owned()),
        other => Some(format!("{other}{when}")),
    }
}

/// Endpoints in aligned columns; tiers and weights are shown where they differ.
fn endpoints(all: &[Endpoint], picked: Option<&str>) -> Vec<String> {
    let tiers = all.iter().any(|one| one.tier != 0);
    let weights = all.iter().any(|one| one.weight.to_bits() != 1_f64.to_bits());
    let row = |one: &Endpoint| {
        let health = match one.down_for_ms {
            Some(left) => format!("{}, tried again in {}", one.health, span(left)),
            None => one.health.clone(),
        };
        let streams = format!("{} {}", one.open, if one.open == 1 { "stream" } else { "streams" });
        let tier = if tiers { format!("tier {}", one.tier) } else { String::new() };
        let weight = if weights { format!("weight {}", one.weight) } else { String::new() };
        [one.address.clone(), health, streams, tier, weight, one.last_error.clone().unwrap_or_default()]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let line = |row: &[String; 6]| {
        let mark = if picked == Some(row[0].as_str()) { ">" } else { " " };
        let cells = (0..6).filter(|at| width(*at) > 0).map(|at| format!("{:<1$}", row[at], width(at)));
        format!("{mark} {}", cells.collect::<Vec<_>>().join("   ")).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Milliseconds as a person says them.
fn span(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..120_000 => format!("{}s", millis / 1_000),
        120_000..7_200_000 => format!("{}m", millis / 60_000),
        _ => format!("{}h", millis / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(json: &str) -> Report {
        serde_json::from_str(json).unwrap()
    }

    const TREE: &str = r#"{
        "name": "/svc/web", "side": "outbound", "in_file": true,
        "rows": [
            { "depth": 0, "kind": "name", "name": "/svc/web" },
            { "depth": 1, "kind": "rule", "number": 2, "text": "/svc/web => …", "line": 12, "column": 9 },
            { "depth": 2, "kind": "choice", "sign": "|" },
            { "depth": 3, "kind": "bound", "name": "/#/dns/a/1", "standing": "absent", "state": "negative",
              "age_ms": 3000, "next_ms": 27000, "last_error": null, "endpoints": [], "settings": [],
              "expects": { "refused": "no [[outbound.peer]] matches" } },
            { "depth": 3, "kind": "bound", "name": "/#/dns/b/1", "residual": "/x", "standing": "taken",
              "state": "bound", "age_ms": 40, "next_ms": null, "last_error": "b: SERVFAIL",
              "expects": { "rule": { "rule": 1, "identity": "web.prod", "asks_for": "/svc/web" } },
              "settings": [{ "key": "pool", "value": "4" }, { "key": "warm", "value": "1" }],
              "endpoints": [
                { "address": "10.0.0.1:1", "health": "up", "down_for_ms": null, "open": 3, "tier": 0, "weight": 1.0,
                  "last_error": null },
                { "address": "10.0.0.22:1", "health": "down", "down_for_ms": 1500, "open": 1, "tier": 1, "weight": 2.5,
                  "last_error": "Connection refused" }] },
            { "depth": 3, "kind": "stop", "sign": "!" },
            { "depth": 3, "behind_a_stop": true, "kind": "unknown", "name": "/nowhere" },
            { "depth": 3, "behind_a_stop": true, "kind": "bound", "name": "/#/dns/c/1", "standing": "behind",
              "state": null, "age_ms": null, "next_ms": null, "last_error": null, "expects": null, "settings": [],
              "endpoints": [] },
            { "depth": 1, "kind": "rule", "number": 1, "text": "/svc => …", "line": 11, "column": 1 },
            { "depth": 2, "kind": "choice", "sign": "&" },
            { "depth": 3, "weight": 0.5, "kind": "stop", "sign": "~" },
            { "depth": 3, "weight": 2.0, "kind": "bound", "name": "/#/dns/d/1", "standing": "passed_over",
              "state": "failed", "age_ms": null, "next_ms": null, "last_error": "SERVFAIL",
              "expects": { "refused": "no [[outbound.peer]] matches" }, "settings": [], "endpoints": [] }
        ],
        "outcome": { "to": { "address": "10.0.0.1:1", "bound": "/#/dns/b/1" } }
    }"#;

    #[test]
    fn the_page_shows_the_tree_with_what_is_known_and_where_a_stream_would_go() {
        let expected = "\
/svc/web
  rule 2 (12:9)  /svc/web => …
    |   the first that is there
      /#/dns/a/1
          answer      no such name, or no address, 3s old, asked again in 27s
      /#/dns/b/1   (left over and ignored: /x)
          answer      2 addresses, 40ms old
          last error  b: SERVFAIL
          must prove  web.prod ([[outbound.peer]] 1), asked for /svc/web
          settings    pool = 4, warm = 1
          > 10.0.0.1:1    up                        3 streams   tier 0   weight 1
            10.0.0.22:1   down, tried again in 1s   1 stream    tier 1   weight 2.5   Connection refused
      !   forbidden
      /nowhere   no rule knows it   (never reached: a `!` or `$` comes first)
      /#/dns/c/1   (never reached: a `!` or `$` comes first)
  rule 1 (11:1)  /svc => …
    &   one of these, by weight
      0.5 * ~   nothing: the next is asked
      2 * /#/dns/d/1   (not taken: another branch comes first)
          answer      failed
          last error  SERVFAIL
          refused     no [[outbound.peer]] matches

would go to 10.0.0.1:1
";
        assert_eq!(page(&report(TREE)), expected);
    }

    #[test]
    fn a_report_reads_as_it_was_written() {
        let read = report(TREE);
        assert_eq!(report(&serde_json::to_string(&read).unwrap()), read);
    }

    #[test]
    fn a_refusal_is_the_last_line() {
        let refused = report(
            r#"{ "name": "/a", "side": "inbound", "in_file": false, "outcome": { "refused": "no rule knows '/a'" },
                 "rows": [{ "depth": 0, "kind": "unknown", "name": "/a" }] }"#,
        );
        assert_eq!(page(&refused), "/a   no rule knows it\n\nwould be refused: no rule knows '/a'\n");
    }
}
