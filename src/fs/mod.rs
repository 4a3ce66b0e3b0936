//! The passthrough file system: a host directory tree, served as it is.
//!
//! What an application sees through the mount is what it would see on the host directory; what differs on purpose is in
//! [`Options`]. The kernel checks permissions (`default_permissions`, ACLs included) before it sends a request, so
//! this server, which runs with all privileges, does what it is asked to, as the caller where that shows.
//!
//! | module | what it is |
//! |---|---|
//! | `inode`, `table` | inodes the kernel knows; node ids to inodes and back |
//! | `descriptors`, `mounts` | how inodes are found again with a bounded number of descriptors, without pinning mounts |
//! | `lookup`, `attr`, `dir`, `create`, `names`, `data`, `xattr`, `ioctl`, `lock` | the requests |
//! | `handle` | open files and directories |
//! | `streams` | directories that are read without having been opened |
//! | `through` | files that the kernel reads and writes by itself |
//! | `export` | node ids that outlive a forget |
//! | `creds` | acting as the caller, per thread |
//! | `idmap`, `acl`, `numbers` | ids, ACLs and inode numbers as they are presented |
//! | `synthetic` | entries to mount on that the host does not have |
//! | `watch` | what the host changes is told to the kernel |
//! | `policy` | what the user decides |
//!
//! # Bounds
//!
//! A known inode takes about 300 bytes ([`Statistics::inodes`] says how many there are) and one descriptor at most;
//! descriptors are held for a budget of inodes, the rest is found by file handle or by name. After the kernel has
//! forgotten an inode nothing of it is left, and a mount none of whose inodes is known can be unmounted.
//!
//! # Locks
//!
//! A shard of the table, then the ways of an inode. The superblocks of the watch are apart from both: nothing that may hold the last
//! of a mount is dropped with them locked. The notifier is told with no lock held. No lock is held across a call that may
//! block for long, except the ways of the one inode that is being opened again.

mod acl;
mod attr;
mod create;
mod creds;
mod data;
mod descriptors;
mod dir;
mod export;
mod handle;
mod idmap;
mod inode;
mod ioctl;
mod lock;
mod lookup;
mod mounts;
mod names;
mod numbers;
mod policy;
mod shares;
mod streams;
mod synthetic;
mod table;
#[cfg(test)]
mod tests;
mod through;
mod unchecked;
mod watch;
mod xattr;

use std::ffi::{CStr, OsStr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fuse_proto::dirent::{DirentPlusWriter, DirentWriter};
use fuse_proto::flags::InitFlags;
use fuse_proto::{fuse_file_lock, fuse_kstatfs};
use nix::unistd::UnlinkatFlags;
use parking_lot::Mutex;

pub use idmap::{Extent, ExtentError, IdMap, Ids, UNMAPPED};
pub use policy::{
    Access, AccessTimes, CachePolicy, DataPath, Error, Export, Options, Synthetic, SyntheticKind,
};

use crate::engine::{
    Attributes, Context, CopyRequest, Creation, Data, Entry, FileHandle, FileSystem, IoctlRequest,
    LockRequest, Negotiated, NodeId, Notifier, Opened, Payload, ReadRequest, Result, SetAttr,
    Statx, WriteRequest,
};
use crate::sys::fanotify::Queue;
use crate::sys::{capability, stat};
use descriptors::Descriptors;
use export::Remembered;
use handle::Handles;
use idmap::Only;
use inode::{Inode, Ways};
use lock::Locks;
use mounts::Mounts;
use numbers::Numbers;
use streams::Streams;
use synthetic::Overlay;
use table::Table;
use through::Registered;
use watch::{Known, Watch};

/// Inodes looked at, whether the host has deleted them, each time the engine lets the file system tend to itself.
const DELETED_EFFORT: usize = 1024;

/// A host directory tree, as a file system.
pub struct PassthroughFs {
    root: Arc<Inode>,
    table: Arc<Table>,
    watch: Arc<Watch>,
    mounts: Mounts,
    descriptors: Descriptors,
    handles: Handles,
    streams: Streams,
    locks: Locks,
    numbers: Numbers,
    overlay: Arc<Overlay>,
    remembered: Remembered,
    id_map: IdMap,
    /// The ids there are where the server runs, if it is one user and one group.
    only: Option<Only>,
    access: Access,
    access_times: AccessTimes,
    cache: CachePolicy,
    /// Data of regular files goes past the server where the kernel can.
    passes_through: bool,
    registered: Registered,
    /// Files that are opened for direct I/O can be mapped all the same.
    maps_direct: AtomicBool,
    /// SELinux labels mean something.
    has_selinux: bool,
    /// Whose file capability was removed last, by which process: a SETATTR may follow that belongs to it.
    capability_removed: Mutex<Option<(NodeId, u32)>>,
}

/// What the file system holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Statistics {
    /// Inodes the kernel knows, without the root and synthetic ones.
    pub inodes: u64,
    /// Descriptors held for inodes.
    pub descriptors: u64,
    /// Open files and directories.
    pub handles: u64,
    /// Inodes whose data the kernel reads and writes by itself, or did lately.
    pub backing_files: u64,
    /// Mounts of local file systems that inodes are known on and the host tells changes of.
    pub covered_mounts: u64,
    /// Those it does not.
    pub uncovered_mounts: u64,
    /// What the host has told.
    pub events: u64,
    /// How often the host could not tell all.
    pub overflows: u64,
}

