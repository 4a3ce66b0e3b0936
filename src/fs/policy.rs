//! What the user of the file system decides: which tree, who may write, how ids look, how long the kernel may cache.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::idmap::IdMap;

/// Whether the view can be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// As far as the permissions of the files go.
    #[default]
    ReadWrite,
    /// Not at all: everything that would write answers `EROFS`, and access times stay as they are.
    ReadOnly,
}

/// How long the kernel may use names and attributes without asking again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CachePolicy {
    /// For this long; 0 on pseudo and network file systems. A change made behind the mount's back is seen after it.
    Ttl(Duration),
    /// Not at all: every look at a name or an attribute is a request, every open drops the cached data.
    Strict,
    /// Until it changes: the host's kernel tells of changes made behind the mount's back, and they are seen some
    /// milliseconds later. For a second where it does not tell, and not at all on pseudo and network file systems.
    #[default]
    Coherent,
}

/// How the kernel gets at the data of regular files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataPath {
    /// By itself (kernel passthrough) where it can, else by requests.
    #[default]
    Auto,
    /// By requests.
    Relay,
}

/// Whether inodes can be opened by file handle (`open_by_handle_at(2)`, NFS) when the kernel does not cache them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Export {
    /// No: nothing of an inode is left when it was forgotten.
    #[default]
    No,
    /// This many of the inodes that were forgotten last stay known, about 300 bytes each; only those of the root's
    /// mount, on a file system that has file handles itself.
    Remember(usize),
}

/// Whether reading leaves a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessTimes {
    /// As the host's mount has it.
    #[default]
    Host,
    /// Reading through the view changes no access times.
    Keep,
}

/// Whom new files belong to on the host. Who may make them is decided by who the caller is, either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// Who makes them.
    #[default]
    Caller,
    /// This user and this group of the host; the group of a directory with set-group-id comes first, as ever.
    User {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

/// What a synthetic path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyntheticKind {
    /// An empty directory.
    Directory,
    /// An empty regular file.
    File,
}

/// A path that exists in the view whatever the host has there, to be mounted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synthetic {
    /// Absolute path in the view.
    pub path: PathBuf,
    /// What is there.
    pub kind: SyntheticKind,
}

/// What is mounted in a tree.
#[derive(Debug)]
pub struct MountTable {
    /// A `mountinfo` of `/proc`.
    pub file: File,
    /// The directory that its paths start at: the root of the process it is of.
    pub root: OwnedFd,
}

/// How to serve a directory tree.
#[derive(Debug)]
pub struct Options {
    /// The root of the tree: an `O_PATH | O_DIRECTORY` descriptor.
    pub root: OwnedFd,
    /// Whether it can be changed.
    pub access: Access,
    /// Whether reading changes access times. In a read-only view it never does.
    pub access_times: AccessTimes,
    /// Whether inodes can be opened by file handle.
    pub export: Export,
    /// How ids are presented.
    pub id_map: IdMap,
    /// Whom new files belong to.
    pub ownership: Ownership,
    /// Paths that exist whatever the host has there.
    pub synthetic: Vec<Synthetic>,
    /// Absolute paths in the view that are not there, by whatever other path either: they cannot be found nor listed, and
    /// to make them is refused with `EACCES`. Of a symbolic link, what it leads to is hidden as well.
    pub hidden: Vec<PathBuf>,
    /// How long the kernel may cache.
    pub cache: CachePolicy,
    /// How long after the start caches become coherent: to take the marks back when it ends takes the kernel 15 to 25 ms,
    /// which is much for something short.
    pub watch_delay: Duration,
    /// What is mounted in the tree; without one, what is mounted for the calling thread.
    pub mount_table: Option<MountTable>,
    /// How the kernel gets at data.
    pub data: DataPath,
    /// Descriptors to hold for inodes at most; the default is half of `RLIMIT_NOFILE`, at most 500,000. Open files
    /// take from it what they need beyond the rest.
    pub descriptor_budget: Option<usize>,
}

impl Options {
    /// Everything below `root`, unchanged and writable.
    #[must_use]
    pub fn new(root: OwnedFd) -> Options {
        Options {
            root,
            access: Access::default(),
            access_times: AccessTimes::default(),
            export: Export::default(),
            id_map: IdMap::IDENTITY,
            ownership: Ownership::default(),
            synthetic: Vec::new(),
            hidden: Vec::new(),
            cache: CachePolicy::default(),
            watch_delay: Duration::ZERO,
            mount_table: None,
            data: DataPath::default(),
            descriptor_budget: None,
        }
    }
}

impl MountTable {
    /// That of the calling thread.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub fn own() -> io::Result<MountTable> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(MountTable {
            file: File::open("/proc/thread-self/mountinfo")?,
            root: open("/", flags, Mode::empty())?,
        })
    }
}

impl MountTable {
    /// A copy of it.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn try_clone(&self) -> io::Result<MountTable> {
        Ok(MountTable {
            file: self.file.try_clone()?,
            root: self.root.try_clone()?,
        })
    }
}

/// Why a tree cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root cannot be looked at.
    #[error("cannot look at the root of the tree to serve")]
    Root(#[source] io::Error),
    /// The root is something else than a directory.
    #[error("the root of the tree to serve is not a directory")]
    NotADirectory,
    /// `/proc` is needed to reopen files.
    #[error("cannot open /proc/self/fd, which is needed to reopen files")]
    Proc(#[source] io::Error),
    /// The path of a synthetic entry is not absolute, has `..` in it, or is the root.
    #[error("{} cannot be a synthetic path", .0.display())]
    SyntheticPath(PathBuf),
    /// A path to hide is not absolute, has `..` in it, or is the root.
    #[error("{} cannot be hidden: it has to be an absolute path without \"..\", and not the root", .0.display())]
    HiddenPath(PathBuf),
    /// A synthetic path below a synthetic file.
    #[error("{} is below a synthetic file", .0.display())]
    BelowFile(PathBuf),
    /// The parent of a synthetic path cannot be looked at.
    #[error("cannot look at the parent of the synthetic path {}", path.display())]
    SyntheticParent {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
