//! What `adit redirect status` prints.

use std::fmt::Write as _;

use crate::redirect::{Plan, Report};

/// The page: what is installed, whether it is as wanted, and what was counted.
pub(super) fn page(plan: &Plan, report: &Report) -> String {
    let mut text = String::new();
    for set in &report.sets {
        let _ = writeln!(text, "installed: {}, {} rules", set.name, set.rules);
    }
    for way in &report.ways {
        let _ = writeln!(text, "installed: {}", way.describe());
    }
    if report.sets.is_empty() && report.ways.is_empty() {
        let _ = writeln!(text, "installed: nothing");
    }
    let _ = match (report.matches(), plan.is_empty()) {
        (true, true) => writeln!(text, "configuration: asks for nothing"),
        (true, false) => writeln!(text, "configuration: matches"),
        (false, _) => writeln!(text, "configuration: differs; `adit redirect apply` makes it match"),
    };
    for difference in &report.differences {
        let _ = writeln!(text, "  {difference}");
    }
    let counters: Vec<_> = report.sets.iter().flat_map(|set| &set.counters).collect();
    let width = counters.iter().map(|counter| counter.comment.len()).max().unwrap_or_default();
    if !counters.is_empty() {
        let _ = writeln!(text, "{:width$}  {:>10}  {:>12}", "counted", "packets", "bytes", width = width + 2);
    }
    for counter in counters {
        let _ = writeln!(text, "  {:width$}  {:>10}  {:>12}", counter.comment, counter.packets, counter.bytes);
    }
    text
}
