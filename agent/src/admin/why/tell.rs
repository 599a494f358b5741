//! A flight in words: a line for each thing that happened, and one sentence why it is as it is. Only here are marks made
//! text.

use std::time::{Duration, SystemTime};

use adit_config::dtab::{Delegation, Dtab, Outcome};
use adit_protocol::Name;
use serde::Serialize;

use crate::{
    end::{End, Ending, Side},
    flight::{
        By, Mark, Pick, What,
        slow::{self, Slow, Who, spell},
    },
    identity::text::date,
    router::Router,
    streams::{Direction, Stream, StreamStatus},
};

/// One flight.
#[derive(Serialize)]
pub(super) struct Flight {
    #[serde(flatten)]
    stream: StreamStatus,
    /// When its first moment was.
    pub(super) began: String,
    live: bool,
    /// How it ended, as in its record.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<&'static str>,
    /// How long it took, or takes so far.
    seconds: f64,
    events: Vec<Event>,
    /// Events beyond the bound, of one with very many attempts.
    events_left_out: u32,
    /// Whom a live one waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<Who>,
    why: String,
}

/// A line of it.
#[derive(Serialize)]
struct Event {
    at_us: u64,
    what: &'static str,
    text: String,
}

impl Flight {
    /// Of a stream; the steps of the table are told by a router.
    pub(super) fn of(stream: &Stream, router: Option<&Router>) -> Self {
        let (marks, events_left_out) = stream.flight.marks_so_far();
        let end = stream.flight.end();
        let age = stream.flight.began().elapsed();
        let finished = |what: &What| marks.iter().any(|mark| mark.what == *what);
        let finished = (finished(&What::LocalFinished), finished(&What::PeerFinished));
        let sockets = if end.is_none() { stream.flight.sockets() } else { None };
        let slow = sockets.map(|[local, far]| slow::who(&local, &far, finished));
        let mut events = vec![accepted(stream)];
        events.extend(marks.iter().map(|mark| event(mark, stream, router)));
        events.extend(end.map(|(at, ending)| ended(*at, ending)));
        let took = end.map_or(age, |(at, _)| *at);
        Self {
            stream: StreamStatus::of(stream),
            began: date(SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)),
            live: end.is_none(),
            end: end.map(|(_, ending)| ending.end.to_string()),
            side: end.map(|(_, ending)| ending.side.label()),
            seconds: took.as_secs_f64(),
            events,
            events_left_out,
            waits_for: slow.map(|slow| slow.who),
            why: match end {
                Some((_, ending)) => ended_why(ending, stream.direction, took),
                None => live_why(stream.direction, slow, marks.last().map(|mark| &mark.what), took),
            },
        }
    }
}

fn accepted(stream: &Stream) -> Event {
    let from = &stream.came.from;
    let original = stream.came.original.map(|original| format!(", on its way to {original}"));
    let whose = stream.came.workload.as_ref().map(|workload| format!(", of {workload}"));
    let by_its_word = if stream.direction == Direction::Inbound { " (by that agent's word)" } else { "" };
    let whose = whose.map(|whose| whose + by_its_word).unwrap_or_default();
    Event { at_us: 0, what: "accepted", text: format!("from {from}{}{whose}", original.unwrap_or_default()) }
}

