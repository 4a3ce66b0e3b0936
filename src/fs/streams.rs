//! Directories that are read although the kernel has opened none.
//!
//! Where the kernel need not ask to open directories it says which one it reads, and from which position on. Who
//! reads it is not said, but whoever goes on does so where an answer has ended: the host's open directory of that answer is
//! kept for this, and found by its position. One that nobody comes back to is closed after a while.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::dir::DirStream;
use crate::engine::{FileHandle, NodeId};
use crate::sys::clock;

/// What the kernel calls a directory that it has opened without asking.
pub const UNOPENED: FileHandle = FileHandle(0);

/// How long one is kept at least; then the next look of the housekeeping closes it.
const PATIENCE: Duration = Duration::from_secs(1);

/// An open directory of the host.
pub struct Stream {
    /// The directory.
    pub file: Arc<File>,
    /// Where reading it stands.
    pub stream: DirStream,
    /// The host has told of changes since before it was opened.
    pub watched: bool,
}

/// One that nobody reads at the moment.
struct Idle {
    node: NodeId,
    /// Where it goes on.
    position: u64,
    since: u64,
    stream: Stream,
}

/// Directories between two answers.
pub struct Streams {
    /// How many are kept; the one that has waited for longest goes first.
    most: usize,
    idle: Mutex<VecDeque<Idle>>,
}

impl Streams {
    /// None yet, at most `most`.
    pub fn new(most: usize) -> Streams {
        Streams {
            most,
            idle: Mutex::default(),
        }
    }

    /// The directory `node` that goes on at `position`.
    pub fn take(&self, node: NodeId, position: u64) -> Option<Stream> {
        let mut idle = self.idle.lock();
        let found = idle
            .iter()
            .rposition(|one| (one.node, one.position) == (node, position))?;
        idle.remove(found).map(|one| one.stream)
    }

    /// Keeps `stream` of the directory `node`, which goes on at `position`.
    pub fn put(&self, node: NodeId, position: u64, stream: Stream) {
        let mut idle = self.idle.lock();
        let last = if idle.len() >= self.most {
            idle.pop_front()
        } else {
            None
        };
        idle.push_back(Idle {
            node,
            position,
            since: clock::now(),
            stream,
        });
        drop(idle);
        // Closed without the lock.
        drop(last);
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.idle.lock().len()
    }

    /// Closes those that nobody came back to.
    pub fn tend(&self) {
        let now = clock::now();
        let old: Vec<Idle> = {
            let mut idle = self.idle.lock();
            let fresh =
                |one: &Idle| u128::from(now.saturating_sub(one.since)) < PATIENCE.as_nanos();
            let count = idle.iter().position(fresh).unwrap_or(idle.len());
            idle.drain(..count).collect()
        };
        drop(old);
    }
}
