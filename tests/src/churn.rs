//! Applications that open one stream after another while something happens: how many got through, and how many did not.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

use crate::{address::Address, end::End};

/// Streams at once.
const CALLERS: usize = 4;

/// What the applications met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Streams that got through: a word there, and the same word back.
    pub good: usize,
    /// Those that did not.
    pub bad: usize,
}

/// While applications open streams to the echo service behind `front` all the time, `happens`.
pub fn under_load(front: &Address, happens: impl FnOnce()) -> Calls {
    let (good, bad, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    let call = End::try_echo(front);
                    if let Err(error) = &call {
                        println!("a stream failed: {error}");
                    }
                    if call.is_ok() { &good } else { &bad }.fetch_add(1, Relaxed);
                }
            });
        }
        let _over = Over(&over);
        happens();
    });
    Calls { good: good.into_inner(), bad: bad.into_inner() }
}

/// Ends what others do until it is set, also where the test fails meanwhile.
#[derive(Debug)]
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
