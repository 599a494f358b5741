//! Rates, sums, orders and filters, over status pages as an agent writes them.

use std::time::Duration;

use serde_json::json;

use super::*;

fn page(sent: u64, picks: u64) -> Value {
    let stream = |id: &str, name: &str, peer: &str, sent: u64| {
        json!({ "id": id, "direction": "outbound", "name": name, "from": "127.0.0.1:7", "peer": peer, "age_seconds": 61.0,
                "bytes_sent": sent, "bytes_received": 2 * sent })
    };
    json!({
        "version": "1.2.3", "pid": 7, "uptime_seconds": 90, "streams_live": 3,
        "streams": [
            stream("a", "/svc/redis", "b.example", sent),
            stream("b", "/svc/redis", "b.example", 10 * sent),
            stream("c", "/svc/db", "c.example", 5),
        ],
        "routes": [{ "side": "outbound", "routes": [{ "name": "/svc/unused" }], "balancers": [
            { "bound": "/$/inet/10.0.0.2/1", "endpoints": [
                { "address": "10.0.0.2:1", "health": "up", "open": 2, "picks": picks, "opened_in_ms": 3 },
                { "address": "10.0.0.3:1", "health": "down", "open": 0, "picks": 1 },
            ] },
        ] }],
        "tunnels_accepted": [{ "peer": "d.example", "tunnels": 4 }],
        "certificates": [{ "id": "default", "expires_in_seconds": 864_000 }],
    })
}

/// Two looks, two seconds apart.
pub(in super::super) fn model(tab: Tab) -> Model {
    let mut model = Model::new(tab, String::new());
    let now = Instant::now();
    model.take(&page(1000, 10), now);
    model.take(&page(3000, 30), now + Duration::from_secs(2));
    model
}

fn words(table: &Table) -> Vec<Vec<&str>> {
    table.rows.iter().map(|row| row.iter().map(Cell::words).collect()).collect()
}

#[test]
fn rates_are_what_moved_between_two_looks() {
    let table = model(Tab::Streams).table();
    let words = words(&table);
    // the busiest first
    assert_eq!(words[0], ["/svc/redis", "out", "127.0.0.1:7", "b.example", "61s", "10.0K", "20.0K", "90.0K"]);
    assert_eq!(words[1][5..], ["1.0K", "2.0K", "9.0K"]);
    assert_eq!(words[2][5..], ["0", "0", "15"]);
}

#[test]
fn names_and_identities_are_sums_and_those_without_a_stream_are_there_too() {
    let names = model(Tab::Names).table();
    let rows = words(&names);
    assert_eq!(rows[0], ["/svc/redis", "2", "11.0K", "22.0K", "99.0K"]);
    assert!(rows.iter().any(|row| row[..2] == ["/svc/unused", "0"]), "{rows:?}");
    let identities = model(Tab::Identities).table();
    let rows = words(&identities);
    assert_eq!(rows[0], ["b.example", "2", "0", "11.0K", "22.0K"]);
    assert!(rows.contains(&vec!["d.example", "0", "4", "0", "0"]), "{rows:?}");
}

#[test]
fn endpoints_tell_how_many_streams_come_to_them() {
    let table = model(Tab::Endpoints).table();
    let rows = words(&table);
    assert_eq!(rows[0], ["10.0.0.2:1", "/$/inet/10.0.0.2/1", "up", "2", "10.0", "3ms"]);
    assert_eq!(rows[1], ["10.0.0.3:1", "/$/inet/10.0.0.2/1", "down", "0", "0.0", "-"]);
}

#[test]
fn a_column_and_an_order_of_choice_and_only_what_holds_the_filter() {
    let mut model = model(Tab::Streams);
    // from the column of bytes down past the last to the first
    model.sort_by_next(true);
    model.sort_by_next(true);
    assert_eq!(model.sorted_by(), (0, true));
    model.turn();
    assert_eq!(words(&model.table())[0][0], "/svc/db");
    "REDIS".clone_into(&mut model.filter);
    let table = model.table();
    assert_eq!((table.rows.len(), table.of), (2, 3));
}
