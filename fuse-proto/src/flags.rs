//! Flags of the structures, as typed views of their `u32` fields.
//!
//! The structures keep plain integers, because that is what is on the wire. Turn a field into its type by
//! `from_bits_retain`, which keeps bits this crate does not know, and back by `bits`.

use bitflags::bitflags;

use crate::{fuse_init_in, fuse_init_out};

bitflags! {
    /// Capabilities offered and accepted in INIT: `flags` in the low half, `flags2` in the high half.
    ///
    /// Names are the kernel's without `FUSE_`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct InitFlags: u64 {
        /// Several READs of one open file at the same time (readahead). Since 7.6.
        const ASYNC_READ = 1 << 0;
        /// `fcntl` locks are the server's business (GETLK, SETLK, SETLKW); local to the kernel otherwise. Since 7.7.
        const POSIX_LOCKS = 1 << 1;
        /// The server wants the file handle in GETATTR. Not offered by any kernel. Since 7.9.
        const FILE_OPS = 1 << 2;
        /// `O_TRUNC` is passed in OPEN instead of sent as a SETATTR before it. Since 7.9.
        const ATOMIC_O_TRUNC = 1 << 3;
        /// LOOKUP of `.` and `..` by node id works, for NFS export. Since 7.10.
        const EXPORT_SUPPORT = 1 << 4;
        /// WRITEs of more than one page. Since 7.9.
        const BIG_WRITES = 1 << 5;
        /// Modes of create requests come without the umask applied; the server applies it. Since 7.12.
        const DONT_MASK = 1 << 6;
        /// `/dev/fuse` can be spliced to (informational). Since 7.14.
        const SPLICE_WRITE = 1 << 7;
        /// Splicing to `/dev/fuse` can move pages (informational). Since 7.14.
        const SPLICE_MOVE = 1 << 8;
        /// `/dev/fuse` can be spliced from (informational). Since 7.14.
        const SPLICE_READ = 1 << 9;
        /// `flock` locks are the server's business. Since 7.17.
        const FLOCK_LOCKS = 1 << 10;
        /// IOCTLs on directories. Since 7.18.
        const HAS_IOCTL_DIR = 1 << 11;
        /// Cached data is dropped when GETATTR shows a new size or modification time. Since 7.20.
        const AUTO_INVAL_DATA = 1 << 12;
        /// READDIRPLUS instead of READDIR. Since 7.21.
        const DO_READDIRPLUS = 1 << 13;
        /// READDIRPLUS only where its attributes look useful. Since 7.21.
        const READDIRPLUS_AUTO = 1 << 14;
        /// Several direct READs and WRITEs at the same time. Since 7.22.
        const ASYNC_DIO = 1 << 15;
        /// Writes go to the page cache, and the kernel keeps size and times. Excludes PASSTHROUGH. Since 7.23.
        const WRITEBACK_CACHE = 1 << 16;
        /// `ENOSYS` to OPEN means that no OPEN is needed, ever. Since 7.23.
        const NO_OPEN_SUPPORT = 1 << 17;
        /// LOOKUP and READDIR of one directory at the same time. Since 7.25.
        const PARALLEL_DIROPS = 1 << 18;
        /// The server removes setuid, setgid and capabilities on every write, chown and truncate. Since 7.26.
        const HANDLE_KILLPRIV = 1 << 19;
        /// The kernel enforces and caches POSIX ACLs; implies default permissions. Since 7.26.
        const POSIX_ACL = 1 << 20;
        /// Reading `/dev/fuse` after an abort gives `ECONNABORTED` instead of `ENODEV`. Since 7.27.
        const ABORT_ERROR = 1 << 21;
        /// `max_pages` of the reply is valid. Since 7.28.
        const MAX_PAGES = 1 << 22;
        /// Targets of symbolic links are cached. Since 7.28.
        const CACHE_SYMLINKS = 1 << 23;
        /// `ENOSYS` to OPENDIR means that no OPENDIR is needed, ever. Since 7.29.
        const NO_OPENDIR_SUPPORT = 1 << 24;
        /// Cached data is dropped only when told to; ignored with AUTO_INVAL_DATA. Since 7.30.
        const EXPLICIT_INVAL_DATA = 1 << 25;
        /// `map_alignment` of the reply is valid (DAX). Since 7.31.
        const MAP_ALIGNMENT = 1 << 26;
        /// Directories marked [`AttrFlags::SUBMOUNT`] become mounts of their own; virtiofs only. Since 7.32.
        const SUBMOUNTS = 1 << 27;
        /// The kernel says in each request whether setuid and setgid bits have to go; security.capability is always
        /// to be removed on write, chown and truncate. Saves a GETXATTR per write. Since 7.33.
        const HANDLE_KILLPRIV_V2 = 1 << 28;
        /// SETXATTR has the long form of its argument. Since 7.33.
        const SETXATTR_EXT = 1 << 29;
        /// `flags2` is valid. Since 7.36.
        const INIT_EXT = 1 << 30;
        /// Reserved; do not use. Since 7.36.
        const INIT_RESERVED = 1 << 31;
        /// Create requests carry the security context for the new inode. Since 7.36.
        const SECURITY_CTX = 1 << 32;
        /// [`AttrFlags::DAX`] is looked at. Since 7.36.
        const HAS_INODE_DAX = 1 << 33;
        /// Create requests carry the parent directory's group if the caller is in it. Since 7.38.
        const CREATE_SUPP_GROUP = 1 << 34;
        /// [`ExpireFlags::EXPIRE_ONLY`] is known. Since 7.38.
        const HAS_EXPIRE_ONLY = 1 << 35;
        /// Shared mappings of files opened with [`OpenFlags::DIRECT_IO`]. Since 7.39.
        const DIRECT_IO_ALLOW_MMAP = 1 << 36;
        /// Backing files; needs `max_stack_depth` 1 or 2 and excludes WRITEBACK_CACHE. Since 7.40.
        const PASSTHROUGH = 1 << 37;
        /// File handles of the mount only identify inodes and cannot be opened. Since 7.40.
        const NO_EXPORT_SUPPORT = 1 << 38;
        /// The server may ask for pending requests to be sent again. Since 7.40.
        const HAS_RESEND = 1 << 39;
        /// Idmapped mounts; needs default permissions. Since 7.41.
        const ALLOW_IDMAP = 1 << 40;
        /// Requests go over io_uring. From the reply on, requests wait until every queue has an entry. Since 7.42.
        const OVER_IO_URING = 1 << 41;
        /// `request_timeout` of the reply is valid. Since 7.43.
        const REQUEST_TIMEOUT = 1 << 42;
        /// Queues of the ring may have buffer pools and zero copy. Since 7.46.
        const HAS_IO_URING_BUFPOOL = 1 << 43;
    }
}

