//! A value that one thread waits for and another one makes.
//!
//! The wait ends when the value is there, when it never will be, or when the waiting thread has a reason to go: then
//! the maker gets the value back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::sys::futex;

/// Nobody has come to an end yet.
const OPEN: u32 = 0;
/// The maker has: there is a value, or none will come.
const MADE: u32 = 1;
/// The waiting thread has.
const LEFT: u32 = 2;

/// How long a reason to go may be overlooked, should its signal be lost.
const LOOK: Duration = Duration::from_millis(100);

struct Shared<T> {
    state: AtomicU32,
    value: Mutex<Option<T>>,
}

/// The side that makes the value.
pub(super) struct Promise<T>(Arc<Shared<T>>);

/// The side that waits for it.
pub(super) struct Expectation<T>(Arc<Shared<T>>);

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending<T> {
    /// With the value.
    Kept(T),
    /// The maker is gone.
    Broken,
    /// There was a reason to go.
    Left,
}

/// Both sides.
pub(super) fn promise<T>() -> (Promise<T>, Expectation<T>) {
    let shared = Arc::new(Shared {
        state: AtomicU32::new(OPEN),
        value: Mutex::new(None),
    });
    (Promise(Arc::clone(&shared)), Expectation(shared))
}

impl<T> Promise<T> {
    /// Hands the value over; back if nobody waits any more.
    pub(super) fn keep(self, value: T) -> Option<T> {
        *self.0.value.lock() = Some(value);
        if self.end() {
            None
        } else {
            self.0.value.lock().take()
        }
    }

    /// Returns whether somebody waits, or will.
    fn end(&self) -> bool {
        let open = self
            .0
            .state
            .compare_exchange(OPEN, MADE, Ordering::AcqRel, Ordering::Acquire);
        if open.is_ok() {
            futex::wake(&self.0.state);
        }
        open.is_ok()
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<T> Expectation<T> {
    /// Waits; goes when `leave` says so, which is asked whenever a signal comes.
    pub(super) fn wait(self, mut leave: impl FnMut() -> bool) -> Ending<T> {
        let state = &self.0.state;
        while state.load(Ordering::Acquire) == OPEN {
            let gone = leave()
                && state
                    .compare_exchange(OPEN, LEFT, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok();
            if gone {
                return Ending::Left;
            }
            futex::wait(state, OPEN, LOOK);
        }
        match self.0.value.lock().take() {
            Some(value) => Ending::Kept(value),
            None => Ending::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_waited_for() {
        let (promise, expectation) = promise();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| expectation.wait(|| false));
            assert_eq!(promise.keep(7), None);
            assert_eq!(waiting.join().expect("no panic"), Ending::Kept(7));
        });
    }

    #[test]
    fn who_has_gone_gets_nothing() {
        let (promise, expectation) = promise();
        assert_eq!(expectation.wait(|| true), Ending::Left);
        assert_eq!(promise.keep(7), Some(7));
    }

    #[test]
    fn a_value_that_is_there_is_taken_in_any_case() {
        let (promise, expectation) = promise();
        assert_eq!(promise.keep(7), None);
        assert_eq!(expectation.wait(|| true), Ending::Kept(7));
    }

    #[test]
    fn a_promise_that_is_dropped_is_broken() {
        let (promise, expectation) = promise::<u8>();
        drop(promise);
        assert_eq!(expectation.wait(|| false), Ending::Broken);
    }
}
