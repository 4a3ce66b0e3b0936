//! Time as it passes.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since some moment in the past (`CLOCK_MONOTONIC`); never 0.
#[must_use]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or((0, 0), |time| {
        (
            time.tv_sec().cast_unsigned(),
            time.tv_nsec().cast_unsigned(),
        )
    });
    (time.0 * 1_000_000_000 + time.1).max(1)
}
