//! Memory that the allocator holds free, given back to the system.

/// Gives back every free page of the heap (malloc_trim(3)); without it glibc keeps what lies between two blocks in use,
/// which after a peak of many small ones is nearly all. It walks the heap, so it is for quiet moments and for a thread
/// that carries no stream. Elsewhere than on glibc it does nothing.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes the allocator's own locks, touches free pages only, and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
