//! What holds for every file, whatever it says: the reader never panics and points into the text. And
//! what holds between the table of keys and those who must know all of them: the examples, the printer
//! and the README's reference.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use toml::de::{DeTable, DeValue};

use super::keys;
use crate::config::{Config, Dns};
use crate::dtab::Within;
use crate::limits::{Limits, Row};
use crate::print;

fn repository_file(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()))
}

fn everything() -> String {
    repository_file("config/examples/good/everything.toml")
}

/// Every key of a table, with the header of the section it is in: `[limits] idle`.
fn keys_of(header: &str, table: &DeTable<'_>, into: &mut BTreeSet<String>) {
    for (key, value) in table {
        let key = key.get_ref();
        let path = header.trim_matches(['[', ']']);
        let inner = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        match value.get_ref() {
            DeValue::Table(table) if keys::SECTIONS.contains(&format!("[{inner}]").as_str()) => {
                keys_of(&format!("[{inner}]"), table, into);
            }
            DeValue::Array(list) if keys::SECTIONS.contains(&format!("[[{inner}]]").as_str()) => {
                let tables = list.iter().filter_map(|value| value.get_ref().as_table());
                tables.for_each(|table| keys_of(&format!("[[{inner}]]"), table, into));
            }
            _ => {
                into.insert(format!("{header} {key}"));
            }
        }
    }
}

fn keys_in(text: &str) -> BTreeSet<String> {
    let table = DeTable::parse(text).expect("TOML");
    let mut found = BTreeSet::new();
    keys_of("", table.get_ref(), &mut found);
    found
}

/// The keys of a section that are no sections of their own.
fn own_keys(section: &str) -> Vec<&'static str> {
    let path = section.trim_matches(['[', ']']);
    let is_section = |key: &&str| {
        ["[", "[["].iter().any(|open| {
            let close = open.replace('[', "]");
            keys::SECTIONS.contains(&format!("{open}{path}.{key}{close}").as_str())
        })
    };
    keys::known(section).into_iter().filter(|key| !is_section(key)).collect()
}

/// Every key there is, `[section] key`.
fn all_keys() -> BTreeSet<String> {
    let sections = keys::SECTIONS.into_iter().filter(|section| *section != keys::FILE);
    sections.flat_map(|section| own_keys(section).into_iter().map(move |key| format!("{section} {key}"))).collect()
}

#[test]
fn one_example_has_every_key_there_is() {
    assert!(all_keys().len() > 60, "{:?}", all_keys());
    let mut found = keys_in(&everything());
    // Where one key of [tls] excludes another there is no second [tls] for it.
    found.extend(keys_in(&repository_file("config/examples/good/workload-api.toml")));
    assert_eq!(found, all_keys());
}

#[test]
fn a_printed_file_has_every_key_that_its_entries_may_have() {
    let printed = |text: &str| Config::parse(Path::new("good.toml"), text).expect("a good file").0.to_toml();
    let (files, workload_api) =
        (printed(&everything()), printed(&repository_file("config/examples/good/workload-api.toml")));
    let mut found = keys_in(&files);
    found.extend(keys_in(&workload_api));
    assert_eq!(found, all_keys(), "{files}");
    for (page, unset) in [(&files, "\n# spiffe = "), (&workload_api, "\n# ca = ")] {
        assert!(page.contains(unset), "{unset} in\n{page}");
    }
}

#[test]
fn a_printed_file_spells_out_what_the_file_left_out() {
    let text = "[tls]\nca = \"/ca\"\ncert = \"/cert\"\nkey = \"/key\"\n";
    let (config, _) = Config::parse(Path::new("short.toml"), text).expect("a good file");
    let printed = config.to_toml();
    let keys = keys_in(&printed);
    for section in [keys::DNS, keys::LIMITS, keys::LOG, keys::RUNTIME] {
        for key in own_keys(section) {
            assert!(keys.contains(&format!("{section} {key}")), "{section} {key} in\n{printed}");
        }
    }
    for line in [
        "idle = \"off\"",
        "tunnels = \"auto\"",
        "half_closed = \"1h\"",
        "eager_bytes = \"64MiB\"",
        "# socket =",
        "mark = 0xad17",
        "# user =",
    ] {
        assert!(printed.contains(&format!("\n{line}")), "{line} in\n{printed}");
    }
}

