//! Where names lead by the file's own tables: a door or a service whose name leads nowhere, and parts
//! that are there for nothing. The tables are only read; whether an address answers is not asked.

use adit_protocol::Name;

use crate::dtab::{Dtab, LookUpError};
use crate::service::Target;
use crate::spec::Spec;
use crate::spec::inbound::InboundSpec;
use crate::spec::report::Report;

pub(super) fn check(spec: &Spec, report: &mut Report) {
    if spec.inbound.is_none() && spec.outbound.is_none() {
        let message = "the file has neither [inbound] nor [outbound], so the agent would carry nothing";
        report.warn(0, message, "add one of them");
    }
    let serves_nothing = |inbound: &&InboundSpec| inbound.services.is_empty() && inbound.captures.is_empty();
    if let Some(inbound) = spec.inbound.as_ref().filter(serves_nothing) {
        let message = "[inbound] has no [[inbound.service]], so every stream would be refused";
        report.warn(inbound.at, message, "add one for each service of this host");
    }
    if let Some(outbound) = &spec.outbound {
        for to in outbound.asks() {
            leads(to.at, &to.value, &outbound.dtab, "[outbound]", report);
        }
    }
    if let Some(inbound) = &spec.inbound {
        for to in inbound.services.iter().filter_map(|service| service.to.as_ref()) {
            if let Some(name) = literal_name(&to.value) {
                leads(to.at, &name, &inbound.dtab, "[inbound]", report);
            }
        }
    }
}

/// A name that a peer has a say in is not known yet.
fn literal_name(target: &Target) -> Option<Name> {
    match target {
        Target::Name(template) if template.is_literal() => Name::parse(template.as_str()).ok(),
        Target::Name(_) | Target::Tcp(_) | Target::Unix(_) => None,
    }
}

fn leads(at: usize, name: &Name, dtab: &Dtab, section: &str, report: &mut Report) {
    let Err(cause) = dtab.look_up(name) else {
        return;
    };
    let help = match &cause {
        LookUpError::NoSuchName(name) => format!("add a rule for {name} to `dtab` of {section}"),
        LookUpError::BadBound { rule: None, .. } => String::new(),
        _ => format!("change that rule in `dtab` of {section}, or `to`"),
    };
    report.warn(at, format!("`to` leads nowhere: {cause}"), help);
}
