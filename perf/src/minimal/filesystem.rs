//! Answers requests.

use std::ffi::{CStr, OsStr};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cntr::engine::{
    Attributes, Context, Creation, Data, Durability, Entry, Errno, FileHandle, FileSystem, Medium,
    NodeId, Opened, Payload, ReadRequest, Result, SetAttr, SetTime, WriteRequest,
};
use cntr::sys::{file, xattr};
use fuse_proto::dirent::DirentWriter;
use fuse_proto::flags::{InitFlags, OpenFlags};
use fuse_proto::{fuse_attr, fuse_kstatfs};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
    Uid, XattrFlags,
};

use super::attributes;
use super::host;
use super::listing::Listing;
use super::node::Node;
use super::nodes::Nodes;

/// How long the kernel may believe names and attributes: as long as our server lets it believe what it watches.
const TRUST: Duration = Duration::from_secs(600);

/// Of all that is open the kernel has the one handle; the node says which file it is.
const HANDLE: FileHandle = FileHandle(0);

/// The directory.
pub struct MinimalFs {
    nodes: Nodes,
    listing: Listing,
    /// `/proc/self/fd`.
    proc: OwnedFd,
    medium: Medium,
    passthrough: bool,
}

impl MinimalFs {
    /// Shows `source`, with up to so many `descriptors`.
    ///
    /// # Errors
    /// It cannot be opened, or is no directory.
    pub fn new(source: &Path, descriptors: usize, passthrough: bool) -> std::io::Result<MinimalFs> {
        let directory = |path: &Path| {
            OpenOptions::new()
                .read(true)
                .custom_flags((OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC).bits() as i32)
                .open(path)
        };
        let root = directory(source)?;
        let medium = match fstatfs(&root)?.filesystem_type() {
            TMPFS_MAGIC => Medium::Memory,
            _ => Medium::Disk,
        };
        let stat = rustix::fs::fstat(&root)?;
        Ok(MinimalFs {
            nodes: Nodes::new(Node::found(root, &stat), descriptors),
            listing: Listing::new(),
            proc: directory(Path::new("/proc/self/fd"))?.into(),
            medium,
            passthrough,
        })
    }

    /// Hands out what is now called `name` in `parent`.
    fn enter(&self, parent: &Node, name: &OsStr) -> Result<Entry> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = host(rustix::fs::openat(
            parent.held(),
            name,
            flags,
            Mode::empty(),
        ))?;
        let held = File::from(held);
        let stat = attributes::of(&held)?;
        let (id, _) = self.nodes.insert(Node::found(held, &stat))?;
        Ok(entry(id, attributes::present(&stat)))
    }

    fn attributes(node: &Node) -> Result<Attributes> {
        Ok(Attributes {
            attr: attributes::present(&attributes::of(node.held())?),
            ttl: TRUST,
        })
    }

    fn reader(&self, node: NodeId) -> Result<Arc<File>> {
        Ok(Arc::clone(self.nodes.get(node)?.reader(self.proc.as_fd())?))
    }

    /// The open `node`.
    fn opened(&self, cx: &Context<'_>, node: &Node) -> Opened {
        let backing = match self.passthrough {
            true => node.backing(cx.backings),
            false => None,
        };
        Opened {
            fh: HANDLE,
            // Locks are the kernel's, so there is nothing to do when a descriptor is closed.
            flags: OpenFlags::NOFLUSH
                | match backing {
                    Some(_) => OpenFlags::PASSTHROUGH,
                    None => OpenFlags::KEEP_CACHE,
                },
            backing_id: backing.map_or(0, |backing| backing.id()),
        }
    }
}

fn entry(node: NodeId, attr: fuse_attr) -> Entry {
    Entry {
        node,
        generation: 0,
        attr,
        entry_ttl: TRUST,
        attr_ttl: TRUST,
    }
}

fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

