//! The admin door's pages: a method and a path in, a response out.

use http_body_util::Full;
use hyper::{Method, Response, StatusCode, Uri, body::Bytes, header::CONTENT_TYPE};

use serde::Serialize;
use tokio::sync::oneshot;

use super::{
    By, NotUpgraded, Outcome, View, Wish, gauges,
    predecessors::{self, Before},
    status::{LISTED, MOST_LISTED, Status},
};
use crate::{streams::Direction, telemetry::metrics};

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
/// The content type of Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
pub(super) const JSON: &str = "application/json";

pub(super) async fn answer(method: &Method, uri: &Uri, by: By, view: &View) -> Response<Full<Bytes>> {
    match (by, uri.path()) {
        (By::Unix | By::Line, "/reload") if *method == Method::POST => return reload(view).await,
        (By::Unix, "/reload") => return page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "a reload is asked for by POST\n"),
        (By::Unix, "/upgrade") if *method == Method::POST => return upgrade(view).await,
        (By::Unix, "/upgrade") => {
            return page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "an upgrade is asked for by POST\n");
        }
        (By::Line, "/drain") if *method == Method::POST => {
            view.told_to_end.cancel();
            return page(StatusCode::OK, TEXT, "draining\n");
        }
        _ => {}
    }
    if *method != Method::GET && *method != Method::HEAD {
        return page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is answered here\n");
    }
    match uri.path() {
        "/metrics" => page(StatusCode::OK, METRICS, metrics_page(view).await),
        "/healthz" => page(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" if view.unready.is_cancelled() => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n"),
        "/readyz" => page(StatusCode::OK, TEXT, "ready\n"),
        "/status" => json(StatusCode::OK, &Status::of(view, streams_asked(uri.query())).await),
        _ => page(StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz, /readyz and /status\n"),
    }
}

/// How many live streams a status page lists: `?streams=1000` for more or fewer than it does by itself.
fn streams_asked(query: Option<&str>) -> usize {
    let count = query.and_then(|query| query.strip_prefix("streams=")?.parse().ok());
    count.unwrap_or(LISTED).min(MOST_LISTED)
}

/// Asks for a reload, and answers once it is done.
async fn reload(view: &View) -> Response<Full<Bytes>> {
    let (answer, answered) = oneshot::channel();
    if view.reload.send(Wish::Told(answer)).await.is_ok()
        && let Ok(reloaded) = answered.await
    {
        let status = match reloaded.outcome {
            Outcome::Ok | Outcome::Unchanged => StatusCode::OK,
            Outcome::Failed => StatusCode::UNPROCESSABLE_ENTITY,
        };
        return json(status, &reloaded);
    }
    page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the agent is ending, and reads no file any more\n")
}

/// Asks for an upgrade, and answers once it is made.
async fn upgrade(view: &View) -> Response<Full<Bytes>> {
    let (answer, answered) = oneshot::channel();
    if view.upgrade.send(answer).await.is_ok()
        && let Ok(upgraded) = answered.await
    {
        return match upgraded {
            Ok(upgraded) => json(StatusCode::OK, &upgraded),
            Err(NotUpgraded::Busy(why)) => page(StatusCode::CONFLICT, TEXT, why + "\n"),
            Err(NotUpgraded::Failed(why)) => page(StatusCode::UNPROCESSABLE_ENTITY, TEXT, why + "\n"),
        };
    }
    let why = match view.handed_on.is_cancelled() {
        true => "this agent has been upgraded, and another one serves now; ask that one\n",
        false => "the agent is ending, and is not upgraded any more\n",
    };
    page(StatusCode::SERVICE_UNAVAILABLE, TEXT, why)
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string_pretty(body) {
        Ok(body) => page(status, JSON, body + "\n"),
        Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("writing the answer: {error}\n")),
    }
}

async fn metrics_page(view: &View) -> String {
    let predecessors = predecessors::all(view).await;
    let behind = predecessors.iter().filter(|one| one.is_behind()).count();
    metrics::predecessors(predecessors.len(), behind, predecessors.iter().map(Before::streams).sum());
    for direction in Direction::ALL {
        let (sent, received) = view.streams.bytes(direction);
        metrics::stream_bytes(direction, sent, received);
    }
    metrics::names(view.namers.answers());
    view.page.run_upkeep();
    view.page.render() + &gauges::text(view)
}

pub(super) fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
