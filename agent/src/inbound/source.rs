//! Whose address a service sees as its client's, and how it is told: not at all, in a header, or by where its connection
//! comes from. The decisions are pure ones; who is connected for, and when, is the story's to know.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use adit_config::{Source, service::is_near};

use super::proxy::{self, Told};
use crate::{
    end::{End, Ending, Side},
    wire::plain::{Bind, Plain},
};

/// How long a service may take no byte of what tells it of its client; the buffers of a new connection have room for all of
/// it, so that it goes out at once.
const INTRODUCED: Duration = Duration::from_secs(5);

/// The address to show for a client whose own is `source` by the word of the dialing agent, which itself is at `agent`.
///
/// An address that means another host wherever it is read, or this host itself, is never shown on somebody's word: a service
/// may well trust loopback, or its own host. Then it is the dialing agent's, which the kernel vouches for, with the client's
/// port, by which an operator tells its connections apart.
pub(super) fn client(source: Option<SocketAddr>, agent: SocketAddr, is_own: impl FnOnce(IpAddr) -> bool) -> SocketAddr {
    let plain = |ip: IpAddr, port| SocketAddr::new(ip.to_canonical(), port);
    match source.map(|source| plain(source.ip(), source.port())) {
        Some(source) if !is_near(source.ip()) && !is_own(source.ip()) => source,
        source => plain(agent.ip(), source.map_or(0, |source| source.port())),
    }
}

/// What a service reads before the stream's first byte.
pub(super) fn header(source: Source, told: &Told<'_>) -> Option<Vec<u8>> {
    match source {
        Source::Agent | Source::Transparent => None,
        Source::ProxyV1 => Some(proxy::v1(told)),
        Source::ProxyV2 => Some(proxy::v2(told)),
    }
}

/// Writes what the service shall read first: no byte of the stream, and counted as none.
pub(super) async fn introduce(service: &Plain, header: &[u8]) -> Result<(), Ending> {
    let failed =
        |why: String| Ending::new(End::Reset, Side::Local, format!("telling the service of its client: {why}"));
    match tokio::time::timeout(INTRODUCED, service.write_all(header)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("it takes nothing for {INTRODUCED:?}"))),
    }
}

/// Where the connection to a service comes from. One that must be to this host itself comes from that address: should
/// it have just gone to another host, no byte does.
pub(super) fn bind(source: Source, client: SocketAddr, mark: u32, own: Option<IpAddr>) -> Bind {
    match (source, own) {
        (Source::Transparent, _) => Bind::Client { address: client, mark },
        (Source::Agent | Source::ProxyV1 | Source::ProxyV2, Some(own)) => Bind::Own(own),
        (Source::Agent | Source::ProxyV1 | Source::ProxyV2, None) => Bind::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_address_is_shown_where_it_means_the_same_here_and_is_not_this_hosts() {
        const AGENT: &str = "10.0.0.1:50000";
        let table = [
            (Some("10.0.0.7:53122"), "10.0.0.7:53122"),
            (Some("[fd00::7]:53122"), "[fd00::7]:53122"),
            (Some("[::ffff:10.0.0.7]:53122"), "10.0.0.7:53122"),
            (Some("127.0.0.1:53122"), "10.0.0.1:53122"),
            (Some("[::1]:53122"), "10.0.0.1:53122"),
            (Some("[::ffff:127.0.0.1]:53122"), "10.0.0.1:53122"),
            (Some("0.0.0.0:53122"), "10.0.0.1:53122"),
            (Some("169.254.1.1:53122"), "10.0.0.1:53122"),
            (Some("[fe80::1]:53122"), "10.0.0.1:53122"),
            (Some("224.0.0.1:53122"), "10.0.0.1:53122"),
            (Some("255.255.255.255:53122"), "10.0.0.1:53122"),
            (Some("10.0.0.2:53122"), "10.0.0.1:53122"),
            (Some("[::ffff:10.0.0.2]:53122"), "10.0.0.1:53122"),
            (None, "10.0.0.1:0"),
        ];
        let is_own = |ip: IpAddr| ip == IpAddr::from([10, 0, 0, 2]);
        for (source, shown) in table {
            let source = source.map(|source| source.parse().unwrap());
            assert_eq!(client(source, AGENT.parse().unwrap(), is_own), shown.parse().unwrap(), "{source:?}");
        }
        // and the agent's as it is, wherever that may be
        assert_eq!(client(None, "[::ffff:127.0.0.1]:5".parse().unwrap(), is_own), "127.0.0.1:0".parse().unwrap());
    }

    #[test]
    fn only_a_transparent_connection_comes_from_the_client() {
        let (client, own) = ("10.0.0.7:1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        assert_eq!(bind(Source::Transparent, client, 7, Some(own)), Bind::Client { address: client, mark: 7 });
        for source in [Source::Agent, Source::ProxyV1, Source::ProxyV2] {
            assert_eq!(bind(source, client, 7, Some(own)), Bind::Own(own));
            assert_eq!(bind(source, client, 7, None), Bind::Any);
        }
    }
}
