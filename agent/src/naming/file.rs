//! The text of a file of places, `host port [* weight]` a line. Pure. A bad line is reported and takes nothing from the
//! others; nothing is guessed.

use super::place::{Host, MAX_ADDRESSES, Place};
use crate::addr::Weight;
use std::fmt;

/// The greatest weight, that of an SRV record.
const MAX_WEIGHT: f64 = 65_535.0;

/// Bad lines that are kept and told one by one; more are only counted, lest a file of them choose our memory.
const MAX_TOLD: usize = 10;

/// A longer line is none: a host's name has 253 characters at the most.
const LONGEST: usize = 300;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) places: Vec<Place>,
    pub(super) bad: BadLines,
    /// How many good lines are beyond the bound.
    pub(super) cut: usize,
}

/// The lines that say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BadLines {
    /// The first of them.
    pub(super) told: Vec<BadLine>,
    pub(super) count: usize,
}

/// A line that says nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    /// From 1.
    pub(super) number: usize,
    pub(super) message: String,
}

/// Reads a file's text.
pub(super) fn read(text: &str) -> Lines {
    let mut lines = Lines::default();
    // Some editors begin a file with a mark that nobody sees.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let said = line.split('#').next().unwrap_or_default().trim();
        let place = match line.ends_with('\n') {
            _ if said.is_empty() => continue,
            true => place(said),
            false => {
                Err("the line does not end, as if the file were still being written; end it with a newline".to_owned())
            }
        };
        match place {
            Ok(_) if lines.places.len() == MAX_ADDRESSES => lines.cut += 1,
            Ok(place) => lines.places.push(place),
            Err(message) => lines.bad.add(index + 1, message),
        }
    }
    lines
}

impl BadLines {
    fn add(&mut self, number: usize, message: String) {
        self.count += 1;
        if self.told.len() < MAX_TOLD {
            self.told.push(BadLine { number, message });
        }
    }
}

fn place(said: &str) -> Result<Place, String> {
    const SHAPE: &str = "write `host port`, or `host port * weight`";
    // What is told below quotes the line: neither long nor able to move a reader's cursor.
    if said.len() > LONGEST {
        return Err(format!("{} bytes are no host and port; {SHAPE}", said.len()));
    }
    if said.chars().any(|c| c.is_control() && c != '\t') {
        return Err(format!("a control character is in the line; {SHAPE}"));
    }
    let (target, weight) = match said.split_once('*') {
        Some((target, weight)) => (target, self::weight(weight.trim())?),
        None => (said, Weight::ONE),
    };
    let words: Vec<&str> = target.split_whitespace().collect();
    let [host, port] = words.as_slice() else {
        return Err(format!("'{said}' is no host and port; {SHAPE}"));
    };
    Ok(Place { host: self::host(host)?, port: self::port(port)?, tier: 0, weight })
}

fn host(word: &str) -> Result<Host, String> {
    // With or without the brackets that an IPv6 address has before a port.
    let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).filter(|word| word.contains(':'));
    if let Ok(ip) = bare.unwrap_or(word).parse() {
        return Ok(Host::Ip(ip));
    }
    let name = adit_config::dtab::host_name(word);
    name.map(|name| Host::Name(name.into())).map_err(|error| error.to_string())
}

fn port(word: &str) -> Result<u16, String> {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    let port = word.parse().ok().filter(|port| digits && *port != 0);
    port.ok_or_else(|| format!("'{word}' is no port; write a number from 1 to 65535"))
}

fn weight(word: &str) -> Result<Weight, String> {
    let numeral = word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let weight = word.parse::<f64>().ok().filter(|weight| numeral && *weight <= MAX_WEIGHT);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 65,535,000")]
    let thousandths = weight.map(|weight| (weight * 1000.0).round() as u32);
    thousandths.map(Weight::thousandths).ok_or_else(|| format!("'{word}' is no weight; write a number from 0 to 65535"))
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.number, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(name: &str, port: u16, thousandths: u32) -> Place {
        let host = name.parse().map_or_else(|_| Host::Name(name.into()), Host::Ip);
        Place { host, port, tier: 0, weight: Weight::thousandths(thousandths) }
    }

    #[test]
    fn each_good_line_is_a_place_and_each_bad_one_is_told_with_its_number() {
        let text = "# the fleet\n\n10.0.0.1 4143\n  b.prod.internal\t4143 * 2.5  # twice\n[2001:db8::1] 1*0\n\
                    10.0.0.2\n10.0.0.3 0\n10.0.0.4 +1\na..b 1\n10.0.0.5 1 * heavy\n10.0.0.6 1 2\n10.0.0.7 1 * -1\n10.0.0.8 41";
        let lines = read(text);
        let places = [host("10.0.0.1", 4143, 1000), host("b.prod.internal", 4143, 2500), host("2001:db8::1", 1, 0)];
        assert_eq!(lines.places, places);
        let told: Vec<String> = lines.bad.told.iter().map(ToString::to_string).collect();
        let expected = [
            "line 6: '10.0.0.2' is no host and port; write `host port`, or `host port * weight`",
            "line 7: '0' is no port; write a number from 1 to 65535",
            "line 8: '+1' is no port; write a number from 1 to 65535",
            "line 9: 'a..b' is no host name: labels of letters, digits, '-' and '_' with dots",
            "line 10: 'heavy' is no weight; write a number from 0 to 65535",
            "line 11: '10.0.0.6 1 2' is no host and port; write `host port`, or `host port * weight`",
            "line 12: '-1' is no weight; write a number from 0 to 65535",
            "line 13: the line does not end, as if the file were still being written; end it with a newline",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_file_from_another_system_says_the_same() {
        assert_eq!(read("\u{feff}10.0.0.1 1\r\n10.0.0.2 2\r\n"), read("10.0.0.1 1\n10.0.0.2 2\n"));
    }

    #[test]
    fn lines_beyond_the_bound_are_counted() {
        let text: String = (0..MAX_ADDRESSES + 7).map(|number| format!("h{number} 1\n")).collect();
        let lines = read(&text);
        assert_eq!((lines.places.len(), lines.cut), (MAX_ADDRESSES, 7));
    }

    #[test]
    fn a_file_of_bad_lines_costs_no_more_than_what_is_told_of_it() {
        let text = format!("{} 1\n10.0.0.1\u{1b}[2J 1\n{}", "a".repeat(LONGEST), "nowhere\n".repeat(1000));
        let BadLines { told, count } = read(&text).bad;
        assert_eq!((told.len(), count), (MAX_TOLD, 1002));
        assert!(told[0].to_string().starts_with("line 1: 302 bytes are no host and port"), "{}", told[0]);
        assert!(told[1].to_string().starts_with("line 2: a control character is in the line"), "{}", told[1]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(\\PC|[\\x00-\\x20*#.0-9]){0,80}") {
            let Lines { places, bad, .. } = read(&text);
            prop_assert!(places.len() + bad.count <= text.lines().count());
        }

        #[test]
        fn every_line_that_says_something_is_a_place_or_told(text in "([a-z0-9.:*# -]{0,12}\n?){0,20}") {
            let lines = read(&text);
            let saying = text.lines().filter(|line| !line.split('#').next().unwrap_or_default().trim().is_empty());
            prop_assert_eq!(lines.places.len() + lines.bad.count, saying.count());
            prop_assert!(lines.bad.told.iter().all(|bad| bad.number >= 1 && bad.number <= text.lines().count()));
        }
    }
}
