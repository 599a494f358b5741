//! What the reader found, by byte of the text, until the whole file is read; then lines and columns
//! are counted once and everything is put in order. It judges nothing itself.

use std::path::Path;

use crate::error::{Problem, Problems, Warning};

/// More than a person reads; a file of noise must not become a report longer than itself.
const MAX_FINDINGS: usize = 100;

/// A value and the byte at which the file says it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct At<T> {
    pub(crate) at: usize,
    pub(crate) value: T,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Finding {
    at: usize,
    message: String,
    help: String,
}

/// Problems and warnings so far.
#[derive(Default, Debug)]
pub(crate) struct Report {
    problems: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl Report {
    /// The file cannot be used.
    pub(crate) fn problem(&mut self, at: usize, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Finding { at, message: message.into(), help: help.into() });
    }

    /// The file can be used; its author should know.
    pub(crate) fn warn(&mut self, at: usize, message: impl Into<String>, help: impl Into<String>) {
        self.warnings.push(Finding { at, message: message.into(), help: help.into() });
    }

    /// How many problems there are yet: whether reading something added one.
    pub(crate) fn problems_so_far(&self) -> usize {
        self.problems.len()
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// The problems with their places.
    pub(crate) fn problems(self, file: &Path, text: &str) -> Problems {
        Problems(placed(self.problems, file, text))
    }

    /// The warnings with their places.
    pub(crate) fn warnings(self, file: &Path, text: &str) -> Vec<Warning> {
        placed(self.warnings, file, text).into_iter().map(Warning).collect()
    }
}

fn placed(mut findings: Vec<Finding>, file: &Path, text: &str) -> Vec<Problem> {
    findings.sort();
    findings.dedup();
    let dropped = findings.len().saturating_sub(MAX_FINDINGS);
    findings.truncate(MAX_FINDINGS);
    let mut counter = Counter::new(text);
    let mut placed: Vec<_> = findings.into_iter().map(|found| counter.place(file, found)).collect();
    if let Some(last) = placed.last_mut().filter(|_| dropped > 0) {
        last.help = format!("{dropped} more are not shown; mend these first");
    }
    placed
}

/// Counts lines once from front to back, since findings come in order.
struct Counter<'a> {
    text: &'a str,
    line: usize,
    line_start: usize,
}

impl<'a> Counter<'a> {
    fn new(text: &'a str) -> Counter<'a> {
        Counter { text, line: 1, line_start: 0 }
    }

    fn place(&mut self, file: &Path, found: Finding) -> Problem {
        let at = floor(self.text, found.at).max(self.line_start);
        while let Some(newline) = self.text[self.line_start..at].find('\n') {
            self.line += 1;
            self.line_start += newline + 1;
        }
        Problem {
            file: file.to_owned(),
            line: self.line,
            column: self.text[self.line_start..at].chars().count() + 1,
            message: found.message,
            help: found.help,
        }
    }
}

/// The place itself or the nearest before it that is no middle of a character.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_lines_and_characters_from_one_in_order() {
        let mut report = Report::default();
        let text = "a\nüb\n";
        for at in [4, 0, 2, 3, 99] {
            report.problem(at, at.to_string(), "");
        }
        let places: Vec<_> = report.problems(Path::new("f"), text).0;
        let places: Vec<_> = places.iter().map(|p| (p.message.as_str(), p.line, p.column)).collect();
        let expected = [("0", 1, 1), ("2", 2, 1), ("3", 2, 1), ("4", 2, 2), ("99", 3, 1)];
        assert_eq!(places, expected);
    }

    #[test]
    fn a_file_of_noise_gives_a_bounded_report() {
        let mut report = Report::default();
        (0..1000).for_each(|at| report.problem(at, "x", ""));
        let problems = report.problems(Path::new("f"), "");
        assert_eq!(problems.0.len(), MAX_FINDINGS);
        assert!(problems.to_string().ends_with("900 more are not shown; mend these first"));
    }
}
