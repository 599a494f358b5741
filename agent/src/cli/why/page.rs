//! Flights as text: a list with a line each, or a timeline with a line for each thing that happened. It reads the JSON
//! leniently, for the agent that answers may be of another version: what is not there is left out.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use serde_json::Value;

use crate::{flight::slow::spell, identity::text::printable};

/// Digits of an id that the list shows: among the thousand that are kept, two with the same are one in many millions.
const DIGITS: usize = 12;

/// Checks that the flights are of one stream. It may have two: it came back to the agent that sent it.
///
/// # Errors
/// There is none, or there are several.
pub(super) fn check_one(stream: &str, flights: &Value) -> Result<(), String> {
    let ids: BTreeSet<_> = list_of(flights).iter().map(|flight| text(&flight["id"])).collect();
    match ids.len() {
        1 => Ok(()),
        0 => Err(format!(
            "no stream that is remembered here has an id that begins with '{stream}': the list is `adit why`; of those that \
             ended well the last 256 are kept, of those that failed the last 768, and none over a restart"
        )),
        _ => {
            let ids: Vec<_> = ids.into_iter().collect();
            Err(format!("'{stream}' may be any of {}: give more digits", ids.join(", ")))
        }
    }
}

/// A line for each flight, in the order of the answer.
pub(super) fn list(flights: &Value) -> String {
    let rows: Vec<[String; 6]> = list_of(flights).iter().map(row).collect();
    if rows.is_empty() {
        return "no stream yet that is asked for\n".to_owned();
    }
    let header = ["began", "stream", "way", "name", "took", "why"].map(str::to_owned);
    let width = |at: usize| [&header].into_iter().chain(&rows).map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    let mut out = String::new();
    for row in [&header].into_iter().chain(&rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  "));
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}{}", cells.collect::<String>(), row[5]);
    }
    out + "\n`adit why STREAM` tells one of them whole\n"
}

fn row(flight: &Value) -> [String; 6] {
    let id: String = text(&flight["id"]).chars().take(DIGITS).collect();
    let live = if flight["live"] == true { "live: " } else { "" };
    let why = format!("{live}{}", text(&flight["why"]));
    let took = seconds(&flight["seconds"]);
    [text(&flight["began"]), id, text(&flight["direction"]), text(&flight["name"]), took, why]
}

/// A timeline for each flight.
pub(super) fn timelines(flights: &Value) -> String {
    list_of(flights).iter().map(timeline).collect::<Vec<_>>().join("\n")
}

fn timeline(flight: &Value) -> String {
    let state = if flight["live"] == true { "live for" } else { "ended after" };
    let mut out = format!(
        "stream {}\n{} {}, began {}, {state} {}\n\n",
        text(&flight["id"]),
        text(&flight["direction"]),
        text(&flight["name"]),
        text(&flight["began"]),
        seconds(&flight["seconds"]),
    );
    // Writing to a String cannot fail.
    for event in flight["events"].as_array().into_iter().flatten() {
        let at = event["at_us"].as_u64().map(|at| format!("+{}", spell(Duration::from_micros(at)))).unwrap_or_default();
        let _ = writeln!(out, "{at:>9}  {:<10}  {}", text(&event["what"]), text(&event["text"]));
    }
    if let Some(more @ 1..) = flight["events_left_out"].as_u64() {
        let _ = writeln!(out, "{:>9}  and {more} more attempts, which were not kept", "");
    }
    if let Some(pid) = flight["predecessor"].as_u64() {
        let _ = writeln!(out, "\ncarried by process {pid}, of before an upgrade");
    }
    let _ = writeln!(out, "\n{} bytes sent, {} received", flight["bytes_sent"], flight["bytes_received"]);
    let _ = writeln!(out, "why: {}", text(&flight["why"]));
    out
}

fn list_of(flights: &Value) -> &[Value] {
    flights["flights"].as_array().map_or(&[], Vec::as_slice)
}

/// What an agent says of others' words is shown so that it can move no cursor.
fn text(value: &Value) -> String {
    value.as_str().map(printable).unwrap_or_else(|| "-".to_owned())
}

fn seconds(value: &Value) -> String {
    let span = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    span.map_or_else(|| "-".to_owned(), spell)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flight(id: &str) -> Value {
        json!({
            "id": id, "direction": "outbound", "name": "/svc/redis", "began": "2026-01-01T03:00:00Z", "live": false,
            "seconds": 0.0123, "bytes_sent": 3, "bytes_received": 4, "events_left_out": 2, "why": "it failed \u{202e}",
            "events": [
                { "at_us": 0, "what": "accepted", "text": "from 127.0.0.1:7" },
                { "at_us": 12_300, "what": "ended", "text": "reset, by the local side" },
            ],
        })
    }

    #[test]
    fn a_timeline_tells_each_step_and_ends_with_the_reason() {
        let expected = "\
stream abcdef0123456789
outbound /svc/redis, began 2026-01-01T03:00:00Z, ended after 12ms

     +0us  accepted    from 127.0.0.1:7
    +12ms  ended       reset, by the local side
           and 2 more attempts, which were not kept

3 bytes sent, 4 received
why: it failed \\u{202e}
";
        assert_eq!(timelines(&json!({ "flights": [flight("abcdef0123456789")] })), expected);
    }

    #[test]
    fn a_list_has_a_line_for_each() {
        let list = list(&json!({ "flights": [flight("abcdef0123456789"), {}] }));
        let lines: Vec<_> = list.lines().collect();
        assert!(lines[1].contains("abcdef012345  outbound  /svc/redis  12ms"), "{list}");
        assert!(lines[2].contains("-"), "{list}");
    }

    #[test]
    fn a_beginning_must_mean_one_stream() {
        let two = json!({ "flights": [flight("ab1"), flight("ab2")] });
        assert!(check_one("ab", &two).unwrap_err().contains("ab1, ab2: give more digits"));
        assert!(check_one("ab", &json!({ "flights": [] })).unwrap_err().starts_with("no stream"));
        assert_eq!(check_one("ab", &json!({ "flights": [flight("ab1"), flight("ab1")] })), Ok(()));
    }
}