impl InitFlags {
    /// From the two fields of INIT. `flags2` counts only with INIT_EXT in `flags`.
    #[must_use]
    pub const fn from_halves(flags: u32, flags2: u32) -> Self {
        let low = Self::from_bits_retain(flags as u64);
        if low.contains(Self::INIT_EXT) {
            Self::from_bits_retain(low.bits() | (flags2 as u64) << 32)
        } else {
            low
        }
    }

    /// The field `flags`: bits 0 to 31.
    #[must_use]
    pub const fn low(self) -> u32 {
        (self.bits() & 0xffff_ffff) as u32
    }

    /// The field `flags2`: bits 32 to 63, shifted down.
    #[must_use]
    pub const fn high(self) -> u32 {
        (self.bits() >> 32) as u32
    }
}

impl fuse_init_in {
    /// What the kernel offers.
    #[must_use]
    pub const fn init_flags(&self) -> InitFlags {
        InitFlags::from_halves(self.flags, self.flags2)
    }
}

impl fuse_init_out {
    /// What the server takes.
    #[must_use]
    pub const fn init_flags(&self) -> InitFlags {
        InitFlags::from_halves(self.flags, self.flags2)
    }

    /// Sets both flag fields. Adds INIT_EXT when a flag above bit 31 is set, without which it would be ignored.
    pub const fn set_init_flags(&mut self, flags: InitFlags) {
        let flags = if flags.high() == 0 {
            flags
        } else {
            flags.union(InitFlags::INIT_EXT)
        };
        self.flags = flags.low();
        self.flags2 = flags.high();
    }
}

