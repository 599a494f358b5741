//! Whose a connection is, and what the rules for single processes make of it. A file of its own, for it is decided before
//! anything is asked for on behalf of the connection.

use std::{borrow::Cow, sync::Arc};

use adit_config::workload::{Ruling, Workload, Workloads};
use adit_protocol::{Code, Preamble, RefusalCode};

use super::Asks;
use crate::{
    end::{End, Ending, Side},
    telemetry::metrics,
    wire::plain::Plain,
    workload::Finder,
};

/// What one configuration says of local processes, and who finds them.
#[derive(Debug)]
pub struct Whose {
    /// Finds them.
    pub finder: Arc<Finder>,
    /// What holds for them.
    pub rules: Arc<Workloads>,
    /// They are looked for though no rule asks.
    pub always: bool,
}

impl Whose {
    /// The process that opened a connection, if it is asked for and can be found.
    pub(super) async fn find(&self, app: &Plain, preamble: &Preamble) -> Option<Workload> {
        if !self.always && self.rules.rules.is_empty() {
            return None;
        }
        let found = match (app, preamble.source) {
            (Plain::Unix(socket), _) => self.finder.of_unix(socket).await,
            (Plain::Tcp(socket), Some(source)) => match preamble.original.or(socket.local_addr().ok()) {
                Some(to) => self.finder.of_tcp(socket, source, to).await,
                None => None,
            },
            (Plain::Tcp(_), None) => None,
        };
        metrics::workload_sought(found.is_some());
        found
    }

    /// What the process asks for: the same, with a certificate of its own if it has one.
    ///
    /// # Errors
    /// It is refused.
    pub(super) fn judge<'a>(&self, asks: &'a Asks, process: Option<&Workload>) -> Result<Cow<'a, Asks>, Ending> {
        match self.rules.judge(&asks.to, process) {
            Ruling::Goes(None) => Ok(Cow::Borrowed(asks)),
            Ruling::Goes(certificate) => Ok(Cow::Owned(Asks { certificate, ..asks.clone() })),
            Ruling::Refused { rule, reason } => {
                let detail = format!("{}: [[outbound.workload]] {rule}: {reason}", asks.to);
                Err(Ending::new(End::Refused(RefusalCode::Known(Code::Denied)), Side::Agent, detail))
            }
        }
    }
}
