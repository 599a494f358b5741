//! The rules of a tunnel's TLS that are nobody's identity: version, ALPN, key exchange, no tickets,
//! no resumption; and one configuration per expectation.

use rustls::{HandshakeKind, NamedGroup};

use super::*;

/// A ClientHello of TLS 1.2: no `supported_versions`, one ECDHE suite.
fn old_client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    // No session id; TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; no compression.
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // supported_groups: secp256r1; signature_algorithms: ecdsa_secp256r1_sha256.
    body.extend([0, 16, 0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3]);
    record(1, &body)
}

/// A ServerHello of TLS 1.2.
fn old_server_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0xc0, 0x2b, 0]);
    record(2, &body)
}

/// One handshake message in one record (RFC 8446, sections 4 and 5.1).
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, kind, 0, 0, length];
    record.extend(body);
    record
}

/// Two ends that trust one another; the configurations may be spoilt before they meet.
fn meet_with(client: impl FnOnce(&mut ClientConfig), server: impl FnOnce(&mut ServerConfig)) -> Met {
    let world = World::new();
    let snapshot = world.snapshot(&["host.b"]);
    let own = snapshot.credential(None).unwrap();
    let mut client_config = (*snapshot.client_config(&expects("host.b"), own)).clone();
    let mut server_config = (*snapshot.server_config()).clone();
    client(&mut client_config);
    server(&mut server_config);
    meet(Arc::new(client_config), Arc::new(server_config), Some("host.b"))
}

#[test]
fn two_agents_agree_on_adit_over_a_hybrid_key_exchange() {
    let met = meet_with(|_| {}, |_| {});
    assert!(met.succeeded(), "{:?}", met.sentences());
    assert!(speaks_adit(met.client.alpn_protocol()) && speaks_adit(met.server.alpn_protocol()));
    let group = met.client.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
}

#[test]
fn no_session_is_remembered() {
    let world = World::new();
    let snapshot = world.snapshot(&["host.b"]);
    let own = snapshot.credential(None).unwrap();
    let client = snapshot.client_config(&expects("host.b"), own);
    for _ in 0..2 {
        let met = meet(client.clone(), snapshot.server_config(), Some("host.b"));
        assert_eq!(met.client.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(met.client.tls13_tickets_received(), 0);
    }
}

#[test]
fn a_dialer_of_tls_1_2_is_told_the_version() {
    let world = World::new();
    let config = world.snapshot(&["host.b"]).server_config();
    let mut server = ServerConnection::new(config).unwrap();
    let error = server.hear(&old_client_hello()).unwrap_err();
    says(&explain(&error), &["peer does not speak TLS 1.3", "protocol_version"]);
    let mut alert = Vec::new();
    server.write_tls(&mut alert).unwrap();
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 70], "a fatal protocol_version");
}

#[test]
fn an_acceptor_of_tls_1_2_is_told_the_version() {
    let world = World::new();
    let snapshot = world.snapshot(&["host.a"]);
    let own = snapshot.credential(None).unwrap();
    let config = snapshot.client_config(&expects("host.b"), own);
    let mut client = ClientConnection::new(config, server_name(None).unwrap()).unwrap();
    client.write_tls(&mut Vec::new()).unwrap();
    let error = client.hear(&old_server_hello()).unwrap_err();
    says(&explain(&error), &["peer does not speak TLS 1.3"]);
}

#[test]
fn plain_text_from_an_acceptor_is_explained() {
    let world = World::new();
    let snapshot = world.snapshot(&["host.a"]);
    let own = snapshot.credential(None).unwrap();
    let config = snapshot.client_config(&expects("host.b"), own);
    let mut client = ClientConnection::new(config, server_name(None).unwrap()).unwrap();
    let error = client.hear(b"-ERR unknown command\r\n").unwrap_err();
    says(&explain(&error), &["does not speak TLS"]);
}

#[test]
fn another_alpn_is_no_application_protocol() {
    let met = meet_with(|client| client.alpn_protocols = vec![b"h2".to_vec()], |_| {});
    let (dialer, acceptor) = met.sentences();
    says(&dialer, &["peer sent alert no_application_protocol", "adit/1"]);
    says(&acceptor, &["no_application_protocol"]);
}

#[test]
fn an_end_without_alpn_is_seen_by_both() {
    let met = meet_with(|client| client.alpn_protocols.clear(), |_| {});
    assert!(!speaks_adit(met.client.alpn_protocol()) && !speaks_adit(met.server.alpn_protocol()));
    let met = meet_with(|_| {}, |server| server.alpn_protocols.clear());
    assert!(!speaks_adit(met.client.alpn_protocol()) && !speaks_adit(met.server.alpn_protocol()));
}

#[test]
fn a_client_configuration_is_made_once_for_an_expectation() {
    let world = World::new();
    let snapshot = world.snapshot(&["host.a"]);
    let own = snapshot.credential(None).unwrap();
    let first = snapshot.client_config(&expects("host.b"), own);
    assert!(Arc::ptr_eq(&first, &snapshot.client_config(&expects("host.b"), own)));
    assert!(!Arc::ptr_eq(&first, &snapshot.client_config(&expects("host.c"), own)));
    assert!(!Arc::ptr_eq(&first, &snapshot.client_config(&Verify::None, own)));
}

#[test]
fn no_sni_is_an_address_to_rustls_and_an_address_is_no_sni() {
    assert!(server_name(None).is_some());
    assert!(server_name(Some("a.b")).is_some());
    assert!(server_name(Some("10.0.0.1")).is_none());
    assert!(server_name(Some("not a name")).is_none());
}
