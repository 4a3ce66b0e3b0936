//! The contract between the engine and a file system.
//!
//! A method gets a decoded request and returns an outcome: a value the engine encodes in place, a *plan* for the
//! transport to move the bytes of a read ([`Data`]), or an [`Errno`]. It never sees the transport. Bytes that go into
//! the reply (names, link targets, attribute values) are written by the method straight into the payload it is handed.
//!
//! Methods run on the queue's thread and should not block for long; one that may wraps that part in
//! [`Context::block_in_place`]. A method that blocks without saying so is noticed within milliseconds and the queue
//! gets another thread, so no file can stall the others.
//!
//! Exactly-once accounting: when a reply cannot be delivered because the kernel gave the request up, the engine calls
//! [`FileSystem::forget`], [`FileSystem::release`] or [`FileSystem::releasedir`] for what the reply would have
//! handed out.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fuse_proto::Extensions;
use fuse_proto::dirent::{DirentPlusWriter, DirentWriter};
use fuse_proto::flags::{InitFlags, OpenFlags};
use fuse_proto::{fuse_attr, fuse_file_lock, fuse_kstatfs, fuse_statx};

use super::context::Context;
use super::errno::Errno;
use super::negotiate::Negotiated;
use super::notify::Notifier;

/// The outcome of a file system method.
pub type Result<T> = std::result::Result<T, Errno>;

/// The name the kernel knows an inode by. Handed out with every [`Entry`], valid until it was forgotten as often. The two
/// largest numbers are the engine's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root directory of the mount; known without a lookup and never forgotten.
    pub const ROOT: NodeId = NodeId(fuse_proto::FUSE_ROOT_ID);
}

/// An open file or directory, named by the file system in [`Opened`]; valid until released.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileHandle(pub u64);

/// A name the kernel may cache. Each one returned with a `node` other than 0 counts as one lookup of it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The inode; `NodeId(0)` says that the name does not exist and that the kernel may remember so.
    pub node: NodeId,
    /// Tells reused node ids apart, for NFS export.
    pub generation: u64,
    /// Attributes of the inode.
    pub attr: fuse_attr,
    /// How long the kernel may use the name without asking.
    pub entry_ttl: Duration,
    /// How long the kernel may use the attributes without asking.
    pub attr_ttl: Duration,
}

/// Attributes and how long the kernel may use them without asking.
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    /// The attributes.
    pub attr: fuse_attr,
    /// How long they may be used.
    pub ttl: Duration,
}

/// Extended attributes of an inode (statx) and how long the kernel may use the basic ones without asking.
#[derive(Clone, Copy, Debug)]
pub struct Statx {
    /// The answer; `mask` says which fields are valid.
    pub stat: fuse_statx,
    /// How long they may be used.
    pub ttl: Duration,
}

/// A time to set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// The time of the change.
    Now,
    /// Seconds and nanoseconds since 1970; before it, seconds are negative and nanoseconds still count up.
    At(i64, u32),
}

/// The attributes a SETATTR changes. All fields empty: clear the set-user-id and set-group-id bits (that is what a
/// kernel using passthrough means by it).
#[derive(Clone, Copy, Default, Debug)]
pub struct SetAttr {
    /// Permission bits and file type.
    pub mode: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New length in bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// Change time, only sent by a kernel with a writeback cache.
    pub ctime: Option<(i64, u32)>,
    /// Clear set-user-id and set-group-id as a write by an ordinary user does.
    pub kill_suidgid: bool,
}

/// How to make a new inode.
#[derive(Clone, Copy)]
pub struct Creation<'a> {
    /// Permission bits and, for MKNOD, the file type; not masked yet if `DONT_MASK` was negotiated.
    pub mode: u32,
    /// The caller's umask; to be applied unless the parent has a default ACL.
    pub umask: u32,
    /// Device number for MKNOD, in the kernel's 32-bit encoding.
    pub rdev: u32,
    /// With `O_TRUNC` on a file that exists: clear set-user-id and set-group-id.
    pub kill_suidgid: bool,
    /// Supplementary group and security contexts, if negotiated.
    pub extensions: Extensions<'a>,
}

/// An opened file or directory.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// The handle further requests carry.
    pub fh: FileHandle,
    /// `FOPEN_*`: how the kernel shall treat the open file.
    pub flags: OpenFlags,
    /// Backing file for kernel passthrough, 0 without.
    pub backing_id: i32,
}