fn event(mark: &Mark, stream: &Stream, router: Option<&Router>) -> Event {
    let far = if stream.direction == Direction::Passed { "the destination" } else { "the other agent" };
    let local = if stream.direction == Direction::Inbound { "the service" } else { "the application" };
    let peer = stream.met().peer;
    let (what, text) = match &mark.what {
        What::Named(by) => ("named", format!("{} {}", stream.name, by_whom(by))),
        What::Routed(bound, age) => ("resolved", routed(bound, *age, stream, router)),
        What::Chosen(address, pick) => ("chosen", format!("{address}, {}", because(pick))),
        What::Recycled => ("tunnel", "one from the pool, with no handshake".to_owned()),
        What::Dialled { connect, handshake } => {
            let who = peer.map(|peer| format!("; it is {peer}")).unwrap_or_default();
            let took = format!("connected in {}, TLS handshake in {}", spell(*connect), spell(*handshake));
            ("tunnel", format!("a fresh one: {took}{who}"))
        }
        What::Opened => ("verdict", format!("{far} accepted the stream")),
        What::Failed(why) => ("failed", why.to_string()),
        What::Admitted(admission) => {
            ("verdict", format!("admitted by {admission} of this host ([[inbound.service]] or [[inbound.capture]])"))
        }
        What::Connected(address) => ("connected", address.to_string()),
        What::FirstSent => ("first byte", format!("from {local}")),
        What::FirstReceived => ("first byte", format!("to {local}")),
        What::LocalFinished => ("half-close", format!("{local} has sent all it had")),
        What::PeerFinished => ("half-close", format!("the side of {far} has sent all it had")),
    };
    Event { at_us: micros(mark.at), what, text }
}

fn by_whom(by: &By) -> String {
    match by {
        By::Listener(address) => format!("by [[outbound.listener]] {address}"),
        By::Capture(rule) => format!("by [[outbound.capture]] {rule}"),
        By::Destination => "by where it was meant to go; no [[outbound.capture]] names it".to_owned(),
        By::Peer => "by the OPEN of the agent it came from".to_owned(),
        By::Operator => "by adit ping".to_owned(),
    }
}

fn routed(bound: &Name, age: Option<Duration>, stream: &Stream, router: Option<&Router>) -> String {
    let age = age.map_or_else(String::new, |age| format!(", by an answer confirmed {} before", spell(age)));
    let steps = match (stream.direction, router) {
        (Direction::Outbound, Some(router)) => match steps(&router.dtab(), &stream.name, bound) {
            Some(steps) => format!(", by the table: {}", steps.join("; ")),
            None => ", by a table that is no longer in force".to_owned(),
        },
        (Direction::Outbound | Direction::Inbound | Direction::Passed, _) => String::new(),
    };
    format!("{bound}{steps}{age}")
}

/// The rules that lead a name to a bound one.
fn steps(table: &Dtab, name: &Name, bound: &Name) -> Option<Vec<String>> {
    fn find(delegation: &Delegation, bound: &Name) -> Option<Vec<usize>> {
        match &delegation.outcome {
            Outcome::Bound(found) => (found.path() == bound).then(Vec::new),
            Outcome::Wrong(_) => None,
            Outcome::Rules(steps) => steps.iter().find_map(|step| {
                let mut rest = step.tree.leaves().into_iter().find_map(|leaf| find(leaf, bound))?;
                rest.insert(0, step.rule);
                Some(rest)
            }),
        }
    }
    let rules = find(&table.delegate(name), bound)?;
    let told = |rule: usize| {
        let rule = table.rule(rule);
        format!("rule {} `{}`", rule.number, rule.text)
    };
    Some(rules.into_iter().map(told).collect())
}

fn because(pick: &Pick) -> String {
    let Pick { of, how, open, other, probe, down, refused } = *pick;
    let why = match (of, other) {
        (0, _) => "for want of a choice".to_owned(),
        _ if probe => format!("of {of}: it had failed, and this stream is the one to try it again"),
        _ if down => format!("of {of}: it is down, and so is every other that was left"),
        (1, _) => format!("the only endpoint ({open} streams)"),
        (_, None) => format!("the only one of {of} that was left ({open} streams)"),
        (_, Some(other)) => {
            format!("of {of}: of two drawn, the one with less to do ({how}; {open} streams against {other})")
        }
    };
    match refused {
        0 => why,
        _ => format!("{why}; {refused} had refused this name lately"),
    }
}

fn ended(at: Duration, ending: &Ending) -> Event {
    let side = whose_doing(ending.side);
    let detail = if ending.detail.is_empty() { String::new() } else { format!(": {}", ending.detail) };
    Event { at_us: micros(at), what: "ended", text: format!("{}, {side}{detail}", ending.end) }
}

