//! The log: lines of text or of JSON on standard error, where journald and a terminal alike take them, or entries with fields
//! in the journal itself. Its level can change while the agent runs, its format cannot.

use std::{fmt, io, sync::OnceLock};

use adit_config::{Log, LogFormat, LogLevel};
use tracing_subscriber::{
    EnvFilter, Registry, fmt as lines,
    layer::SubscriberExt,
    reload::{Handle, Layer},
    util::SubscriberInitExt,
};

/// What lets events through, of the one log that a process has. Not there while `RUST_LOG` decides.
static FILTER: OnceLock<Handle<EnvFilter, Registry>> = OnceLock::new();

/// What the journal's fields of an event begin with: `stream` is `ADIT_STREAM`, and `journalctl ADIT_STREAM=ID` finds it.
const FIELDS: &str = "ADIT";

/// There is no journal to write to.
#[derive(Debug)]
pub struct NoJournal(io::Error);

/// Starts the log of this process. `RUST_LOG` overrides the level, for a hard case.
///
/// # Errors
/// It is to go to the journal, and nobody takes it there.
pub fn start(log: Log) -> Result<(), NoJournal> {
    let overridden = EnvFilter::try_from_default_env().ok();
    let is_overridden = overridden.is_some();
    let (filter, handle) = Layer::new(overridden.unwrap_or_else(|| filter(log.level)));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = lines::layer().with_writer(std::io::stderr).with_target(false);
    // A second start, as in a test, leaves the first one's log.
    let started = match log.format {
        LogFormat::Text => {
            registry.with(lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))).try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Journald => registry.with(journal().map_err(NoJournal)?).try_init(),
    };
    if started.is_ok() && !is_overridden {
        let _ = FILTER.set(handle);
    }
    Ok(())
}

fn journal() -> io::Result<tracing_journald::Layer> {
    let layer = tracing_journald::layer()?;
    Ok(layer.with_field_prefix(Some(FIELDS.to_owned())).with_syslog_identifier("adit".to_owned()))
}

impl fmt::Display for NoJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[log] format is \"journald\", but nobody takes it at /run/systemd/journal/socket: {}; write \"text\" or \"json\" \
             where there is no systemd",
            self.0
        )
    }
}

impl std::error::Error for NoJournal {}

/// Logs from this level on; false where `RUST_LOG` decides instead.
pub fn set_level(level: LogLevel) -> bool {
    let Some(filter) = FILTER.get() else { return false };
    // It fails only once the log is gone, and then there is nothing to let through.
    filter.reload(self::filter(level)).is_ok()
}

/// Everything from this level on; of the resolver errors only, for it warns of each packet that is not an answer, at the
/// pace of whoever sends them. What a look-up comes to is told by `naming`.
fn filter(level: LogLevel) -> EnvFilter {
    let level = level.as_str();
    EnvFilter::new(format!("{level},hickory_net=error,hickory_proto=error,hickory_resolver=error"))
}
