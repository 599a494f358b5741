//! The doors for operators: what TCP answers and what it does not, and who may use the socket.

use std::{fs, os::unix::fs::PermissionsExt};

use adit_tests::{
    address::Address,
    agent::{Agent, adit},
    end::End,
    listener::Listener,
    mesh::Mesh,
    wait::LIMIT,
};

const ECHO: &str = "/svc/echo";

#[test]
fn over_tcp_four_pages_are_answered_to_get_and_nothing_else() {
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().service(ECHO, service.address()).start();
    for path in ["/metrics", "/healthz", "/readyz", "/status"] {
        assert!(mesh.a.admin_answer("GET", path).starts_with("HTTP/1.1 200 "), "{path}");
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let answer = mesh.a.admin_answer(method, path);
            assert!(answer.starts_with("HTTP/1.1 405 "), "{method} {path}: {answer}");
        }
    }
    for path in ["/", "/drain", "/reload", "/streams", "/statusx", "/status/", "//status", "/../status"] {
        assert!(mesh.a.admin_answer("GET", path).starts_with("HTTP/1.1 404 "), "{path}");
    }
}

#[test]
fn a_caller_that_says_nothing_keeps_nobody_out() {
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().service(ECHO, service.address()).start();
    let silent: Vec<_> = (0..10).map(|_| End::connect(&mesh.a.admin_address())).collect();
    assert_eq!(mesh.a.admin("/healthz"), "ok\n");
    for mut end in silent {
        assert_eq!(end.failure(), None, "the door closes what says nothing");
    }
}

#[test]
fn the_socket_is_for_owner_and_group_and_keeps_a_record_of_its_callers() {
    // given an agent with an admin socket
    let (b, socket, _dir) = with_socket();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    // when somebody asks there
    let page = adit(&["status", "--socket", &socket]).expect_success();
    assert!(page.contains(ECHO), "{page}");
    // then the log says who it was
    let uid = format!("uid={}", rustix::process::getuid().as_raw());
    b.until_logged("a caller at the admin socket");
    let log = b.log();
    let line = log.lines().find(|line| line.contains("a caller at the admin socket")).unwrap();
    assert!(line.contains(&uid) && line.contains("pid="), "{line}");
}

#[test]
fn a_draining_agent_is_healthy_but_not_ready() {
    // given a drain that a live stream holds up
    let service = Listener::at(&Address::any_port());
    let mut mesh = Mesh::plan().service(ECHO, service.address()).start();
    let mut client = End::connect(&mesh.front(ECHO));
    client.send(b"hello");
    let mut served = service.accept();
    assert_eq!(served.receive(5), b"hello");
    assert_eq!(mesh.a.admin("/readyz"), "ready\n");
    mesh.a.signal(rustix::process::Signal::TERM);
    mesh.a.until_logged("draining");
    // then it says so
    assert!(mesh.a.admin_answer("GET", "/readyz").starts_with("HTTP/1.1 503 "));
    assert_eq!(mesh.a.admin("/healthz"), "ok\n");
    assert!(mesh.a.admin("/status").contains("\"draining\": true"));
    // and ends with the stream
    client.finish();
    assert_eq!(served.receive_rest(), b"");
    drop(served);
    assert_eq!(client.receive_rest(), b"");
    assert!(mesh.a.wait(LIMIT).success());
}

/// Host B with an admin socket, whose path is returned.
fn with_socket() -> (Agent, String, tempfile::TempDir) {
    let plan = Mesh::plan().service(ECHO, &Address::parse("127.0.0.1:9"));
    let socket = plan.path("admin.sock").display().to_string();
    // The mesh's own [admin] stands last in the file, so that this line belongs to it.
    let (b, dir) = plan.b_also(&format!("socket = \"{socket}\"\n")).start_b();
    (b, socket, dir)
}
