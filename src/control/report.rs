//! What a server tells of itself.

use serde::{Deserialize, Serialize};

use crate::engine::metrics::OperationStatistics;

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

/// State of the file system.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct FileSystemStatistics {
    /// Inodes the kernel knows.
    pub inodes: u64,
    /// Descriptors held for them.
    pub descriptors: u64,
    /// Open files and directories.
    pub handles: u64,
}

/// A server's answer.
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
    /// Threads that serve, wait to be needed or are blocked.
    pub threads: u64,
    /// Resident memory of the server in KiB.
    pub resident_kib: u64,
    /// State of the file system.
    pub file_system: FileSystemStatistics,
    /// Measurements per operation.
    pub operations: Vec<OperationStatistics>,
}
