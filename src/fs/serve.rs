//! The requests, one method each: what the file system can do, and which part of it does it.

use std::ffi::{CStr, OsStr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fuse_proto::dirent::{DirentPlusWriter, DirentWriter};
use fuse_proto::flags::InitFlags;
use fuse_proto::{fuse_file_lock, fuse_kstatfs};
use nix::unistd::UnlinkatFlags;

use super::watch::Known;
use super::{CachePolicy, PassthroughFs, creds};
use crate::engine::{
    Attributes, Context, CopyRequest, Creation, Data, Entry, FileHandle, FileSystem, IoctlRequest,
    LockRequest, Negotiated, NodeId, Notifier, Opened, Payload, ReadRequest, Result, SetAttr,
    Statx, WriteRequest,
};

/// Inodes looked at, whether the host has deleted them, each time the engine lets the file system tend to itself.
const DELETED_EFFORT: usize = 1024;

impl FileSystem for PassthroughFs {
    fn capabilities(&self) -> InitFlags {
        let export = if self.remembered.is_enabled() {
            InitFlags::EXPORT_SUPPORT
        } else {
            InitFlags::NO_EXPORT_SUPPORT
        };
        let passthrough = if self.passes_through {
            InitFlags::PASSTHROUGH
        } else {
            InitFlags::empty()
        };
        let coherent = match self.cache {
            CachePolicy::Coherent => InitFlags::CACHE_SYMLINKS | InitFlags::NO_OPENDIR_SUPPORT,
            CachePolicy::Ttl(_) | CachePolicy::Strict => InitFlags::empty(),
        };
        InitFlags::ASYNC_READ
            | InitFlags::POSIX_LOCKS
            | InitFlags::FLOCK_LOCKS
            | InitFlags::ATOMIC_O_TRUNC
            | InitFlags::BIG_WRITES
            | InitFlags::DONT_MASK
            | InitFlags::HAS_IOCTL_DIR
            | InitFlags::AUTO_INVAL_DATA
            | InitFlags::DO_READDIRPLUS
            | InitFlags::READDIRPLUS_AUTO
            | InitFlags::ASYNC_DIO
            | InitFlags::PARALLEL_DIROPS
            | InitFlags::HANDLE_KILLPRIV_V2
            | InitFlags::POSIX_ACL
            | InitFlags::MAX_PAGES
            | InitFlags::SETXATTR_EXT
            | InitFlags::INIT_EXT
            | InitFlags::CREATE_SUPP_GROUP
            | InitFlags::DIRECT_IO_ALLOW_MMAP
            | coherent
            | export
            | passthrough
    }

    fn enter_thread(&self) -> Result<()> {
        self.watch.enter_thread();
        creds::enter_thread()
    }

    fn init(&self, negotiated: &Negotiated, notifier: &Arc<Notifier>) {
        let maps_direct = negotiated.flags.contains(InitFlags::DIRECT_IO_ALLOW_MMAP);
        self.maps_direct.store(maps_direct, Ordering::Relaxed);
        let known = Known {
            table: Arc::clone(&self.table),
            root: Arc::clone(&self.root),
            overlay: Arc::clone(&self.overlay),
        };
        self.watch.start(known, notifier);
    }

    fn destroy(&self) {
        self.watch.stop();
    }

    fn tend(&self, notifier: &Notifier) {
        self.registered.tend();
        self.streams.tend();
        let mut gone = self.descriptors.deleted(DELETED_EFFORT);
        gone.extend(self.newly_hidden());
        notifier.prune(gone);
    }

    fn lookup(&self, cx: &Context<'_>, parent: NodeId, name: &OsStr) -> Result<Entry> {
        self.do_lookup(cx, parent, name)
    }

    fn forget(&self, node: NodeId, lookups: u64) {
        self.do_forget(node, lookups);
    }

    fn getattr(
        &self,
        _cx: &Context<'_>,
        node: NodeId,
        fh: Option<FileHandle>,
    ) -> Result<Attributes> {
        self.do_getattr(node, fh)
    }

    fn statx(
        &self,
        _cx: &Context<'_>,
        node: NodeId,
        fh: Option<FileHandle>,
        flags: u32,
        mask: u32,
    ) -> Result<Statx> {
        self.do_statx(node, fh, flags, mask)
    }

    fn setattr(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: Option<FileHandle>,
        set: &SetAttr,
    ) -> Result<Attributes> {
        self.do_setattr(cx, node, fh, set)
    }

    fn readlink(&self, cx: &Context<'_>, node: NodeId, out: &mut [u8]) -> Result<usize> {
        self.do_readlink(cx, node, out)
    }

    fn symlink(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        target: &CStr,
        creation: &Creation<'_>,
    ) -> Result<Entry> {
        self.do_symlink(cx, parent, name, target, creation)
    }

    fn mknod(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        creation: &Creation<'_>,
    ) -> Result<Entry> {
        self.do_mknod(cx, parent, name, creation)
    }

    fn mkdir(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        creation: &Creation<'_>,
    ) -> Result<Entry> {
        self.do_mkdir(cx, parent, name, creation)
    }

    fn unlink(&self, _cx: &Context<'_>, parent: NodeId, name: &OsStr) -> Result<()> {
        self.do_unlink(parent, name, UnlinkatFlags::NoRemoveDir)
    }

    fn rmdir(&self, _cx: &Context<'_>, parent: NodeId, name: &OsStr) -> Result<()> {
        self.do_unlink(parent, name, UnlinkatFlags::RemoveDir)
    }

    fn rename(
        &self,
        cx: &Context<'_>,
        from: (NodeId, &OsStr),
        to: (NodeId, &OsStr),
        flags: u32,
    ) -> Result<()> {
        self.do_rename(cx, from, to, flags)
    }

    fn link(&self, _cx: &Context<'_>, node: NodeId, parent: NodeId, name: &OsStr) -> Result<Entry> {
        self.do_link(node, parent, name)
    }

    fn open(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        flags: u32,
        kill_suidgid: bool,
    ) -> Result<Opened> {
        self.do_open(cx, node, flags, kill_suidgid)
    }

    fn create(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        flags: u32,
        creation: &Creation<'_>,
    ) -> Result<(Entry, Opened)> {
        self.do_create(cx, parent, name, flags, creation)
    }

    fn tmpfile(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        flags: u32,
        creation: &Creation<'_>,
    ) -> Result<(Entry, Opened)> {
        self.do_tmpfile(cx, parent, flags, creation)
    }

    fn read(
        &self,
        _cx: &Context<'_>,
        _node: NodeId,
        fh: FileHandle,
        read: &ReadRequest,
    ) -> Result<Data> {
        self.do_read(fh, read)
    }

    fn write(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        write: &WriteRequest,
        payload: Payload<'_>,
    ) -> Result<u32> {
        self.do_write(cx, node, fh, write, payload)
    }

    fn flush(&self, cx: &Context<'_>, node: NodeId, fh: FileHandle, owner: u64) -> Result<()> {
        self.do_flush(cx, node, fh, owner)
    }

    fn release(&self, node: NodeId, fh: FileHandle, flock_owner: Option<u64>) {
        self.do_release(node, fh, flock_owner);
    }

    fn fsync(&self, cx: &Context<'_>, _node: NodeId, fh: FileHandle, datasync: bool) -> Result<()> {
        self.do_fsync(cx, fh, datasync)
    }

    fn opendir(&self, cx: &Context<'_>, node: NodeId, flags: u32) -> Result<Opened> {
        self.do_opendir(cx, node, flags)
    }

    fn readdir(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        offset: u64,
        out: &mut DirentWriter<'_>,
    ) -> Result<()> {
        self.do_readdir(cx, node, fh, offset, out)
    }

    fn readdirplus(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        offset: u64,
        out: &mut DirentPlusWriter<'_>,
    ) -> Result<()> {
        self.do_readdirplus(cx, node, fh, offset, out)
    }

    fn releasedir(&self, _node: NodeId, fh: FileHandle) {
        self.do_releasedir(fh);
    }

    fn fsyncdir(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        datasync: bool,
    ) -> Result<()> {
        self.do_fsyncdir(cx, node, fh, datasync)
    }

    fn syncfs(&self, cx: &Context<'_>, node: NodeId) -> Result<()> {
        self.do_syncfs(cx, node)
    }

    fn statfs(&self, _cx: &Context<'_>, node: NodeId) -> Result<fuse_kstatfs> {
        self.do_statfs(node)
    }

    fn setxattr(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        name: &CStr,
        value: &[u8],
        flags: u32,
        kill_sgid: bool,
    ) -> Result<()> {
        self.do_setxattr(cx, node, name, value, flags, kill_sgid)
    }

    fn getxattr(
        &self,
        _cx: &Context<'_>,
        node: NodeId,
        name: &CStr,
        out: &mut [u8],
    ) -> Result<usize> {
        self.do_getxattr(node, name, out)
    }

    fn listxattr(&self, cx: &Context<'_>, node: NodeId, out: &mut [u8]) -> Result<usize> {
        self.do_listxattr(cx, node, out)
    }

    fn removexattr(&self, cx: &Context<'_>, node: NodeId, name: &CStr) -> Result<()> {
        self.do_removexattr(cx, node, name)
    }

    fn getlk(
        &self,
        _cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        lock: &LockRequest,
    ) -> Result<fuse_file_lock> {
        self.do_getlk(node, fh, lock)
    }

    fn setlk(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        lock: &LockRequest,
    ) -> Result<()> {
        self.do_setlk(cx, node, fh, lock)
    }

    fn fallocate(
        &self,
        cx: &Context<'_>,
        _node: NodeId,
        fh: FileHandle,
        offset: u64,
        len: u64,
        mode: u32,
    ) -> Result<()> {
        self.do_fallocate(cx, fh, offset, len, mode)
    }

    fn lseek(
        &self,
        _cx: &Context<'_>,
        _node: NodeId,
        fh: FileHandle,
        offset: u64,
        whence: u32,
    ) -> Result<u64> {
        self.do_lseek(fh, offset, whence)
    }

    fn copy_file_range(&self, cx: &Context<'_>, copy: &CopyRequest) -> Result<u64> {
        self.do_copy_file_range(cx, copy)
    }

    fn ioctl(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        ioctl: &IoctlRequest<'_>,
        out: &mut [u8],
    ) -> Result<(i32, usize)> {
        self.do_ioctl(cx, node, fh, ioctl, out)
    }
}
