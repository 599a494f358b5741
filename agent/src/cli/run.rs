//! `adit run`: the agent itself.

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;

use crate::{
    app::{self, Start},
    redirect::{Iptables, Tool},
    reload::Source,
    sys,
    telemetry::{log, metrics},
    upgrade::{Heritage, Line, Origin},
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
    /// Install the rules of the configuration before the agent is ready, as `adit redirect apply` does, replace them at a
    /// reload, and take them away once it has drained; applications then connect past it, in plaintext.
    #[arg(long)]
    redirect: bool,
    /// With --redirect: install the rules with iptables and ip6tables instead of nft; or with this command, such as
    /// iptables-legacy.
    #[arg(long, value_name = "COMMAND", num_args = 0..=1, require_equals = true, default_missing_value = "iptables",
        value_parser = Iptables::parse, requires = "redirect")]
    iptables: Option<Iptables>,
}

impl Run {
    pub(super) fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        // First of all, while there is one thread.
        let mut heritage = Heritage::sort(sys::inherited::take()?);
        let line = heritage.line.as_ref().map(Line::copy).transpose()?;
        let ended = self.serve(&mut heritage);
        if let (Err(error), Some(line)) = (&ended, line) {
            line.failed(&error.to_string());
        }
        ended.map(|()| ExitCode::SUCCESS)
    }

    fn serve(self, heritage: &mut Heritage) -> Result<(), Box<dyn Error>> {
        let origin = Origin::own()?;
        let tool = self.redirect.then(|| self.iptables.map_or(Tool::Nft, Tool::Iptables));
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
        let heritage = std::mem::take(heritage);
        let start = Start { source, config, page, ready_file: self.ready_file, tool, origin, heritage };
        let ended = runtime.block_on(app::run(start));
        runtime.shutdown_timeout(LAST_READS);
        Ok(ended?)
    }
}
