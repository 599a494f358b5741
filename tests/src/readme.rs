//! The README's own files: what a reader would copy out of it is what the tests run.

use std::{fs, path::Path};

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
