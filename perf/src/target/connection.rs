//! FUSE connections, and the end of waiting for a server that does not answer.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Where the kernel shows FUSE connections.
pub const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// A connection. The kernel gives its number to another one once it is gone, so it is also known by its inode there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    number: u32,
    inode: Option<u64>,
}

impl Connection {
    /// The connection that has this number now.
    pub fn new(number: u32) -> Connection {
        Connection {
            number,
            inode: inode(number),
        }
    }

    /// Its number.
    pub fn number(self) -> u32 {
        self.number
    }

    /// A file about it.
    pub fn file(self, name: &str) -> PathBuf {
        directory(self.number).join(name)
    }

    /// Whether it exists. One that could never be seen does not.
    pub fn exists(self) -> bool {
        self.inode.is_some() && inode(self.number) == self.inode
    }

    /// Aborts it: whoever waits for its server gets an error.
    pub fn abort(self) {
        if self.exists() {
            // It may disappear at this moment, which is as good.
            let _ = fs::write(self.file("abort"), "1");
        }
    }

    /// Whether it disappears within a moment: the kernel ends it after the last mount and the last open file.
    pub fn gone(self) -> bool {
        let end = Instant::now() + Duration::from_secs(2);
        while self.exists() {
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

fn directory(number: u32) -> PathBuf {
    PathBuf::from(format!("{CONNECTIONS}/{number}"))
}

fn inode(number: u32) -> Option<u64> {
    Some(fs::metadata(directory(number)).ok()?.ino())
}

/// Does `work`; if it takes longer than `time`, the connection is aborted, so that it fails and ends.
pub fn within<T>(connection: Option<Connection>, time: Duration, work: impl FnOnce() -> T) -> T {
    let (done, wait) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if wait.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
                && let Some(connection) = connection
            {
                connection.abort();
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
        let begun = Instant::now();
        assert_eq!(within(None, Duration::from_secs(60), || 7), 7);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_connection_that_is_not_there() {
        let connection = Connection::new(u32::MAX);
        assert!(!connection.exists() && connection.gone());
    }
}
