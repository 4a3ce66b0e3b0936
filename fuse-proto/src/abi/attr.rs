//! Attributes of inodes and file systems: GETATTR, SETATTR, STATX, STATFS.
#![allow(non_camel_case_types)]

/// Length of [`fuse_attr_out`] on the wire below 7.9: without `blksize` and `flags` of the attributes.
pub const FUSE_COMPAT_ATTR_OUT_SIZE: usize = 96;
/// Length of [`fuse_statfs_out`] on the wire below 7.4: without everything from `frsize` on.
pub const FUSE_COMPAT_STATFS_SIZE: usize = 48;

wire! {
    /// Attributes of an inode, part of [`fuse_attr_out`] and [`fuse_entry_out`](crate::fuse_entry_out).
    pub struct fuse_attr: 88 {
        /// Inode number shown to programs (`st_ino`); free to differ from the node id.
        pub ino: u64,
        /// Size in bytes. Above `i64::MAX` the kernel answers the caller with `EIO`.
        pub size: u64,
        /// Space used, in units of 512 bytes.
        pub blocks: u64,
        /// Last access, seconds since the epoch (two's complement for times before it).
        pub atime: u64,
        /// Last change of the contents, seconds. Ignored for regular files under writeback caching.
        pub mtime: u64,
        /// Last change of the inode, seconds.
        pub ctime: u64,
        /// Nanoseconds of `atime`, below 1,000,000,000.
        pub atimensec: u32,
        /// Nanoseconds of `mtime`.
        pub mtimensec: u32,
        /// Nanoseconds of `ctime`.
        pub ctimensec: u32,
        /// File type and permission bits (`st_mode`). A type change of a known inode makes it bad (`EIO`).
        pub mode: u32,
        /// Number of hard links.
        pub nlink: u32,
        /// Owner in the user namespace of the mount.
        pub uid: u32,
        /// Group in the user namespace of the mount.
        pub gid: u32,
        /// Device number of a device node, in the kernel's 32-bit encoding (`new_encode_dev`).
        pub rdev: u32,
        /// Preferred I/O size in bytes (`st_blksize`), 0 for the default of the mount. Since 7.9.
        pub blksize: u32,
        /// [`AttrFlags`](crate::AttrFlags). Since 7.32.
        pub flags: u32,
    }

    /// GETATTR. Since 7.9; before that the request has no argument.
    pub struct fuse_getattr_in: 16 {
        /// [`GetattrFlags`](crate::GetattrFlags): whether `fh` is valid.
        pub getattr_flags: u32,
        /// Zero.
        pub dummy: u32,
        /// Open file the call came through, if there is one.
        pub fh: u64,
    }

    /// Reply to GETATTR and SETATTR.
    pub struct fuse_attr_out: 104 {
        /// How long the kernel may use the attributes without asking, whole seconds.
        pub attr_valid: u64,
        /// Nanoseconds to add to `attr_valid`.
        pub attr_valid_nsec: u32,
        /// Zero.
        pub dummy: u32,
        /// The attributes.
        pub attr: fuse_attr,
    }

    /// SETATTR: change what `valid` names and reply with the new attributes.
    ///
    /// `valid == 0` does occur: with HANDLE_KILLPRIV_V2 and passthrough it asks to remove setuid and setgid bits.
    pub struct fuse_setattr_in: 88 {
        /// [`SetattrValid`](crate::SetattrValid): the fields to apply.
        pub valid: u32,
        /// Zero.
        pub padding: u32,
        /// Open file the call came through (`FH`).
        pub fh: u64,
        /// New size in bytes (`SIZE`).
        pub size: u64,
        /// Owner of the locks to check a truncation against (`LOCKOWNER`). Since 7.9.
        pub lock_owner: u64,
        /// New access time, seconds (`ATIME`).
        pub atime: u64,
        /// New modification time, seconds (`MTIME`).
        pub mtime: u64,
        /// New change time, seconds (`CTIME`). Since 7.23, only under writeback caching.
        pub ctime: u64,
        /// Nanoseconds of `atime`.
        pub atimensec: u32,
        /// Nanoseconds of `mtime`.
        pub mtimensec: u32,
        /// Nanoseconds of `ctime`. Since 7.23.
        pub ctimensec: u32,
        /// New permission bits (`MODE`); the file type bits repeat the current type.
        pub mode: u32,
        /// Zero.
        pub unused4: u32,
        /// New owner (`UID`).
        pub uid: u32,
        /// New group (`GID`).
        pub gid: u32,
        /// Zero.
        pub unused5: u32,
    }

    /// A point in time as `statx(2)` has it. Since 7.39.
    pub struct fuse_sx_time: 16 {
        /// Seconds since the epoch.
        pub tv_sec: i64,
        /// Nanoseconds, below 1,000,000,000.
        pub tv_nsec: u32,
        /// Zero.
        pub __reserved: i32,
    }

    /// The attributes of `statx(2)`, bit for bit the layout of `struct statx`. Since 7.39.
    pub struct fuse_statx: 256 {
        /// `STATX_*` bits of the fields that are filled in. The kernel wants the basic ones, or asks again by GETATTR.
        pub mask: u32,
        /// Preferred I/O size in bytes.
        pub blksize: u32,
        /// `STATX_ATTR_*` that are set. Not passed on to programs by kernels up to 7.3.
        pub attributes: u64,
        /// Number of hard links.
        pub nlink: u32,
        /// Owner.
        pub uid: u32,
        /// Group.
        pub gid: u32,
        /// File type and permission bits.
        pub mode: u16,
        /// Zero.
        pub __spare0: [u16; 1],
        /// Inode number shown to programs.
        pub ino: u64,
        /// Size in bytes.
        pub size: u64,
        /// Space used, in units of 512 bytes.
        pub blocks: u64,
        /// `STATX_ATTR_*` that the server supports.
        pub attributes_mask: u64,
        /// Last access.
        pub atime: fuse_sx_time,
        /// Creation ("birth"). The reason this operation exists: only asked for when a program wants it.
        pub btime: fuse_sx_time,
        /// Last change of the inode.
        pub ctime: fuse_sx_time,
        /// Last change of the contents.
        pub mtime: fuse_sx_time,
        /// Major number of a device node.
        pub rdev_major: u32,
        /// Minor number of a device node.
        pub rdev_minor: u32,
        /// Major number of the containing device; the kernel puts in the mount's own.
        pub dev_major: u32,
        /// Minor number of the containing device; the kernel puts in the mount's own.
        pub dev_minor: u32,
        /// Zero.
        pub __spare2: [u64; 14],
    }

    /// STATX. Since 7.39. `ENOSYS` makes the kernel fall back to GETATTR for good.
    pub struct fuse_statx_in: 24 {
        /// [`GetattrFlags`](crate::GetattrFlags): whether `fh` is valid.
        pub getattr_flags: u32,
        /// Zero.
        pub reserved: u32,
        /// Open file the call came through.
        pub fh: u64,
        /// `AT_STATX_*` flags of the call.
        pub sx_flags: u32,
        /// `STATX_*` bits of the fields that are wanted.
        pub sx_mask: u32,
    }

    /// Reply to STATX. Since 7.39.
    pub struct fuse_statx_out: 288 {
        /// How long the kernel may use the attributes without asking, whole seconds.
        pub attr_valid: u64,
        /// Nanoseconds to add to `attr_valid`.
        pub attr_valid_nsec: u32,
        /// Zero.
        pub flags: u32,
        /// Zero.
        pub spare: [u64; 2],
        /// The attributes.
        pub stat: fuse_statx,
    }

    /// Figures of a file system, in the reply to STATFS.
    pub struct fuse_kstatfs: 80 {
        /// Size in units of `frsize`.
        pub blocks: u64,
        /// Free space in units of `frsize`.
        pub bfree: u64,
        /// Free space for unprivileged users, in units of `frsize`.
        pub bavail: u64,
        /// Number of inodes.
        pub files: u64,
        /// Number of free inodes.
        pub ffree: u64,
        /// Preferred I/O size in bytes.
        pub bsize: u32,
        /// Longest name in bytes.
        pub namelen: u32,
        /// Fragment size in bytes, the unit of the counts. Since 7.4.
        pub frsize: u32,
        /// Zero.
        pub padding: u32,
        /// Zero.
        pub spare: [u32; 6],
    }

    /// Reply to STATFS.
    pub struct fuse_statfs_out: 80 {
        /// The figures.
        pub st: fuse_kstatfs,
    }
}
