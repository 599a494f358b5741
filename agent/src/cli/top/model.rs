//! What `adit top` shows: the status pages of now and before, made into tables, and what a person has asked to see of them.
//! Pure: time is an argument, and nothing is drawn here.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use clap::ValueEnum;
use serde_json::Value;

use crate::identity::text::printable;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(super) enum Tab {
    /// Live streams.
    Streams,
    /// Names, with all streams of each.
    Names,
    /// Endpoints.
    Endpoints,
    /// Who is at the other ends.
    Identities,
}

/// How wide a column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// So many cells.
    Fixed(u16),
    /// So great a share of what the others leave.
    Share(u16),
}

/// A cell: how it reads, and how it sorts where it is a number.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    /// Words.
    Text(String),
    /// A number and its words.
    Number(f64, String),
}

/// A table as it is shown: sorted, filtered, its title and headings.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) columns: &'static [(&'static str, Width)],
    pub(super) rows: Vec<Vec<Cell>>,
    /// Before the filter.
    pub(super) of: usize,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) tab: Tab,
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) typing: bool,
    pub(super) paused: bool,
    /// What went wrong with the last look.
    pub(super) fault: Option<String>,
    /// The first row that is shown.
    pub(super) first: usize,
    pub(super) status: Value,
    sort: HashMap<Tab, (usize, bool)>,
    looked: Option<Instant>,
    /// Bytes of each stream at the last look: sent, received.
    counted: HashMap<String, (f64, f64)>,
    /// And a second, since the look before.
    rates: HashMap<String, (f64, f64)>,
    picks: HashMap<String, f64>,
    pick_rates: HashMap<String, f64>,
}

impl Tab {
    pub(super) const ALL: [Self; 4] = [Self::Streams, Self::Names, Self::Endpoints, Self::Identities];

    /// Its headings, each with how wide its column is.
    pub(super) fn columns(self) -> &'static [(&'static str, Width)] {
        use Width::{Fixed, Share};
        match self {
            Self::Streams => &[
                ("name", Share(8)),
                ("way", Fixed(4)),
                ("from", Share(5)),
                ("peer", Share(4)),
                ("age", Fixed(5)),
                ("up/s", Fixed(5)),
                ("down/s", Fixed(7)),
                ("bytes", Fixed(6)),
            ],
            Self::Names => &[
                ("name", Share(1)),
                ("streams", Fixed(8)),
                ("up/s", Fixed(7)),
                ("down/s", Fixed(7)),
                ("bytes", Fixed(7)),
            ],
            Self::Endpoints => &[
                ("address", Share(5)),
                ("bound name", Share(6)),
                ("health", Fixed(9)),
                ("streams", Fixed(8)),
                ("new/s", Fixed(6)),
                ("opens in", Fixed(8)),
            ],
            Self::Identities => &[
                ("identity", Share(1)),
                ("streams", Fixed(8)),
                ("tunnels", Fixed(8)),
                ("up/s", Fixed(7)),
                ("down/s", Fixed(7)),
            ],
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Streams => "streams",
            Self::Names => "names",
            Self::Endpoints => "endpoints",
            Self::Identities => "identities",
        }
    }
}

impl Model {
    pub(super) fn new(tab: Tab, filter: String) -> Self {
        // The busiest first, where bytes are counted.
        let sort = [
            (Tab::Streams, (6, true)),
            (Tab::Names, (3, true)),
            (Tab::Endpoints, (3, true)),
            (Tab::Identities, (4, true)),
        ];
        Self {
            tab,
            filter,
            typing: false,
            paused: false,
            fault: None,
            first: 0,
            status: Value::Null,
            sort: sort.into(),
            looked: None,
            counted: HashMap::new(),
            rates: HashMap::new(),
            picks: HashMap::new(),
            pick_rates: HashMap::new(),
        }
    }

