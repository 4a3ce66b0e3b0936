//! Waiting for a condition, with a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a loaded machine: a wait that reaches it has found a hang.
pub const LONG: Duration = Duration::from_secs(30);

/// Polls until `condition` holds; false when it did not within `limit`.
pub fn until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Polls until `produce` gives something; `None` when it did not within `limit`.
pub fn some<T>(limit: Duration, mut produce: impl FnMut() -> Option<T>) -> Option<T> {
    let mut found = None;
    until(limit, || {
        found = produce();
        found.is_some()
    });
    found
}
