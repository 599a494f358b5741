//! `/whois?address=127.0.0.1:53122`: whose stream a local connection is, as JSON, on the unix socket only. A service asks
//! with the address that it sees at the other end of its connection.

use std::{net::SocketAddr, time::SystemTime};

use adit_config::{Identity, peers::Verify};
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
    pages::{TEXT, json, page},
    predecessors,
    question::{self, Refusal},
};
use crate::{
    identity::text::date,
    streams::{Right, Stream, StreamStatus},
};

/// The streams that have the address; mostly one.
#[derive(Serialize)]
struct Whois {
    address: SocketAddr,
    streams: Vec<Found>,
}

/// One of them.
#[derive(Serialize)]
#[serde(untagged)]
enum Found {
    /// Of this agent.
    Own(Box<Whose>),
    /// Of an agent before this one, in its words, with its process id.
    Before(Value),
}

/// One of them: as the status page shows it, and what else is known of who is at its other end.
#[derive(Serialize)]
struct Whose {
    #[serde(flatten)]
    stream: StreamStatus,
    /// What the agent at the other end has proved to be.
    identities: Vec<String>,
    /// Its own end of the tunnel, of a stream from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<SocketAddr>,
    /// The application's address; of a stream from there by that agent's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SocketAddr>,
    since: String,
}

pub(super) async fn answer(request: &Request<Incoming>, by: By, view: &View) -> Result<Response<Full<Bytes>>, Refusal> {
    let address = question::asked(request, by, asked)?;
    let own = view.streams.whose(address);
    let own = own.iter().map(|stream| Found::Own(Box::new(Whose::of(stream))));
    let before = predecessors::listed(view, request, "streams").await;
    let streams: Vec<_> = own.chain(before.into_iter().map(Found::Before)).collect();
    if streams.is_empty() {
        let none =
            format!("{address} is neither this agent's end of a connection to a service nor an application's to it\n");
        return Ok(page(StatusCode::NOT_FOUND, TEXT, none));
    }
    Ok(json(StatusCode::OK, &Whois { address, streams }))
}

impl Whose {
    fn of(stream: &Stream) -> Self {
        let age = stream.since.elapsed();
        Self {
            stream: StreamStatus::of(stream),
            identities: proven(stream).iter().map(ToString::to_string).collect(),
            agent: stream.came.agent,
            source: stream.came.source,
            since: date(SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)),
        }
    }
}

/// What the other agent has proved: to be let in, or to be the one that a rule here expects.
fn proven(stream: &Stream) -> Vec<Identity> {
    match stream.right() {
        Some(Right::Inbound { peer, .. }) => peer,
        Some(Right::Outbound { verify: Verify::Identity(identity), .. }) if stream.met().peer.is_some() => {
            vec![identity]
        }
        Some(Right::Outbound { .. } | Right::Passed { .. }) | None => Vec::new(),
    }
}

/// The address that a query asks about.
fn asked(query: &str) -> Result<SocketAddr, String> {
    match query.split_once('=') {
        Some(("address", value)) => {
            let address = decoded(value).and_then(|text| text.parse().ok());
            address
                .ok_or_else(|| format!("'{value}' is no address with a port, such as 127.0.0.1:53122 or [::1]:53122"))
        }
        _ => Err("ask about an address: /whois?address=127.0.0.1:53122".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_about_one_address() {
        assert_eq!(asked("address=127.0.0.1:53122"), Ok(SocketAddr::from(([127, 0, 0, 1], 53122))));
        assert_eq!(asked("address=%5B::1%5D%3A7"), Ok("[::1]:7".parse().unwrap()));
        for query in ["", "address", "port=1", "address=127.0.0.1", "address=localhost:1", "address=1.2.3.4:5&x=y"] {
            assert!(asked(query).unwrap_err().contains("127.0.0.1:53122"), "{query}");
        }
    }
}
