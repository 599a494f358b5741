//! `/delegate?name=/svc/x[&side=inbound]`: what routing would do with a name, as JSON, on the unix socket only. By POST the
//! body is a table to try instead of the agent's own; nothing is changed by it.

use std::time::Duration;

use adit_config::{Dtab, Policy};
use adit_protocol::Name;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
};
use serde_json::json;

use super::{
    By, View,
    pages::{JSON, TEXT, page},
    question,
};
use crate::{
    router::delegate::{Fate, Report},
    streams::Direction,
};

/// The longest table that is read.
const LONGEST: usize = 1 << 20;

/// How long a client may take over it.
const BODY_LIMIT: Duration = Duration::from_secs(5);

/// Mistakes of a table that are told; a table of noise must not get an answer longer than itself.
const MISTAKES: usize = 100;

/// Why there is no report.
enum Refused {
    /// The request makes no sense.
    Request(String),
    /// The table to try has mistakes.
    Table(Vec<String>),
}

pub(super) async fn answer(request: Request<Incoming>, by: By, view: &View) -> Response<Full<Bytes>> {
    if let Err(refusal) = question::socket_only(&request, by) {
        return refusal.page();
    }
    match report(request, view).await {
        Ok(report) => match serde_json::to_string_pretty(&report) {
            Ok(report) => page(StatusCode::OK, JSON, report + "\n"),
            Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("delegate: {error}\n")),
        },
        Err(Refused::Request(why)) => page(StatusCode::BAD_REQUEST, TEXT, why + "\n"),
        Err(Refused::Table(mistakes)) => {
            page(StatusCode::UNPROCESSABLE_ENTITY, JSON, json!({ "mistakes": mistakes }).to_string() + "\n")
        }
    }
}

async fn report(request: Request<Incoming>, view: &View) -> Result<Report, Refused> {
    let (name, side) = asked(request.uri().query().unwrap_or_default()).map_err(Refused::Request)?;
    let edited = match *request.method() {
        Method::GET => None,
        Method::POST => Some(table(request.into_body()).await?),
        _ => return Err(Refused::Request("ask by GET, or by POST with a table to try as the body".to_owned())),
    };
    let now = view.now.load_full();
    Ok(match side {
        Direction::Outbound | Direction::Passed => match &now.outbound {
            Some(outbound) => outbound.router.delegate(side, &name, edited).await,
            None => return Err(Refused::Request("this agent has no [outbound]".to_owned())),
        },
        Direction::Inbound => match &now.inbound {
            Some(inbound) => {
                let rules = inbound.rules.load_full();
                let report = rules.services.router.delegate(side, &name, edited).await;
                with_hint(report, &rules.policy, &name)
            }
            None => return Err(Refused::Request("this agent has no [inbound]".to_owned())),
        },
    })
}

/// The inbound table is entered by a service's `to`: who asks it for the name of a service is told what that is.
fn with_hint(mut report: Report, policy: &Policy, name: &Name) -> Report {
    if let (Fate::Refused(why), Some((_, service, _))) = (&mut report.outcome, policy.find(name)) {
        why.push_str(&format!("; it is the name of a service, whose `to` is {}", service.to));
    }
    report
}

/// The name and the side that a query asks about.
fn asked(query: &str) -> Result<(Name, Direction), String> {
    let (mut name, mut side) = (None, Direction::Outbound);
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match (key, decoded(value).as_deref()) {
            ("name", Some(text)) => {
                name = Some(Name::parse(text).map_err(|error| format!("'{text}' is no name: {error}"))?);
            }
            ("side", Some("outbound")) => side = Direction::Outbound,
            ("side", Some("inbound")) => side = Direction::Inbound,
            _ => return Err(format!("'{key}={value}' is nothing that can be asked: name=/svc/x, side=inbound")),
        }
    }
    Ok((name.ok_or("ask about a name: /delegate?name=/svc/x")?, side))
}

/// Text with `%` and two digits for some of its bytes (RFC 3986, 2.1).
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = rest.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = rest.get(2..)?;
    }
    String::from_utf8(bytes).ok()
}

async fn table(body: Incoming) -> Result<Dtab, Refused> {
    let body = tokio::time::timeout(BODY_LIMIT, Limited::new(body, LONGEST).collect()).await;
    let body = body.map_err(|_| Refused::Request(format!("no whole table came within {BODY_LIMIT:?}")))?;
    let body =
        body.map_err(|error| Refused::Request(format!("the table could not be read (1 MiB at most): {error}")))?;
    let text = String::from_utf8(body.to_bytes().into());
    let text = text.map_err(|_| Refused::Request("the table is no UTF-8".to_owned()))?;
    Dtab::parse(&text).map_err(|errors| Refused::Table(errors.iter().take(MISTAKES).map(ToString::to_string).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_a_name_and_perhaps_a_side() {
        let name = |text| Name::parse(text).unwrap();
        assert_eq!(asked("name=/svc/a"), Ok((name("/svc/a"), Direction::Outbound)));
        assert_eq!(asked("side=inbound&name=%2Fs%23%2fa%25"), Ok((name("/s#/a%"), Direction::Inbound)));
        for (query, told) in [
            ("", "ask about a name"),
            ("name=svc", "'svc' is no name"),
            ("name=/a&side=up", "'side=up' is nothing that can be asked"),
            ("name=/a%2", "'name=/a%2' is nothing"),
            ("name=/a%+1", "'name=/a%+1' is nothing"),
            ("name=/a%ff", "'name=/a%ff' is nothing"),
            ("name=/a&dtab=x", "'dtab=x' is nothing"),
        ] {
            let error = asked(query).unwrap_err();
            assert!(error.starts_with(told), "{query}: {error}");
        }
    }
}