fn timespec(time: Option<SetTime>) -> Timespec {
    let (tv_sec, tv_nsec) = match time {
        None => (0, UTIME_OMIT),
        Some(SetTime::Now) => (0, UTIME_NOW),
        Some(SetTime::At(seconds, nanoseconds)) => (seconds, nanoseconds.into()),
    };
    Timespec { tv_sec, tv_nsec }
}

impl FileSystem for MinimalFs {
    fn capabilities(&self) -> InitFlags {
        let passthrough = match self.passthrough {
            true => InitFlags::PASSTHROUGH,
            false => InitFlags::empty(),
        };
        InitFlags::ASYNC_READ
            | InitFlags::BIG_WRITES
            | InitFlags::MAX_PAGES
            | InitFlags::INIT_EXT
            | InitFlags::ASYNC_DIO
            | InitFlags::AUTO_INVAL_DATA
            | InitFlags::PARALLEL_DIROPS
            // Without it each write asks for `security.capability`.
            | InitFlags::HANDLE_KILLPRIV_V2
            | InitFlags::ATOMIC_O_TRUNC
            | InitFlags::CACHE_SYMLINKS
            | InitFlags::NO_OPENDIR_SUPPORT
            | InitFlags::NO_EXPORT_SUPPORT
            | InitFlags::DIRECT_IO_ALLOW_MMAP
            | passthrough
    }

    fn lookup(&self, _cx: &Context<'_>, parent: NodeId, name: &OsStr) -> Result<Entry> {
        match self.enter(&*self.nodes.get(parent)?, name) {
            Err(Errno::ENOENT) => Ok(entry(NodeId(0), fuse_attr::default())),
            found => found,
        }
    }

    fn forget(&self, node: NodeId, lookups: u64) {
        self.nodes.forget(node, lookups);
    }

    fn getattr(
        &self,
        _cx: &Context<'_>,
        node: NodeId,
        _fh: Option<FileHandle>,
    ) -> Result<Attributes> {
        MinimalFs::attributes(&*self.nodes.get(node)?)
    }

    fn setattr(
        &self,
        _cx: &Context<'_>,
        node: NodeId,
        _fh: Option<FileHandle>,
        set: &SetAttr,
    ) -> Result<Attributes> {
        let node = self.nodes.get(node)?;
        if let Some(size) = set.size {
            host(rustix::fs::ftruncate(node.writer(self.proc.as_fd())?, size))?;
        }
        if set.uid.is_some() || set.gid.is_some() {
            let (uid, gid) = (set.uid.map(Uid::from_raw), set.gid.map(Gid::from_raw));
            let itself = AtFlags::EMPTY_PATH;
            host(rustix::fs::chownat(node.held(), c"", uid, gid, itself))?;
        }
        if let Some(mode) = set.mode {
            file::change_mode(node.held().as_fd(), mode & 0o7777)?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            let times = Timestamps {
                last_access: timespec(set.atime),
                last_modification: timespec(set.mtime),
            };
            let itself = AtFlags::EMPTY_PATH;
            host(rustix::fs::utimensat(node.held(), c"", &times, itself))?;
        }
        MinimalFs::attributes(&node)
    }

    fn readlink(&self, _cx: &Context<'_>, node: NodeId, out: &mut [u8]) -> Result<usize> {
        Ok(file::read_link(self.nodes.get(node)?.held(), out)?)
    }

    fn symlink(
        &self,
        _cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        target: &CStr,
        _creation: &Creation<'_>,
    ) -> Result<Entry> {
        let parent = self.nodes.get(parent)?;
        host(rustix::fs::symlinkat(target, parent.held(), name))?;
        self.enter(&parent, name)
    }

    fn mknod(
        &self,
        _cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        creation: &Creation<'_>,
    ) -> Result<Entry> {
        let parent = self.nodes.get(parent)?;
        let device = attributes::decode_device(creation.rdev);
        let (kind, mode) = (
            FileType::from_raw_mode(creation.mode),
            permissions(creation.mode),
        );
        host(rustix::fs::mknodat(parent.held(), name, kind, mode, device))?;
        self.enter(&parent, name)
    }

