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
//! | `pool` | keeps enough threads fetching, however many are blocked |
//! | `seat` | the place of one thread; exactly-once answers |
//! | `queue` | one thread: fetch, dispatch, answer |
//! | `dev` | the classic transport |
//! | `dispatch` | request -> method -> reply |
//! | `outcome` | what to answer, and what to take back if the answer does not arrive |
//! | `notify` | tells the kernel of changes it did not make |
//! | `metrics` | counts and latencies |

mod context;
mod dev;
mod dispatch;
mod errno;
mod filesystem;
pub mod metrics;
pub mod mount;
pub mod negotiate;
mod notify;
mod outcome;
mod pool;
mod queue;
mod seat;
mod session;

#[cfg(test)]
pub(crate) use context::Detached;
pub use context::{Context, Seat};
pub use dispatch::entry_out;
pub use errno::Errno;
pub use filesystem::{
    Attributes, CopyRequest, Creation, Data, Entry, FileHandle, FileSystem, IoctlRequest,
    LockRequest, NodeId, Opened, Payload, ReadRequest, Result, SetAttr, SetTime, Statx,
    WriteRequest,
};
pub use negotiate::Negotiated;
pub use notify::Notifier;
pub use session::{Config, Monitor, Session, SessionError, Stopper, probe};
