//! The files of `examples/`: every good one is read and printed back, every bad one is told what stands
//! beside it, word for word. The messages are part of the product, so a change of one is seen here.

#![allow(clippy::panic, reason = "every function here is a test's, and a panic is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};

use adit_config::{Config, Dtab, Problem, Problems, Warning};

/// The TOML files of a folder, in order; fewer than there are at least is a test that tests nothing.
fn examples(folder: &str, at_least: usize) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("read {}: {error}", folder.display()));
    let files = entries.map(|entry| entry.expect("an entry of the folder").path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|ext| ext == "toml")).collect();
    files.sort();
    assert!(files.len() >= at_least, "{} holds {} files", folder.display(), files.len());
    files
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()))
}

fn good(file: &Path) -> (Config, Vec<Warning>) {
    Config::load(file).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What a reader of the file is told, a line each, the file named without its folder.
fn told(file: &Path) -> String {
    let named = |problem: &Problem| Problem { file: file.file_name().expect("a file").into(), ..problem.clone() };
    let lines: Vec<String> = match Config::load(file) {
        Err(Problems(problems)) => problems.iter().map(|problem| named(problem).to_string()).collect(),
        Ok((_, warnings)) => warnings.iter().map(|warning| Warning(named(&warning.0)).to_string()).collect(),
    };
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// What a good file may say and is warned of each time.
const MEANT: [&str; 2] = ["`verify = \"none\"`", "`unmatched = \"pass\"`"];

#[test]
fn every_good_example_is_read() {
    for file in examples("good", 16) {
        let (_, warnings) = good(&file);
        let meant = |warning: &&Warning| MEANT.iter().any(|setting| warning.0.message.contains(setting));
        assert_eq!(warnings.len(), warnings.iter().filter(meant).count(), "{}: {warnings:?}", file.display());
    }
}

#[test]
fn every_good_example_survives_being_printed() {
    for file in examples("good", 16) {
        let (config, warnings) = good(&file);
        let printed = config.to_toml();
        let (read, again) = Config::parse(&file, &printed).unwrap_or_else(|problems| panic!("{problems}\n{printed}"));
        assert_eq!(read, config, "{printed}");
        assert_eq!(again.len(), warnings.len(), "{again:?}");
        assert_eq!(read.to_toml(), printed);
    }
}

#[test]
fn every_bad_example_is_told_what_stands_beside_it() {
    let mut wrong = String::new();
    for file in examples("bad", 55) {
        let (told, expected) = (told(&file), text(&file.with_extension("txt")));
        assert!(!expected.is_empty(), "{} expects nothing to be told", file.display());
        if told != expected {
            wrong += &format!("{}:\n-- expected\n{expected}-- told\n{told}\n", file.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_file_of_five_mistakes_is_told_five_lines_each_with_its_place_and_what_would_be_right() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bad/five-mistakes.toml");
    let Problems(problems) = Config::load(&file).expect_err("five mistakes");
    let places: Vec<_> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(places, [11, 13, 16, 20, 23]);
    assert!(problems.iter().all(|problem| problem.column > 0 && problem.to_string().contains("; ")));
}

#[test]
fn the_two_hosts_of_the_readme_are_among_the_good_examples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = text(&root.join("../README.md"));
    for name in ["host-a.toml", "host-b.toml"] {
        let example = text(&root.join("examples/good").join(name));
        let block = format!("<!-- file: {name} -->\n```toml\n{example}```\n");
        assert!(readme.contains(&block), "{name} is not what the README shows");
    }
}

#[test]
fn the_table_that_the_readme_explains_is_one_and_its_names_lead_where_it_says() {
    let readme = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"));
    let (_, names) = readme.split_once("\n## Names\n").expect("the README explains names");
    let table = names.split("```\n").nth(1).expect("a table between backquotes");
    let dtab = Dtab::parse(table).unwrap_or_else(|errors| panic!("{errors:?}"));
    let leads = |name: &str| {
        let found = dtab.look_up(&name.parse().expect("a name"));
        found.map_or_else(|error| error.to_string(), |tree| tree.to_string())
    };
    let by_dns = |service: &str| format!("/#/dns/{service}.prod.internal/4143");
    assert_eq!(leads("/svc/redis"), by_dns("redis"));
    assert_eq!(leads("/svc/ledger"), format!("/#/srv/_adit._tcp.ledger.service.consul | {}", by_dns("ledger")));
    assert!(leads("/svc/cache").starts_with("/#/dns/cache.eu.internal/4143 || /#/dns/cache.us.internal/4143 | "));
    assert!(leads("/svc/search").starts_with("9 * /#/fs/search & /#/fs/search-next | "));
    assert_eq!(leads("/svc/old"), "'/svc/old' is forbidden by a rule ('!')");
}

#[test]
fn what_the_readme_shows_of_capture_is_a_file_without_a_warning() {
    let readme = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"));
    let (_, chapter) = readme.split_once("\n## Capture\n").expect("the README explains capture");
    let chapter = chapter.split("\n## ").next().unwrap_or_default();
    let blocks: Vec<_> = chapter.split("```toml\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    let tls = "[tls]\nca = \"/ca\"\ncert = \"/cert\"\nkey = \"/key\"\n";
    let above = ["", "[outbound]\n", "[inbound]\nlisten = \"0.0.0.0:4143\"\n"];
    assert!(blocks.len() >= above.len(), "{blocks:?}");
    for (above, block) in above.into_iter().zip(blocks) {
        let file = format!("{tls}{above}{block}");
        let read = Config::parse(Path::new("README.md"), &file);
        let (_, warnings) = read.unwrap_or_else(|problems| panic!("{problems}\n{file}"));
        assert_eq!(warnings, [], "{file}");
    }
}

#[test]
fn where_the_agent_answers_is_read_from_a_file_that_is_otherwise_wrong() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bad");
    let wrong = text(&dir.join("five-mistakes.toml")) + "\n[admin]\nsocket = \"/run/adit/admin.sock\"\n";
    let file = std::env::temp_dir().join(format!("adit-wrong-{}.toml", std::process::id()));
    fs::write(&file, wrong).expect("a temporary file can be written");
    let (config, admin) = (Config::load(&file), Config::admin_of(&file));
    fs::remove_file(&file).expect("it is there");
    assert!(config.is_err());
    assert_eq!(admin.and_then(|admin| admin.socket).map(|socket| socket.path), Some("/run/adit/admin.sock".into()));
    assert_eq!(Config::admin_of(&dir.join("nothing-to-do.toml")).and_then(|admin| admin.socket), None);
    assert_eq!(Config::admin_of(&dir.join("there-is-none.toml")), None);
}
