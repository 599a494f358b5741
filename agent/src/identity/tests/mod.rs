//! A private world for the tests of this room: a CA, certificates good and bad, files in a folder of
//! their own, and two TLS ends that meet in memory. Nothing here sleeps or opens a socket.

mod acceptors;
mod chains;
mod dialers;
mod loading;
mod protocol;
mod reloading;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use adit_config::{Authorities, Certificate, Identity, Tls, Verify};
use rcgen::{CertificateParams, CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls::{
    ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use time::OffsetDateTime;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// A folder with a CA in it.
struct World {
    dir: tempfile::TempDir,
    ca: Authority,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = authority(dir.path());
        Self { dir, ca }
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let file = self.dir.path().join(name);
        fs::write(&file, text).unwrap();
        file
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn issue(&self, names: &[&str]) -> Issued {
        self.ca.issue(&request(names), SystemTime::now()).unwrap()
    }

    /// A certificate that is wrong in the way `spoil` makes it.
    fn spoilt(&self, names: &[&str], spoil: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = request(names).params(SystemTime::now()).unwrap();
        spoil(&mut params);
        self.ca.sign(&params).unwrap()
    }

    /// Writes a pair under its id.
    fn pair(&self, id: &str, issued: &Issued) -> Certificate {
        let (cert, key) = issued.write(&self.path(id), Existing::Replace).unwrap();
        let id = id.to_owned();
        Certificate { id, cert, key }
    }

    fn tls(&self, certificates: Vec<Certificate>) -> Tls {
        Tls { authorities: Authorities::File(self.path("ca.pem")), crl: Vec::new(), certificates }
    }

    /// A snapshot with one good certificate of these names.
    fn snapshot(&self, names: &[&str]) -> Snapshot {
        let pair = self.pair(names[0], &self.issue(names));
        load(&self.tls(vec![pair])).unwrap()
    }

    fn revoke(&self, issued: &Issued, next_update: SystemTime) -> String {
        revocation_list(&self.ca, &[issued], next_update)
    }
}

fn authority(dir: &Path) -> Authority {
    Authority::create(dir, "test CA", 30, Existing::Keep, SystemTime::now()).unwrap()
}

fn load(tls: &Tls) -> Result<Snapshot, LoadError> {
    Snapshot::load(tls, None, SystemTime::now())
}

/// Names as a request: what parses as an address is one, what begins with `spiffe:` is a SPIFFE id.
fn request(names: &[&str]) -> Request {
    let mut request = Request { days: 10, ..Request::default() };
    for name in names {
        match (name.parse(), name.starts_with("spiffe:")) {
            (Ok(ip), _) => request.ips.push(ip),
            (_, true) => request.spiffe = Some((*name).to_owned()),
            (_, false) => request.dns.push((*name).to_owned()),
        }
    }
    request
}

fn revocation_list(ca: &Authority, revoked: &[&Issued], next_update: SystemTime) -> String {
    list_params(revoked, next_update).signed_by(ca.issuer()).unwrap().pem().unwrap()
}

fn list_params(revoked: &[&Issued], next_update: SystemTime) -> CertificateRevocationListParams {
    let now = OffsetDateTime::now_utc();
    let entry = |issued: &&Issued| RevokedCertParams {
        serial_number: SerialNumber::from_slice(&serial(issued)),
        revocation_time: now,
        reason_code: None,
        invalidity_date: None,
    };
    CertificateRevocationListParams {
        this_update: OffsetDateTime::from(SystemTime::now() - 20 * DAY),
        next_update: next_update.into(),
        crl_number: SerialNumber::from_slice(&[1]),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

fn chain(issued: &Issued) -> Vec<CertificateDer<'static>> {
    let pem = issued.certificate.as_bytes();
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().unwrap()
}

fn serial(issued: &Issued) -> Vec<u8> {
    let hex = Leaf::parse(&chain(issued)[0]).unwrap().serial;
    let digits: Vec<_> = hex.as_bytes().chunks(2).collect();
    let byte = |pair: &&[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.iter().map(byte).collect()
}

fn expects(name: &str) -> Verify {
    Verify::Identity(Identity::parse(name).unwrap())
}

fn single(issued: &Issued) -> Arc<SingleCertAndKey> {
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let pair = CertifiedKey::from_der(chain(issued), key, &settings::provider()).unwrap();
    Arc::new(SingleCertAndKey::from(pair))
}

/// A dialer's configuration, made to show a certificate that loading would refuse.
fn showing(config: &ClientConfig, issued: &Issued) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.client_auth_cert_resolver = single(issued);
    Arc::new(config)
}

/// An acceptor's configuration, made to show a certificate that loading would refuse.
fn serving(config: &ServerConfig, issued: &Issued) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.cert_resolver = single(issued);
    Arc::new(config)
}

/// What each end made of the other.
struct Met {
    dialer: Result<(), Error>,
    acceptor: Result<(), Error>,
    client: ClientConnection,
    server: ServerConnection,
}

impl Met {
    /// Both ends' sentences: the dialer's, then the acceptor's.
    fn sentences(&self) -> (String, String) {
        let sentence = |end: &Result<(), Error>| match end {
            Ok(()) => "no error".to_owned(),
            Err(error) => explain(error),
        };
        (sentence(&self.dialer), sentence(&self.acceptor))
    }

    fn succeeded(&self) -> bool {
        self.dialer.is_ok() && self.acceptor.is_ok() && !self.server.is_handshaking()
    }
}

/// Two ends meet in memory until neither has more to say.
fn meet(client: Arc<ClientConfig>, server: Arc<ServerConfig>, sni: Option<&str>) -> Met {
    let mut met = Met {
        dialer: Ok(()),
        acceptor: Ok(()),
        client: ClientConnection::new(client, server_name(sni).unwrap()).unwrap(),
        server: ServerConnection::new(server).unwrap(),
    };
    loop {
        let mut out = Vec::new();
        while met.client.wants_write() {
            met.client.write_tls(&mut out).unwrap();
        }
        let said = !out.is_empty();
        if met.acceptor.is_ok() {
            met.acceptor = met.server.hear(&out);
        }
        let mut back = Vec::new();
        while met.server.wants_write() {
            met.server.write_tls(&mut back).unwrap();
        }
        if met.acceptor.as_ref().is_err_and(is_unknown_sni) && !back.is_empty() {
            back = UNRECOGNIZED_NAME.to_vec();
        }
        if !said && back.is_empty() {
            return met;
        }
        if met.dialer.is_ok() {
            met.dialer = met.client.hear(&back);
        }
    }
}

/// Bytes from the other end, taken as an acceptor or dialer takes them.
trait Hear {
    fn hear(&mut self, bytes: &[u8]) -> Result<(), Error>;
}

impl Hear for ClientConnection {
    fn hear(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            self.read_tls(&mut bytes).unwrap();
            self.process_new_packets()?;
        }
        Ok(())
    }
}

impl Hear for ServerConnection {
    fn hear(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            self.read_tls(&mut bytes).unwrap();
            self.process_new_packets()?;
        }
        Ok(())
    }
}

/// Asserts that a sentence has every part in it.
#[track_caller]
fn says(sentence: &str, parts: &[&str]) {
    for part in parts {
        assert!(sentence.contains(part), "{sentence:?} does not say {part:?}");
    }
}
