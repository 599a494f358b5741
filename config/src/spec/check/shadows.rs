//! Entries that can never match: no name has their shape, or, of services, an earlier entry takes every name they would.
//! Such an entry is a mistake about who decides, so it is refused. Of peers each part of an entry, who must answer or one
//! setting, is taken from the first that has it; what can never be taken is warned of.

use adit_protocol::{Name, Pattern};

use crate::capture::ROOT;
use crate::dtab::{Bound, Namer};
use crate::spec::Spec;
use crate::spec::outbound::PeerSpec;
use crate::spec::report::{At, Report};

pub(super) fn check(spec: &Spec, report: &mut Report) {
    let services = spec.inbound.iter().flat_map(|inbound| &inbound.services);
    let names: Vec<_> = services.flat_map(|service| &service.names).collect();
    for name in &names {
        refuse_bound(name, report);
        refuse_destination(name, report);
    }
    refuse_shadowed("service name", &names, report);
    let peers: Vec<_> = spec.outbound.iter().flat_map(|outbound| &outbound.peers).collect();
    let by_name: Vec<_> = peers.iter().filter_map(|peer| Some(Entry::of(peer.name.as_ref()?, peer))).collect();
    by_name.iter().for_each(|entry| refuse_root(entry.pattern, report));
    warn_beaten("peer name", &by_name, report);
    let by_bound: Vec<_> = peers.iter().filter_map(|peer| Some(Entry::of(peer.bound.as_ref()?, peer))).collect();
    by_bound.iter().for_each(|entry| refuse_logical(entry.pattern, report));
    warn_beaten("peer bound", &by_bound, report);
}

/// One `[[outbound.peer]]`, by what is taken from it.
struct Entry<'a> {
    pattern: &'a At<Pattern>,
    erased: Erased,
    parts: Vec<Part>,
}

/// What is taken as one: who must answer, or a setting, as a sentence names it.
type Part = At<String>;

