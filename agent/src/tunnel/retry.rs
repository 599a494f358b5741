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

/// What is known of the tunnel that an attempt used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Was {
    /// It had carried a stream before.
    Recycled,
    /// It was fresh.
    Fresh,
    /// It was fresh, because an attempt before this one had sent it back to this endpoint.
    Again,
}

/// Judges one failed attempt on a tunnel that `was`. No endpoint is gone back to twice: one that closes every tunnel
/// would take all attempts, and a healthy one would never be asked.
pub fn next(failure: &Failure, was: Was) -> Next {
    match failure {
        Failure::Dial(_) => Next::Elsewhere,
        Failure::Refused(refusal) => match (refusal.code.retry(), was) {
            (Retry::No, _) => Next::Stop,
            (Retry::Elsewhere, _) | (Retry::SameEndpoint, Was::Again) => Next::Elsewhere,
            (Retry::SameEndpoint, Was::Recycled | Was::Fresh) | (Retry::FreshTunnel, Was::Recycled) => {
                Next::SameOnFresh
            }
            // The certificate that a fresh tunnel showed is the one that the next would show.
            (Retry::FreshTunnel, Was::Fresh | Was::Again) => Next::Stop,
        },
        Failure::Lost { end: PeerEnd::Closed, .. } if was != Was::Again => Next::SameOnFresh,
        Failure::Lost { end: PeerEnd::Closed | PeerEnd::Alert(_), .. } => Next::Elsewhere,
        // A bare end proves nothing, nor does an error that our own TLS found: bytes may have reached the service.
        Failure::Lost { handed: true, .. } | Failure::Silent { handed: true, .. } => Next::Stop,
        Failure::Lost { handed: false, .. } if was == Was::Recycled => Next::SameOnFresh,
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

    /// Who is to be left out for a while, for having failed rather than said no to this stream.
    pub fn blames(&self) -> Blames {
        match self {
            Self::Dial(DialError::Setup(_)) | Self::Application(_) => Blames::Nobody,
            Self::Dial(_) | Self::Lost { .. } | Self::Silent { .. } | Self::Protocol(_) => Blames::Endpoint,
            Self::Refused(refusal) => match refusal.code {
                // The agent is well, and may carry other names as ever.
                RefusalCode::Known(Code::Unavailable | Code::Timeout | Code::Overloaded | Code::Unknown) => {
                    Blames::Service
                }
                RefusalCode::Known(Code::Draining) => Blames::Endpoint,
                RefusalCode::Known(_) | RefusalCode::Unknown(_) => Blames::Nobody,
            },
        }
    }
}

/// Who is to be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blames {
    /// The endpoint, for every name.
    Endpoint,
    /// The endpoint, for this name.
    Service,
    /// Nobody.
    Nobody,
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
    fn who_says_no_to_one_name_is_left_out_for_no_other() {
        for code in [Code::Unavailable, Code::Timeout, Code::Overloaded, Code::Unknown] {
            assert_eq!(refused(code).blames(), Blames::Service, "{code:?}");
        }
        assert_eq!(refused(Code::Draining).blames(), Blames::Endpoint);
        assert_eq!(refused(Code::Denied).blames(), Blames::Nobody);
    }

    #[test]
    fn nothing_is_tried_again_once_bytes_may_have_reached_the_service() {
        for end in [PeerEnd::Bare(None), PeerEnd::Refused(rustls::Error::DecryptError)] {
            for was in [Was::Recycled, Was::Fresh, Was::Again] {
                assert_eq!(next(&lost(end.clone(), true), was), Next::Stop);
            }
        }
        let silent = Failure::Silent { limit: Duration::from_secs(1), handed: true };
        assert_eq!(next(&silent, Was::Recycled), Next::Stop);
    }

    #[test]
    fn a_word_under_the_keys_proves_that_nothing_reached_the_service() {
        let alert = lost(PeerEnd::Alert(AlertDescription::CertificateExpired), true);
        assert_eq!(next(&alert, Was::Recycled), Next::Elsewhere);
        assert_eq!(next(&lost(PeerEnd::Closed, true), Was::Recycled), Next::SameOnFresh);
        assert_eq!(next(&lost(PeerEnd::Closed, true), Was::Fresh), Next::SameOnFresh);
    }

    #[test]
    fn an_endpoint_that_closes_every_tunnel_is_left_for_another() {
        assert_eq!(next(&lost(PeerEnd::Closed, true), Was::Again), Next::Elsewhere);
    }

    #[test]
    fn a_dead_recycled_tunnel_is_replaced_at_the_same_endpoint() {
        let reset = lost(PeerEnd::Bare(Some(ErrorKind::ConnectionReset)), false);
        assert_eq!(next(&reset, Was::Recycled), Next::SameOnFresh);
        assert_eq!(next(&lost(PeerEnd::Bare(None), false), Was::Fresh), Next::Elsewhere);
    }

    #[test]
    fn each_refusal_goes_where_its_code_says() {
        for (code, recycled, fresh, again) in [
            (Code::Malformed, Next::Stop, Next::Stop, Next::Stop),
            (Code::Unknown, Next::Elsewhere, Next::Elsewhere, Next::Elsewhere),
            (Code::Denied, Next::Stop, Next::Stop, Next::Stop),
            (Code::Unavailable, Next::Elsewhere, Next::Elsewhere, Next::Elsewhere),
            (Code::Timeout, Next::Elsewhere, Next::Elsewhere, Next::Elsewhere),
            (Code::Overloaded, Next::Elsewhere, Next::Elsewhere, Next::Elsewhere),
            (Code::Draining, Next::SameOnFresh, Next::SameOnFresh, Next::Elsewhere),
            (Code::Loop, Next::Stop, Next::Stop, Next::Stop),
            (Code::Misdirected, Next::SameOnFresh, Next::Stop, Next::Stop),
        ] {
            for (was, expected) in [(Was::Recycled, recycled), (Was::Fresh, fresh), (Was::Again, again)] {
                assert_eq!(next(&refused(code), was), expected, "{code:?} on a tunnel that was {was:?}");
            }
        }
    }
}
