//! Access records: one for each stream on each host, joined by the stream's id, in every format.

use std::{collections::BTreeMap, fs, os::unix::net::UnixDatagram, time::Duration};

use adit_tests::{
    address::Address,
    agent::Agent,
    end::End,
    listener::Listener,
    mesh::{Mesh, Plan, alone},
    need, need_that,
    skip::is_root,
    wait::{LIMIT, until},
};
use serde_json::Value;

const ECHO: &str = "/svc/echo";
const BARRED: &str = "/svc/barred";
const GONE: &str = "/svc/gone";

/// How the streams of these tests end, and how both hosts call it: A's word, B's word.
const ENDS: [(&str, &str, &str); 4] = [
    ("a clean one", "closed", "closed"),
    ("a reset by the client", "reset", "reset"),
    ("one that B's policy refuses", "refused (denied)", "refused (denied)"),
    ("one whose service is gone", "refused (unavailable)", "refused (unavailable)"),
];

#[test]
fn each_stream_leaves_one_record_on_each_host_with_one_id() {
    // given both formats of lines
    for format in ["text", "json"] {
        let service = Listener::at(&Address::any_port());
        let log = format!("\n[log]\nformat = \"{format}\"\n");
        let mesh = plan(&service).a_also(&log).b_also(&log).start();
        // when streams end in every way
        run_streams(&mesh, &service);
        // then both hosts have one record of each, under one id
        let read = |agent: &Agent| records(format, &agent.log());
        let (a, b) = until("all records", LIMIT, || {
            Some((read(&mesh.a), read(&mesh.b))).filter(|(a, b)| a.len() >= ENDS.len() && b.len() >= ENDS.len())
        });
        assert_eq!((a.len(), b.len()), (ENDS.len(), ENDS.len()), "{format}: {a:?}\n{b:?}");
        let b: BTreeMap<_, _> = b.into_iter().collect();
        let pairs: Vec<_> = a.iter().map(|(id, end)| (end.as_str(), b.get(id).map(String::as_str))).collect();
        let expected: Vec<_> = ENDS.iter().map(|(_, a, b)| (*a, Some(*b))).collect();
        assert_eq!(pairs, expected, "{format}");
    }
}

#[test]
fn a_name_that_leads_nowhere_leaves_one_record() {
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().service(ECHO, service.address()).table("/other => /$/inet/127.0.0.1/{port} ;").start();
    assert!(End::connect(&mesh.front(ECHO)).failure().is_some());
    until("its record", LIMIT, || (records("text", &mesh.a.log()).len() == 1).then_some(()));
    assert_eq!(records("text", &mesh.b.log()), []);
}

#[test]
fn the_journal_gets_each_record_with_its_fields() {
    need!("unshare", "mount");
    need_that!(is_root(), "only root mounts");
    // given an agent that sees a journal's socket where systemd has it
    let run = tempfile::tempdir().unwrap();
    fs::create_dir_all(run.path().join("systemd/journal")).unwrap();
    let journal = UnixDatagram::bind(run.path().join("systemd/journal/socket")).unwrap();
    journal.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let run = run.path().display().to_string();
    let service = Listener::at(&Address::any_port());
    let log = "\n[log]\nformat = \"journald\"\n";
    let seeing = ["unshare", "--mount", "sh", "-c", "mount --bind \"$0\" /run && exec \"$@\"", &run];
    let mesh = plan(&service).a_also(log).a_inside(&seeing).start();
    // when streams end in every way
    run_streams(&mesh, &service);
    // then each has one entry, whose fields `journalctl ADIT_STREAM=ID` finds, as B calls it too
    let mut entries = Vec::new();
    let b = until("all entries", LIMIT, || {
        let mut room = vec![0; 1 << 16];
        while let Ok(count) = journal.recv(&mut room) {
            entries.push(fields(&room[..count]));
        }
        let b = records("text", &mesh.b.log());
        (entries.iter().filter(|entry| entry.contains_key("ADIT_END")).count() >= ENDS.len() && b.len() >= ENDS.len())
            .then_some(b)
    });
    let ends: Vec<_> = entries.iter().filter(|entry| entry.contains_key("ADIT_END")).collect();
    let told: Vec<_> = ends.iter().map(|entry| entry["ADIT_END"].as_str()).collect();
    assert_eq!(told, ENDS.map(|(_, a, _)| a));
    let ids: Vec<_> = ends.iter().map(|entry| entry["ADIT_STREAM"].clone()).collect();
    assert!(b.iter().all(|(id, _)| ids.contains(id)), "{ids:?} {b:?}");
    for entry in ends {
        assert_eq!(entry["SYSLOG_IDENTIFIER"], "adit");
        assert!(entry["ADIT_NAME"].starts_with("/svc/") && !entry["MESSAGE"].is_empty(), "{entry:?}");
        assert!(matches!(entry["PRIORITY"].as_str(), "3" | "4" | "5"), "{entry:?}");
        assert_eq!(entry["ADIT_DIRECTION"], "outbound");
    }
    assert!(mesh.a.log().is_empty(), "{}", mesh.a.log());
}

