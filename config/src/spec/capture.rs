//! `[[outbound.capture]]`: what the file says of the names of captured connections. Which entry can match is checked
//! elsewhere.

use adit_protocol::Template;

use super::report::{At, Report};
use super::section::Section;
use super::{keys, matches, value};
use crate::capture::{CaptureMatch, CaptureRule, Captures, default_name};
use crate::net::{Net, Ports};

/// What one `[[outbound.capture]]` says.
pub(crate) struct CaptureSpec {
    pub(crate) at: usize,
    pub(crate) host: Option<At<String>>,
    pub(crate) net: Option<At<Net>>,
    pub(crate) ports: Vec<At<Ports>>,
    pub(crate) to: Option<At<Template>>,
    pub(crate) certificate: Option<At<String>>,
    pub(crate) says: Says,
}

/// Which keys an entry has, whether or not their values could be read.
pub(crate) struct Says {
    pub(crate) host: bool,
    pub(crate) net: bool,
    pub(crate) to: bool,
    /// Every port that is written could be read.
    pub(crate) all_ports: bool,
}

pub(super) fn read<'a>(outbound: &Section<'a>, report: &mut Report) -> Vec<CaptureSpec> {
    let captures = outbound.tables("capture", keys::CAPTURE, report);
    captures.iter().map(|section| capture(section, report)).collect()
}

fn capture(section: &Section<'_>, report: &mut Report) -> CaptureSpec {
    let before = report.problems_so_far();
    section.refuse_empty("port", "leave it out to mean every port", report);
    let ports = section.list("port", report, matches::ports);
    let all_ports = report.problems_so_far() == before;
    CaptureSpec {
        at: section.at,
        host: section.read("host", report, value::zone),
        net: section.read("net", report, matches::net),
        ports,
        to: section.read("to", report, value::name_template),
        certificate: section.read("certificate", report, value::id),
        says: Says { host: section.has("host"), net: section.has("net"), to: section.has("to"), all_ports },
    }
}

/// What they mean in all.
pub(super) fn mean(captures: Vec<CaptureSpec>) -> Option<Captures> {
    Some(Captures { rules: captures.into_iter().map(CaptureSpec::mean).collect::<Option<_>>()? })
}

impl CaptureSpec {
    fn mean(self) -> Option<CaptureRule> {
        Some(CaptureRule {
            matches: match (self.host, self.net) {
                (Some(host), None) => CaptureMatch::Host(host.value),
                (None, Some(net)) => CaptureMatch::Net(net.value),
                (Some(_), Some(_)) | (None, None) => return None,
            },
            ports: self.ports.into_iter().map(|ports| ports.value).collect(),
            to: self.to.map_or_else(default_name, |to| to.value),
            certificate: self.certificate.map(|id| id.value),
        })
    }
}