/// The rows of the README's reference, by section: the cells of each, its key first.
fn reference() -> Vec<(String, Vec<Vec<String>>)> {
    let readme = repository_file("README.md");
    let (_, reference) = readme.split_once("\n## Configuration reference\n").expect("the README has the reference");
    let reference = reference.split("\n## ").next().unwrap_or_default();
    let sections = reference.split("\n### `").skip(1).map(|section| {
        let (header, body) = section.split_once('`').expect("a header between backquotes");
        let rows = body.lines().filter(|line| line.starts_with("| `"));
        let cells = |row: &str| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
        (header.to_owned(), rows.map(cells).collect())
    });
    sections.collect()
}

fn plain(cell: &str) -> &str {
    cell.trim_matches('`')
}

#[test]
fn the_reference_has_every_key_under_its_section_and_no_other() {
    let mut found = BTreeSet::new();
    for (section, rows) in reference() {
        for row in rows {
            assert_eq!(row.len(), 4, "key, type, default, meaning: {row:?}");
            assert!(found.insert(format!("{section} {}", plain(&row[0]))), "{section} {} stands twice", row[0]);
        }
    }
    assert_eq!(found, all_keys());
}

/// The rows of one section of the reference.
fn referred(section: &str) -> Vec<Vec<String>> {
    reference().into_iter().find(|(name, _)| name == section).expect("the section is in the reference").1
}

#[test]
fn the_reference_states_each_limit_as_the_code_has_it() {
    let mut limits = Limits::default();
    let expected: Vec<_> = limits
        .rows()
        .iter()
        .map(|(key, row, about)| {
            let kind = match row {
                Row::Wait(_) => "duration",
                Row::Keepalive(_) => "duration, whole seconds up to 9h",
                Row::MayBeOff(_) => "duration or `\"off\"`",
                Row::Unacknowledged(_) => "duration up to 24d, or `\"off\"`",
                Row::Auto(_) => "number or `\"auto\"`",
                Row::Count(_) => "number",
                Row::Probes(_) => "number up to 127",
                Row::MayBeZero(_) => "number, may be 0",
                Row::Bytes(_) => "bytes",
            };
            vec![format!("`{key}`"), kind.to_owned(), format!("`{}`", print::limit(row)), (*about).to_owned()]
        })
        .collect();
    assert_eq!(referred(keys::LIMITS), expected);
}

#[test]
fn the_reference_states_the_defaults_of_dns_as_the_code_has_them() {
    let Dns { servers, min_ttl, max_ttl, negative_ttl, timeout, zones } = Dns::default();
    assert!(zones.is_empty());
    assert!(servers.is_empty());
    let rows = referred(keys::DNS);
    let stated: Vec<_> = rows.iter().map(|row| (plain(&row[0]), plain(&row[2]))).collect();
    let printed = [print::wait(min_ttl), print::wait(max_ttl), print::wait(negative_ttl), print::wait(timeout)];
    let expected: Vec<_> = keys::known(keys::DNS)
        .into_iter()
        .zip(std::iter::once("[]").chain(printed.iter().map(String::as_str)))
        .collect();
    assert_eq!(stated, expected);
}

/// Whether a place is a character of the text, or just behind the last one of a line.
fn lies_in(text: &str, line: usize, column: usize) -> bool {
    let found = text.split('\n').nth(line.wrapping_sub(1));
    found.is_some_and(|line| (1..=line.chars().count() + 1).contains(&column))
}

/// Reads a text and says where it points outside of itself, if it does.
fn astray(text: &str) -> Option<String> {
    let found = match Config::parse(Path::new("any.toml"), text) {
        Err(problems) => problems.0,
        Ok((_, warnings)) => warnings.into_iter().map(|warning| warning.0).collect(),
    };
    let outside = found.into_iter().find(|problem| !lies_in(text, problem.line, problem.column));
    outside.map(|problem| problem.to_string())
}

/// One change of a text: bytes cut out, others put in.
fn change(text: &mut String, at: usize, cut: usize, put: &str) {
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let start = starts[at % starts.len()];
    let end = starts.iter().copied().find(|end| *end >= start + cut).unwrap_or(text.len());
    text.replace_range(start..end, put);
}

