//! Waiting for a condition, with a limit. The only place in the rig that pauses: nothing else may sleep.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long most things may take on a busy machine before the test that waits for them fails.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Between two looks at a condition: short against any wait, long against the look itself.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks again and again until `look` finds something, and fails the test when `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    within(limit, look).unwrap_or_else(|| panic!("waited {limit:?} for {what}, in vain"))
}

/// Looks again and again until `look` finds something or `limit` has passed.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        thread::sleep(PAUSE);
    }
}

/// Looks until what `measure` returns has stayed the same for `span`, and returns it.
///
/// For "nothing moves any more": a full window, a drained queue.
pub fn until_still<T: PartialEq>(what: &str, span: Duration, mut measure: impl FnMut() -> T) -> T {
    let mut last = measure();
    let mut since = Instant::now();
    until(&format!("{what} to come to rest"), LIMIT, || {
        let now = measure();
        if now != last {
            last = now;
            since = Instant::now();
        }
        (since.elapsed() >= span).then_some(())
    });
    last
}
