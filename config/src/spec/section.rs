//! One table of the file, read key by key: what is missing, unknown or of the wrong type goes to the
//! report and reading goes on. What the values mean is not known here.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys;
use super::report::{At, Report};

/// A table, with the header it is known by.
pub(crate) struct Section<'a> {
    /// As [`keys`] has it.
    pub(crate) name: &'static str,
    /// Where the table begins.
    pub(crate) at: usize,
    table: &'a DeTable<'a>,
    text: &'a str,
}

/// One value of a table or of a list in it.
pub(crate) struct Field<'a> {
    /// The key it stands under.
    pub(crate) key: &'a str,
    /// The value, still as TOML has it.
    pub(crate) value: &'a DeValue<'a>,
    /// It stands in the key's list, and is not what the key says in all.
    listed: bool,
    span: Range<usize>,
    text: &'a str,
}

/// Why a value is not what its key needs.
pub(crate) struct Wrong {
    /// Byte within the string, if a place inside it can be told.
    pub(crate) offset: Option<usize>,
    pub(crate) message: String,
    pub(crate) help: String,
}

impl Wrong {
    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>) -> Wrong {
        Wrong { offset: None, message: message.into(), help: help.into() }
    }
}

impl<'a> Section<'a> {
    /// The file itself.
    pub(crate) fn file(table: &'a Spanned<DeTable<'a>>, text: &'a str, report: &mut Report) -> Section<'a> {
        Section::open(keys::FILE, 0, table.get_ref(), text, report)
    }

    fn open(name: &'static str, at: usize, table: &'a DeTable<'a>, text: &'a str, report: &mut Report) -> Section<'a> {
        let section = Section { name, at, table, text };
        section.refuse_unknown_keys(report);
        section
    }

