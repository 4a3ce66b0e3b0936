//! Makes the kernel send a request that means nothing.
//!
//! The kernel's only request that a server can cause is the answer to a retrieve notification, which must be about a
//! regular file that it knows. So the engine has a file of its own in each mount: it is looked up once, by a name that
//! nobody else can know, before anybody uses the mount, and the kernel is made to remember it by an inotify watch, which
//! unlike an open file keeps nobody from unmounting.

use std::ffi::{CStr, CString};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fuse_proto::{fuse_attr, notify};
use nix::fcntl::{OFlag, openat};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::Mode;
use parking_lot::Mutex;

use super::dev::Device;
use super::{Entry, NodeId};

/// The node id of the file; no file system uses it.
pub(super) const NODE: NodeId = NodeId(u64::MAX - 1);

/// Requests with at least this number are answers to nudges; those of the kernel start at 2.
const UNIQUE: u64 = 1 << 62;

/// The file, and what keeps the kernel from forgetting it.
pub(super) struct Nudge {
    device: Device,
    name: CString,
    /// It is being looked up.
    awaited: AtomicBool,
    watch: Mutex<Option<Inotify>>,
    count: AtomicU64,
}

impl Nudge {
    /// Nudges on `device`.
    pub(super) fn new(device: Device) -> Nudge {
        let random = RandomState::new();
        let name = format!(
            ".cntr-nudge-{:016x}{:016x}",
            random.hash_one(0),
            random.hash_one(1)
        );
        Nudge {
            device,
            name: CString::new(name).expect("no NUL is in hexadecimal digits"),
            awaited: AtomicBool::new(false),
            watch: Mutex::new(None),
            count: AtomicU64::new(0),
        }
    }

    /// Makes the kernel know the file on `mount`, which is served already.
    ///
    /// # Errors
    /// `EMFILE` if there are too many inotify instances.
    pub(super) fn settle(&self, mount: BorrowedFd<'_>) -> io::Result<()> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        self.awaited.store(true, Ordering::SeqCst);
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(mount, self.name.as_c_str(), flags, Mode::empty());
        self.awaited.store(false, Ordering::SeqCst);
        let file = file?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        inotify.add_watch(path.as_str(), AddWatchFlags::IN_DELETE_SELF)?;
        *self.watch.lock() = Some(inotify);
        Ok(())
    }

    /// The answer to a LOOKUP of `name` in `parent` if it is that of the file.
    pub(super) fn lookup(&self, parent: u64, name: &CStr) -> Option<Entry> {
        let asked = self.awaited.load(Ordering::Relaxed)
            && parent == NodeId::ROOT.0
            && name == self.name.as_c_str();
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

    /// Makes the kernel send a request to the queue of the CPU the caller runs on.
    ///
    /// # Errors
    /// `ENOENT` if the file was not made known.
    pub(super) fn send(&self) -> io::Result<()> {
        let unique = UNIQUE + 2 * self.count.fetch_add(1, Ordering::Relaxed);
        let mut message = [0_u8; 64];
        let len = notify::encode_retrieve(unique, NODE.0, 0, 0, &mut message)
            .map_err(io::Error::other)?;
        self.device.notify(&message[..len])
    }
}