    fn mkdir(
        &self,
        _cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        creation: &Creation<'_>,
    ) -> Result<Entry> {
        let parent = self.nodes.get(parent)?;
        let mode = permissions(creation.mode);
        host(rustix::fs::mkdirat(parent.held(), name, mode))?;
        self.enter(&parent, name)
    }

    fn unlink(&self, _cx: &Context<'_>, parent: NodeId, name: &OsStr) -> Result<()> {
        let parent = self.nodes.get(parent)?;
        host(rustix::fs::unlinkat(parent.held(), name, AtFlags::empty()))
    }

    fn rmdir(&self, _cx: &Context<'_>, parent: NodeId, name: &OsStr) -> Result<()> {
        let parent = self.nodes.get(parent)?;
        host(rustix::fs::unlinkat(
            parent.held(),
            name,
            AtFlags::REMOVEDIR,
        ))
    }

    fn rename(
        &self,
        _cx: &Context<'_>,
        from: (NodeId, &OsStr),
        to: (NodeId, &OsStr),
        flags: u32,
    ) -> Result<()> {
        let (old, new) = (self.nodes.get(from.0)?, self.nodes.get(to.0)?);
        let flags = RenameFlags::from_bits_retain(flags);
        host(rustix::fs::renameat_with(
            old.held(),
            from.1,
            new.held(),
            to.1,
            flags,
        ))
    }

    fn link(&self, _cx: &Context<'_>, node: NodeId, parent: NodeId, name: &OsStr) -> Result<Entry> {
        let (linked, parent) = (self.nodes.get(node)?, self.nodes.get(parent)?);
        let itself = AtFlags::EMPTY_PATH;
        host(rustix::fs::linkat(
            linked.held(),
            c"",
            parent.held(),
            name,
            itself,
        ))?;
        let stat = attributes::of(linked.held())?;
        self.nodes.retain(node)?;
        Ok(entry(node, attributes::present(&stat)))
    }

    fn open(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        flags: u32,
        _kill_suidgid: bool,
    ) -> Result<Opened> {
        let node = self.nodes.get(node)?;
        if OFlags::from_bits_retain(flags).contains(OFlags::TRUNC) {
            host(rustix::fs::ftruncate(node.writer(self.proc.as_fd())?, 0))?;
        }
        Ok(self.opened(cx, &node))
    }

    fn create(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        flags: u32,
        creation: &Creation<'_>,
    ) -> Result<(Entry, Opened)> {
        let parent = self.nodes.get(parent)?;
        let wanted = OFlags::from_bits_retain(flags) & (OFlags::EXCL | OFlags::TRUNC);
        let flags = wanted | OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = permissions(creation.mode);
        let file = File::from(host(rustix::fs::openat(parent.held(), name, flags, mode))?);
        let stat = attributes::of(&file)?;
        let (id, node) = self.nodes.insert(Node::made(file, &stat))?;
        Ok((
            entry(id, attributes::present(&stat)),
            self.opened(cx, &node),
        ))
    }

    fn read(
        &self,
        _cx: &Context<'_>,
        node: NodeId,
        _fh: FileHandle,
        read: &ReadRequest,
    ) -> Result<Data> {
        Ok(Data::File {
            file: self.reader(node)?,
            offset: read.offset,
            medium: self.medium,
        })
    }

    fn write(
        &self,
        _cx: &Context<'_>,
        node: NodeId,
        _fh: FileHandle,
        write: &WriteRequest,
        payload: Payload<'_>,
    ) -> Result<u32> {
        // Nothing is spliced.
        let Payload::Bytes(bytes) = payload else {
            return Err(Errno::EIO);
        };
        let node = self.nodes.get(node)?;
        let file = node.writer(self.proc.as_fd())?;
        let written = file.write_at(bytes, write.offset)?;
        u32::try_from(written).map_err(|_| Errno::EIO)
    }

