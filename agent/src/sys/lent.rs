//! Descriptors that their owner lets somebody on another thread look at, while it uses them.

use std::{
    os::fd::RawFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A place for some descriptors. Whoever looks holds its lock meanwhile, and a lending that ends waits for that: so no number
/// is looked at that may be another file's by now.
#[derive(Debug)]
pub struct Lent<const N: usize>(Mutex<Option<[RawFd; N]>>);

impl<const N: usize> Default for Lent<N> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

/// Descriptors are lent for as long as this lives. Drop it before they are closed.
#[derive(Debug)]
pub struct Lending<'a, const N: usize>(&'a Lent<N>);

impl<const N: usize> Drop for Lending<'_, N> {
    fn drop(&mut self) {
        *self.0.place() = None;
    }
}

impl<const N: usize> Lent<N> {
    /// Lends these.
    #[must_use]
    pub fn lend(&self, descriptors: [RawFd; N]) -> Lending<'_, N> {
        *self.place() = Some(descriptors);
        Lending(self)
    }

    /// Looks at what is lent now, with something that does not wait.
    pub fn look<T>(&self, look: impl FnMut(RawFd) -> T) -> Option<[T; N]> {
        let place = self.place();
        (*place).map(|descriptors| descriptors.map(look))
    }

    fn place(&self) -> MutexGuard<'_, Option<[RawFd; N]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
