//! The FUSE engine: speaks FUSE with the kernel on behalf of any [`FileSystem`].
//!
//! It knows nothing of containers nor of which file system it serves.
//!
//! | file | what it is |
//! |---|---|
//! | `filesystem` | the contract with the file system |
//! | `context` | what a method may know about its request |
//! | `mount` | makes the mount |
//! | `session` | hand-shake, threads, end |
//! | `negotiate` | what is agreed with the kernel |
//! | `pool` | keeps enough threads able to take requests, however many are blocked; merges what they measure |
//! | `crew`, `thread` | start them |
//! | `seat` | the place of one thread; exactly-once answers |
//! | `server` | serves one decoded request |
//! | `queue`, `dev` | the classic transport: a thread, its descriptor and buffers |
//! | `uring` | FUSE over io_uring: its threads, their start and end |
//! | `dispatch` | request -> method -> reply |
//! | `outcome` | what to answer, and what to take back if the answer does not arrive |
//! | `base` | the directory that the mount's root is in |
//! | `backing` | files the kernel reads and writes by itself |
//! | `carrier`, `promise`, `buffers` | reads and syncs beside the queues |
//! | `landmark` | a file of the engine's own, for `nudge` |
//! | `nudge` | makes the kernel send a request |
//! | `notify` | tells the kernel of changes it did not make |
//! | `metrics` | counts and latencies, per queue and operation |

mod backing;
mod base;
mod buffers;
mod carrier;
mod context;
mod crew;
mod dev;
mod dispatch;
mod errno;
mod filesystem;
mod landmark;
pub mod metrics;
pub mod mount;
pub mod negotiate;
mod notify;
mod nudge;
mod outcome;
mod pool;
mod promise;
mod queue;
mod seat;
mod server;
mod session;
mod splice;
mod thread;
mod uring;

pub use crate::sys::aio::Durability;
pub use backing::{BackingFile, Backings};
pub use base::Root;
#[cfg(test)]
pub(crate) use context::Detached;
pub use context::{Context, Seat};
pub use dispatch::entry_out;
pub use errno::Errno;
pub use filesystem::{
    Attributes, CopyRequest, Creation, Data, Entry, FileHandle, FileSystem, IoctlRequest,
    LockRequest, Medium, NodeId, Opened, Payload, ReadRequest, Result, SetAttr, SetTime, Statx,
    WriteRequest,
};
pub use landmark::Landmark;
pub use negotiate::Negotiated;
pub use notify::{Again, Notification, NotificationStatistics, Notifier, TRUST};
pub use session::{Config, Monitor, Session, SessionError, Splicing, Stopper, Transport, probe};
