//! The allocator.

/// Gives memory that was freed back to the kernel. Takes milliseconds after much was freed, microseconds otherwise.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers, and may be called at any time by any thread.
    unsafe {
        libc::malloc_trim(0)
    };
}