impl<'a> Entry<'a> {
    fn of(pattern: &'a At<Pattern>, peer: &PeerSpec) -> Entry<'a> {
        let unit = peer.says.has_unit().then(|| At { at: peer.at, value: "who must answer".to_owned() });
        let settings = peer.says.settings.iter().map(|key| At { at: key.at, value: format!("`{}`", key.value) });
        Entry { pattern, erased: Erased::of(&pattern.value), parts: unit.into_iter().chain(settings).collect() }
    }

    fn says(&self, part: &Part) -> bool {
        self.parts.iter().any(|one| one.value == part.value)
    }
}

/// Every part that an earlier entry of the same kind has for all names that this one is about.
fn warn_beaten(what: &str, entries: &[Entry<'_>], report: &mut Report) {
    for (index, entry) in entries.iter().enumerate() {
        let before: Vec<_> = entries[..index].iter().filter(|other| other.erased.covers(&entry.erased)).collect();
        let winner = |part: &Part| before.iter().find(|other| other.says(part)).copied();
        let beaten: Vec<_> = entry.parts.iter().filter_map(|part| Some((part, winner(part)?))).collect();
        if beaten.is_empty() {
            continue;
        }
        if beaten.len() == entry.parts.len() {
            let (name, winners) = (&entry.pattern.value, winners(&beaten));
            let message = format!("the {what} `{name}` can never win: for all its names {winners}");
            report.warn(entry.pattern.at, message, "put the narrower one first, or remove it");
        } else {
            beaten.into_iter().for_each(|(part, first)| warn_part(entry, part, first, report));
        }
    }
}

/// Each earlier entry once, with all that is taken from it.
fn winners(beaten: &[(&Part, &Entry<'_>)]) -> String {
    let mut clauses: Vec<(usize, String)> = Vec::new();
    for (part, first) in beaten {
        match clauses.iter_mut().find(|(at, _)| *at == first.pattern.at) {
            Some((_, clause)) => *clause += &format!(", {}", part.value),
            None => {
                clauses.push((first.pattern.at, format!("`{}` before it says {}", first.pattern.value, part.value)));
            }
        }
    }
    clauses.into_iter().map(|(_, clause)| clause).collect::<Vec<_>>().join(", and ")
}

fn warn_part(entry: &Entry<'_>, part: &Part, first: &Entry<'_>, report: &mut Report) {
    let (what, name, first) = (&part.value, &entry.pattern.value, &first.pattern.value);
    let message = format!("{what} for `{name}` is never taken from here: `{first}` before it says it");
    report.warn(part.at, message, "put the narrower one first, or remove it here");
}

/// PROTOCOL.md section 6: a bound name on the wire is malformed.
fn refuse_bound(name: &At<Pattern>, report: &mut Report) {
    refuse_root(name, report);
    if matches!(segments(&name.value).next(), Some("$" | "#")) {
        let message = format!("`{}` can never match: no peer may ask for a bound name", name.value);
        report.problem(name.at, message, "write a logical name, such as \"/svc/redis\"");
    }
}

/// Names that begin with `/dst` are those of `[[inbound.capture]]`, whatever a service's pattern takes. Of patterns that
/// leave it open only those of three segments are told: of other names none is served anyway.
fn refuse_destination(name: &At<Pattern>, report: &mut Report) {
    let pattern = &name.value;
    match segments(pattern).next() {
        Some(ROOT) => {
            let message =
                format!("`{pattern}` can never match: names that begin with /{ROOT} are for [[inbound.capture]]");
            report.problem(name.at, message, "add one with `ports` and `allow`, or choose another name");
        }
        Some(first) if pattern.len() == 3 && segment_covers(&erase(first), ROOT) => {
            let message = format!("`{pattern}` does not match /{ROOT}/<ip>/<port>, which is for [[inbound.capture]]");
            report.warn(name.at, message, "write the first segment out");
        }
        Some(_) | None => {}
    }
}

fn refuse_logical(bound: &At<Pattern>, report: &mut Report) {
    refuse_root(bound, report);
    let first = segments(&bound.value).next().unwrap_or("");
    if !first.is_empty() && !["$", "#"].iter().any(|mark| segment_covers(first, mark)) {
        let message = format!("`{}` can never match: a bound name begins with /$ or /#", bound.value);
        report.problem(bound.at, message, "write `name` for a logical name");
        return;
    }
    if let Some(cause) = shape_fault(&bound.value) {
        report.problem(bound.at, format!("`{}` can never match: {cause}", bound.value), "");
    }
}

/// Why no namer makes such a bound name, if the pattern says which namer it is about: it is tried
/// with a digit, which is both a host's label and a port, for all that it leaves open.
fn shape_fault(pattern: &Pattern) -> Option<String> {
    let open = |segment: &str| segment == "*" || segment.contains('{');
    let filled: Vec<_> = segments(pattern).map(|segment| erase(segment).replace("{}", "1").replace('*', "1")).collect();
    if segments(pattern).take(2).any(open) {
        return None;
    }
    let name = Name::parse(&format!("/{}", filled.join("/"))).ok()?;
    match Bound::parse(&name) {
        Err(cause) => Some(cause.to_string()),
        Ok(bound) if bound.residual().is_empty() => None,
        Ok(bound) => Some(format!("the bound name ends with {}; leave out what follows", last_part(bound.namer()))),
    }
}

fn last_part(namer: &Namer) -> &'static str {
    match namer {
        Namer::Fs { .. } => "its file",
        Namer::Srv { port: None, .. } => "its name",
        Namer::Inet { .. } | Namer::Unix(_) | Namer::Dns { .. } | Namer::Srv { .. } => "its port",
    }
}

fn refuse_root(pattern: &At<Pattern>, report: &mut Report) {
    if segments(&pattern.value).next().is_none_or(str::is_empty) {
        let message = format!("`{}` can never match: a name has a segment at least", pattern.value);
        report.problem(pattern.at, message, "write `*` for each segment that may be anything");
    }
}

fn refuse_shadowed(what: &str, patterns: &[&At<Pattern>], report: &mut Report) {
    let erased: Vec<_> = patterns.iter().map(|pattern| Erased::of(&pattern.value)).collect();
    for (index, pattern) in patterns.iter().enumerate() {
        let earlier = erased[..index].iter().position(|other| other.covers(&erased[index]));
        let Some(earlier) = earlier.and_then(|earlier| patterns.get(earlier)) else {
            continue;
        };
        let message = format!(
            "the {what} `{}` can never match: `{}` before it takes the same names",
            pattern.value, earlier.value
        );
        report.problem(pattern.at, message, "put the narrower one first, or remove it");
    }
}

/// Whether every name the later pattern matches is matched by the earlier one, as far as can be told.
pub(super) fn covers(earlier: &Pattern, later: &Pattern) -> bool {
    Erased::of(earlier).covers(&Erased::of(later))
}

/// A pattern's segments, with every capture written `{}`.
struct Erased(Vec<String>);

impl Erased {
    fn of(pattern: &Pattern) -> Erased {
        Erased(segments(pattern).map(erase).collect())
    }

    fn covers(&self, later: &Erased) -> bool {
        self.0.len() == later.0.len()
            && self.0.iter().zip(&later.0).all(|(earlier, later)| segment_covers(earlier, later))
    }
}

fn segments(pattern: &Pattern) -> impl Iterator<Item = &str> {
    pattern.as_str().trim_start_matches('/').split('/')
}

fn erase(segment: &str) -> String {
    let mut text = String::new();
    let mut pieces = segment.split('{');
    text.push_str(pieces.next().unwrap_or(""));
    for piece in pieces {
        text.push_str("{}");
        text.push_str(piece.split_once('}').map_or("", |(_, after)| after));
    }
    text
}

/// Whether every segment the later one matches is matched by the earlier one; no where that cannot
/// be told without more work than it is worth (two different partial captures).
fn segment_covers(earlier: &str, later: &str) -> bool {
    if matches!(earlier, "*" | "{}") || earlier == later {
        return true;
    }
    if !earlier.contains("{}") || later.contains("{}") || later == "*" {
        return false;
    }
    partly_covers(earlier, later)
}

/// A segment with a capture in it against a literal one.
fn partly_covers(earlier: &str, later: &str) -> bool {
    let mut number = 0;
    let named = earlier.split("{}").map(str::to_owned).reduce(|text, piece| {
        number += 1;
        format!("{text}{{c{number}}}{piece}")
    });
    let pattern = named.and_then(|named| Pattern::parse(&format!("/{named}")).ok());
    let name = Name::parse(&format!("/{later}")).ok();
    matches!((pattern, name), (Some(pattern), Some(name)) if pattern.matches(&name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(earlier: &str, later: &str) -> bool {
        let erased = |text| Erased::of(&Pattern::parse(text).unwrap());
        erased(earlier).covers(&erased(later))
    }

    #[test]
    fn an_earlier_pattern_covers_as_the_table_says() {
        let table = [
            ("/a/*", "/a/b", true),
            ("/a/{x}", "/a/*", true),
            ("/a/*", "/a/{x}", true),
            ("/a/{x}", "/a/{y}", true),
            ("/a/b", "/a/*", false),
            ("/a/*", "/a/b/c", false),
            ("/a/x-{n}", "/a/x-1", true),
            ("/a/x-{n}", "/a/y-1", false),
            ("/a/x-{n}", "/a/x-", false),
            ("/a/x-{n}", "/a/x-{m}", true),
            ("/a/x-{n}", "/a/{m}", false),
            ("/a/x-{n}", "/a/*", false),
            ("/a/{a}-{b}", "/a/1-2", true),
            ("/*/b", "/a/*", false),
        ];
        for (earlier, later, expected) in table {
            assert_eq!(covers(earlier, later), expected, "{earlier} over {later}");
        }
    }
}
