//! A file of the engine's own in each mount.
//!
//! The kernel's only request that a server can cause is the answer to a retrieve notification (`nudge`), which must be
//! about a regular file that the kernel knows. So there is one, which is looked up once, by a name that nobody else can
//! know, before anybody uses the mount; and the kernel is made to remember it by an inotify watch, which unlike an open
//! file keeps nobody from unmounting.
//!
//! **The server itself must not look it up.** A process that is killed while it waits for its own answer never ends: over
//! io_uring the request is in memory of a ring that goes with the last thread, and that one waits for the request; no signal
//! and no abort of the connection helps. Whoever has the mount made sets the landmark, from another process.

use std::ffi::{CStr, CString};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use fuse_proto::fuse_attr;
use nix::fcntl::{OFlag, openat};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::Mode;

use super::{Entry, NodeId};

/// The node id of the file; no file system uses it.
pub(super) const NODE: NodeId = NodeId(u64::MAX - 1);

/// The name of the file.
#[derive(Clone, Debug)]
pub struct Landmark {
    name: CString,
}

impl Default for Landmark {
    fn default() -> Landmark {
        Landmark::new()
    }
}

impl Landmark {
    /// A name that nobody knows yet.
    #[must_use]
    pub fn new() -> Landmark {
        let random = RandomState::new();
        let name = format!(
            ".cntr-landmark-{:016x}{:016x}",
            random.hash_one(0),
            random.hash_one(1)
        );
        Landmark {
            name: CString::new(name).expect("no NUL is in hexadecimal digits"),
        }
    }

    /// Makes the kernel know the file on `mount`, which another process serves already: a
    /// [`DetachedMount::mount`](super::mount::DetachedMount). It does as long as the descriptor is open.
    ///
    /// Without it, requests over io_uring that wait while all threads of their CPU are blocked may have to wait for
    /// another request.
    ///
    /// # Errors
    /// `EMFILE` if there are too many inotify instances; those of openat(2) if the server is gone.
    pub fn set(&self, mount: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(mount, self.name.as_c_str(), flags, Mode::empty())?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        inotify.add_watch(path.as_str(), AddWatchFlags::IN_DELETE_SELF)?;
        Ok(inotify.into())
    }

    /// The answer to a LOOKUP of `name` in `parent` if it is that of the file.
    pub(super) fn lookup(&self, parent: u64, name: &CStr) -> Option<Entry> {
        let asked = parent == NodeId::ROOT.0 && name == self.name.as_c_str();
        asked.then(|| Entry {
            node: NODE,
            generation: 0,
            attr: fuse_attr {
                ino: NODE.0,
                mode: libc::S_IFREG | 0o444,
                nlink: 1,
                blksize: 4096,
                ..Default::default()
            },
            entry_ttl: Duration::ZERO,
            // Nobody answers for it.
            attr_ttl: Duration::from_secs(1 << 30),
        })
    }
}
