//! An inode the kernel knows, and how it is found again on the host.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::mounts::Mount;
use crate::engine::{BackingFile, NodeId};
use crate::sys::handle::Handle;
use crate::sys::stat::Stat;

/// What statx(2) tells inodes apart by. A number is reused when a file is gone, so it identifies an inode only while
/// that is held by a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// Mount id.
    pub mount: u64,
    /// Device number; a mount may show several (btrfs, overlay).
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

impl Key {
    /// The key of the inode `stat` is about.
    pub fn of(stat: &Stat) -> Key {
        Key {
            mount: stat.mount(),
            dev: stat.dev(),
            ino: stat.ino(),
        }
    }
}

/// A descriptor that counts against the budget.
#[derive(Debug)]
pub struct HeldFd {
    fd: OwnedFd,
    count: Arc<AtomicUsize>,
}

impl HeldFd {
    /// Counts `fd` in `count` until it is closed.
    pub fn new(fd: OwnedFd, count: &Arc<AtomicUsize>) -> Arc<HeldFd> {
        count.fetch_add(1, Ordering::Relaxed);
        Arc::new(HeldFd {
            fd,
            count: Arc::clone(count),
        })
    }
}

impl Drop for HeldFd {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsFd for HeldFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A name an inode had when it was last looked up.
#[derive(Debug)]
pub struct Place {
    /// The directory.
    pub parent: Arc<Inode>,
    /// The name in it.
    pub name: Box<OsStr>,
}

/// What a file was like when it was last opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint {
    size: u64,
    modified: i64,
    changed: i64,
}

impl Fingerprint {
    /// What `stat` says.
    pub fn of(stat: &Stat) -> Fingerprint {
        Fingerprint {
            size: stat.size(),
            modified: stat.modified(),
            changed: stat.changed(),
        }
    }
}

/// How the kernel gets at the data of a file. All opens of an inode that exist at a time go the same way.
#[derive(Debug, Default)]
pub enum DataWay {
    /// It has not been opened, or not for long.
    #[default]
    Undecided,
    /// By requests; with what the file was like when it was last opened, if the kernel may have cached that.
    Relayed(Option<Box<Fingerprint>>),
    /// By itself.
    Through(Arc<BackingFile>),
    /// As `Through` as long as it is open, then to be decided anew.
    Expiring(Arc<BackingFile>),
}

impl DataWay {
    /// Whether the kernel has the registered file open: then somebody else holds it, too.
    pub fn is_open(&self) -> bool {
        match self {
            DataWay::Undecided | DataWay::Relayed(_) => false,
            DataWay::Through(file) | DataWay::Expiring(file) => Arc::strong_count(file) > 1,
        }
    }
}

/// The ways an inode can be found by; at least one of them is there.
#[derive(Debug, Default)]
pub struct Ways {
    /// An `O_PATH` descriptor.
    pub fd: Option<Arc<HeldFd>>,
    /// Its file handle, once it was needed.
    pub handle: Option<Handle>,
    /// A name, where handles do not work.
    pub place: Option<Box<Place>>,
    /// How the kernel gets at the data of a regular file.
    pub data: DataWay,
}

/// An inode the kernel knows.
#[derive(Debug)]
pub struct Inode {
    /// The kernel's name for it.
    pub node: NodeId,
    /// What it is found by in the table.
    pub key: Key,
    /// Birth time in nanoseconds, 0 if the file system has none.
    pub birth: i64,
    /// File type (`S_IFMT` bits).
    pub kind: u32,
    /// Which synthetic entries this directory has; 0 for none.
    pub overlay: u32,
    /// The mount it is on.
    pub mount: Arc<Mount>,
    /// Used since the descriptor budget looked last.
    pub referenced: AtomicBool,
    /// When the kernel last asked for it, or for a name in it, as of [`clock::now`](crate::sys::clock::now).
    pub asked: AtomicU64,
    /// How many open files of it can be written to.
    pub writers: AtomicU32,
    /// Nobody is told of writes.
    pub muted: AtomicBool,
    /// It has been open for writing ever since it was made: nothing that was said of it is believed for long.
    pub fresh: AtomicBool,
    /// The last look for a name in this directory found something the kernel did not know: the next is opened at once, and
    /// looked at then, and not looked at before as well.
    pub opens_first: AtomicBool,
    /// How to get at it. Taken after the lock of a table shard, never before one.
    pub ways: Mutex<Ways>,
}

// With its counters, 152 bytes, 160 of the heap.
const _: () = assert!(size_of::<Inode>() <= 136);

impl Inode {
    /// Whether `stat` may be about this inode, going by what never changes.
    pub fn resembles(&self, stat: &Stat) -> bool {
        self.key == Key::of(stat) && self.birth == stat.birth() && self.kind == stat.kind()
    }

    /// Notes that the kernel is about to be told something that was asked for at `time`.
    pub fn answered(&self, time: u64) {
        self.asked.fetch_max(time, Ordering::Relaxed);
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == libc::S_IFDIR
    }
}