/// Words that mean something somewhere in a file, and some that mean nothing anywhere.
fn word() -> impl Strategy<Value = String> {
    let known = [
        "",
        "\n",
        "\"",
        "'''",
        "\"\"\"",
        "[",
        "]",
        "{",
        "}",
        "=",
        "#",
        ",",
        ".",
        "é",
        "\u{0}",
        "\\",
        "\\u00e9",
        "*",
        "/",
        "/#/dns",
        "/$/unix",
        "-1",
        "0",
        "9999999999999999999999",
        "1e9",
        "true",
        "\"off\"",
        "\"auto\"",
        "[tls]\n",
        "[[outbound.peer]]\n",
        "[[inbound.service]]\n",
        "[[inbound.capture]]\n",
        "[outbound.redirect]\n",
        "[[outbound.redirect.include]]\n",
        "[[outbound.capture]]\n",
        "[[outbound.workload]]\n",
        "[netfilter]\n",
        "net = \"::/0\"\n",
        "\"1-65535\"",
        "ip:",
        "name = \"/a\"\n",
        "dtab = \"/a => /b\"\n",
        "{x}",
        "=>",
        "spiffe://",
        "\r\n",
        "\r",
    ];
    prop_oneof![3 => prop::sample::select(known.map(str::to_owned).to_vec()), 1 => "(?s).{0,6}"]
}

/// The places of the rules of `[outbound] dtab`, and of which text they are.
fn places(dtab: &str) -> (Within, Vec<String>) {
    let text = format!(
        "[tls]\nca = \"/ca\"\ncert = \"/c\"\nkey = \"/k\"\n[outbound]\ndtab = {dtab}\n\
         [[outbound.peer]]\nname = \"/svc/*\"\nidentity = \"b.example\"\n\
         [[outbound.listener]]\nlisten = \"127.0.0.1:1\"\nto = \"/svc/a\"\n"
    );
    let (config, _) = Config::parse(Path::new("f"), &text).unwrap_or_else(|problems| panic!("{problems}"));
    let table = config.outbound.unwrap().dtab;
    (table.within(), table.entries().iter().map(|entry| entry.place().to_string()).collect())
}

#[test]
fn a_rule_knows_its_place_in_the_file_where_the_file_has_the_table_as_it_is() {
    let (a, b) = ("/u => /$/inet/10.0.0.1/1 ;", "/svc => /u");
    for (dtab, expected) in [
        (format!("\"{a} {b}\""), ["6:9", "6:36"]),
        (format!("'{a} {b}'"), ["6:9", "6:36"]),
        (format!("\"\"\"\n# ü\n{a}\n  {b}\n\"\"\""), ["8:1", "9:3"]),
        (format!("'''{a}\n{b}'''"), ["6:11", "7:1"]),
        (format!("\"\"\"\\\n  {a}\n{b}\"\"\""), ["7:3", "8:1"]),
        (format!("\"\"\"\r\n{a}\r\n{b}\"\"\""), ["7:1", "8:1"]),
    ] {
        let expected = expected.map(str::to_owned).to_vec();
        assert_eq!(places(&dtab), (Within::File, expected), "{dtab}");
    }
    // With escapes it does not stand there as it is.
    let escaped = places(&format!("\"{a}\\n{b}\""));
    assert_eq!(escaped, (Within::Table, vec!["1:1".to_owned(), "2:1".to_owned()]));
}

proptest! {
    #[test]
    fn a_changed_file_is_read_or_told_about_at_places_in_it(
        changes in prop::collection::vec((any::<usize>(), 0_usize..30, word()), 1..6),
        keep in prop::option::of(0_usize..4000),
    ) {
        let mut text = everything();
        changes.iter().for_each(|(at, cut, put)| change(&mut text, *at, *cut, put));
        if let Some(keep) = keep {
            text = text.chars().take(keep).collect();
        }
        prop_assert_eq!(astray(&text), None, "{}", text);
    }

    #[test]
    fn garbage_is_told_about_at_places_in_it(words in prop::collection::vec(word(), 0..40)) {
        let text = words.concat();
        prop_assert_eq!(astray(&text), None, "{}", text);
    }
}
