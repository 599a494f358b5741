//! Callers that crowd, say nothing, or are gone before they are met: what one of them costs the others.

use adit_tests::{address::Wire, end::End, load::Service, mesh::Mesh};

const ECHO: &str = "/svc/echo";

#[test]
fn a_door_that_waits_for_a_caller_holds_no_place() {
    // given two listeners and one place
    let echo = Service::start(Wire::Tcp, "echo");
    let plan = Mesh::plan().service(ECHO, echo.address()).service("/svc/other", echo.address());
    let mesh = plan.a_also("[limits]\nstreams = 1\n").start();
    // when streams come one after another to the same listener, then each has the place
    for _ in 0..3 {
        End::try_echo(&mesh.front(ECHO)).unwrap();
    }
    End::try_echo(&mesh.front("/svc/other")).unwrap();
}
