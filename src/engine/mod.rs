//! The FUSE engine: speaks FUSE with the kernel on behalf of any [`FileSystem`].
//!
//! It knows nothing of containers nor of which file system it serves.

mod context;
mod errno;
mod filesystem;
pub mod mount;
pub mod negotiate;
mod notify;
mod session;

pub use context::{Context, Seat};
pub use errno::Errno;
pub use filesystem::{
    Attributes, CopyRequest, Creation, Data, Entry, FileHandle, FileSystem, IoctlRequest, LockRequest, NodeId, Opened,
    Payload, ReadRequest, Result, SetAttr, SetTime, Statx, WriteRequest,
};
pub use negotiate::Negotiated;
pub use notify::Notifier;
pub use session::{Config, Session, SessionError, Stopper};