    fn release(&self, _node: NodeId, _fh: FileHandle, _flock_owner: Option<u64>) {}

    fn fsync(&self, cx: &Context<'_>, node: NodeId, _fh: FileHandle, datasync: bool) -> Result<()> {
        let file = self.reader(node)?;
        cx.sync(&file, Durability::of(datasync), self.medium)
    }

    fn opendir(&self, cx: &Context<'_>, _node: NodeId, _flags: u32) -> Result<Opened> {
        if cx.negotiated.flags.contains(InitFlags::NO_OPENDIR_SUPPORT) {
            // It opens directories by itself from now on, and keeps what it reads of them.
            return Err(Errno::ENOSYS);
        }
        Ok(Opened {
            fh: HANDLE,
            flags: OpenFlags::KEEP_CACHE | OpenFlags::CACHE_DIR,
            backing_id: 0,
        })
    }

    fn readdir(
        &self,
        _cx: &Context<'_>,
        node: NodeId,
        _fh: FileHandle,
        offset: u64,
        out: &mut DirentWriter<'_>,
    ) -> Result<()> {
        self.listing.read(&*self.reader(node)?, offset, out)
    }

    fn releasedir(&self, _node: NodeId, _fh: FileHandle) {}

    fn fsyncdir(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        datasync: bool,
    ) -> Result<()> {
        self.fsync(cx, node, fh, datasync)
    }

    fn statfs(&self, _cx: &Context<'_>, node: NodeId) -> Result<fuse_kstatfs> {
        let usage = host(rustix::fs::fstatvfs(self.nodes.get(node)?.held()))?;
        Ok(fuse_kstatfs {
            blocks: usage.f_blocks,
            bfree: usage.f_bfree,
            bavail: usage.f_bavail,
            files: usage.f_files,
            ffree: usage.f_ffree,
            bsize: usage.f_bsize as u32,
            namelen: usage.f_namemax as u32,
            frsize: usage.f_frsize as u32,
            ..fuse_kstatfs::default()
        })
    }

    fn setxattr(
        &self,
        _cx: &Context<'_>,
        node: NodeId,
        name: &CStr,
        value: &[u8],
        flags: u32,
        _kill_sgid: bool,
    ) -> Result<()> {
        let (node, proc) = (self.nodes.get(node)?, self.proc.as_fd());
        if node.is_plain() {
            let flags = XattrFlags::from_bits_retain(flags);
            return host(rustix::fs::fsetxattr(
                node.reader(proc)?,
                name,
                value,
                flags,
            ));
        }
        Ok(xattr::set(proc, node.held().as_fd(), name, value, flags)?)
    }

    fn getxattr(
        &self,
        _cx: &Context<'_>,
        node: NodeId,
        name: &CStr,
        out: &mut [u8],
    ) -> Result<usize> {
        let (node, proc) = (self.nodes.get(node)?, self.proc.as_fd());
        if node.is_plain() {
            return host(rustix::fs::fgetxattr(node.reader(proc)?, name, out));
        }
        Ok(xattr::get(proc, node.held().as_fd(), name, out)?)
    }

    fn listxattr(&self, _cx: &Context<'_>, node: NodeId, out: &mut [u8]) -> Result<usize> {
        let (node, proc) = (self.nodes.get(node)?, self.proc.as_fd());
        if node.is_plain() {
            return host(rustix::fs::flistxattr(node.reader(proc)?, out));
        }
        Ok(xattr::list(proc, node.held().as_fd(), out)?)
    }

    fn removexattr(&self, _cx: &Context<'_>, node: NodeId, name: &CStr) -> Result<()> {
        let (node, proc) = (self.nodes.get(node)?, self.proc.as_fd());
        if node.is_plain() {
            return host(rustix::fs::fremovexattr(node.reader(proc)?, name));
        }
        Ok(xattr::remove(proc, node.held().as_fd(), name)?)
    }
}
