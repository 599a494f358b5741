//! The README's own files: what a reader would copy out of it is what the tests run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The README of this repository.
#[must_use]
pub fn text() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()))
}

/// The fenced block that follows the line `<!-- file: NAME -->`; fails the test if there is none, or two.
#[must_use]
pub fn file(readme: &str, name: &str) -> String {
    let mark = format!("<!-- file: {name} -->");
    let mut parts = readme.split(&mark);
    let (_, Some(after), None) = (parts.next(), parts.next(), parts.next()) else {
        panic!("the README names {name} in one `{mark}`");
    };
    let mut lines = after.lines().skip_while(|line| line.trim().is_empty());
    let fence = lines.next().unwrap_or_default();
    assert!(fence.starts_with("```"), "the line after `{mark}` opens a fenced block, not `{fence}`");
    let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
    block.join("\n") + "\n"
}

/// The metrics reference of the README: what live agents are held against, and what alerts may speak of.
#[derive(Debug)]
pub struct Reference {
    /// Each metric with its labels.
    pub labels: BTreeMap<String, BTreeSet<String>>,
    /// Each metric with its kind.
    pub kinds: BTreeMap<String, String>,
}

impl Reference {
    /// Reads it.
    #[must_use]
    pub fn read() -> Self {
        let (mut labels, mut kinds) = (BTreeMap::new(), BTreeMap::new());
        for row in text().lines().filter(|line| line.starts_with("| `adit_")) {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let name = cells[0].trim_matches('`').to_owned();
            let of = cells[2].split(',').map(str::trim).filter(|label| !label.is_empty());
            labels.insert(name.clone(), of.map(str::to_owned).collect());
            kinds.insert(name, cells[1].to_owned());
        }
        assert!(labels.len() > 15, "the README has a metrics reference");
        Self { labels, kinds }
    }

    /// The row of a series: a histogram's are told with an end of their own.
    #[must_use]
    pub fn find(&self, series: &str) -> Option<(&String, &BTreeSet<String>)> {
        let ends = ["", "_bucket", "_sum", "_count"];
        ends.iter().find_map(|end| self.labels.get_key_value(series.strip_suffix(end)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = "# adit\n\n<!-- file: a.toml -->\n```toml\n[tls]\nca = 1\n```\ntext\n<!-- file: b.toml -->\n\n```toml\nx = 2\n```\n";

    #[test]
    fn a_named_block_is_found_without_its_fences() {
        assert_eq!(file(README, "a.toml"), "[tls]\nca = 1\n");
        assert_eq!(file(README, "b.toml"), "x = 2\n");
    }

    #[test]
    #[should_panic(expected = "the README names c.toml")]
    fn a_block_that_is_not_there_fails_the_test() {
        let _ = file(README, "c.toml");
    }
}
