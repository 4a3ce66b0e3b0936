//! Ends waiting for a FUSE server that does not answer.

use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Where the kernel shows FUSE connections.
pub const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// Aborts a FUSE connection: whoever waits for its server gets an error. Nothing happens if it is gone.
pub fn abort(connection: u32) {
    let _ = fs::write(format!("{CONNECTIONS}/{connection}/abort"), "1");
}

/// Does `work`; if it takes longer than `time`, the connections are aborted, so that it fails and ends.
pub fn within<T>(connections: &[u32], time: Duration, work: impl FnOnce() -> T) -> T {
    let (done, wait) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if wait.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
                connections.iter().copied().for_each(abort);
            }
        });
        let result = work();
        drop(done);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_ends_is_not_disturbed() {
        let begun = std::time::Instant::now();
        assert_eq!(within(&[], Duration::from_secs(60), || 7), 7);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
