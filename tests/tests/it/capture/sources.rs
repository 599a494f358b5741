//! The application's own address at the service: bound to by the agent there, with the rules that adit makes for the answers.

use adit_tests::{
    field::{A, Field, Road},
    netns::{Family, Host},
    roads,
};

roads! {
    a_service_sees_the_application_itself_by_the_rules_of_its_own_agent: all;
}

fn a_service_sees_the_application_itself_by_the_rules_of_its_own_agent(road: Road) {
    let field = seen_as_they_are(road);
    let service = field.service(7000);
    let wire = field.hosts.listen();
    for family in Family::BOTH {
        let secret = format!("from {:?}", Host::A.ip(family));
        let (mut client, mut server) = field.ends(family, &service);
        // then the service sees who called, address and port
        assert_eq!(server.other(), client.address());
        // and both ways are whole
        client.send(secret.as_bytes());
        client.finish();
        assert_eq!(server.receive_rest(), secret.as_bytes());
        server.send(b"an answer");
        server.finish();
        assert_eq!(client.receive_rest(), b"an answer");
        field.assert_unheard(&wire, &secret);
    }
}

/// Where B connects to its services from the addresses of their clients.
fn seen_as_they_are(road: Road) -> Field {
    let services = format!("[[inbound.capture]]\nports = [7000]\nallow = [\"{A}\"]\nsource = \"transparent\"\n");
    let field = Field::plan().services(&services).start(road);
    if road.is_captured() {
        let _ = field.rules_on(Host::B, &["apply"]).expect_success();
    }
    field
}