impl PassthroughFs {
    /// Gets ready to serve.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(options: Options) -> std::result::Result<PassthroughFs, Error> {
        let Options {
            root,
            access,
            access_times,
            export,
            id_map,
            synthetic,
            cache,
            watch_delay,
            data,
            descriptor_budget,
        } = options;
        let descriptors = Descriptors::new(descriptor_budget).map_err(Error::Proc)?;
        let stat = stat::of(&root).map_err(Error::Root)?;
        if stat.kind() != libc::S_IFDIR {
            return Err(Error::NotADirectory);
        }
        let (overlay, parents) = Overlay::new(&synthetic, &root, &id_map)?;
        let root_key = inode::Key::of(&stat);
        let watch = match cache {
            CachePolicy::Coherent => Watch::new(Queue::Unlimited, watch_delay),
            CachePolicy::Ttl(_) | CachePolicy::Strict => Watch::none(),
        };
        let mounts = Mounts::new(Arc::clone(&watch));
        let mount = |fd: &std::os::fd::OwnedFd, stat: &stat::Stat| {
            mounts.of(fd, stat, |fd, flags| {
                let flags = nix::fcntl::OFlag::from_bits_truncate(flags);
                Ok(descriptors.reopen(std::os::fd::AsFd::as_fd(fd), flags)?)
            })
        };
        let table = Table::new();
        let mut root_overlay = 0;
        for (index, parent) in parents.into_iter().enumerate() {
            let (number, stat) = (index as u32 + 1, stat::of(&parent.fd).map_err(Error::Root)?);
            if inode::Key::of(&stat) == root_key {
                root_overlay = number;
                continue;
            }
            let mount = mount(&parent.fd, &stat).map_err(Error::Root)?;
            let ways = Ways {
                fd: Some(descriptors.hold(parent.fd)),
                ..Ways::default()
            };
            // The lookup that is counted here is never forgotten: the directory keeps its entries.
            let make = |node| lookup::new_inode(node, &stat, mount, number, ways);
            let _ = table.insert(&inode::Key::of(&stat), None, make);
        }
        let mount = mount(&root, &stat).map_err(Error::Root)?;
        let ways = Ways {
            fd: Some(descriptors.hold(root)),
            ..Ways::default()
        };
        let root = Arc::new(lookup::new_inode(
            NodeId::ROOT,
            &stat,
            mount,
            root_overlay,
            ways,
        ));
        Ok(PassthroughFs {
            root,
            table: Arc::new(table),
            watch,
            mounts,
            handles: Handles::new(),
            streams: Streams::new(descriptors.shares().streams),
            locks: Locks::default(),
            descriptors,
            numbers: Numbers::new(stat.dev()),
            overlay: Arc::new(overlay),
            remembered: Remembered::new(match export {
                Export::No => 0,
                Export::Remember(inodes) => inodes,
            }),
            has_selinux: xattr::has_selinux(),
            capability_removed: Mutex::default(),
            maps_direct: AtomicBool::new(false),
            passes_through: passes_through(data),
            registered: Registered::default(),
            id_map,
            only: Only::of_namespace(),
            access,
            access_times: if access == Access::ReadOnly {
                AccessTimes::Keep
            } else {
                access_times
            },
            cache,
        })
    }

    /// What is held at the moment.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let (covered_mounts, uncovered_mounts) = self.mounts.coverage();
        Statistics {
            covered_mounts,
            uncovered_mounts,
            events: self.watch.events(),
            overflows: self.watch.overflows(),
            inodes: self.table.len() as u64,
            descriptors: self.descriptors.held() as u64,
            handles: (self.handles.len() + self.streams.len()) as u64,
            backing_files: self.registered.len() as u64,
        }
    }
}

/// Whether the kernel is asked to read and write by itself. It lets only those who are privileged on the host have it, and
/// what it has once agreed on keeps overlays from being mounted on top.
fn passes_through(data: DataPath) -> bool {
    let may = capability::is_initial(capability::SYS_ADMIN);
    if data == DataPath::Auto && !may {
        tracing::info!(
            "kernel passthrough needs CAP_SYS_ADMIN in the initial user namespace: data is relayed"
        );
    }
    data == DataPath::Auto && may
}

impl Drop for PassthroughFs {
    fn drop(&mut self) {
        // If the session did not start.
        self.watch.stop();
    }
}

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
        notifier.prune(self.descriptors.deleted(DELETED_EFFORT));
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