    fn refuse_unknown_keys(&self, report: &mut Report) {
        let known = keys::known(self.name);
        for key in self.table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let word = key.get_ref();
            let (message, known_are) = self.unknown(word);
            let help = match keys::nearest(word, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("{known_are} {}", known.join(", ")),
            };
            report.problem(key.span().start, message, help);
        }
    }

    /// What the file itself holds is sections; a value there most often stands above the header it belongs under.
    fn unknown(&self, word: &str) -> (String, &'static str) {
        let shown = word.escape_debug();
        let is_value = self.table.get(word).is_some_and(|value| !holds_tables(value.get_ref()));
        match self.name {
            keys::FILE if is_value => (format!("`{shown}` stands in no section"), "write it under one of"),
            keys::FILE => (format!("unknown section `{shown}`"), "known sections are"),
            name => (format!("unknown key `{shown}` in {name}"), "known keys are"),
        }
    }

    /// Where the key's value is, or else the table.
    pub(crate) fn place_of(&self, key: &str) -> usize {
        self.table.get(key).map_or(self.at, |value| value.span().start)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether the key is there and holds nothing.
    pub(crate) fn is_empty_list(&self, key: &str) -> bool {
        let value = self.table.get(key).and_then(|value| value.get_ref().as_array());
        value.is_some_and(|list| list.is_empty())
    }

    /// The value as it stands, for what is read in a way of its own.
    pub(crate) fn field(&self, key: &'a str) -> Option<Field<'a>> {
        debug_assert!(keys::known(self.name).contains(&key), "{key} is no key of {}", self.name);
        self.table.get(key).map(|value| Field::new(key, value, false, self.text))
    }

    /// A value that may be missing.
    pub(crate) fn read<T>(
        &self,
        key: &'a str,
        report: &mut Report,
        parse: impl FnOnce(&Field<'a>) -> Result<T, Wrong>,
    ) -> Option<At<T>> {
        self.field(key)?.parse(report, parse)
    }

    /// A value that must be there; `example` is shown if it is not.
    pub(crate) fn need<T>(
        &self,
        key: &'a str,
        example: &str,
        report: &mut Report,
        parse: impl FnOnce(&Field<'a>) -> Result<T, Wrong>,
    ) -> Option<At<T>> {
        self.require(key, example, report);
        self.read(key, report, parse)
    }

    /// One value or a list of them; empty if it is missing. Each faulty one is reported.
    pub(crate) fn list<T>(
        &self,
        key: &'a str,
        report: &mut Report,
        parse: impl Fn(&Field<'a>) -> Result<T, Wrong>,
    ) -> Vec<At<T>> {
        let fields = self.field(key).map_or_else(Vec::new, Field::elements);
        fields.iter().filter_map(|field| field.parse(report, &parse)).collect()
    }

    /// A list that must be there and hold something.
    pub(crate) fn need_list<T>(
        &self,
        key: &'a str,
        example: &str,
        report: &mut Report,
        parse: impl Fn(&Field<'a>) -> Result<T, Wrong>,
    ) -> Vec<At<T>> {
        self.require(key, example, report);
        self.refuse_empty(key, &format!("add `{example}`"), report);
        self.list(key, report, parse)
    }

    /// Reports the key if it is there and holds nothing, which is not what leaving it out means.
    pub(crate) fn refuse_empty(&self, key: &str, help: &str, report: &mut Report) {
        if self.is_empty_list(key) {
            report.problem(self.place_of(key), format!("`{key}` is empty"), help);
        }
    }

    /// Reports the key if it is missing.
    pub(crate) fn require(&self, key: &str, example: &str, report: &mut Report) {
        if !self.has(key) {
            report.problem(self.at, format!("{} has no `{key}`", self.name), format!("add `{example}`"));
        }
    }

    /// A table under this one.
    pub(crate) fn table(&self, key: &'a str, name: &'static str, report: &mut Report) -> Option<Section<'a>> {
        let field = self.field(key)?;
        let found = field.table(name, report);
        if found.is_none() {
            let kind = kind(field.value);
            report.problem(field.span.start, format!("`{key}` is {kind}"), format!("write {name}"));
        }
        found
    }

    /// The tables of a list under this one.
    pub(crate) fn tables(&self, key: &'a str, name: &'static str, report: &mut Report) -> Vec<Section<'a>> {
        let Some(field) = self.field(key) else {
            return Vec::new();
        };
        let DeValue::Array(list) = field.value else {
            let kind = kind(field.value);
            report.problem(field.span.start, format!("`{key}` is {kind}"), format!("write {name}"));
            return Vec::new();
        };
        let elements = list.iter().map(|value| Field::new(key, value, true, self.text));
        elements.filter_map(|element| element.section(name, report)).collect()
    }
}

impl<'a> Field<'a> {
    fn new(key: &'a str, value: &'a Spanned<DeValue<'a>>, listed: bool, text: &'a str) -> Field<'a> {
        Field { key, value: value.get_ref(), listed, span: value.span(), text }
    }

    /// The beginning of a sentence about the value.
    pub(crate) fn is(&self) -> String {
        format!("`{}` {}", self.key, if self.listed { "holds" } else { "is" })
    }

    fn parse<T>(&self, report: &mut Report, parse: impl FnOnce(&Field<'a>) -> Result<T, Wrong>) -> Option<At<T>> {
        match parse(self) {
            Ok(value) => Some(At { at: self.span.start, value }),
            Err(wrong) => {
                report.problem(self.place(wrong.offset), wrong.message, wrong.help);
                None
            }
        }
    }

    /// A list's elements; a value that is no list is a list of one.
    fn elements(self) -> Vec<Field<'a>> {
        match self.value {
            DeValue::Array(list) => list.iter().map(|value| Field::new(self.key, value, true, self.text)).collect(),
            _ => vec![self],
        }
    }

    fn table(&self, name: &'static str, report: &mut Report) -> Option<Section<'a>> {
        match self.value {
            DeValue::Table(table) => Some(Section::open(name, self.span.start, table, self.text, report)),
            _ => None,
        }
    }

    fn section(&self, name: &'static str, report: &mut Report) -> Option<Section<'a>> {
        let found = self.table(name, report);
        if found.is_none() {
            let message = format!("`{}` holds {}", self.key, kind(self.value));
            report.problem(self.span.start, message, format!("write {name}"));
        }
        found
    }

    /// The byte of the file at which the byte `offset` of this string stands. A string with escapes
    /// does not stand in the file as it is, so its beginning has to do.
    pub(crate) fn place(&self, offset: Option<usize>) -> usize {
        match (offset, self.start()) {
            (Some(offset), Some(start)) => start + offset,
            _ => self.span.start,
        }
    }

    /// The byte of the file at which this string begins, if it stands there as it is.
    pub(crate) fn start(&self) -> Option<usize> {
        let raw = self.text.get(self.span.clone())?;
        Some(self.span.start + raw.find(self.value.as_str()?)?)
    }

    /// The file's text.
    pub(crate) fn file(&self) -> &'a str {
        self.text
    }
}

fn holds_tables(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => true,
        DeValue::Array(list) => list.iter().any(|value| value.get_ref().is_table()),
        _ => false,
    }
}

/// What a value is, as a sentence needs it.
pub(crate) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
