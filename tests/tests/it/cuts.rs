//! Tunnels that are cut at any byte of them: in the handshake, between streams, in the middle of a frame. A stream is
//! whole or it is reset; it is never short with a clean end, never served twice, and never holds a byte of another.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    sync::{Arc, Mutex},
    thread,
};

use adit_tests::{
    cutter::{Cut, Cutter, How},
    end::End,
    listener::Listener,
    mesh::Mesh,
};

const NAME: &str = "/svc/ledger";

/// A handshake is about 4,300 bytes, so the cuts go from its first byte to some thirty streams behind it.
const LAST: usize = 9000;
/// A prime, so that over all cuts every place of a frame is met.
const STEP: usize = 23;

#[test]
fn a_tunnel_that_is_reset_at_any_byte_gives_no_stream_a_false_end() {
    cut_everywhere(How::Reset);
}

#[test]
fn a_tunnel_that_ends_at_any_byte_gives_no_stream_a_false_end() {
    cut_everywhere(How::End);
}

fn cut_everywhere(how: How) {
    const CUTS: usize = LAST / STEP;
    // given a service that answers whole requests only, and a network that cuts every tunnel, each a little later
    let (service, served) = ledger();
    let plan = Mesh::plan().service(NAME, &service);
    let (mesh, cutter) = plan.start_with_between(|b| {
        let cutter = Cutter::start(b, move |number| Cut { after: 1 + number * STEP, how });
        let port = cutter.address().port();
        (cutter, port)
    });
    // when requests follow each other until every cut was made
    let (mut whole, mut reset) = (0, 0);
    for number in 0.. {
        if cutter.made() >= CUTS {
            break;
        }
        match ask(&mesh, number) {
            Outcome::Whole => whole += 1,
            Outcome::Reset => reset += 1,
        }
    }
    // then each was whole or reset, none was served twice, and there were many of both kinds
    let served = served.lock().unwrap();
    for (request, times) in served.iter() {
        assert_eq!(*times, 1, "served {times} times: {request}");
    }
    assert!(served.len() >= whole, "{} served, {whole} answered", served.len());
    assert!(whole > CUTS / 4 && reset > CUTS / 4, "{whole} whole, {reset} reset");
}

enum Outcome {
    Whole,
    Reset,
}

/// Sends a request that can be told from every other, and reads the answer to its end.
fn ask(mesh: &Mesh, number: usize) -> Outcome {
    let request = request(number);
    let mut client = End::connect(&mesh.front(NAME));
    if client.try_send(request.as_bytes()).is_err() {
        // The kernel tells of a reset once: the next read would see an end.
        return Outcome::Reset;
    }
    client.try_finish();
    let mut answer = Vec::new();
    loop {
        match client.try_receive(1 << 16) {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => answer.extend(bytes),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
                return Outcome::Reset;
            }
        }
    }
    assert_eq!(String::from_utf8_lossy(&answer), answer_to(&request), "request {number} ended cleanly");
    Outcome::Whole
}

/// From 20 to some 3,000 bytes.
fn request(number: usize) -> String {
    let line = format!("request number {number} of its own;");
    line.repeat(1 + number * number % 97) + "end"
}

fn answer_to(request: &str) -> String {
    format!("answer to {request}")
}

/// A service that reads to a clean end and then answers. What ended cleanly must be whole.
fn ledger() -> (adit_tests::address::Address, Arc<Mutex<BTreeMap<String, usize>>>) {
    let listener = Listener::at(&adit_tests::address::Address::any_port());
    let address = listener.address().clone();
    let served = Arc::new(Mutex::new(BTreeMap::new()));
    let entries = Arc::clone(&served);
    thread::spawn(move || {
        while let Some(mut caller) = listener.try_accept() {
            let Some(request) = to_clean_end(&mut caller) else { continue };
            let number: usize = request.split(' ').nth(2).and_then(|number| number.parse().ok()).unwrap_or(0);
            assert_eq!(request, self::request(number), "a request that ended cleanly is whole");
            *entries.lock().unwrap().entry(request.clone()).or_default() += 1;
            if caller.try_send(answer_to(&request).as_bytes()).is_ok() {
                caller.try_finish();
            }
        }
    });
    (address, served)
}

/// What came before a clean end; `None` when the connection failed instead.
fn to_clean_end(caller: &mut End) -> Option<String> {
    let mut all = Vec::new();
    loop {
        match caller.try_receive(1 << 16) {
            Ok(bytes) if bytes.is_empty() => return Some(String::from_utf8_lossy(&all).into_owned()),
            Ok(bytes) => all.extend(bytes),
            Err(_) => return None,
        }
    }
}
