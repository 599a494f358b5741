//! What the file may say, on its way from text to [`Config`]. Three steps, each over the whole file:
//! read every value, check them against each other, and only when nothing is wrong say what they
//! mean. Private: nobody outside sees a half-read file.

mod capture;
mod check;
mod inbound;
pub(crate) mod keys;
mod matches;
mod outbound;
mod redirect;
mod report;
mod section;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod value;
mod workload;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::de::DeTable;

use crate::config::{Admin, Config, Dns, Fs, Log, Runtime};
use crate::error::{Problem, Problems, Warning};
use inbound::InboundSpec;
use outbound::OutboundSpec;
use redirect::NetfilterSpec;
use report::Report;
use section::Section;
use settings::{AdminSpec, LimitsSpec};
pub(crate) use tls::DEFAULT_ID;
use tls::TlsSpec;

/// A thousand services fill 200 KiB. A greater file is a mistake, and costs memory to read.
const MAX_FILE: u64 = 4 << 20;

/// The whole file, each part as far as it could be read.
pub(crate) struct Spec {
    pub(crate) tls: TlsSpec,
    pub(crate) inbound: Option<InboundSpec>,
    pub(crate) outbound: Option<OutboundSpec>,
    pub(crate) netfilter: NetfilterSpec,
    pub(crate) admin: AdminSpec,
    pub(crate) dns: Dns,
    pub(crate) fs: Fs,
    pub(crate) limits: LimitsSpec,
    pub(crate) log: Log,
    pub(crate) runtime: Runtime,
}

/// Reads the file and then its text.
pub(crate) fn load(file: &Path) -> Result<(Config, Vec<Warning>), Problems> {
    parse(file, &text_of(file)?)
}

/// See [`Config::admin_of`].
pub(crate) fn admin_of(file: &Path) -> Option<Admin> {
    let text = text_of(file).ok()?;
    let (table, _) = DeTable::parse_recoverable(&text);
    let mut unheard = Report::default();
    Some(settings::admin(&Section::file(&table, &text, &mut unheard), &mut unheard).mean())
}

fn text_of(file: &Path) -> Result<String, Problems> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|cause| whole_file(file, format!("cannot be read: {cause}"), "name a file this user may read"))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(too_long(file));
    }
    String::from_utf8(bytes).map_err(|cause| {
        let before = cause.utf8_error().valid_up_to();
        not_utf8(file, &cause.as_bytes()[..before])
    })
}

fn whole_file(file: &Path, message: String, help: &str) -> Problems {
    let file = file.to_owned();
    Problems(vec![Problem { file, line: 0, column: 0, message, help: help.to_owned() }])
}

fn too_long(file: &Path) -> Problems {
    whole_file(file, "is longer than 4 MiB".to_owned(), "no configuration is; name the right file")
}

/// The place is where the text ends that could be read.
fn not_utf8(file: &Path, before: &[u8]) -> Problems {
    let mut report = Report::default();
    report.problem(before.len(), "this byte is no UTF-8, and TOML is nothing else", "save the file as UTF-8");
    report.problems(file, &String::from_utf8_lossy(before))
}

/// Reads a text, checks it, and says what it means.
pub(crate) fn parse(file: &Path, text: &str) -> Result<(Config, Vec<Warning>), Problems> {
    if text.len() as u64 > MAX_FILE {
        return Err(too_long(file));
    }
    let mut report = Report::default();
    match understand(text, &mut report) {
        Some(config) if report.is_clean() => Ok((config, report.warnings(file, text))),
        _ => Err(report.problems(file, text)),
    }
}

/// A text that is no TOML is not read further: what a broken line leaves of the others would be
/// blamed for faults that are not theirs.
fn understand(text: &str, report: &mut Report) -> Option<Config> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        let help = match error.message() {
            "duplicate key" => "a key and a [section] may stand once; only a [[section]] may stand again",
            _ => "",
        };
        report.problem(at, format!("this is no TOML: {}", one_line(error.message())), help);
    }
    if !errors.is_empty() {
        return None;
    }
    let spec = Spec::read(&Section::file(&table, text, report), report);
    check::all(&spec, report);
    if report.is_clean() { spec.mean(report) } else { None }
}

/// What was found, and what was expected.
fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join(", ").replacen(", expected", "; expected", 1)
}

impl Spec {
    fn read<'a>(file: &Section<'a>, report: &mut Report) -> Spec {
        Spec {
            tls: tls::read(file, report),
            inbound: inbound::read(file, report),
            outbound: outbound::read(file, report),
            netfilter: redirect::netfilter(file, report),
            admin: settings::admin(file, report),
            dns: settings::dns(file, report),
            fs: settings::fs(file, report),
            limits: settings::limits(file, report),
            log: settings::log(file, report),
            runtime: settings::runtime(file, report),
        }
    }

    /// What a file without a problem means. Every value that had to be there is; should one be
    /// missing without a word of why, that is said rather than passed over.
    fn mean(self, report: &mut Report) -> Option<Config> {
        let config = self.complete();
        if config.is_none() {
            report.problem(
                0,
                "a value that is needed is missing, and the reader did not say which",
                "this is a fault of adit; report it with the file",
            );
        }
        config
    }

    fn complete(self) -> Option<Config> {
        Some(Config {
            tls: self.tls.mean()?,
            inbound: settled(self.inbound, InboundSpec::mean)?,
            outbound: settled(self.outbound, OutboundSpec::mean)?,
            admin: self.admin.mean(),
            dns: self.dns,
            fs: self.fs,
            netfilter: self.netfilter.netfilter,
            limits: self.limits.limits,
            log: self.log,
            runtime: self.runtime,
        })
    }
}

/// Nothing means nothing; something must have a meaning.
fn settled<S, T>(spec: Option<S>, mean: impl FnOnce(S) -> Option<T>) -> Option<Option<T>> {
    match spec {
        None => Some(None),
        Some(spec) => mean(spec).map(Some),
    }
}
