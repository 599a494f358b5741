//! Who must answer, who may ask, and which certificate is shown: each way that the file can say it, on real agents.

use std::{fs, io::ErrorKind};

use adit_tests::{
    address::{Address, Wire},
    authority::{Authority, Credential, Leaf},
    dns::Dns,
    end::End,
    listener::Listener,
    load::Service,
    mesh::{A, B, Mesh, Plan},
    need,
};

const ECHO: &str = "/svc/echo";
const OTHER: &str = "/svc/other";

#[test]
fn a_peer_may_be_expected_by_the_bound_name() {
    let rule = format!("[[outbound.peer]]\nbound = \"/$/inet/127.0.0.1/*\"\nidentity = \"{B}\"\n");
    served(Mesh::plan().peers(&rule));
}

#[test]
fn a_capture_of_the_name_makes_an_identity_per_service() {
    // given a B that shows the certificate of the one service, asked for by the one rule for all
    let rule = "[[outbound.peer]]\nname = \"/svc/{service}\"\nidentity = \"{service}.adit.example\"\n";
    let plan = Mesh::plan().peers(rule);
    let of_echo = plan.authority().issue(&Leaf::dns(&["echo.adit.example"]));
    served(plan.b_shows(of_echo));
    // then the certificate of another service does not do
    let plan = Mesh::plan().peers(rule);
    let of_other = plan.authority().issue(&Leaf::dns(&["other.adit.example"]));
    refused(plan.b_shows(of_other), "echo.adit.example");
}

#[test]
fn a_name_without_a_rule_is_refused_before_anything_is_dialled() {
    let rule = format!("[[outbound.peer]]\nname = \"/svc/something-else\"\nidentity = \"{B}\"\n");
    refused(Mesh::plan().peers(&rule), ECHO);
}

#[test]
fn a_spiffe_id_is_expected_under_a_server_name_of_its_own() {
    let id = "spiffe://adit.example/echo";
    let rule = format!("[[outbound.peer]]\nname = \"/svc/{{service}}\"\nidentity = \"{id}\"\nsni = \"{B}\"\n");
    let plan = Mesh::plan().peers(&rule);
    let both = plan.authority().issue(&Leaf::dns(&[B]).uri(id));
    served(plan.b_shows(both));
    // and one that has the server name but not the id is none
    refused(Mesh::plan().peers(&rule), id);
}

#[test]
fn nobody_is_verified_only_where_the_file_says_so_and_then_it_is_told() {
    // given a B of a CA that A does not know, and a file that says it does not matter
    let rule = "[[outbound.peer]]\nname = \"/svc/{service}\"\nverify = \"none\"\n";
    let foreign = Authority::new("another").issue(&Leaf::dns(&["whoever.example"]));
    let service = Listener::at(&Address::any_port());
    let mesh = Mesh::plan().peers(rule).b_shows(foreign).service(ECHO, service.address()).start();
    // then it is served, warned of at the start, and counted
    speak(&mesh, ECHO, &service);
    mesh.a.until_logged("verify = \"none\"");
    assert_eq!(mesh.a.metric("adit_unverified_tunnels_total"), 1.0);
}

#[test]
fn a_rule_may_send_another_name_than_the_listeners() {
    // given a listener for a name that B does not serve, and a rule that asks for one that it does
    let rule = format!("[[outbound.peer]]\nname = \"/alias/{{x}}\"\nidentity = \"{B}\"\nas = \"/svc/{{x}}\"\n");
    let service = Listener::at(&Address::any_port());
    let also = "[[outbound.listener]]\nlisten = \"127.0.0.1:0\"\nto = \"/alias/echo\"\n";
    let table = "/alias => /$/inet/127.0.0.1/{port} ;";
    let mesh = Mesh::plan().peers(&rule).table(table).a_also(also).service(ECHO, service.address()).start();
    speak(&mesh, "/alias/echo", &service);
}

#[test]
fn an_acceptor_shows_the_certificate_that_is_asked_for_and_serves_behind_it_only_its_own() {
    // given a B with two certificates, and the second service behind the second
    let plan = Mesh::plan();
    let second = plan.authority().issue(&Leaf::dns(&["second.adit.example"]));
    let (cert, key) = keep(&plan, "second", &second);
    let (echo, other) = (Listener::at(&Address::any_port()), Listener::at(&Address::any_port()));
    let b_also = format!(
        "[[tls.certificate]]\nid = \"second\"\ncert = \"{cert}\"\nkey = \"{key}\"\n\
         [[inbound.service]]\nname = \"{OTHER}\"\nto = \"{}\"\nallow = [\"{A}\"]\ncertificate = \"second\"\n",
        other.address()
    );
    let rules = format!(
        "[[outbound.peer]]\nname = \"{ECHO}\"\nidentity = \"{B}\"\n\
         [[outbound.peer]]\nname = \"{OTHER}\"\nidentity = \"second.adit.example\"\n\
         [[outbound.peer]]\nname = \"/wrong\"\nidentity = \"{B}\"\nas = \"{OTHER}\"\n"
    );
    let a_also = format!(
        "[[outbound.listener]]\nlisten = \"127.0.0.1:0\"\nto = \"{OTHER}\"\n\
         [[outbound.listener]]\nlisten = \"127.0.0.1:0\"\nto = \"/wrong\"\n"
    );
    let table = "/svc => /$/inet/127.0.0.1/{port} ; /wrong => /$/inet/127.0.0.1/{port}";
    let plan = plan.table(table).peers(&rules).a_also(&a_also).b_also(&b_also);
    let mesh = plan.service(ECHO, echo.address()).start();
    // then each name meets its own certificate
    speak(&mesh, ECHO, &echo);
    speak(&mesh, OTHER, &other);
    for (name, identity) in [(ECHO, B), (OTHER, "second.adit.example")] {
        let report = mesh.ping(name).expect_success();
        assert!(report.contains(identity), "{report}");
    }
    // and a service is not given to a tunnel that was opened under another certificate
    assert_eq!(End::connect(&mesh.front("/wrong")).failure(), Some(ErrorKind::ConnectionReset));
    mesh.a.until_logged("misdirected");
}

