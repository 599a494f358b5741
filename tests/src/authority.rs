//! A certificate authority for tests: it also makes what no honest one would, so that every bad certificate can be
//! shown to an agent.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use time::{Duration, OffsetDateTime};

/// A private CA.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, as PEM.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The certificate.
    pub cert: String,
    /// Its private key, PKCS#8.
    pub key: String,
    serial: SerialNumber,
}

/// What a certificate shall say; honest, and valid for a day, unless told.
#[derive(Clone, Debug)]
pub struct Leaf {
    names: Vec<SanType>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    from: Duration,
    to: Duration,
}

impl Authority {
    /// A new CA; `name` is its common name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key();
        let pem = params.self_signed(&key).expect("a CA signs itself").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The CA's certificate, for `[tls] ca`.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a certificate.
    #[must_use]
    pub fn issue(&self, leaf: &Leaf) -> Credential {
        let key = new_key();
        let serial = SerialNumber::from_slice(&key.public_key_raw()[1..17]);
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        // The common name is never looked at: it names somebody else, so that a reader of it is found out.
        params.distinguished_name = named("nobody.adit.example");
        // Readers of SPIFFE X.509-SVIDs ask for the extension that says so.
        params.is_ca = IsCa::ExplicitNoCa;
        params.subject_alt_names.clone_from(&leaf.names);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages.clone_from(&leaf.usages);
        params.not_before = now + leaf.from;
        params.not_after = now + leaf.to;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial.clone());
        let cert = params.signed_by(&key, &self.issuer).expect("a CA signs what it is given").pem();
        Credential { cert, key: key.serialize_pem(), serial }
    }

    /// A revocation list, as PEM, that names these certificates.
    #[must_use]
    pub fn revoke(&self, revoked: &[&Credential]) -> String {
        let now = OffsetDateTime::now_utc();
        let list = CertificateRevocationListParams {
            this_update: now - Duration::HOUR,
            next_update: now + Duration::DAY,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(|credential| entry(credential, now)).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).and_then(|list| list.pem()).expect("a CA signs its own list")
    }
}

impl Leaf {
    /// A certificate of these DNS names.
    #[must_use]
    pub fn dns(names: &[&str]) -> Self {
        let name = |name: &&str| SanType::DnsName((*name).try_into().expect("a DNS name is ASCII"));
        Self {
            names: names.iter().map(name).collect(),
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
            from: -Duration::HOUR,
            to: Duration::DAY,
        }
    }

    /// Adds a URI name. One is a SPIFFE id; two are refused.
    #[must_use]
    pub fn uri(mut self, uri: &str) -> Self {
        self.names.push(SanType::URI(uri.try_into().expect("a URI is ASCII")));
        self
    }

    /// Adds an address.
    #[must_use]
    pub fn ip(mut self, address: IpAddr) -> Self {
        self.names.push(SanType::IpAddress(address));
        self
    }

    /// Its last day was yesterday.
    #[must_use]
    pub fn expired(self) -> Self {
        Self { from: -2 * Duration::DAY, to: -Duration::DAY, ..self }
    }

    /// It is good now, and expired when `span` has passed.
    #[must_use]
    pub fn for_only(self, span: std::time::Duration) -> Self {
        let to = Duration::try_from(span).expect("a certificate's life is short");
        Self { to, ..self }
    }

    /// Its first day is tomorrow.
    #[must_use]
    pub fn not_yet_valid(self) -> Self {
        Self { from: Duration::DAY, to: 2 * Duration::DAY, ..self }
    }

    /// Good for dialers only.
    #[must_use]
    pub fn only_for_clients(self) -> Self {
        Self { usages: vec![ExtendedKeyUsagePurpose::ClientAuth], ..self }
    }

    /// Good for acceptors only.
    #[must_use]
    pub fn only_for_servers(self) -> Self {
        Self { usages: vec![ExtendedKeyUsagePurpose::ServerAuth], ..self }
    }
}

fn entry(credential: &Credential, now: OffsetDateTime) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: credential.serial.clone(),
        revocation_time: now - Duration::MINUTE,
        reason_code: None,
        invalidity_date: None,
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn new_key() -> KeyPair {
    // rcgen's default is ECDSA P-256, which is the default of `adit ca issue` too.
    KeyPair::generate().expect("the machine has random numbers")
}
