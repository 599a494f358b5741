use std::path::Path;

use super::*;

/// What is written in the base, and what in its place.
type Edits<'a> = &'a [(&'a str, &'a str)];

const BASE: &str = r#"
[tls]
ca = "/ca.pem"
cert = "/host.pem"
key = "/host.key"

[[tls.certificate]]
id = "web"
cert = "/web.pem"
key = "/web.key"

[inbound]
listen = ["127.0.0.1:4143"]

[[inbound.service]]
name = "/svc/redis"
to = "127.0.0.1:6379"
allow = ["a.example"]

[[inbound.service]]
name = "/svc/db"
to = "127.0.0.1:5432"
allow = ["a.example"]

[outbound]
dtab = "/svc => /$/inet/10.0.0.1/4143"

[[outbound.peer]]
name = "/svc/{service}"
identity = "{service}.example"

[[outbound.listener]]
listen = "127.0.0.1:0"
to = "/svc/redis"

[[outbound.listener]]
listen = "127.0.0.1:16379"
to = "/svc/redis"

[[outbound.listener]]
listen = "unix:/run/front.sock"
to = "/svc/db"

[admin]
listen = "127.0.0.1:9990"
socket = "/run/admin.sock"
"#;

fn config(text: &str) -> Config {
    Config::parse(Path::new("adit.toml"), text).unwrap_or_else(|problems| panic!("{problems}\n{text}")).0
}

/// The base with each `from` written as its `to`.
fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(BASE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "no `{from}` in the base");
        text.replacen(from, to, 1)
    })
}

fn change(edits: &[(&str, &str)]) -> Change {
    Change::between(&config(BASE), config(&edited(edits)))
}

const ALL_STAY: [Option<usize>; 3] = [Some(0), Some(1), Some(2)];

#[test]
fn a_file_that_says_the_same_changes_nothing() {
    let change = change(&[("[tls]", "# a comment\n[tls]"), ("[admin]", "[dns]\ntimeout = \"5s\"\n\n[admin]")]);
    assert!(change.is_empty(), "{change:?}");
    assert_eq!(change.waits, [""; 0]);
    assert_eq!(change.next, config(BASE));
    assert_eq!(change.doors.outbound, ALL_STAY);
    assert_eq!(change.doors.inbound, [Some(0)]);
    assert_eq!(change.doors.admin, [Some(0), Some(1)]);
}