    /// Takes the status page of this moment.
    pub(super) fn take(&mut self, status: &Value, now: Instant) {
        let span =
            self.looked.map(|before| now.saturating_duration_since(before).as_secs_f64()).filter(|span| *span > 0.0);
        let rate = |now: f64, before: Option<f64>| {
            span.zip(before).map_or(0.0, |(span, before)| ((now - before) / span).max(0.0))
        };
        let mut counted = HashMap::new();
        self.rates.clear();
        for stream in list(&status["streams"]) {
            let id = key_of(stream);
            let (sent, received) = (number(&stream["bytes_sent"]), number(&stream["bytes_received"]));
            // One that is new has carried all of it since.
            let (was_sent, was_received) = self.counted.get(&id).copied().unwrap_or_default();
            let rates = (rate(sent, Some(was_sent)), rate(received, Some(was_received)));
            self.rates.insert(id.clone(), rates);
            counted.insert(id, (sent, received));
        }
        self.counted = counted;
        let mut picks = HashMap::new();
        self.pick_rates.clear();
        for (bound, endpoint) in endpoints(status) {
            let key = format!("{bound} {}", text(&endpoint["address"]));
            let count = number(&endpoint["picks"]);
            self.pick_rates.insert(key.clone(), rate(count, self.picks.get(&key).copied()));
            picks.insert(key, count);
        }
        self.picks = picks;
        self.looked = Some(now);
        self.fault = None;
        self.status = status.clone();
    }

    /// The next column to sort by, to the right or to the left.
    pub(super) fn sort_by_next(&mut self, right: bool) {
        let columns = self.tab.columns().len();
        let (column, _) = self.sort.entry(self.tab).or_default();
        *column = (*column + if right { 1 } else { columns - 1 }) % columns;
    }

    /// Turns the order round.
    pub(super) fn turn(&mut self) {
        let (_, descending) = self.sort.entry(self.tab).or_default();
        *descending = !*descending;
    }

    /// By which column, and whether the greatest is first.
    pub(super) fn sorted_by(&self) -> (usize, bool) {
        self.sort.get(&self.tab).copied().unwrap_or_default()
    }

    /// The table that is shown.
    pub(super) fn table(&self) -> Table {
        let mut rows = match self.tab {
            Tab::Streams => list(&self.status["streams"]).iter().map(|stream| self.stream(stream)).collect(),
            Tab::Names => self.names(),
            Tab::Endpoints => endpoints(&self.status).map(|(bound, endpoint)| self.endpoint(bound, endpoint)).collect(),
            Tab::Identities => self.identities(),
        };
        let of = rows.len();
        let filter = self.filter.to_lowercase();
        rows.retain(|row: &Vec<Cell>| row.iter().any(|cell| cell.words().to_lowercase().contains(&filter)));
        let (column, descending) = self.sorted_by();
        rows.sort_by(|one, other| {
            let order = one[column].order(&other[column]);
            let order = if descending { order.reverse() } else { order };
            order.then_with(|| one[0].order(&other[0]))
        });
        Table { columns: self.tab.columns(), rows, of }
    }

    fn rates_of(&self, stream: &Value) -> (f64, f64) {
        self.rates.get(&key_of(stream)).copied().unwrap_or_default()
    }

    fn stream(&self, stream: &Value) -> Vec<Cell> {
        let (up, down) = self.rates_of(stream);
        let moved = number(&stream["bytes_sent"]) + number(&stream["bytes_received"]);
        let age = number(&stream["age_seconds"]);
        let way = match stream["direction"].as_str() {
            Some("outbound") => "out",
            Some("inbound") => "in",
            Some("passed") => "pass",
            Some(_) | None => "-",
        };
        let words = |key: &str| Cell::Text(text(&stream[key]));
        let mut row = vec![words("name"), Cell::Text(way.to_owned()), words("from"), words("peer")];
        row.extend([Cell::Number(age, span(age)), Cell::bytes(up), Cell::bytes(down), Cell::bytes(moved)]);
        row
    }

    /// Sums over the streams of each name.
    fn names(&self) -> Vec<Vec<Cell>> {
        let row = |(name, [streams, up, down, bytes]): (String, [f64; 4])| {
            vec![Cell::Text(name), Cell::count(streams), Cell::bytes(up), Cell::bytes(down), Cell::bytes(bytes)]
        };
        let mut names = self.sums("name");
        for side in list(&self.status["routes"]) {
            for route in list(&side["routes"]) {
                names.entry(text(&route["name"])).or_default();
            }
        }
        names.into_iter().map(row).collect()
    }

