//! The door that pages with a question in their query share: who may ask, how, and whether the question makes sense. It
//! answers none of them.

use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Bytes};

use super::{
    By,
    pages::{TEXT, page},
};

/// Why a question gets no answer of its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal(StatusCode, String);

impl Refusal {
    /// It, as who asked is told.
    pub(super) fn page(self) -> Response<Full<Bytes>> {
        let Self(status, why) = self;
        page(status, TEXT, why + "\n")
    }
}

/// Nobody may ask over TCP: the answers name peers and local addresses.
///
/// # Errors
/// The request came that way.
pub(super) fn socket_only<B>(request: &Request<B>, by: By) -> Result<(), Refusal> {
    match by {
        By::Unix | By::Line => Ok(()),
        By::Tcp => {
            let why = format!("{} is answered on the admin socket only", request.uri().path());
            Err(Refusal(StatusCode::FORBIDDEN, why))
        }
    }
}

/// What a request asks, as `read` takes it from its query.
///
/// # Errors
/// It came over TCP, by another method than GET, or `read` makes no sense of it.
pub(super) fn asked<B, T>(
    request: &Request<B>,
    by: By,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, Refusal> {
    socket_only(request, by)?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here".to_owned()));
    }
    read(request.uri().query().unwrap_or_default()).map_err(|why| Refusal(StatusCode::BAD_REQUEST, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_comes_by_the_socket_and_by_get_and_makes_sense() {
        let ask = |method: Method, query: &str, by| {
            let request = Request::builder().method(method).uri(format!("/why{query}")).body(()).unwrap();
            asked(&request, by, |query| if query == "bad" { Err("no".to_owned()) } else { Ok(query.to_owned()) })
        };
        for (method, by) in [(Method::GET, By::Unix), (Method::HEAD, By::Unix), (Method::GET, By::Line)] {
            assert_eq!(ask(method.clone(), "?n=1", by), Ok("n=1".to_owned()));
            assert_eq!(ask(method, "", by), Ok(String::new()));
        }
        for (method, query, by, status, why) in [
            (Method::POST, "?bad", By::Tcp, StatusCode::FORBIDDEN, "/why is answered on the admin socket only"),
            (Method::POST, "?bad", By::Unix, StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here"),
            (Method::GET, "?bad", By::Line, StatusCode::BAD_REQUEST, "no"),
        ] {
            assert_eq!(ask(method, query, by), Err(Refusal(status, why.to_owned())));
        }
    }
}
