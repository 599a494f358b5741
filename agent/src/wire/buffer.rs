//! Buffers that are lent while bytes are in them and given back when they are empty, so that an idle stream owns none.
//!
//! A buffer begins small and grows once a whole fill shows that bulk is flowing; when the budget of large buffers is
//! out, everyone keeps to small ones, so memory in flight is bounded in all. Nothing here does I/O.

use std::{
    cell::RefCell,
    sync::atomic::{AtomicUsize, Ordering},
};

/// One TLS record of the greatest size (RFC 8446 section 5.2: 16,384 + 256 + 5 bytes) and some room.
const SMALL: usize = 17 * 1024;
/// What a bulk transfer reads, seals and writes at once. Measured: 8 KiB costs 2.6 ns a byte in a plain relay, 256 KiB
/// costs 0.9; more gains nothing.
const LARGE: usize = 257 * 1024;
/// The most bytes to read, or to seal, at once: what fits a large buffer with the records' own bytes around it.
pub const BULK: usize = 256 * 1024;
/// Large buffers lent at once, in all: 64 MiB. Beyond it streams go on with small ones.
const LARGE_BUDGET: usize = 256;
/// Empty buffers a thread keeps of each size; the rest goes back to the allocator, so that memory returns after a peak.
const SPARE_PER_THREAD: usize = 16;

static LARGE_LENT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SPARE: RefCell<[Vec<Vec<u8>>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Bytes in the order they came: filled at the back, taken from the front.
#[derive(Debug, Default)]
pub struct Buffer {
    store: Vec<u8>,
    start: usize,
    end: usize,
    bulk: bool,
}

impl Buffer {
    /// The bytes that are in it.
    pub fn data(&self) -> &[u8] {
        &self.store[self.start..self.end]
    }

    /// The bytes that are in it, to be changed in place.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.store[self.start..self.end]
    }

    /// How many bytes are in it.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether no byte is in it; then it owns no memory either.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Room for one read: all the room there is, and at least one byte unless a large buffer is full.
    ///
    /// A fill that a small buffer has no more room for makes the next one large.
    pub fn room(&mut self) -> &mut [u8] {
        let grow = self.bulk && self.store.len() < LARGE && large_is_left();
        if self.store.is_empty() {
            self.store = lend(if grow { LARGE } else { SMALL });
        } else if grow {
            self.move_to(LARGE);
        } else if self.end == self.store.len() && (self.start > 0 || self.end < LARGE) {
            self.make_room(1);
        }
        &mut self.store[self.end..]
    }

    /// Room for at least `wanted` bytes, however large that must be.
    pub fn room_for(&mut self, wanted: usize) -> &mut [u8] {
        if self.store.is_empty() {
            self.store = lend(wanted);
        } else if self.store.len() - self.end < wanted {
            self.make_room(wanted);
        }
        &mut self.store[self.end..]
    }

    /// Says that the first `count` bytes of the room were filled.
    pub fn filled(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.store.len(), "more was filled than there was room");
        self.bulk = self.end >= SMALL;
        self.give_back_if_empty();
    }

    /// Drops `count` bytes from the front.
    pub fn take(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "more was taken than was there");
        self.give_back_if_empty();
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.start = self.end;
        self.give_back_if_empty();
    }

    /// Appends a copy of `bytes`.
    pub fn put(&mut self, bytes: &[u8]) {
        self.room_for(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    fn make_room(&mut self, wanted: usize) {
        if self.store.len() - self.len() >= wanted && self.start > 0 {
            self.store.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        } else {
            self.move_to((self.len() + wanted).max(SMALL + 1));
        }
    }

    fn move_to(&mut self, size: usize) {
        let mut larger = lend(size);
        larger[..self.len()].copy_from_slice(self.data());
        give_back(std::mem::replace(&mut self.store, larger));
        self.end -= self.start;
        self.start = 0;
    }

    fn give_back_if_empty(&mut self) {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            give_back(std::mem::take(&mut self.store));
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.store));
    }
}

/// Whether the budget still has large buffers; whoever merely wants one is content with a small one.
fn large_is_left() -> bool {
    LARGE_LENT.load(Ordering::Relaxed) < LARGE_BUDGET
}

fn lend(wanted: usize) -> Vec<u8> {
    let size = match wanted {
        0..=SMALL => SMALL,
        _ => wanted.max(LARGE),
    };
    if size >= LARGE {
        LARGE_LENT.fetch_add(1, Ordering::Relaxed);
    }
    spare(size).unwrap_or_else(|| vec![0; size])
}

fn spare(size: usize) -> Option<Vec<u8>> {
    let class = class(size)?;
    SPARE.with_borrow_mut(|spare| spare[class].pop())
}

fn give_back(store: Vec<u8>) {
    if store.len() >= LARGE {
        LARGE_LENT.fetch_sub(1, Ordering::Relaxed);
    }
    if let Some(class) = class(store.len()) {
        // A thread that is ending has no spare list any more; the buffer is then simply freed.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare[class].len() < SPARE_PER_THREAD {
                spare[class].push(store);
            }
        });
    }
}

fn class(size: usize) -> Option<usize> {
    match size {
        SMALL => Some(0),
        LARGE => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_buffer_owns_no_memory() {
        let mut buffer = Buffer::default();
        buffer.put(b"hello");
        buffer.take(5);
        assert_eq!(buffer.store.capacity(), 0);
    }

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let mut buffer = Buffer::default();
        let mut expected = Vec::new();
        let mut seen = Vec::new();
        for round in 0..200_u8 {
            let piece = vec![round; 1 + usize::from(round) * 13];
            buffer.put(&piece);
            expected.extend_from_slice(&piece);
            let taken = buffer.len() / 2;
            seen.extend_from_slice(&buffer.data()[..taken]);
            buffer.take(taken);
        }
        seen.extend_from_slice(buffer.data());
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_whole_fill_makes_the_next_buffer_large() {
        let mut buffer = Buffer::default();
        let small = buffer.room().len();
        buffer.filled(small);
        buffer.take(small);
        assert!(buffer.room().len() > small);
    }

    #[test]
    fn a_full_buffer_grows_and_keeps_its_bytes() {
        let mut buffer = Buffer::default();
        let small = buffer.room().len();
        buffer.room().fill(7);
        buffer.filled(small);
        assert!(!buffer.room().is_empty());
        assert!(buffer.data().iter().all(|byte| *byte == 7));
        assert_eq!(buffer.len(), small);
    }
}
