//! Waiting for a word in memory to change. Unlike a condition variable it returns when a signal comes.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Waits while `word` is `expected`: until it is woken, a signal comes or `patience` is over, whichever is first.
pub fn wait(word: &AtomicU32, expected: u32, patience: Duration) {
    let patience = libc::timespec {
        tv_sec: libc::time_t::try_from(patience.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(patience.subsec_nanos().cast_signed()),
    };
    // SAFETY: the word and the time outlive the call. The result does not matter: the caller looks at the word again.
    let _ = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            &raw const patience,
        )
    };
}

/// Wakes the thread that waits for `word`, if one does.
pub fn wake(word: &AtomicU32) {
    // SAFETY: the kernel only uses the address of the word, as a key.
    let _ = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            1,
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    /// A hang is a failure.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_word_that_has_changed_is_not_waited_for() {
        wait(&AtomicU32::new(1), 0, LONG);
    }

    #[test]
    fn who_waits_is_woken() {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while word.load(Ordering::Acquire) == 0 {
                    wait(&word, 0, LONG);
                }
            });
            word.store(1, Ordering::Release);
            wake(&word);
        });
    }

    #[test]
    fn patience_ends() {
        wait(&AtomicU32::new(0), 0, Duration::from_millis(1));
    }
}