/// What to read.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    /// Offset in bytes.
    pub offset: u64,
    /// Bytes wanted; never more than the reply has room for.
    pub size: u32,
    /// `O_*` flags of the open file, as they are now.
    pub flags: u32,
}

/// What to write.
#[derive(Clone, Copy, Debug)]
pub struct WriteRequest {
    /// Offset in bytes; for a file with `O_APPEND` the kernel's idea of its end.
    pub offset: u64,
    /// `O_*` flags of the open file, as they are now.
    pub flags: u32,
    /// Clear set-user-id and set-group-id: the writer may not keep them.
    pub kill_suidgid: bool,
    /// A delayed write of the page cache: `pid` and ids of the context are not those of the writer.
    pub from_cache: bool,
}

/// Where the contents of a file are while they are not in the page cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Medium {
    /// They always are.
    Memory,
    /// Nowhere: they are made up by each read, and each write means something.
    Nowhere,
    /// On a disk, which answers.
    Disk,
    /// With another machine or process, which may never answer.
    Remote,
}

impl Medium {
    /// Whether bytes may travel by reference to pages of the host's cache, where the transport can do that and gains by it.
    #[must_use]
    pub fn has_pages(self) -> bool {
        matches!(self, Medium::Memory | Medium::Disk)
    }

    /// Whether reading and syncing never wait for anything.
    #[must_use]
    pub fn is_immediate(self) -> bool {
        matches!(self, Medium::Memory | Medium::Nowhere)
    }
}

/// The bytes of a READ reply, moved by the transport.
pub enum Data {
    /// These bytes.
    Bytes(Bytes),
    /// As many bytes as `file` has at `offset`, up to the size asked for.
    File {
        /// An open file that can be read at an offset.
        file: Arc<File>,
        /// Offset in bytes.
        offset: u64,
        /// Where `file` is.
        medium: Medium,
    },
}

/// The bytes of a WRITE request, wherever the transport holds them.
#[derive(Clone, Copy)]
pub enum Payload<'a> {
    /// In memory.
    Bytes(&'a [u8]),
    /// In a pipe, this many bytes.
    Pipe(BorrowedFd<'a>, usize),
}

/// A lock request: flock(2) locks belong to the open file, fcntl(2) locks to an owner.
#[derive(Clone, Copy, Debug)]
pub struct LockRequest {
    /// Identifies the owner among all users of the mount.
    pub owner: u64,
    /// Range (inclusive end), type (`F_RDLCK`, `F_WRLCK`, `F_UNLCK`) and process id.
    pub lock: fuse_file_lock,
    /// A lock of flock(2), for the whole file.
    pub flock: bool,
    /// Wait until the lock is free.
    pub wait: bool,
}

/// An ioctl whose argument size the command number tells (restricted ioctl).
#[derive(Clone, Copy, Debug)]
pub struct IoctlRequest<'a> {
    /// The command.
    pub command: u32,
    /// The argument as passed by the caller, a pointer or a value.
    pub argument: u64,
    /// The bytes the caller handed in.
    pub input: &'a [u8],
    /// Called on a directory.
    pub directory: bool,
    /// Called by a 32-bit process.
    pub compat: bool,
}

/// What a range of a file is copied from and to.
#[derive(Clone, Copy, Debug)]
pub struct CopyRequest {
    /// Source.
    pub from: (NodeId, FileHandle, u64),
    /// Destination.
    pub to: (NodeId, FileHandle, u64),
    /// Bytes to copy.
    pub len: u64,
    /// Flags of copy_file_range(2).
    pub flags: u64,
}

