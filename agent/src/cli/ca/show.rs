//! `adit ca show`: what is in the certificates of a file, for a person to read: names, issuer, dates
//! with the days left, purposes, serial, fingerprint. It judges nothing but the dates, and shows no
//! key.

use std::{fmt::Write, path::Path, time::SystemTime};

use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::ExtendedKeyUsage, prelude::FromDer};

use crate::identity::{Leaf, LoadError, read_certificates, text};

const SECONDS_A_DAY: u64 = 86_400;

/// Every certificate of `file`, a paragraph each.
pub(super) fn certificates(file: &Path, now: SystemTime) -> Result<String, LoadError> {
    let all = read_certificates(file)?;
    let shown: Vec<_> = all.iter().map(|der| certificate(der, now)).collect();
    Ok(shown.join("\n"))
}

fn certificate(der: &CertificateDer<'_>, now: SystemTime) -> String {
    let (Ok((_, parsed)), Ok(leaf)) = (X509Certificate::from_der(der), Leaf::parse(der)) else {
        return "a certificate that cannot be parsed\n".to_owned();
    };
    let kind = match leaf.is_ca {
        true => "CA certificate",
        false => "certificate",
    };
    let names = match leaf.names() {
        names if names.is_empty() => "none".to_owned(),
        names => names.join(", "),
    };
    let mut shown = String::new();
    let mut line = |label: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(shown, "{label:<12} {value}");
    };
    line("kind", kind);
    line("subject", &text::printable(&parsed.subject().to_string()));
    line("names", &names);
    line("issuer", &leaf.issuer);
    line("not before", &text::date(leaf.not_before));
    line("not after", &format!("{} ({})", text::date(leaf.not_after), left(&leaf, now)));
    line("purposes", &purposes(&parsed));
    line("serial", &leaf.serial);
    line("sha256", &fingerprint(der));
    shown
}

fn left(leaf: &Leaf, now: SystemTime) -> String {
    if now < leaf.not_before {
        return "not yet valid".to_owned();
    }
    match leaf.not_after.duration_since(now) {
        Ok(left) => format!("{} days left", left.as_secs() / SECONDS_A_DAY),
        Err(past) => format!("expired {} days ago", past.duration().as_secs() / SECONDS_A_DAY),
    }
}

fn purposes(certificate: &X509Certificate<'_>) -> String {
    match certificate.extended_key_usage() {
        Ok(None) => "any".to_owned(),
        Ok(Some(usage)) => listed(usage.value),
        Err(_) => "ill-formed".to_owned(),
    }
}

fn listed(usage: &ExtendedKeyUsage<'_>) -> String {
    let known = [(usage.any, "any"), (usage.server_auth, "serverAuth"), (usage.client_auth, "clientAuth")];
    let known = known.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned());
    known.chain(usage.other.iter().map(ToString::to_string)).collect::<Vec<_>>().join(", ")
}

/// SHA-256 over the DER, as every other tool shows it: pairs of digits between colons.
fn fingerprint(der: &CertificateDer<'_>) -> String {
    let digest = text::sha256(der).unwrap_or_default();
    let pairs: Vec<_> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::{Authority, Existing, Request};

    fn shown(at: impl FnOnce(SystemTime) -> SystemTime) -> String {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let ca = Authority::create(dir.path(), "test CA", 30, Existing::Keep, now).unwrap();
        let request = Request {
            dns: vec!["*.b".to_owned()],
            spiffe: Some("spiffe://b/a".to_owned()),
            ips: vec!["10.0.0.1".parse().unwrap()],
            days: 10,
        };
        let issued = ca.issue(&request, now).unwrap();
        let (certificate, _) = issued.write(&dir.path().join("a"), Existing::Keep).unwrap();
        certificates(&certificate, at(now)).unwrap()
    }

    #[test]
    fn every_fact_has_its_line() {
        let shown = shown(|now| now);
        for line in [
            "names        *.b, spiffe://b/a, 10.0.0.1\n",
            "issuer       CN=test CA ",
            " days left)\n",
            "purposes     serverAuth, clientAuth\n",
            "kind         certificate\n",
        ] {
            assert!(shown.contains(line), "{shown}");
        }
        let fingerprint = shown.lines().find_map(|line| line.strip_prefix("sha256"));
        assert_eq!(fingerprint.unwrap().trim().len(), 32 * 3 - 1);
    }

    #[test]
    fn an_expired_certificate_says_since_when() {
        let shown = shown(|now| now + Duration::from_secs(12 * SECONDS_A_DAY));
        assert!(shown.contains("(expired 1 days ago)") || shown.contains("(expired 2 days ago)"));
    }
}
