//! What a server tells of itself.

use serde::{Deserialize, Serialize};

use super::usage::Usage;
use crate::engine::NotificationStatistics;
use crate::engine::metrics::{CacheStatistics, Measured, OperationStatistics, QueueStatistics};
use crate::fs::Statistics;

/// What is served, and to whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Served {
    /// `mount` or `session`.
    pub kind: String,
    /// The directory tree that is served.
    pub source: String,
    /// The mount point, or the container for a session.
    pub target: String,
    /// Process id of the container for a session.
    pub container: Option<i32>,
}

/// A server's answer. What a server of an earlier version does not tell is `None` or empty.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Version of cntr.
    pub version: String,
    /// Process id of the server.
    pub pid: u32,
    /// Number under `/sys/fs/fuse/connections`.
    pub connection: u32,
    /// What is served.
    pub served: Served,
    /// How requests travel.
    pub transport: String,
    /// Protocol version in use.
    pub protocol: String,
    /// Capabilities in force.
    pub capabilities: Vec<String>,
    /// Largest WRITE in bytes.
    pub max_write: u32,
    /// Nanoseconds since the session started.
    pub uptime_ns: u64,
    /// Nanoseconds that this is about, if it is the difference of two reports: counts, bytes, latencies and CPU time are
    /// those of that time. Without it they are those since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ns: Option<u64>,
    /// Threads that serve, wait to be needed or are blocked.
    pub threads: u64,
    /// Resident memory of the server in KiB.
    pub resident_kib: u64,
    /// State of the file system.
    pub file_system: Statistics,
    /// What the server process has used.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// What the answers say about the kernel's caches.
    #[serde(default)]
    pub cache: Option<CacheStatistics>,
    /// What the kernel was told of changes that it did not make.
    #[serde(default)]
    pub notifications: Option<NotificationStatistics>,
    /// Measurements per operation.
    pub operations: Vec<OperationStatistics>,
    /// Measurements per queue.
    #[serde(default)]
    pub queues: Vec<QueueStatistics>,
}

impl Report {
    /// Nanoseconds that this is about.
    #[must_use]
    pub fn span_ns(&self) -> u64 {
        self.interval_ns.unwrap_or(self.uptime_ns)
    }

    /// The counts and rates of all operations together.
    #[must_use]
    pub fn total(&self) -> Measured {
        let mut total = Measured::default();
        for operation in &self.operations {
            total.add_counts(&operation.measured);
        }
        total.rate(self.span_ns());
        total
    }

    /// Requests of `operation`.
    #[must_use]
    pub fn requests(&self, operation: &str) -> u64 {
        let operations = self.operations.iter();
        let mut of = operations.filter(|one| one.operation == operation);
        of.next().map_or(0, |one| one.measured.requests)
    }
}
