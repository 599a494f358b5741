//! The addresses of this host's interfaces (getifaddrs(3)). They are asked for before a stream goes on to the address that
//! its application had meant, and before a service is shown an address; a burst of streams asks once.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};

/// How long an answer is believed. The kernel writes out every interface for it, of which a host of containers has thousands:
/// not for each stream. An address that has just come is served this much later. One that has gone is no danger to who binds to it before connecting.
const LIFE: Duration = Duration::from_secs(1);

/// The addresses of this host, as they were a moment ago.
#[derive(Debug, Default)]
pub struct OwnAddresses {
    known: Mutex<Option<Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    at: Instant,
    addresses: Arc<[IpAddr]>,
}

impl OwnAddresses {
    /// Whether an interface of this host has the address, loopback's included; a v4-mapped one counts as the IPv4 one.
    ///
    /// # Errors
    /// The system's.
    pub fn has(&self, ip: IpAddr) -> io::Result<bool> {
        Ok(self.at(Instant::now(), read)?.contains(&ip.to_canonical()))
    }

    /// The same, asked for anew: for who has nothing else to keep him on this host.
    ///
    /// # Errors
    /// The system's.
    pub fn has_now(&self, ip: IpAddr) -> io::Result<bool> {
        Ok(read()?.contains(&ip.to_canonical()))
    }

    /// What is known at `now`, read anew where that is too old.
    fn at(&self, now: Instant, read: impl FnOnce() -> io::Result<Vec<IpAddr>>) -> io::Result<Arc<[IpAddr]>> {
        // Held while it is read, so that a burst of streams reads once; a panic leaves what was known.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Known { at, addresses }) = &*known
            && now.saturating_duration_since(*at) < LIFE
        {
            return Ok(Arc::clone(addresses));
        }
        let addresses: Arc<[IpAddr]> = read()?.into();
        *known = Some(Known { at: now, addresses: Arc::clone(&addresses) });
        Ok(addresses)
    }
}

fn read() -> io::Result<Vec<IpAddr>> {
    Ok(getifaddrs()?.filter_map(|interface| ip(&interface.address?)).collect())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_loopback_and_no_address_for_documents() {
        let own = OwnAddresses::default();
        for (ip, has) in [("127.0.0.1", true), ("::ffff:127.0.0.1", true), ("192.0.2.1", false), ("2001:db8::1", false)]
        {
            assert_eq!(own.has(ip.parse().unwrap()).unwrap(), has, "{ip}");
        }
    }

    #[test]
    fn an_answer_is_read_again_once_it_is_old_and_one_that_fails_is_not_kept() {
        let (own, start) = (OwnAddresses::default(), Instant::now());
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let ask = |at: Duration, last: u8| own.at(start + at, || Ok(vec![address(last)])).unwrap()[0];
        assert_eq!(own.at(start, || Err(io::ErrorKind::Other.into())).unwrap_err().kind(), io::ErrorKind::Other);
        assert_eq!(ask(Duration::ZERO, 1), address(1));
        assert_eq!(ask(LIFE - Duration::from_millis(1), 2), address(1));
        assert_eq!(ask(LIFE, 3), address(3));
    }
}
