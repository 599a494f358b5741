//! Names that lead to a file of hosts: replaced under the agent, with bad lines, and gone.

use std::{fs, path::PathBuf};

use adit_tests::{
    address::Wire,
    agent::replace,
    end::End,
    load::Service,
    mesh::Mesh,
    wait::{LIMIT, until},
};
use tempfile::TempDir;

const ECHO: &str = "/svc/echo";

/// Where nobody answers.
const DEAD: &str = "127.0.0.9";

struct World {
    folder: TempDir,
    mesh: Mesh,
    _echo: Service,
}

impl World {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let echo = Service::start(Wire::Tcp, "echo");
        let mesh = Mesh::plan()
            .service(ECHO, echo.address())
            .service("/svc/other", echo.address())
            .table("/svc/{service} => /#/fs/{service} ;")
            .a_also(&format!("[fs]\nfolder = \"{}\"\n", folder.path().display()))
            .start();
        Self { folder, mesh, _echo: echo }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A line that leads to host B.
    fn good(&self) -> String {
        format!("127.0.0.1 {}\n", self.mesh.b.inbound().port())
    }

    fn dead(&self) -> String {
        format!("{DEAD} {}\n", self.mesh.b.inbound().port())
    }

    fn until_served(&self, name: &str) {
        until("a stream to get through", LIMIT, || End::try_echo(&self.mesh.front(name)).ok());
    }

    fn until_refused(&self, name: &str) {
        until("streams to be refused", LIMIT, || End::try_echo(&self.mesh.front(name)).err());
    }
}

#[test]
fn a_file_says_where_a_name_leads_and_a_change_is_followed() {
    let world = World::start();
    // given a name whose file is not there
    assert!(End::connect(&world.mesh.front(ECHO)).failure().is_some());
    // when it comes, changes, changes back and goes, then streams follow
    replace(&world.file("echo"), &world.good());
    world.until_served(ECHO);
    replace(&world.file("echo"), &world.dead());
    world.until_refused(ECHO);
    replace(&world.file("echo"), &format!("# the one that lives\nlocalhost-is-no-name-here 1\n{}", world.good()));
    world.until_served(ECHO);
    fs::remove_file(world.file("echo")).unwrap();
    world.until_refused(ECHO);
    world.mesh.a.until_logged("nothing answers to '/svc/echo'");
}

#[test]
fn a_bad_line_is_reported_with_its_place_and_takes_nothing_from_the_others() {
    let world = World::start();
    replace(&world.file("echo"), &format!("127.0.0.1 port\n{}127.0.0.1", world.good()));
    world.until_served(ECHO);
    world.mesh.a.until_logged("echo:1");
    world.mesh.a.until_logged("echo:3");
    // and another name is served as ever
    replace(&world.file("other"), &world.good());
    world.until_served("/svc/other");
}

#[test]
fn a_file_that_cannot_be_read_keeps_what_was_known() {
    let world = World::start();
    replace(&world.file("echo"), &world.good());
    world.until_served(ECHO);
    // when a folder takes its place, which nobody can read as a file
    fs::remove_file(world.file("echo")).unwrap();
    fs::create_dir(world.file("echo")).unwrap();
    world.mesh.a.until_logged("echo: ");
    for _ in 0..20 {
        End::try_echo(&world.mesh.front(ECHO)).unwrap();
    }
}

#[test]
fn a_name_that_leads_to_a_listener_of_its_own_agent_is_refused_and_makes_no_storm() {
    let world = World::start();
    // given a name that leads to the very listener that applications connect to
    let front = world.mesh.front(ECHO);
    replace(&world.file("echo"), &format!("127.0.0.1 {}\n", front.port()));
    // when an application connects, then it is reset, and the agent says why
    let _ = until("the file to be read", LIMIT, || {
        let failed = End::connect(&front).failure_after(b"hello");
        failed.filter(|_| world.mesh.a.log().contains("the address is a listener of this agent itself"))
    });
    world.mesh.a.until_logged("a name leads to the listener for /svc/echo of this agent itself");
    // and nothing goes round: the next connection is one stream more, and no other
    let opened = || world.mesh.a.metric("adit_streams_opened_total{direction=\"outbound\"}");
    let before = opened();
    assert!(End::connect(&front).failure_after(b"hello").is_some());
    assert_eq!(opened(), before + 1.0);
}
