//! Gauges with a series for each thing there is: a certificate, a revocation list, a bound name. They are written from
//! what is there when the page is asked for, so what is gone leaves no series behind, which the recorder would keep for
//! the life of the process: an alert on it would never end. Names and help are those of the table in `metrics`.

use std::fmt::Write;

use super::metrics::{METRICS, Metric};

/// A label and its value.
pub type Label<'a> = (&'static str, &'a str);

/// The end of the page, in Prometheus' text format.
#[derive(Debug, Default)]
pub struct Gauges(String);

impl Gauges {
    /// Opens a gauge of the table; its series follow.
    pub fn open(&mut self, name: &'static str) -> Series<'_> {
        let Self(text) = self;
        let help = METRICS.iter().find(|Metric(known, ..)| *known == name).map_or("", |Metric(.., help)| help);
        let help = help.replace('\\', "\\\\");
        // Writing to a string cannot fail, here and below.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        Series { name, text }
    }

    /// What was written.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

/// The series of one gauge.
#[derive(Debug)]
pub struct Series<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl Series<'_> {
    /// One series.
    pub fn add(&mut self, labels: &[Label<'_>], value: f64) {
        self.text.push_str(self.name);
        for (at, (label, said)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{label}=\"{}\"", escaped(said));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }
}

/// A label's value as the format wants it: an id or a path of the file may hold anything.
fn escaped(said: &str) -> String {
    said.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_told_with_its_help_kind_and_series() {
        let mut gauges = Gauges::default();
        let mut series = gauges.open("adit_endpoints");
        series.add(&[("bound", "/#/dns/a/1"), ("health", "up")], 2.0);
        series.add(&[], 0.0);
        let text = gauges.into_text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("# HELP adit_endpoints "), "{text}");
        let rest =
            ["# TYPE adit_endpoints gauge", "adit_endpoints{bound=\"/#/dns/a/1\",health=\"up\"} 2", "adit_endpoints 0"];
        assert_eq!(lines[1..], rest);
    }

    #[test]
    fn no_value_can_leave_its_quotes_or_its_line() {
        let mut gauges = Gauges::default();
        gauges.open("adit_endpoints").add(&[("bound", "a\"} 1\nb\\")], 1.5);
        assert!(gauges.into_text().ends_with("adit_endpoints{bound=\"a\\\"} 1\\nb\\\\\"} 1.5\n"));
    }
}
