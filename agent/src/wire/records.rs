//! rustls without its buffers, one state at a time: records in, opened bytes and records to be written out. A file of its
//! own, for both kinds of connection take the same steps. It reads and writes no socket.

use rustls::{
    Error as TlsError,
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus},
};

use super::{buffer::Buffer, channel::PeerEnd};

/// Records without a byte in them that may follow each other: they are legal (RFC 8446 section 5.1) and we send none, but
/// a peer that sends nothing else would keep its reader from ever waiting. OpenSSL allows as many.
const EMPTY_RECORDS: u32 = 32;

/// What whole records held.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// The bytes, not yet taken.
    pub(super) bytes: Buffer,
    /// Records without a byte since the last one with any.
    empty: u32,
}

impl Opened {
    fn put(&mut self, payload: &[u8]) -> Result<(), TlsError> {
        self.empty = if payload.is_empty() { self.empty + 1 } else { 0 };
        if self.empty > EMPTY_RECORDS {
            return Err(TlsError::General("too many records without a byte".to_owned()));
        }
        self.bytes.put(payload);
        Ok(())
    }
}

/// Whether rustls is to be asked again.
pub(super) enum Turn {
    Again,
    Idle,
}

/// What a record of 16,384 bytes costs beyond them (header 5, type 1, tag 16), and room for a key update and an alert.
pub(super) fn overhead(len: usize) -> usize {
    (len / 16_384 + 1) * 22 + 256
}

/// What is to be sealed.
#[derive(Clone, Copy)]
pub(super) enum Sealing<'a> {
    Data(&'a [u8]),
    Close,
}

/// What came of it: it is sealed, rustls had something else to do first, or it takes nothing any more.
pub(super) enum Sealed {
    Yes,
    Again,
    No,
}

/// Seals into `out` if rustls can now; else carries out what it says instead.
pub(super) fn seal_or_act<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    what: Sealing<'_>,
    room: usize,
    opened: &mut Opened,
    out: &mut Buffer,
) -> (usize, Sealed) {
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
        let space = out.room_for(room);
        let written = match what {
            Sealing::Data(plain) => traffic.encrypt(plain, space),
            Sealing::Close => traffic.queue_close_notify(space),
        };
        return (status.discard, count_sealed(&written, out));
    }
    let (discard, turn) = act(status, opened, out);
    match turn {
        Ok(Turn::Again) => (discard, Sealed::Again),
        Ok(Turn::Idle) | Err(_) => (discard, Sealed::No),
    }
}

fn count_sealed(written: &Result<usize, EncryptError>, out: &mut Buffer) -> Sealed {
    match written {
        Ok(count) => {
            out.filled(*count);
            Sealed::Yes
        }
        Err(EncryptError::InsufficientSize(_) | EncryptError::EncryptExhausted) => {
            out.filled(0);
            Sealed::No
        }
    }
}

/// Carries out one state of rustls. Returns how many bytes of the input it is done with, and whether to ask again.
pub(super) fn act<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    opened: &mut Opened,
    out: &mut Buffer,
) -> (usize, Result<Turn, PeerEnd>) {
    let mut discard = status.discard;
    let turn = match status.state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        if let Err(error) = opened.put(record.payload) {
                            return (discard, Err(PeerEnd::Refused(error)));
                        }
                    }
                    Err(error) => return (discard, Err(PeerEnd::Refused(error))),
                }
            }
            Ok(Turn::Again)
        }
        Ok(ConnectionState::EncodeTlsData(mut encode)) => {
            let written = encode.encode(out.room());
            let written = match written {
                Err(EncodeError::InsufficientSize(size)) => encode.encode(out.room_for(size.required_size)),
                other => other,
            };
            out.filled(written.unwrap_or(0));
            Ok(Turn::Again)
        }
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            // `sealed_out` keeps the order and is flushed by the caller, so for rustls it is sent.
            transmit.done();
            Ok(Turn::Again)
        }
        Ok(ConnectionState::PeerClosed) => Err(PeerEnd::Closed),
        // Early data is never offered nor accepted, so rustls never says `ReadEarlyData`; waiting is all others mean.
        Ok(_) => Ok(Turn::Idle),
        Err(TlsError::AlertReceived(alert)) => Err(PeerEnd::Alert(alert)),
        Err(error) => Err(PeerEnd::Refused(error)),
    };
    (discard, turn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_without_a_byte_are_taken_until_they_are_all_that_comes() {
        let mut opened = Opened::default();
        for _ in 0..3 {
            for _ in 0..EMPTY_RECORDS {
                opened.put(b"").unwrap();
            }
            opened.put(b"x").unwrap();
        }
        for _ in 0..EMPTY_RECORDS {
            opened.put(b"").unwrap();
        }
        assert!(opened.put(b"").is_err());
        assert_eq!(opened.bytes.data(), b"xxx");
    }
}