#[test]
fn without_a_journal_the_agent_says_so_and_does_not_start() {
    need!("unshare", "mount");
    need_that!(is_root(), "only root mounts");
    let empty = tempfile::tempdir().unwrap();
    let dir = alone("[log]\nformat = \"journald\"\n[inbound]\nlisten = [\"127.0.0.1:0\"]\n");
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /run && exec \"$@\""]).arg(empty.path());
    command.arg(adit_tests::agent::binary()).arg("run").arg("--config").arg(dir.path().join("adit.toml"));
    let ended = adit_tests::process::run(&mut command, LIMIT);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.all());
    let words = "[log] format is \"journald\", but nobody takes it at /run/systemd/journal/socket: ";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
}

fn plan(service: &Listener) -> Plan {
    let gone = Listener::at(&Address::any_port()).address().clone();
    let plan = Mesh::plan().service(ECHO, service.address()).service(GONE, &gone);
    plan.service(BARRED, service.address()).only_for("somebody.else")
}

/// One stream for each of `ENDS`, in that order.
fn run_streams(mesh: &Mesh, service: &Listener) {
    let is_over = |count: usize| {
        let ended = |agent: &Agent| agent.metric("adit_streams_active{direction=\"outbound\"}") == 0.0;
        until(&format!("stream {count} to be over"), LIMIT, || ended(&mesh.a).then_some(()));
    };
    let mut client = End::connect(&mesh.front(ECHO));
    let mut served = service.accept();
    client.finish();
    assert_eq!(served.receive_rest(), b"");
    served.finish();
    assert_eq!(client.receive_rest(), b"");
    is_over(1);
    let mut client = End::connect(&mesh.front(ECHO));
    client.send(b"half");
    let mut served = service.accept();
    assert_eq!(served.receive(4), b"half");
    client.reset();
    assert!(served.failure().is_some());
    is_over(2);
    for name in [BARRED, GONE] {
        assert!(End::connect(&mesh.front(name)).failure().is_some());
    }
    is_over(4);
}

/// The ids and ends of the records in a log, in their order.
fn records(format: &str, log: &str) -> Vec<(String, String)> {
    log.lines().filter_map(if format == "json" { of_json } else { of_text }).collect()
}

fn of_json(line: &str) -> Option<(String, String)> {
    let line: Value = serde_json::from_str(line).ok()?;
    Some((line["stream"].as_str()?.to_owned(), line["end"].as_str()?.to_owned()))
}

/// ` stream=ID … end=WORDS side=…`
fn of_text(line: &str) -> Option<(String, String)> {
    let (_, after) = line.split_once(" stream=")?;
    let (id, rest) = after.split_once(' ')?;
    let (_, after) = rest.split_once(" end=")?;
    let (end, _) = after.split_once(" side=")?;
    Some((id.to_owned(), end.to_owned()))
}

/// An entry of the journal's native protocol: `NAME=value`, or a name, a length of 8 bytes and so many bytes.
fn fields(mut entry: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while let Some(end) = entry.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (&entry[..end], &entry[end + 1..]);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        if let Some(sign) = line.iter().position(|byte| *byte == b'=') {
            fields.insert(text(&line[..sign]), text(&line[sign + 1..]));
            entry = rest;
        } else {
            let (length, value) = rest.split_at(8);
            let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
            fields.insert(text(line), text(&value[..length]));
            entry = &value[length + 1..];
        }
    }
    assert_eq!(entry, b"", "an entry ends with its last field");
    fields
}
