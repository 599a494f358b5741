//! `adit ping`: what a stream to a name would meet, step by step, or the exact refusal.

use std::{error::Error, io::Write, path::PathBuf, process::ExitCode};

use adit_config::Config;
use adit_protocol::Name;
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::{app, flight::By, outbound::Asks};

/// Send a probe through the mesh: nothing is connected at its far end.
#[derive(Debug, Args)]
pub(super) struct Ping {
    /// The logical name, such as /svc/redis.
    #[arg(value_name = "NAME", value_parser = |text: &str| Name::parse(text))]
    name: Name,
    /// The configuration file, whose rules and certificates the probe uses.
    #[arg(long, short, value_name = "FILE", default_value = "/etc/adit/adit.toml")]
    config: PathBuf,
    /// The id of the certificate to show; without it, that of the first listener for this name, or the default one. Rules for
    /// workloads and captures choose for applications alone.
    #[arg(long, value_name = "ID")]
    certificate: Option<String>,
}

impl Ping {
    pub(super) fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let (config, _) = Config::load(&self.config)?;
        let certificate = self.certificate.clone().or_else(|| listeners_certificate(&config, &self.name));
        let asks = Asks { to: self.name, certificate, original: None, by: By::Operator };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let stop = CancellationToken::new();
            let _ends = stop.clone().drop_guard();
            let outbound = app::outbound_alone(&config, &stop)?;
            // A reader that went away takes nothing from the probe: its end is in the exit code.
            outbound.probe(&asks, |step| _ = writeln!(std::io::stdout(), "{step}")).await?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

fn listeners_certificate(config: &Config, name: &Name) -> Option<String> {
    let mut listeners = config.outbound.iter().flat_map(|outbound| &outbound.listeners);
    listeners.find(|listener| listener.to == *name)?.certificate.clone()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_first_listener_of_a_name_says_which_certificate_a_probe_shows() {
        let listener = |to: &str, port: u16, more: &str| {
            format!("[[outbound.listener]]\nlisten = \"127.0.0.1:{port}\"\nto = \"{to}\"\n{more}\n")
        };
        let text = [
            "[tls]\nca = \"/ca\"\ncert = \"/cert\"\nkey = \"/key\"\n",
            "[[tls.certificate]]\nid = \"web\"\ncert = \"/cert2\"\nkey = \"/key2\"\n",
            "[outbound]\ndtab = \"/svc => /$/inet/127.0.0.1/1\"\n",
            "[[outbound.peer]]\nname = \"/svc/{service}\"\nidentity = \"b.example\"\n",
            &listener("/svc/a", 1, ""),
            &listener("/svc/a", 2, "certificate = \"web\""),
            &listener("/svc/b", 3, "certificate = \"web\""),
        ]
        .concat();
        let (config, _) = Config::parse(Path::new("adit.toml"), &text).unwrap();
        let shown = |name: &str| listeners_certificate(&config, &Name::parse(name).unwrap());
        assert_eq!(shown("/svc/a"), None);
        assert_eq!(shown("/svc/b").as_deref(), Some("web"));
        assert_eq!(shown("/svc/c"), None);
    }
}