fn whose_doing(side: Side) -> &'static str {
    match side {
        Side::Local => "by the local side",
        Side::Peer => "by the other host, or on the way to it",
        Side::Agent => "by this agent",
    }
}

fn ended_why(ending: &Ending, direction: Direction, took: Duration) -> String {
    let detail = if ending.detail.is_empty() { "no more is known" } else { ending.detail.as_str() };
    let whose = match (ending.side, direction) {
        (Side::Local, Direction::Inbound) => "the service of this host",
        (Side::Local, Direction::Outbound | Direction::Passed) => "the application of this host",
        (Side::Peer, _) => "the other host, or the way to it",
        (Side::Agent, _) => "this agent, by a rule, a limit or an operator",
    };
    match ending.end {
        End::Closed => format!("it went well: both sides said all they had, in {}", spell(took)),
        end => format!("it failed ({end}) after {} because of {whose}: {detail}", spell(took)),
    }
}

fn live_why(direction: Direction, slow: Option<Slow>, last: Option<&What>, took: Duration) -> String {
    if let Some(slow) = slow {
        return slow.to_string();
    }
    let waits = match last {
        Some(What::Routed(..) | What::Chosen(..)) if direction == Direction::Inbound => {
            "its service to take the connection"
        }
        Some(What::Routed(..) | What::Chosen(..)) => "its endpoint to connect and shake hands",
        Some(What::Recycled | What::Dialled { .. }) => "the other agent to answer OPEN",
        Some(What::Failed(_)) => "another attempt: the last one failed",
        Some(What::Admitted(_)) => "its service to take the connection",
        Some(What::Named(_)) | None if direction == Direction::Outbound => "its name to be resolved",
        Some(What::Named(_)) | None => "a connection to where it goes",
        Some(
            What::Opened
            | What::Connected(_)
            | What::FirstSent
            | What::FirstReceived
            | What::LocalFinished
            | What::PeerFinished,
        ) => "its last steps",
    };
    format!("it is not open yet, and waits for {waits} ({} so far)", spell(took))
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_are_the_rules_that_lead_to_the_bound_name() {
        let table =
            Dtab::parse("/host => /$/inet/10.0.0.1; /svc/{s} => /host/{s} | /other; /other => /$/inet/10.0.0.2/2")
                .unwrap();
        let name = |text: &str| Name::parse(text).unwrap();
        let told = steps(&table, &name("/svc/80"), &name("/$/inet/10.0.0.1/80")).unwrap();
        assert_eq!(told.len(), 2);
        assert!(told[0].starts_with("rule 2 `/svc/{s}") && told[1].starts_with("rule 1 `/host"), "{told:?}");
        assert_eq!(steps(&table, &name("/svc/80"), &name("/$/inet/10.9.9.9/80")), None);
    }

    #[test]
    fn an_endpoint_was_chosen_for_a_reason_that_is_told() {
        let pick = Pick { of: 3, how: "least", open: 1, other: Some(4), ..Pick::default() };
        assert_eq!(because(&pick), "of 3: of two drawn, the one with less to do (least; 1 streams against 4)");
        assert!(because(&Pick { probe: true, ..pick }).contains("the one to try it again"));
        assert!(because(&Pick { down: true, ..pick }).contains("so is every other"));
        assert_eq!(because(&Pick { of: 1, other: None, ..pick }), "the only endpoint (1 streams)");
    }

    #[test]
    fn the_sentence_names_the_side() {
        let ending = Ending::new(End::Reset, Side::Local, "its socket failed");
        let why = ended_why(&ending, Direction::Inbound, Duration::from_millis(20));
        assert_eq!(why, "it failed (reset) after 20ms because of the service of this host: its socket failed");
        let live = live_why(Direction::Outbound, None, Some(&What::Recycled), Duration::from_secs(3));
        assert_eq!(live, "it is not open yet, and waits for the other agent to answer OPEN (3.0s so far)");
    }
}