bitflags! {
    /// How the kernel shall treat an open file: `FOPEN_*`, in [`fuse_open_out`](crate::fuse_open_out).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct OpenFlags: u32 {
        /// Bypass the page cache. Since 7.2.
        const DIRECT_IO = 1 << 0;
        /// Keep what is cached of the file (or directory) from earlier opens. Since 7.2.
        const KEEP_CACHE = 1 << 1;
        /// Not seekable. Since 7.10.
        const NONSEEKABLE = 1 << 2;
        /// Cache the contents of this directory. Since 7.28.
        const CACHE_DIR = 1 << 3;
        /// No file position at all. Kernel 5.1, without a version of its own.
        const STREAM = 1 << 4;
        /// No FLUSH at close; ignored with WRITEBACK_CACHE. Since 7.35.
        const NOFLUSH = 1 << 5;
        /// Direct writes to one inode at the same time. Since 7.38.
        const PARALLEL_DIRECT_WRITES = 1 << 6;
        /// Read and write the backing file `backing_id`. `EIO` with KEEP_CACHE, CACHE_DIR, NONSEEKABLE or STREAM,
        /// and when the inode is open in another mode. Since 7.40.
        const PASSTHROUGH = 1 << 7;
        /// Zero copy for this file on queues that can do it. Since 7.46.
        const IO_URING_ZERO_COPY = 1 << 8;
    }

    /// What to change: `FATTR_*`, in [`fuse_setattr_in`](crate::fuse_setattr_in).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SetattrValid: u32 {
        /// Permission bits.
        const MODE = 1 << 0;
        /// Owner.
        const UID = 1 << 1;
        /// Group.
        const GID = 1 << 2;
        /// Size.
        const SIZE = 1 << 3;
        /// Access time.
        const ATIME = 1 << 4;
        /// Modification time.
        const MTIME = 1 << 5;
        /// `fh` is valid. Since 7.3.
        const FH = 1 << 6;
        /// With ATIME: the time is now. Since 7.9.
        const ATIME_NOW = 1 << 7;
        /// With MTIME: the time is now. Since 7.9.
        const MTIME_NOW = 1 << 8;
        /// `lock_owner` is valid. Since 7.9.
        const LOCKOWNER = 1 << 9;
        /// Change time, under writeback caching. Since 7.23.
        const CTIME = 1 << 10;
        /// Remove the setuid bit, and the setgid bit if the group may execute. Since 7.33, HANDLE_KILLPRIV_V2.
        const KILL_SUIDGID = 1 << 11;
    }

    /// `FUSE_WRITE_*`, in [`fuse_write_in`](crate::fuse_write_in).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct WriteFlags: u32 {
        /// Written back from the page cache: nobody's credentials, and some file handle of the inode. Since 7.9.
        const CACHE = 1 << 0;
        /// `lock_owner` is valid. Since 7.9.
        const LOCKOWNER = 1 << 1;
        /// Remove setuid and setgid bits (`FUSE_WRITE_KILL_PRIV` in 7.31). Since 7.33, HANDLE_KILLPRIV_V2.
        const KILL_SUIDGID = 1 << 2;
    }

    /// `FUSE_READ_*`, in [`fuse_read_in`](crate::fuse_read_in).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ReadFlags: u32 {
        /// `lock_owner` is valid. Since 7.9.
        const LOCKOWNER = 1 << 1;
    }

    /// `FUSE_RELEASE_*`, in [`fuse_release_in`](crate::fuse_release_in).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ReleaseFlags: u32 {
        /// Do what FLUSH does as well. Since 7.8.
        const FLUSH = 1 << 0;
        /// Drop the `flock` lock of `lock_owner`. Since 7.17.
        const FLOCK_UNLOCK = 1 << 1;
    }

    /// `FUSE_GETATTR_*`, in [`fuse_getattr_in`](crate::fuse_getattr_in) and [`fuse_statx_in`](crate::fuse_statx_in).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct GetattrFlags: u32 {
        /// `fh` is valid. Since 7.9.
        const FH = 1 << 0;
    }

    /// `FUSE_FSYNC_*`, in [`fuse_fsync_in`](crate::fuse_fsync_in).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct FsyncFlags: u32 {
        /// Data only, as `fdatasync(2)`.
        const FDATASYNC = 1 << 0;
    }

    /// `FUSE_LK_*`, in [`fuse_lk_in`](crate::fuse_lk_in).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct LkFlags: u32 {
        /// A `flock` lock, not a `fcntl` one. Since 7.9.
        const FLOCK = 1 << 0;
    }

    /// `FUSE_OPEN_*`, in [`fuse_open_in`](crate::fuse_open_in) and [`fuse_create_in`](crate::fuse_create_in).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct OpenInFlags: u32 {
        /// The open truncates: remove setuid and setgid bits. Since 7.33, HANDLE_KILLPRIV_V2.
        const KILL_SUIDGID = 1 << 0;
    }

    /// `FUSE_SETXATTR_*`, in [`fuse_setxattr_in`](crate::fuse_setxattr_in).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SetxattrFlags: u32 {
        /// `system.posix_acl_access` is set: remove the setgid bit. Since 7.33.
        const ACL_KILL_SGID = 1 << 0;
    }

    /// `FUSE_IOCTL_*`, in [`fuse_ioctl_in`](crate::fuse_ioctl_in) and [`fuse_ioctl_out`](crate::fuse_ioctl_out).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct IoctlFlags: u32 {
        /// Called by a 32-bit program on a 64-bit kernel. Since 7.11.
        const COMPAT = 1 << 0;
        /// Not limited to what the request number says; RETRY is allowed (CUSE). Since 7.11.
        const UNRESTRICTED = 1 << 1;
        /// In a reply: send the request again with these vectors. Since 7.11.
        const RETRY = 1 << 2;
        /// Structures are those of a 32-bit program. Since 7.16.
        const IOCTL_32BIT = 1 << 3;
        /// On a directory. Since 7.18.
        const DIR = 1 << 4;
        /// Called by an x32 program: 64-bit `time_t`. Since 7.30.
        const COMPAT_X32 = 1 << 5;
    }

    /// `FUSE_POLL_*`, in [`fuse_poll_in`](crate::fuse_poll_in).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct PollFlags: u32 {
        /// Send a notification when an event occurs. Since 7.11.
        const SCHEDULE_NOTIFY = 1 << 0;
    }

    /// `FUSE_ATTR_*`, in [`fuse_attr`](crate::fuse_attr).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AttrFlags: u32 {
        /// Root of a submount. Since 7.32, SUBMOUNTS.
        const SUBMOUNT = 1 << 0;
        /// Use DAX for this file. Since 7.36, HAS_INODE_DAX.
        const DAX = 1 << 1;
    }

    /// Flags of an entry invalidation, in
    /// [`fuse_notify_inval_entry_out`](crate::fuse_notify_inval_entry_out).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ExpireFlags: u32 {
        /// Look the name up again at next use, instead of dropping it together with the mounts below. Since 7.38,
        /// HAS_EXPIRE_ONLY.
        const EXPIRE_ONLY = 1 << 0;
    }

    /// `CUSE_*`, in [`cuse_init_in`](crate::cuse_init_in) and [`cuse_init_out`](crate::cuse_init_out).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct CuseFlags: u32 {
        /// IOCTLs are [`IoctlFlags::UNRESTRICTED`]. Since 7.12.
        const UNRESTRICTED_IOCTL = 1 << 0;
    }
}
