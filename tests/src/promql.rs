//! Which metrics, labels and label values an expression of PromQL, or the text of an alert, speaks of. No parser of the
//! language, which is promtool's part: only the words that must exist.

use std::collections::BTreeSet;

/// A selector: a metric, and each label that it is held against with the values named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The metric.
    pub metric: String,
    /// Labels, each with what it shall be, the alternatives of a pattern apart.
    pub labels: Vec<(String, Vec<String>)>,
}

/// Every selector of our own metrics.
#[must_use]
pub fn selectors(expression: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find("adit_") {
        rest = &rest[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (metric, after) = rest.split_at(end);
        let braces = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let labels = braces.map_or_else(Vec::new, |(inner, _)| matchers(inner));
        found.push(Selector { metric: metric.to_owned(), labels });
        rest = braces.map_or(after, |(_, after)| after);
    }
    found
}

/// The labels of `by (…)`, of `label_values(…, …)`, and of `$labels.…` and `{{…}}` in a text.
#[must_use]
pub fn groupings(text: &str) -> BTreeSet<String> {
    let by = text.split("by (").skip(1).filter_map(|rest| rest.split_once(')'));
    let by = by.flat_map(|(list, _)| list.split(',')).map(|label| label.trim().to_owned());
    let told = text
        .split("$labels.")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect());
    by.chain(told).collect()
}

fn matchers(inner: &str) -> Vec<(String, Vec<String>)> {
    let of = |matcher: &str| {
        let (label, value) = matcher.split_once(['=', '!'])?;
        let value = value.trim_start_matches(['=', '~']).trim().trim_matches('"');
        Some((label.trim().to_owned(), value.split('|').map(str::to_owned).collect()))
    };
    inner.split(',').filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_found_with_their_labels_and_values() {
        let found = selectors("sum by (a, b) (rate(adit_x{end=~\"c|d\", side!=\"e\"}[5m])) / adit_y > 0");
        let text = |text: &str| text.to_owned();
        let labels = vec![(text("end"), vec![text("c"), text("d")]), (text("side"), vec![text("e")])];
        let expected =
            [Selector { metric: text("adit_x"), labels }, Selector { metric: text("adit_y"), labels: vec![] }];
        assert_eq!(found, expected);
    }

    #[test]
    fn groupings_are_found_in_expressions_and_texts() {
        let found = groupings("sum by (a, b) (x) and max by (c) (y): {{ $labels.d }} `{{ $labels.e_f }}`");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "b", "c", "d", "e_f"]);
    }
}
