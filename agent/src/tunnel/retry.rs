//! Whether a stream that could not be opened may be asked for again, and where: PROTOCOL.md section 4, "Retry", as one
//! pure function.

use std::{fmt, time::Duration};

use adit_protocol::{Code, Refusal, RefusalCode, Retry};

use super::dial::{DialError, why_ended};
use crate::wire::channel::PeerEnd;

/// Why one attempt to open a stream failed.
#[derive(Clone, Debug)]
pub enum Failure {
    /// No tunnel.
    Dial(DialError),
    /// The acceptor's REFUSE.
    Refused(Refusal),
    /// The tunnel ended before an answer.
    Lost {
        /// How.
        end: PeerEnd,
        /// Whether DATA or FIN of the stream had been handed to its TLS.
        handed: bool,
        /// Whether anything had been read on the tunnel, of this stream or one before.
        spoken: bool,
    },
    /// No answer came in time.
    Silent {
        /// How long it was waited for.
        limit: Duration,
        /// As in `Lost`.
        handed: bool,
    },
    /// The acceptor broke the protocol.
    Protocol(String),
    /// The application went away.
    Application(String),
}

/// Where to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nowhere.
    Stop,
    /// At another endpoint.
    Elsewhere,
    /// At the same endpoint, on a fresh tunnel.
    SameOnFresh,
}

/// Judges one failed attempt; `recycled` says whether its tunnel had carried a stream before.
pub fn next(failure: &Failure, recycled: bool) -> Next {
    match failure {
        Failure::Dial(_) => Next::Elsewhere,
        Failure::Refused(refusal) => match refusal.code.retry() {
            Retry::No => Next::Stop,
            Retry::Elsewhere => Next::Elsewhere,
            // A fresh tunnel that says so again would say it for ever.
            Retry::SameEndpoint if recycled => Next::SameOnFresh,
            Retry::SameEndpoint => Next::Elsewhere,
            Retry::FreshTunnel if recycled => Next::SameOnFresh,
            Retry::FreshTunnel => Next::Stop,
        },
        Failure::Lost { end: PeerEnd::Closed, .. } if recycled => Next::SameOnFresh,
        Failure::Lost { end: PeerEnd::Closed | PeerEnd::Alert(_), .. } => Next::Elsewhere,
        // A bare end proves nothing, nor does an error that our own TLS found: bytes may have reached the service.
        Failure::Lost { handed: true, .. } | Failure::Silent { handed: true, .. } => Next::Stop,
        Failure::Lost { handed: false, .. } if recycled => Next::SameOnFresh,
        Failure::Lost { handed: false, .. } | Failure::Silent { handed: false, .. } => Next::Elsewhere,
        Failure::Protocol(_) | Failure::Application(_) => Next::Stop,
    }
}

impl Failure {
    /// Whether the pool of this endpoint is to be emptied: its agent seems to be gone (PROTOCOL.md section 4).
    pub fn empties_pool(&self) -> bool {
        match self {
            Self::Lost { end, .. } => !matches!(end, PeerEnd::Closed | PeerEnd::Alert(_)),
            Self::Silent { .. } | Self::Dial(_) => true,
            Self::Refused(_) | Self::Protocol(_) | Self::Application(_) => false,
        }
    }

    /// Whether the endpoint is to be left out for a while: it failed, rather than said no to this stream.
    pub fn blames_endpoint(&self) -> bool {
        match self {
            Self::Dial(DialError::Setup(_)) | Self::Application(_) => false,
            Self::Dial(_) | Self::Lost { .. } | Self::Silent { .. } | Self::Protocol(_) => true,
            Self::Refused(refusal) => matches!(
                refusal.code,
                RefusalCode::Known(Code::Unavailable | Code::Timeout | Code::Overloaded | Code::Draining)
            ),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(error) => error.fmt(f),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            // The dialer's handshake ends before the acceptor has judged its certificate (PROTOCOL.md section 1).
            Self::Lost { end: end @ PeerEnd::Alert(_), spoken: false, .. } => {
                write!(f, "TLS handshake: {}", why_ended(end))
            }
            Self::Lost { end, .. } => write!(f, "open: the tunnel was lost before an answer: {}", why_ended(end)),
            Self::Silent { limit, .. } => write!(f, "open: no answer within {limit:?}"),
            Self::Protocol(rule) => write!(f, "open: the peer broke the protocol: {rule}"),
            Self::Application(why) => write!(f, "the application went away: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use rustls::AlertDescription;

    use super::*;

    fn lost(end: PeerEnd, handed: bool) -> Failure {
        Failure::Lost { end, handed, spoken: true }
    }

    fn refused(code: Code) -> Failure {
        Failure::Refused(Refusal::new(code, ""))
    }

    #[test]
    fn nothing_is_tried_again_once_bytes_may_have_reached_the_service() {
        for end in [PeerEnd::Bare(None), PeerEnd::Refused(rustls::Error::DecryptError)] {
            for recycled in [true, false] {
                assert_eq!(next(&lost(end.clone(), true), recycled), Next::Stop);
            }
        }
        assert_eq!(next(&Failure::Silent { limit: Duration::from_secs(1), handed: true }, true), Next::Stop);
    }

    #[test]
    fn a_word_under_the_keys_proves_that_nothing_reached_the_service() {
        let alert = lost(PeerEnd::Alert(AlertDescription::CertificateExpired), true);
        assert_eq!(next(&alert, true), Next::Elsewhere);
        assert_eq!(next(&lost(PeerEnd::Closed, true), true), Next::SameOnFresh);
    }

    #[test]
    fn a_dead_recycled_tunnel_is_replaced_at_the_same_endpoint() {
        assert_eq!(next(&lost(PeerEnd::Bare(Some(ErrorKind::ConnectionReset)), false), true), Next::SameOnFresh);
        assert_eq!(next(&lost(PeerEnd::Bare(None), false), false), Next::Elsewhere);
    }

    #[test]
    fn each_refusal_goes_where_its_code_says() {
        for (code, recycled, fresh) in [
            (Code::Malformed, Next::Stop, Next::Stop),
            (Code::Unknown, Next::Elsewhere, Next::Elsewhere),
            (Code::Denied, Next::Stop, Next::Stop),
            (Code::Unavailable, Next::Elsewhere, Next::Elsewhere),
            (Code::Timeout, Next::Elsewhere, Next::Elsewhere),
            (Code::Overloaded, Next::Elsewhere, Next::Elsewhere),
            (Code::Draining, Next::SameOnFresh, Next::Elsewhere),
            (Code::Loop, Next::Stop, Next::Stop),
            (Code::Misdirected, Next::SameOnFresh, Next::Stop),
        ] {
            assert_eq!(next(&refused(code), true), recycled, "{code:?} on a recycled tunnel");
            assert_eq!(next(&refused(code), false), fresh, "{code:?} on a fresh tunnel");
        }
    }
}
