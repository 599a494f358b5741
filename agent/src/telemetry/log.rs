//! The log: lines of text or of JSON on standard error, where journald and a terminal alike take them. Its level can
//! change while the agent runs, its format cannot.

use std::sync::OnceLock;

use adit_config::{Log, LogFormat, LogLevel};
use tracing_subscriber::{
    EnvFilter, Registry, fmt,
    layer::SubscriberExt,
    reload::{Handle, Layer},
    util::SubscriberInitExt,
};

/// What lets events through, of the one log that a process has. Not there while `RUST_LOG` decides.
static FILTER: OnceLock<Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts the log of this process. `RUST_LOG` overrides the level, for a hard case.
pub fn start(log: Log) {
    let overridden = EnvFilter::try_from_default_env().ok();
    let is_overridden = overridden.is_some();
    let (filter, handle) = Layer::new(overridden.unwrap_or_else(|| filter(log.level)));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    // A second start, as in a test, leaves the first one's log.
    let started = match log.format {
        LogFormat::Text => {
            registry.with(lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))).try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    if started.is_ok() && !is_overridden {
        let _ = FILTER.set(handle);
    }
}

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
