//! The agents before this one on its own pages: what each says of itself, or that it says nothing.

use hyper::{Method, Request, StatusCode, body::Incoming, http::uri::PathAndQuery};
use serde::Serialize;
use serde_json::Value;

use super::View;
use crate::predecessors::{Answer, LOOK_LIMIT};

/// One of them. It may be of another version: what it does not say is null.
#[derive(Debug, Serialize)]
pub(super) struct Before {
    pid: i32,
    version: Value,
    uptime_seconds: Value,
    /// What is wrong with it: with its file, with its certificates, or that it does not answer.
    fault: Option<String>,
    streams_live: Value,
    /// As it lists its own.
    streams: Value,
}

/// All that live, the oldest first.
pub(super) async fn all(view: &View) -> Vec<Before> {
    let answers = view.predecessors.ask(Method::GET, "/status", LOOK_LIMIT).await;
    answers.into_iter().map(|(pid, answer)| Before::of(pid, answer)).collect()
}

/// The list that each gives under `key` in its answer to the same request, with its process id in every entry; nothing of
/// one that does not answer, or not so.
pub(super) async fn listed(view: &View, request: &Request<Incoming>, key: &str) -> Vec<Value> {
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let answers = view.predecessors.ask(Method::GET, path, LOOK_LIMIT).await;
    answers.into_iter().flat_map(|(pid, answer)| entries(pid, answer, key)).collect()
}

fn entries(pid: i32, answer: Answer, key: &str) -> Vec<Value> {
    let mut said = answer.map_or(Value::Null, |(_, said)| said);
    let Some(Value::Array(mut entries)) = said.get_mut(key).map(Value::take) else { return Vec::new() };
    for entry in &mut entries {
        if let Value::Object(fields) = entry {
            fields.insert("predecessor".to_owned(), pid.into());
        }
    }
    entries
}

impl Before {
    fn of(pid: i32, answer: Answer) -> Self {
        let (mut said, silence) = match answer {
            Ok((StatusCode::OK, said)) => (said, None),
            Ok((status, _)) => (Value::Null, Some(format!("it answers {status}"))),
            Err(why) => (Value::Null, Some(why.to_string())),
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let fault = silence.or_else(|| text(&said["config"]["fault"])).or_else(|| text(&said["tls_fault"]));
        let mut take = |key: &str| said.get_mut(key).map(Value::take).unwrap_or_default();
        Self {
            pid,
            version: take("version"),
            uptime_seconds: take("uptime_seconds"),
            fault,
            streams_live: take("streams_live"),
            streams: take("streams"),
        }
    }

    /// Whether it goes by something earlier than this agent, or does not say.
    pub(super) fn is_behind(&self) -> bool {
        self.fault.is_some()
    }

    /// How many streams it has, as far as it says.
    pub(super) fn streams(&self) -> u64 {
        self.streams_live.as_u64().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::predecessors::Silence;

    #[test]
    fn what_one_does_not_say_is_left_open_and_its_faults_are_told() {
        let said = json!({ "version": "0.1.0", "streams_live": 2, "streams": [1, 2], "config": { "fault": "bad" } });
        let one = Before::of(7, Ok((StatusCode::OK, said)));
        assert_eq!((one.streams(), one.fault.as_deref(), one.uptime_seconds), (2, Some("bad"), Value::Null));
        let strange = Before::of(7, Ok((StatusCode::OK, json!("text"))));
        assert_eq!((strange.streams(), strange.fault, strange.version), (0, None, Value::Null));
        let refused = Before::of(7, Ok((StatusCode::NOT_FOUND, json!({}))));
        assert_eq!(refused.fault.as_deref(), Some("it answers 404 Not Found"));
        assert_eq!(Before::of(7, Err(Silence::Ended)).fault.as_deref(), Some("it has ended"));
    }
}
