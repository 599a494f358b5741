//! `adit run`: the agent itself.

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;

use crate::{
    app,
    reload::Source,
    telemetry::{log, metrics},
};

/// How long threads that read files may go on once the agent has ended: one may hang on a mount whose server is gone.
const LAST_READS: Duration = Duration::from_secs(1);

/// Run the agent until it is told to end.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", default_value = "/etc/adit/adit.toml")]
    config: PathBuf,
    /// Once every door is open, write their addresses here, a line of JSON each.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

impl Run {
    pub(super) fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        // Whole, for messages and the status are read elsewhere than here.
        let source = Source::new(std::path::absolute(self.config)?);
        let (config, warnings) = source.load()?;
        log::start(config.log);
        for warning in warnings {
            tracing::warn!("{}", warning.0);
        }
        let page = metrics::install()?;
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        if let Some(threads) = config.runtime.threads {
            builder.worker_threads(threads);
        }
        let runtime = builder.enable_all().build()?;
        let ended = runtime.block_on(app::run(source, config, page, self.ready_file));
        runtime.shutdown_timeout(LAST_READS);
        ended?;
        Ok(ExitCode::SUCCESS)
    }
}