/// A file system the engine can serve. Methods are called from several threads at a time.
///
/// Every method that is not overridden answers `ENOSYS`, which tells the kernel not to ask again.
#[expect(
    unused_variables,
    reason = "the default methods answer without looking"
)]
pub trait FileSystem: Send + Sync + 'static {
    /// The `INIT` capabilities this file system implements; the engine negotiates no others on its behalf.
    fn capabilities(&self) -> InitFlags {
        InitFlags::empty()
    }

    /// The kernel and the engine have agreed on `negotiated`; called once, before any other request. `notifier` is for
    /// what happens outside of requests, until [`destroy`](Self::destroy).
    fn init(&self, negotiated: &Negotiated, notifier: &Arc<Notifier>) {}

    /// Called on every thread that will serve requests, before the first one: per-thread credentials, umask and so on.
    ///
    /// # Errors
    /// The session does not start, or the thread is not used.
    fn enter_thread(&self) -> Result<()> {
        Ok(())
    }

    /// Called from time to time, about once a second while there are requests: for housekeeping that no request
    /// should pay for. May block.
    fn tend(&self, notifier: &Notifier) {}

    /// The mount is gone and all requests are answered.
    fn destroy(&self) {}

    /// Looks up `name` in `parent`. Counts as one lookup of the returned node.
    fn lookup(&self, cx: &Context<'_>, parent: NodeId, name: &OsStr) -> Result<Entry>;

    /// The kernel forgot `lookups` of the lookups of `node`.
    fn forget(&self, node: NodeId, lookups: u64);

    /// The attributes of `node`.
    fn getattr(&self, cx: &Context<'_>, node: NodeId, fh: Option<FileHandle>)
    -> Result<Attributes>;

    /// The attributes of `node` in `mask` (`STATX_*`), with the `AT_STATX_*` flags `flags`.
    fn statx(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: Option<FileHandle>,
        flags: u32,
        mask: u32,
    ) -> Result<Statx> {
        Err(Errno::ENOSYS)
    }

    /// Changes attributes and returns the new ones.
    fn setattr(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: Option<FileHandle>,
        set: &SetAttr,
    ) -> Result<Attributes> {
        Err(Errno::ENOSYS)
    }

    /// Writes the target of a symbolic link to `out`; returns its length.
    fn readlink(&self, cx: &Context<'_>, node: NodeId, out: &mut [u8]) -> Result<usize> {
        Err(Errno::ENOSYS)
    }

    /// Makes the symbolic link `name` to `target`.
    fn symlink(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        target: &CStr,
        creation: &Creation<'_>,
    ) -> Result<Entry> {
        Err(Errno::ENOSYS)
    }

    /// Makes a file, FIFO, socket or device node.
    fn mknod(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        creation: &Creation<'_>,
    ) -> Result<Entry> {
        Err(Errno::ENOSYS)
    }

    /// Makes a directory.
    fn mkdir(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        creation: &Creation<'_>,
    ) -> Result<Entry> {
        Err(Errno::ENOSYS)
    }

    /// Removes a name that is not a directory.
    fn unlink(&self, cx: &Context<'_>, parent: NodeId, name: &OsStr) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// Removes an empty directory.
    fn rmdir(&self, cx: &Context<'_>, parent: NodeId, name: &OsStr) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// Renames, with the flags of renameat2(2).
    fn rename(
        &self,
        cx: &Context<'_>,
        from: (NodeId, &OsStr),
        to: (NodeId, &OsStr),
        flags: u32,
    ) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// Makes the further name `name` in `parent` for `node`.
    fn link(&self, cx: &Context<'_>, node: NodeId, parent: NodeId, name: &OsStr) -> Result<Entry> {
        Err(Errno::ENOSYS)
    }

    /// Opens a file with the `O_*` flags `flags` (without `O_CREAT`, `O_EXCL` and `O_NOCTTY`); with
    /// `kill_suidgid`, an `O_TRUNC` clears set-user-id and set-group-id.
    fn open(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        flags: u32,
        kill_suidgid: bool,
    ) -> Result<Opened> {
        Err(Errno::ENOSYS)
    }

    /// Makes and opens a file in one step; opens it if it exists already and `O_EXCL` is not in `flags`.
    fn create(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        flags: u32,
        creation: &Creation<'_>,
    ) -> Result<(Entry, Opened)> {
        Err(Errno::ENOSYS)
    }

    /// Makes and opens a file without a name in the directory `parent` (`O_TMPFILE`).
    fn tmpfile(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        flags: u32,
        creation: &Creation<'_>,
    ) -> Result<(Entry, Opened)> {
        Err(Errno::ENOSYS)
    }

    /// What the transport shall answer a READ with.
    fn read(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        read: &ReadRequest,
    ) -> Result<Data> {
        Err(Errno::ENOSYS)
    }

    /// Writes `payload`; returns how many bytes were written.
    fn write(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        write: &WriteRequest,
        payload: Payload<'_>,
    ) -> Result<u32> {
        Err(Errno::ENOSYS)
    }

    /// A descriptor was closed; `owner` gives up its fcntl(2) locks on the file.
    fn flush(&self, cx: &Context<'_>, node: NodeId, fh: FileHandle, owner: u64) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// The last descriptor of the open file was closed; `flock_owner` is set if it still holds a flock(2) lock.
    fn release(&self, node: NodeId, fh: FileHandle, flock_owner: Option<u64>);

    /// Makes the file durable; with `datasync` only what is needed to read its data back.
    fn fsync(&self, cx: &Context<'_>, node: NodeId, fh: FileHandle, datasync: bool) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// Opens a directory.
    fn opendir(&self, cx: &Context<'_>, node: NodeId, flags: u32) -> Result<Opened> {
        Err(Errno::ENOSYS)
    }

    /// Fills `out` with entries from `offset` on (0, or the offset that came with an earlier entry).
    fn readdir(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        offset: u64,
        out: &mut DirentWriter<'_>,
    ) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// Fills `out` with entries and their attributes; every one but `.` and `..` counts as a lookup. An entry with
    /// node id 0 gives the name alone.
    fn readdirplus(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        offset: u64,
        out: &mut DirentPlusWriter<'_>,
    ) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// The open directory is not used any more.
    fn releasedir(&self, node: NodeId, fh: FileHandle);

    /// Makes the entries of a directory durable.
    fn fsyncdir(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        datasync: bool,
    ) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// Makes the file system that `node` is on durable.
    fn syncfs(&self, cx: &Context<'_>, node: NodeId) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// Usage of the file system that `node` is on.
    fn statfs(&self, cx: &Context<'_>, node: NodeId) -> Result<fuse_kstatfs> {
        Err(Errno::ENOSYS)
    }

    /// Sets an extended attribute; `flags` are those of setxattr(2). With `kill_sgid` the attribute is an access ACL
    /// whose setter may not keep set-group-id.
    fn setxattr(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        name: &CStr,
        value: &[u8],
        flags: u32,
        kill_sgid: bool,
    ) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// Writes the value of an extended attribute to `out` and returns its length. With an empty `out` only the
    /// length is wanted; otherwise `ERANGE` if it does not fit.
    fn getxattr(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        name: &CStr,
        out: &mut [u8],
    ) -> Result<usize> {
        Err(Errno::ENOSYS)
    }

    /// As [`getxattr`](Self::getxattr), for the list of names, each ended by a NUL.
    fn listxattr(&self, cx: &Context<'_>, node: NodeId, out: &mut [u8]) -> Result<usize> {
        Err(Errno::ENOSYS)
    }

    /// Removes an extended attribute.
    fn removexattr(&self, cx: &Context<'_>, node: NodeId, name: &CStr) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// Checks the permissions `mask` (`R_OK`...) for the caller. Not asked with `default_permissions`.
    fn access(&self, cx: &Context<'_>, node: NodeId, mask: u32) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// The lock that `lock` would conflict with, or one of type `F_UNLCK`.
    fn getlk(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        lock: &LockRequest,
    ) -> Result<fuse_file_lock> {
        Err(Errno::ENOSYS)
    }

    /// Sets or clears a lock.
    fn setlk(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        lock: &LockRequest,
    ) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// Allocates, frees or moves blocks as fallocate(2) does.
    fn fallocate(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        offset: u64,
        len: u64,
        mode: u32,
    ) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// The offset of the next data (`SEEK_DATA`) or hole (`SEEK_HOLE`).
    fn lseek(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        offset: u64,
        whence: u32,
    ) -> Result<u64> {
        Err(Errno::ENOSYS)
    }

    /// Copies a range between two open files; returns how many bytes were copied.
    fn copy_file_range(&self, cx: &Context<'_>, copy: &CopyRequest) -> Result<u64> {
        Err(Errno::ENOSYS)
    }

    /// Runs an ioctl; writes its result bytes to `out` and returns (result, bytes).
    fn ioctl(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        ioctl: &IoctlRequest<'_>,
        out: &mut [u8],
    ) -> Result<(i32, usize)> {
        Err(Errno::ENOSYS)
    }
}
