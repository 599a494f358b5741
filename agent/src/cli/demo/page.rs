//! The demo's report: narrow plain text, printed as it is found out. A claim is printed only once it has been seen to
//! hold; one that does not ends the demo.

use std::{
    io::{self, Write},
    time::Duration,
};

use super::DemoError;

/// No line is longer, so that the report stands in a mail or an issue as it is.
const WIDTH: usize = 76;
/// Bytes in a line of a hexdump.
const DUMPED: usize = 16;

/// The report so far.
#[derive(Debug, Default)]
pub(super) struct Page {
    headings: usize,
    claims: usize,
}

impl Page {
    /// How many claims have held.
    pub(super) fn claims(&self) -> usize {
        self.claims
    }

    /// A line as it is.
    pub(super) fn line(&self, line: &str) -> Result<(), DemoError> {
        writeln!(io::stdout().lock(), "{line}").map_err(DemoError::io("writing the report"))
    }

    /// Begins the next part.
    pub(super) fn heading(&mut self, title: &str) -> Result<(), DemoError> {
        self.headings += 1;
        self.line(&format!("\n{}. {title}", self.headings))
    }

    /// A label and what it is of.
    pub(super) fn row(&self, label: &str, text: &str) -> Result<(), DemoError> {
        self.hanging(&format!("   {label:<13}"), text)
    }

    /// The first lines of some bytes, in hexadecimal and as what of it is text.
    pub(super) fn dump(&self, bytes: &[u8], lines: usize) -> Result<(), DemoError> {
        bytes.chunks(DUMPED).take(lines).enumerate().try_for_each(|(at, row)| {
            let hex: Vec<_> = row.iter().map(|byte| format!("{byte:02x}")).collect();
            let text: String = row.iter().map(|byte| printable(*byte)).collect();
            self.line(&format!("     {:04x}  {:<47}  {text}", at * DUMPED, hex.join(" ")))
        })
    }

    /// States a claim that holds.
    ///
    /// # Errors
    /// That it does not.
    pub(super) fn claim(&mut self, holds: bool, claim: &str) -> Result<(), DemoError> {
        if !holds {
            return Err(DemoError::Refuted(claim.to_owned()));
        }
        self.claims += 1;
        self.hanging("   ok  ", claim)
    }

    fn hanging(&self, head: &str, text: &str) -> Result<(), DemoError> {
        let indent = head.len();
        for (at, line) in wrapped(text, WIDTH - indent).iter().enumerate() {
            match at {
                0 => self.line(&format!("{head}{line}"))?,
                _ => self.line(&format!("{:indent$}{line}", ""))?,
            }
        }
        Ok(())
    }
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' }
}

/// Lines of at most `width`, broken at spaces; a longer word stands alone.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1.23 GB/s`, in decimal units.
#[allow(clippy::cast_precision_loss, reason = "three digits of it are shown")]
pub(super) fn rate(bytes: u64, took: Duration) -> String {
    let rate = bytes as f64 / took.as_secs_f64();
    if rate >= 1e9 { format!("{:.2} GB/s", rate / 1e9) } else { format!("{:.0} MB/s", rate / 1e6) }
}

/// The middle one, in milliseconds.
pub(super) fn median(mut all: Vec<Duration>) -> String {
    all.sort_unstable();
    let middle = all.get(all.len() / 2).copied().unwrap_or_default();
    format!("{:.3} ms", middle.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_breaks_at_spaces_and_loses_nothing() {
        let text = "one two three four five";
        let lines = wrapped(text, 9);
        assert_eq!(lines, ["one two", "three", "four five"]);
        assert_eq!(lines.join(" "), text);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_claim_that_does_not_hold_is_an_error_and_not_counted() {
        let mut page = Page::default();
        assert!(page.claim(false, "water is dry").unwrap_err().to_string().contains("water is dry"));
        assert_eq!(page.claims(), 0);
    }
}