    fn identities(&self) -> Vec<Vec<Cell>> {
        let mut tunnels: BTreeMap<String, f64> = BTreeMap::new();
        for accepted in list(&self.status["tunnels_accepted"]) {
            *tunnels.entry(text(&accepted["peer"])).or_default() += number(&accepted["tunnels"]);
        }
        let mut sums = self.sums("peer");
        for peer in tunnels.keys() {
            sums.entry(peer.clone()).or_default();
        }
        let row = |(peer, [streams, up, down, _]): (String, [f64; 4])| {
            let tunnels = tunnels.get(&peer).copied().unwrap_or_default();
            vec![Cell::Text(peer), Cell::count(streams), Cell::count(tunnels), Cell::bytes(up), Cell::bytes(down)]
        };
        sums.into_iter().map(row).collect()
    }

    /// Streams, rates up and down, and bytes, by what they have in common.
    fn sums(&self, key: &str) -> BTreeMap<String, [f64; 4]> {
        let mut sums: BTreeMap<String, [f64; 4]> = BTreeMap::new();
        for stream in list(&self.status["streams"]) {
            let (up, down) = self.rates_of(stream);
            let moved = number(&stream["bytes_sent"]) + number(&stream["bytes_received"]);
            let sum = sums.entry(text(&stream[key])).or_default();
            for (sum, more) in sum.iter_mut().zip([1.0, up, down, moved]) {
                *sum += more;
            }
        }
        sums
    }

    fn endpoint(&self, bound: &str, endpoint: &Value) -> Vec<Cell> {
        let address = text(&endpoint["address"]);
        let new = self.pick_rates.get(&format!("{bound} {address}")).copied().unwrap_or_default();
        let opens = endpoint["opened_in_ms"].as_f64();
        vec![
            Cell::Text(address),
            Cell::Text(printable(bound)),
            Cell::Text(text(&endpoint["health"])),
            Cell::count(number(&endpoint["open"])),
            Cell::Number(new, format!("{new:.1}")),
            opens.map_or_else(
                || Cell::Number(-1.0, "-".to_owned()),
                |millis| Cell::Number(millis, format!("{millis:.0}ms")),
            ),
        ]
    }
}

impl Cell {
    fn bytes(count: f64) -> Self {
        const UNITS: [&str; 5] = ["", "K", "M", "G", "T"];
        let mut shown = count;
        let mut unit = 0;
        while shown >= 1000.0 && unit + 1 < UNITS.len() {
            shown /= 1000.0;
            unit += 1;
        }
        let digits = usize::from(unit > 0 && shown < 100.0);
        Self::Number(count, format!("{shown:.digits$}{}", UNITS[unit]))
    }

    fn count(count: f64) -> Self {
        Self::Number(count, format!("{count:.0}"))
    }

    pub(super) fn words(&self) -> &str {
        match self {
            Self::Text(words) | Self::Number(_, words) => words,
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(one, _), Self::Number(other, _)) => one.total_cmp(other),
            _ => self.words().cmp(other.words()),
        }
    }
}

/// A stream that comes back to the agent it began at is there twice, once each way.
fn key_of(stream: &Value) -> String {
    format!("{} {}", text(&stream["id"]), text(&stream["direction"]))
}

fn endpoints(status: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let balancers = list(&status["routes"]).iter().flat_map(|side| list(&side["balancers"]));
    balancers.flat_map(|balancer| {
        let bound = balancer["bound"].as_str().unwrap_or("-");
        list(&balancer["endpoints"]).iter().map(move |endpoint| (bound, endpoint))
    })
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| "-".to_owned(), printable)
}

/// Seconds, short.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        under if under < 100.0 => format!("{under:.0}s"),
        under if under < 6000.0 => format!("{:.0}min", under / 60.0),
        under if under < 172_800.0 => format!("{:.0}h", under / 3600.0),
        over => format!("{:.0}d", over / 86_400.0),
    }
}

#[cfg(test)]
pub(super) mod tests;
