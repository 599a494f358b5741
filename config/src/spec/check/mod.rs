//! What no single value shows: whether the parts of a file fit together. Every check looks at what
//! could be read and keeps silent about what could not, which has been reported already.

mod captures;
mod certificates;
mod destinations;
mod doors;
mod leads;
mod peers;
mod redirect;
mod served;
mod shadows;
mod waits;
mod workloads;

use super::Spec;
use super::report::Report;

/// Runs every check.
pub(super) fn all(spec: &Spec, report: &mut Report) {
    certificates::check(spec, report);
    doors::check(spec, report);
    captures::check(spec, report);
    served::check(spec, report);
    redirect::check(spec, report);
    destinations::check(spec, report);
    workloads::check(spec, report);
    shadows::check(spec, report);
    peers::check(spec, report);
    leads::check(spec, report);
    waits::check(spec, report);
}
