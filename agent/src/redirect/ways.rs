//! Policy routing: the `ip` rules and routes that bring packets to this host itself whose destination is elsewhere. Each
//! carries a protocol number of ours (ip-rule(8), ip-route(8)), by which they are found again and taken away, whatever
//! the file says by then.

use std::fmt;

use serde_json::Value;

use super::rule::Family;

/// What ours are tagged with: 0xad, which no routing daemon uses (rt_protos of iproute2). Also their preference among the
/// rules: before those that `ip rule` and VPNs add, which count down from 32765.
const PROTOCOL: u32 = 173;

/// A rule or a route.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Way {
    /// Every destination is this host, in this table.
    Home(Family, u32),
    /// Packets with this mark are looked up in this table.
    Marked(Family, u32, u32),
    /// The same for those that come from a loopback address: the kernel would not let one answer a client's address
    /// (ip_route_output of Linux refuses the source on any other device), and none may leave the host anyway.
    FromLoopback(Family, u32),
}

impl Way {
    /// The family it is for.
    pub fn family(self) -> Family {
        match self {
            Way::Home(family, _) | Way::Marked(family, ..) | Way::FromLoopback(family, _) => family,
        }
    }

    /// What it is, for who reads what is installed.
    pub fn describe(self) -> String {
        let (family, kind) = (self.family().as_str(), if matches!(self, Way::Home(..)) { "route" } else { "rule" });
        let what = match self {
            Way::Home(_, table) => format!("table {table} leads to this host itself"),
            Way::Marked(_, mark, table) => format!("mark {mark:#x} leads to table {table}"),
            Way::FromLoopback(_, table) => format!("what comes from a loopback address leads to table {table}"),
        };
        format!("{family} {kind}: {what}")
    }

    /// The words of the `ip` command that adds or deletes it.
    pub(super) fn command(self, verb: &str) -> String {
        let family = match self.family() {
            Family::V4 => "-4",
            Family::V6 => "-6",
        };
        match self {
            Way::Home(_, table) => format!("{family} route {verb} local default dev lo table {table} proto {PROTOCOL}"),
            Way::Marked(_, mark, table) => {
                format!("{family} rule {verb} pref {PROTOCOL} fwmark {mark:#x} lookup {table} protocol {PROTOCOL}")
            }
            Way::FromLoopback(family_, table) => {
                let from = match family_ {
                    Family::V4 => "127.0.0.0/8",
                    Family::V6 => "::1",
                };
                format!("{family} rule {verb} pref {PROTOCOL} from {from} iif lo lookup {table} protocol {PROTOCOL}")
            }
        }
    }
}

/// Ours among what `ip -N -j rule` prints.
pub(super) fn rules(family: Family, json: &str) -> Vec<Way> {
    let ours = |rule: &&Value| number(rule, "protocol") == Some(PROTOCOL);
    list(json).iter().filter(ours).filter_map(|rule| rule_of(family, rule)).collect()
}

fn rule_of(family: Family, rule: &Value) -> Option<Way> {
    let table = number(rule, "table")?;
    match number(rule, "fwmark") {
        Some(mark) => Some(Way::Marked(family, mark, table)),
        None if rule["iif"] == "lo" => Some(Way::FromLoopback(family, table)),
        None => None,
    }
}

/// Ours among what `ip -N -j route show table all proto 173` prints.
pub(super) fn routes(family: Family, json: &str) -> Vec<Way> {
    list(json).iter().filter_map(|route| Some(Way::Home(family, number(route, "table")?))).collect()
}

/// How `ip` is asked for ours.
pub(super) fn questions(family: Family) -> [Vec<String>; 2] {
    let family = match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    };
    let words = |text: String| text.split(' ').map(str::to_owned).collect();
    [words(format!("{family} -N -j rule show")), words(format!("{family} -N -j route show table all proto {PROTOCOL}"))]
}

fn list(json: &str) -> Vec<Value> {
    // Nothing at all is what `ip` prints of a family that the kernel does not have.
    serde_json::from_str::<Value>(json).ok().and_then(|value| value.as_array().cloned()).unwrap_or_default()
}

/// A number that is printed as a text, decimal or `0x…`.
fn number(value: &Value, key: &str) -> Option<u32> {
    let value = &value[key];
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.strip_prefix("0x") {
        // A mask of all bits is not printed; any other rule is not ours.
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// As the command that makes it.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ip {}", self.command("add"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"[{"priority":0,"src":"all","table":"255"},
        {"priority":173,"src":"all","fwmark":"0xad18","table":"44311","protocol":"173"},
        {"priority":173,"src":"127.0.0.0","srclen":8,"iif":"lo","table":"44311","protocol":"173"},
        {"priority":200,"src":"all","fwmark":"0x1","table":"7"},
        {"priority":32766,"src":"all","table":"254"}]"#;

    #[test]
    fn ours_are_told_from_others_rules_by_their_protocol() {
        let found = rules(Family::V4, RULES);
        assert_eq!(found, [Way::Marked(Family::V4, 0xad18, 44311), Way::FromLoopback(Family::V4, 44311)]);
        assert_eq!(rules(Family::V6, ""), []);
        let route = r#"[{"type":"2","dst":"default","dev":"lo","table":"44311","scope":"254","flags":[]}]"#;
        assert_eq!(routes(Family::V4, route), [Way::Home(Family::V4, 44311)]);
        assert_eq!(routes(Family::V4, "[ ]"), []);
    }

    #[test]
    fn a_way_is_written_as_the_command_that_makes_it() {
        let way = Way::Marked(Family::V6, 0xad18, 44311);
        assert_eq!(way.to_string(), "ip -6 rule add pref 173 fwmark 0xad18 lookup 44311 protocol 173");
        assert_eq!(way.command("del"), "-6 rule del pref 173 fwmark 0xad18 lookup 44311 protocol 173");
    }
}