#[test]
fn a_listener_may_show_a_certificate_of_its_own() {
    // given two listeners for one name, the second of which shows another identity, the only one that B admits
    let plan = Mesh::plan();
    let web = plan.authority().issue(&Leaf::dns(&["web.adit.example"]));
    let (cert, key) = keep(&plan, "web", &web);
    let a_also = format!(
        "[[tls.certificate]]\nid = \"web\"\ncert = \"{cert}\"\nkey = \"{key}\"\n\
         [[outbound.listener]]\nlisten = \"127.0.0.1:0\"\nto = \"{OTHER}\"\ncertificate = \"web\"\n"
    );
    let rules = format!(
        "[[outbound.peer]]\nname = \"{ECHO}\"\nidentity = \"{B}\"\n\
         [[outbound.peer]]\nname = \"{OTHER}\"\nidentity = \"{B}\"\nas = \"{ECHO}\"\n"
    );
    let echo = Service::start(Wire::Tcp, "echo");
    let plan = plan.peers(&rules).a_also(&a_also).service(ECHO, echo.address()).only_for("web.adit.example");
    let mesh = plan.start();
    // then only the second gets through, also after the first has left an idle tunnel
    for _ in 0..3 {
        assert!(End::try_echo(&mesh.front(ECHO)).is_err());
        End::try_echo(&mesh.front(OTHER)).unwrap();
    }
}

#[test]
fn a_pattern_admits_one_label_more_and_no_two() {
    for (identity, is_admitted) in
        [("a.web.adit.example", true), ("web.adit.example", false), ("x.a.web.adit.example", false)]
    {
        let plan = Mesh::plan();
        let credential = plan.authority().issue(&Leaf::dns(&[identity]));
        let service = Listener::at(&Address::any_port());
        let plan = plan.a_shows(credential).service(ECHO, service.address()).only_for("*.web.adit.example");
        let mesh = plan.start();
        if is_admitted {
            speak(&mesh, ECHO, &service);
        } else {
            assert_eq!(End::connect(&mesh.front(ECHO)).failure(), Some(ErrorKind::ConnectionReset));
            mesh.a.until_logged("denied");
        }
    }
}

#[test]
fn a_service_that_is_this_agents_own_listener_is_a_loop() {
    need!("unbound", "unbound-control");
    // given a B with a listener of its own, and a service whose name leads to that very listener, which only DNS shows
    let dns = Dns::start();
    dns.answer("back.mesh.example", 60, &["127.0.0.1"]);
    let listener = adit_tests::address::free_port();
    let b_also = format!(
        "[[inbound.service]]\nname = \"{ECHO}\"\nto = \"/back\"\nallow = [\"{A}\"]\n\
         [outbound]\ndtab = \"/svc => /$/inet/127.0.0.1/1\"\n\
         [[outbound.peer]]\nname = \"{ECHO}\"\nidentity = \"{B}\"\n\
         [[outbound.listener]]\nlisten = \"127.0.0.1:{listener}\"\nto = \"{ECHO}\"\n"
    );
    let back = format!("/back => /#/dns/back.mesh.example/{listener}");
    let also = format!("[[outbound.listener]]\nlisten = \"127.0.0.1:0\"\nto = \"{ECHO}\"\n");
    let mesh = Mesh::plan().b_table(&back).b_also(&b_also).b_also(&dns.table()).a_also(&also).start();
    // when a stream goes there, then it is refused, and not sent round
    assert_eq!(End::connect(&mesh.front(ECHO)).failure(), Some(ErrorKind::ConnectionReset));
    mesh.a.until_logged("refused (loop)");
    mesh.b.until_logged("is a listener of this agent itself");
}

fn served(plan: Plan) {
    let service = Listener::at(&Address::any_port());
    let mesh = plan.service(ECHO, service.address()).start();
    speak(&mesh, ECHO, &service);
}

/// The application is reset, the service hears nothing, and the log of its host holds `why`.
fn refused(plan: Plan, why: &str) {
    let service = Listener::at(&Address::any_port());
    let mesh = plan.service(ECHO, service.address()).start();
    assert_eq!(End::connect(&mesh.front(ECHO)).failure(), Some(ErrorKind::ConnectionReset));
    mesh.a.until_logged(why);
    assert!(!service.has_caller());
}

fn speak(mesh: &Mesh, name: &str, service: &Listener) {
    let mut client = End::connect(&mesh.front(name));
    client.send(b"hello");
    assert_eq!(service.accept().receive(5), b"hello");
}

/// Writes one more certificate into the mesh's folder; where it and its key are.
fn keep(plan: &Plan, name: &str, credential: &Credential) -> (String, String) {
    let (cert, key) = (plan.path(&format!("{name}.pem")), plan.path(&format!("{name}.key")));
    fs::write(&cert, &credential.cert).unwrap();
    fs::write(&key, &credential.key).unwrap();
    (cert.display().to_string(), key.display().to_string())
}
