//! `/why[?stream=PREFIX][&name=PREFIX][&failed=1][&n=20]`: what happened to the last streams, live and ended, as JSON, on the
//! unix socket only. The oldest of those asked for is first. A list of flights and nothing around it that speaks for one
//! process, so that the answers of several can be put together.

mod tell;

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    By, View,
    delegate::decoded,
    pages::json,
    predecessors,
    question::{self, Refusal},
};
use crate::{end::End, streams::Stream};
use tell::Flight;

/// Flights in one answer, unless asked for more or fewer.
const USUAL: usize = 20;

/// The answer.
#[derive(Serialize)]
struct Answer {
    flights: Vec<Told>,
}

/// One flight.
#[derive(Serialize)]
#[serde(untagged)]
enum Told {
    /// Of this agent.
    Own(Box<Flight>),
    /// Of an agent before this one, in its words, with its process id.
    Before(Value),
}

/// Which flights are asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    stream: Option<String>,
    name: Option<String>,
    failed: bool,
    most: usize,
}

pub(super) async fn answer(request: &Request<Incoming>, by: By, view: &View) -> Result<Response<Full<Bytes>>, Refusal> {
    let asked = question::asked(request, by, Asked::of)?;
    let before = predecessors::listed(view, request, "flights").await;
    let mut flights: Vec<_> = before.into_iter().map(Told::Before).chain(own(view, &asked)).collect();
    // By whole seconds: within one those of agents before this one stand first, and the order of each stays.
    flights.sort_by(|one, other| one.began().cmp(other.began()));
    let beyond = flights.len().saturating_sub(asked.most);
    flights.drain(..beyond);
    Ok(json(StatusCode::OK, &Answer { flights }))
}

/// Those of this agent, the oldest first.
fn own(view: &View, asked: &Asked) -> Vec<Told> {
    let mut streams = view.streams.flights();
    streams.retain(|stream| asked.is_about(stream));
    let first = streams.len().saturating_sub(asked.most);
    let now = view.now.load();
    // The steps of the table are worked out again, which is worth its time for one stream and not for a list.
    let router = now.outbound.as_ref().filter(|_| asked.stream.is_some()).map(|outbound| &*outbound.router);
    streams[first..].iter().map(|stream| Told::Own(Box::new(Flight::of(stream, router)))).collect()
}

impl Told {
    fn began(&self) -> &str {
        match self {
            Self::Own(flight) => &flight.began,
            Self::Before(flight) => flight["began"].as_str().unwrap_or_default(),
        }
    }
}

impl Asked {
    fn of(query: &str) -> Result<Self, String> {
        let mut asked = Self { stream: None, name: None, failed: false, most: USUAL };
        for (key, value) in
            query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        {
            match (key, decoded(value)) {
                ("stream", Some(id)) if is_id(&id) => asked.stream = Some(id.to_ascii_lowercase()),
                ("stream", _) => {
                    return Err(format!(
                        "'{value}' is no stream's id, nor the beginning of one: hexadecimal digits, at most 32"
                    ));
                }
                ("name", Some(name)) => asked.name = Some(name),
                ("failed", Some(_)) if matches!(value, "" | "1" | "true") => asked.failed = true,
                ("n", Some(count)) => {
                    asked.most = count.parse().map_err(|_| format!("'{value}' is no number of streams"))?;
                }
                _ => {
                    return Err(format!(
                        "'{key}={value}' is nothing that can be asked: stream=, name=, failed=1, n=20"
                    ));
                }
            }
        }
        Ok(asked)
    }

    fn is_about(&self, stream: &Stream) -> bool {
        let failed = || stream.flight.end().is_some_and(|(_, ending)| ending.end != End::Closed);
        self.stream.as_ref().is_none_or(|id| stream.id.to_string().starts_with(id))
            && self.name.as_ref().is_none_or(|name| stream.name.as_str().starts_with(name))
            && (!self.failed || failed())
    }
}

fn is_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_flights() {
        let all = Asked { stream: None, name: None, failed: false, most: USUAL };
        assert_eq!(Asked::of(""), Ok(all));
        let some = Asked { stream: Some("0a".to_owned()), name: Some("/svc/a".to_owned()), failed: true, most: 3 };
        assert_eq!(Asked::of("stream=0A&name=%2Fsvc%2Fa&failed=1&n=3"), Ok(some));
        for (query, told) in [
            ("stream=", "'' is no stream's id"),
            ("stream=xyz", "'xyz' is no stream's id"),
            ("stream=000000000000000000000000000000000", "is no stream's id"),
            ("n=many", "'many' is no number"),
            ("n=-1", "'-1' is no number"),
            ("failed=perhaps", "nothing that can be asked"),
            ("nmae=/svc/a", "nothing that can be asked"),
        ] {
            let error = Asked::of(query).unwrap_err();
            assert!(error.contains(told), "{query}: {error}");
        }
    }
}
