//! Bytes that show where they belong: an endless sequence by seed, checked byte for byte at the speed of memcmp, so that
//! a lost, doubled or foreign byte is found with its position even in gigabytes.

use std::{error::Error, fmt};

/// The sequence repeats after this many bytes: the greatest prime below 2^20, so that no power of two, the size of
/// every buffer on the way, can hide a shift.
const PERIOD: u64 = 1_048_573;

/// An endless sequence of bytes.
#[derive(Clone, Debug)]
pub struct Pattern {
    block: Vec<u8>,
}

/// Where a stream first left its pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The first wrong byte, counted from the stream's start.
    pub position: u64,
}

impl Pattern {
    /// The sequence of this seed; another seed gives another sequence.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Xorshift64* (Vigna 2016): any generator would do that is cheap and has no short period.
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()[0]
        };
        Self { block: (0..PERIOD).map(|_| next()).collect() }
    }

    /// Bytes from `position` on: at least one, at most `limit`.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "both are at most the period")]
    pub fn piece(&self, position: u64, limit: u64) -> &[u8] {
        let start = position % PERIOD;
        let end = PERIOD.min(start.saturating_add(limit));
        &self.block[start as usize..end as usize]
    }

    /// Holds bytes read at `position` against the sequence.
    ///
    /// # Errors
    /// The position of the first byte that differs.
    pub fn check(&self, mut position: u64, mut bytes: &[u8]) -> Result<(), Mismatch> {
        while !bytes.is_empty() {
            let expected = self.piece(position, bytes.len() as u64);
            let (read, rest) = bytes.split_at(expected.len());
            if read != expected {
                let same = read.iter().zip(expected).take_while(|(a, b)| a == b).count();
                return Err(Mismatch { position: position + same as u64 });
            }
            position += read.len() as u64;
            bytes = rest;
        }
        Ok(())
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} is not the one that was sent", self.position)
    }
}

impl Error for Mismatch {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_agrees_with_itself_across_its_period() {
        let pattern = Pattern::new(7);
        let mut bytes = pattern.piece(PERIOD - 3, 100).to_vec();
        bytes.extend(pattern.piece(PERIOD, 5));
        assert_eq!(pattern.check(PERIOD - 3, &bytes), Ok(()));
    }

    #[test]
    fn a_lost_byte_is_found_where_it_was_lost() {
        let pattern = Pattern::new(7);
        let mut bytes = pattern.piece(0, 1000).to_vec();
        bytes.remove(500);
        let found = pattern.check(0, &bytes).unwrap_err().position;
        assert!((500..510).contains(&found), "found at {found}");
    }

    #[test]
    fn another_seed_gives_other_bytes() {
        assert!(Pattern::new(1).check(0, Pattern::new(2).piece(0, 100)).is_err());
    }
}