#[test]
fn every_change_is_told_by_its_section_and_name() {
    let table: [(Edits<'_>, &[&str]); 17] = [
        (&[("ca = \"/ca.pem\"", "ca = \"/new.pem\"")], &["[tls] ca: /ca.pem -> /new.pem"]),
        (&[("\n[[tls.cert", "crl = \"/crl.pem\"\n[[tls.cert")], &["[tls] crl: changed"]),
        (&[("\"/web.key\"", "\"/web2.key\"")], &["[[tls.certificate]] web: changed"]),
        (
            &[("id = \"web\"", "id = \"site\"")],
            &["[[tls.certificate]] site: added", "[[tls.certificate]] web: removed"],
        ),
        (&[("[\"a.example\"]", "[\"b.example\"]")], &["[[inbound.service]] /svc/redis: changed"]),
        (
            &[("\"/svc/db\"", "[\"/svc/db\", \"/svc/data\"]")],
            &["[[inbound.service]] /svc/db, /svc/data: added", "[[inbound.service]] /svc/db: removed"],
        ),
        (
            &[
                ("/svc/redis", "/svc/x"),
                ("/svc/db", "/svc/redis"),
                ("/svc/x", "/svc/db"),
                ("5432", "1"),
                ("6379", "5432"),
                ("127.0.0.1:1\"", "127.0.0.1:6379\""),
            ],
            &["[[inbound.service]]: in another order"],
        ),
        (&[("4143\"]\n", "4143\"]\nconceal = true\n")], &["[inbound] conceal: false -> true"]),
        (&[("4143\"]\n", "4143\"]\ndtab = \"/a => /$/inet/10.0.0.2/1\"\n")], &["[inbound] dtab: changed"]),
        (&[("10.0.0.1", "10.0.0.2")], &["[outbound] dtab: changed"]),
        (&[("{service}.example", "one.example")], &["[[outbound.peer]] name /svc/{service}: changed"]),
        (
            &[("127.0.0.1:4143", "127.0.0.1:4144")],
            &["[inbound] 127.0.0.1:4144: opened", "[inbound] 127.0.0.1:4143: closed"],
        ),
        (
            &[("127.0.0.1:16379", "127.0.0.1:16380")],
            &[
                "[[outbound.listener]] 127.0.0.1:16380 -> /svc/redis: opened",
                "[[outbound.listener]] 127.0.0.1:16379 -> /svc/redis: closed",
            ],
        ),
        (
            &[("16379\"\nto = \"/svc/redis\"", "16379\"\nto = \"/svc/db\"")],
            &[
                "[[outbound.listener]] 127.0.0.1:16379 -> /svc/db: changed, it led to /svc/redis before; the door stays open",
            ],
        ),
        (&[("listen = \"127.0.0.1:9990\"\n", "")], &["[admin] 127.0.0.1:9990: closed"]),
        (
            &[("[admin]", "[limits]\nidle = \"10m\"\nwarm = 2\n[admin]")],
            &["[limits] idle: \"off\" -> \"10m\"", "[limits] warm: 0 -> 2"],
        ),
        (
            &[("[admin]", "[dns]\ntimeout = \"1s\"\n[fs]\nfolder = \"/names\"\n[log]\nlevel = \"debug\"\n[admin]")],
            &["[dns]: changed", "[fs] folder: /etc/adit/names -> /names", "[log] level: info -> debug"],
        ),
    ];
    for (edits, lines) in table {
        let change = change(edits);
        assert_eq!([change.doors.lines, change.lines].concat(), lines, "{edits:?}");
        assert_eq!(change.waits, [""; 0], "{edits:?}");
        assert_eq!(change.next, config(&edited(edits)), "{edits:?}");
    }
}

#[test]
fn a_door_goes_on_where_it_is_and_one_of_port_0_only_as_what_it_was() {
    let zero = "127.0.0.1:0\"\nto = \"/svc/redis\"";
    let front = "unix:/run/front.sock\"\nto = \"/svc/db\"";
    let fixed = "16379\"\nto = \"/svc/redis\"\n";
    let table: [(Edits<'_>, [Option<usize>; 3]); 4] = [
        (&[(zero, "127.0.0.1:0\"\nto = \"/svc/db\"")], [None, Some(1), Some(2)]),
        (&[(fixed, "16379\"\nto = \"/svc/redis\"\ncertificate = \"web\"\n")], ALL_STAY),
        (&[(front, "unix:/run/front.sock\"\nto = \"/svc/redis\"")], ALL_STAY),
        // The first two in another order.
        (
            &[
                (zero, "127.0.0.1:1\"\nto = \"/svc/redis\""),
                ("127.0.0.1:16379", "127.0.0.1:0"),
                ("127.0.0.1:1\"", "127.0.0.1:16379\""),
            ],
            [Some(1), Some(0), Some(2)],
        ),
    ];
    for (edits, origins) in table {
        assert_eq!(change(edits).doors.outbound, origins, "{edits:?}");
    }
}

#[test]
fn what_only_a_restart_applies_is_named_and_stays_as_it_was() {
    let table: [(Edits<'_>, &str); 4] = [
        (&[("[admin]", "[runtime]\nthreads = 4\n[admin]")], "[runtime] threads: \"auto\" -> 4"),
        (&[("[admin]", "[log]\nformat = \"json\"\n[admin]")], "[log] format: text -> json"),
        (
            &[("front.sock\"\n", "front.sock\"\nmode = \"0600\"\n")],
            "[[outbound.listener]] unix:/run/front.sock: mode, owner or group",
        ),
        (
            &[("admin.sock\"\n", "admin.sock\"\ngroup = \"adm\"\n")],
            "[admin] unix:/run/admin.sock: mode, owner or group",
        ),
    ];
    for (edits, waits) in table {
        let change = change(edits);
        assert_eq!(change.waits, [waits]);
        assert!(change.is_empty(), "{:?}", change.lines);
        assert_eq!(change.next, config(BASE), "it stays as it was, so the next change says so again");
    }
}

#[test]
fn a_side_that_comes_or_goes_opens_or_closes_all_it_has() {
    let (head, rest) = BASE.split_once("[inbound]").unwrap();
    let (_, outbound) = rest.split_once("[outbound]").unwrap();
    let without = config(&format!("{head}[outbound]{outbound}"));
    let lines = ["[[inbound.service]] /svc/redis: ", "[[inbound.service]] /svc/db: "];
    let gone = Change::between(&config(BASE), without.clone());
    assert_eq!(gone.doors.lines, ["[inbound] 127.0.0.1:4143: closed"]);
    assert_eq!(gone.lines, lines.map(|line| format!("{line}removed")));
    assert_eq!(gone.doors.inbound, []);
    let come = Change::between(&without, config(BASE));
    assert_eq!(come.doors.lines, ["[inbound] 127.0.0.1:4143: opened"]);
    assert_eq!(come.lines, lines.map(|line| format!("{line}added")));
    assert_eq!(come.doors.inbound, [None]);
}

#[test]
fn a_workload_api_in_place_of_files_is_told_and_so_is_the_way_back() {
    let files = "ca = \"/ca.pem\"\ncert = \"/host.pem\"\nkey = \"/host.key\"\n";
    let api =
        |wait: &str| config(&BASE.replace(files, &format!("spiffe = \"unix:/api.sock\"\nspiffe_wait = \"{wait}\"\n")));
    assert_ne!(api("1s"), config(BASE), "the base has such files");
    let there = Change::between(&config(BASE), api("1s")).lines;
    assert_eq!(
        there,
        ["[tls] ca: /ca.pem -> the Workload API at unix:/api.sock", "[[tls.certificate]] default: removed"]
    );
    let back = Change::between(&api("1s"), config(BASE)).lines;
    assert_eq!(back, ["[tls] ca: the Workload API at unix:/api.sock -> /ca.pem", "[[tls.certificate]] default: added"]);
    let wait = Change::between(&api("1s"), api("2s")).lines;
    assert_eq!(wait, ["[tls] spiffe_wait: \"1s\" -> \"2s\""]);
}

/// A file that captures, and takes on what was captured.
const CAPTURES: &str = r#"
[tls]
ca = "/ca.pem"
cert = "/host.pem"
key = "/host.key"

[inbound]
listen = ["127.0.0.1:4143"]
strict = [80]

[[inbound.capture]]
ports = [5432, "6000-6100"]
allow = ["a.example"]

[outbound]
dtab = "/dst/{ip}/* => /$/inet/{ip}/4143"

[[outbound.peer]]
name = "/{a}/{ip}/{port}"
identity = "ip:{ip}"

[outbound.redirect]
listen = ["127.0.0.1:4140", "[::1]:4140"]

[[outbound.redirect.include]]
port = 5432

[[outbound.redirect.exclude]]
user = "root"

[[outbound.capture]]
host = "db.example"
port = 5432
to = "/dst/10.0.0.1/5432"

[[outbound.capture]]
net = "10.0.0.0/8"

[[outbound.workload]]
unit = "web.service"
name = "/dst/{ip}/5432"
allow = true

[[outbound.workload]]
deny = true

[netfilter]
user = "adit"
"#;

fn captures(edits: Edits<'_>) -> Config {
    let text = edits.iter().fold(CAPTURES.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "no `{from}` in the base");
        text.replacen(from, to, 1)
    });
    config(&text)
}

#[test]
fn every_change_of_what_is_captured_is_told_by_its_section_and_name() {
    let table: [(Edits<'_>, &[&str]); 14] = [
        (&[("strict = [80]", "strict = true")], &["[inbound] strict: [80] -> true"]),
        (&[("\"a.example\"", "\"b.example\"")], &["[[inbound.capture]] ports [5432, \"6000-6100\"]: changed"]),
        (
            &[("[5432, \"6000", "[5433, \"6000")],
            &[
                "[[inbound.capture]] ports [5433, \"6000-6100\"]: added",
                "[[inbound.capture]] ports [5432, \"6000-6100\"]: removed",
            ],
        ),
        (&[("4140\"]\n", "4140\"]\nunmatched = \"pass\"\n")], &["[outbound.redirect] unmatched: refuse -> pass"]),
        (&[("4140\"]\n", "4140\"]\nremember = \"5m\"\n")], &["[outbound.redirect] remember: \"1h\" -> \"5m\""]),
        (
            &[("4140\"]\n", "4140\"]\ncertificate = \"default\"\n")],
            &["[outbound.redirect] certificate: none -> default"],
        ),
        (&[("port = 5432\n\n", "port = 5433\n\n")], &["[[outbound.redirect.include]]: changed"]),
        (&[("user = \"root\"", "user = \"ann\"")], &["[[outbound.redirect.exclude]]: changed"]),
        (
            &[("\"/dst/10.0.0.1/5432\"", "\"/dst/10.0.0.2/5432\"")],
            &["[[outbound.capture]] host db.example port [5432]: changed"],
        ),
        (
            &[("net = \"10.0.0.0/8\"", "net = \"fd00::/8\"")],
            &["[[outbound.capture]] net fd00::/8: added", "[[outbound.capture]] net 10.0.0.0/8: removed"],
        ),
        (&[("deny = true", "allow = true")], &["[[outbound.workload]] every process: changed"]),
        (&[("allow = true", "deny = true")], &["[[outbound.workload]] unit web.service to /dst/{ip}/5432: changed"]),
        (
            &[("\"127.0.0.1:4140\"", "\"127.0.0.1:4141\"")],
            &["[outbound.redirect] 127.0.0.1:4141: opened", "[outbound.redirect] 127.0.0.1:4140: closed"],
        ),
        (&[("\"127.0.0.1:4140\", \"[::1]:4140\"", "\"[::1]:4140\", \"127.0.0.1:4140\"")], &[]),
    ];
    for (edits, lines) in table {
        let change = Change::between(&captures(&[]), captures(edits));
        assert_eq!([change.doors.lines, change.lines].concat(), lines, "{edits:?}");
        assert_eq!(change.waits, [""; 0], "{edits:?}");
        assert_eq!(change.next, captures(edits), "{edits:?}");
    }
}

#[test]
fn a_door_for_captured_connections_goes_on_where_it_is() {
    let (was, turned) = ("\"127.0.0.1:4140\", \"[::1]:4140\"", "\"[::1]:4140\", \"127.0.0.2:4140\"");
    let change = Change::between(&captures(&[]), captures(&[(was, turned)]));
    assert_eq!(change.doors.redirect, [Some(1), None]);
    assert_eq!(Doors::all_new(&captures(&[])).redirect, [None, None]);
    let gone = Change::between(&captures(&[]), config(BASE));
    assert_eq!(gone.doors.redirect, []);
    assert!(gone.doors.lines.contains(&"[outbound.redirect] [::1]:4140: closed".to_owned()), "{:?}", gone.doors.lines);
    let come = Change::between(&config(BASE), captures(&[]));
    assert_eq!(come.doors.redirect, [None, None]);
}

#[test]
fn what_sockets_and_rules_were_made_with_waits_for_a_restart() {
    let user = "user = \"adit\"";
    let table: [(Edits<'_>, &str); 5] = [
        (&[(user, "user = \"adit\"\nmark = \"off\"")], "[netfilter] mark: 0xad17 -> \"off\""),
        (&[(user, "user = \"adit\"\nroute_mark = 7")], "[netfilter] route_mark: 0xad18 -> 0x7"),
        (&[(user, "user = \"adit\"\nroute_table = 7")], "[netfilter] route_table: 44311 -> 7"),
        (&[(user, "")], "[netfilter] user: adit -> none"),
        (&[("4140\"]\n", "4140\"]\nmode = \"tproxy\"\n")], "[outbound.redirect] mode: redirect -> tproxy"),
    ];
    for (edits, waits) in table {
        let change = Change::between(&captures(&[]), captures(edits));
        assert_eq!(change.waits, [waits]);
        assert!(change.is_empty(), "{:?}", change.lines);
        assert_eq!(change.next, captures(&[]));
    }
}
