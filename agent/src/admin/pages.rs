//! The admin door's pages: a method and a path in, a response out.

use http_body_util::Full;
use hyper::{Method, Response, StatusCode, Uri, body::Bytes, header::CONTENT_TYPE};

use super::{View, status::Status};
use crate::{streams::Direction, telemetry::metrics};

const TEXT: &str = "text/plain; charset=utf-8";
/// The content type of Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

pub(super) fn answer(method: &Method, uri: &Uri, view: &View) -> Response<Full<Bytes>> {
    if *method != Method::GET && *method != Method::HEAD {
        return page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is answered here\n");
    }
    match uri.path() {
        "/metrics" => page(StatusCode::OK, METRICS, metrics_page(view)),
        "/healthz" => page(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" if view.draining.is_cancelled() => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n"),
        "/readyz" => page(StatusCode::OK, TEXT, "ready\n"),
        "/status" => match serde_json::to_string_pretty(&Status::of(view)) {
            Ok(status) => page(StatusCode::OK, JSON, status + "\n"),
            Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("status: {error}\n")),
        },
        _ => page(StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz, /readyz and /status\n"),
    }
}

fn metrics_page(view: &View) -> String {
    for direction in [Direction::Outbound, Direction::Inbound] {
        let (sent, received) = view.streams.bytes(direction);
        metrics::stream_bytes(direction, sent, received);
    }
    metrics::names(view.namers.answers());
    view.page.run_upkeep();
    view.page.render()
}

fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
