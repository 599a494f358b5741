//! What a certificate says of itself: its subject alternative names, serial, issuer and dates.
//! Nothing here is proof of anything; `verify` decides what is believed. The common name is never
//! looked at.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use adit_config::Identity;
use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer, time::ASN1Time};

use super::text::{hex, printable};

/// The parts of a certificate that this agent uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// DNS names in lower case, wildcards among them.
    pub dns: Vec<String>,
    /// URIs, SPIFFE or not.
    pub uris: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
    /// The serial number in lower-case hex.
    pub serial: String,
    /// The issuer's distinguished name, printable.
    pub issuer: String,
    /// The first moment of validity.
    pub not_before: SystemTime,
    /// The last moment of validity.
    pub not_after: SystemTime,
    /// Whether it may sign certificates (its basic constraints say CA).
    pub is_ca: bool,
}

/// Bytes that are not one X.509 certificate with well-formed names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Leaf {
    /// Reads a certificate; names of other kinds (mail, directory) are passed over.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Self, Malformed> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Malformed)?;
        let mut leaf = Self {
            dns: Vec::new(),
            uris: Vec::new(),
            ips: Vec::new(),
            serial: hex(certificate.raw_serial()),
            issuer: printable(&certificate.issuer().to_string()),
            not_before: system_time(certificate.validity().not_before),
            not_after: system_time(certificate.validity().not_after),
            is_ca: certificate.is_ca(),
        };
        let names = certificate.subject_alternative_name().map_err(|_| Malformed)?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            leaf.add(name)?;
        }
        Ok(leaf)
    }

    fn add(&mut self, name: &GeneralName<'_>) -> Result<(), Malformed> {
        match name {
            GeneralName::DNSName(dns) => self.dns.push(dns.to_ascii_lowercase()),
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::IPAddress(octets) => self.ips.push(ip(octets).ok_or(Malformed)?),
            GeneralName::Invalid(..) => return Err(Malformed),
            _ => {}
        }
        Ok(())
    }

    /// Every name as printable text, in the order DNS, URI, IP: what an operator is shown.
    pub fn names(&self) -> Vec<String> {
        let ips = self.ips.iter().map(IpAddr::to_string);
        self.dns.iter().chain(&self.uris).map(|name| printable(name)).chain(ips).collect()
    }

    /// The names that can be an identity: whole DNS names, the SPIFFE id, IP addresses. A wildcard
    /// is a set of names and so nobody's identity. The kind of name is the certificate's: a DNS
    /// name that spells a SPIFFE id or an address is neither.
    pub fn identities(&self) -> Vec<Identity> {
        let dns = self.dns.iter().filter(|name| !name.contains('*'));
        let dns = parsed(dns).filter(|identity| matches!(identity, Identity::Dns(_)));
        let uris = parsed(self.uris.iter()).filter(|identity| matches!(identity, Identity::Spiffe(_)));
        let ips = self.ips.iter().copied().map(Identity::Ip);
        dns.chain(uris).chain(ips).collect()
    }
}

fn parsed<'a>(names: impl Iterator<Item = &'a String>) -> impl Iterator<Item = Identity> {
    names.filter_map(|name| Identity::name(name).ok())
}

/// A certificate's time as the system's; times before 1970 are 1970, which is past either way.
pub(crate) fn system_time(moment: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(moment.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}
