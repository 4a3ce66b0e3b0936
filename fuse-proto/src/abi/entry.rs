//! Names in directories: LOOKUP and the operations that make, link, move and list entries.
#![allow(non_camel_case_types)]

use super::fuse_attr;

/// Length of [`fuse_entry_out`] on the wire below 7.9: without `blksize` and `flags` of the attributes.
pub const FUSE_COMPAT_ENTRY_OUT_SIZE: usize = 120;
/// Length of [`fuse_mknod_in`] on the wire below 7.12: without `umask`.
pub const FUSE_COMPAT_MKNOD_IN_SIZE: usize = 8;
/// Offset in bytes of the name in a directory record, after [`fuse_dirent`].
pub const FUSE_NAME_OFFSET: usize = 24;
/// Offset in bytes of the name in a READDIRPLUS record, after [`fuse_direntplus`]. Since 7.21.
pub const FUSE_NAME_OFFSET_DIRENTPLUS: usize = 152;

wire! {
    /// Reply to LOOKUP, SYMLINK, MKNOD, MKDIR and LINK, first part of the replies to CREATE and TMPFILE.
    ///
    /// A reply with a node id other than 0 gives the kernel one reference to the inode, to be given back by FORGET.
    pub struct fuse_entry_out: 128 {
        /// Node id, unique among the live inodes. 0 in a LOOKUP reply means "no such name", cached for
        /// `entry_valid` (a negative entry).
        pub nodeid: u64,
        /// Generation: together with `nodeid` unique for the life of the mount.
        pub generation: u64,
        /// How long the name may be used without asking, whole seconds.
        pub entry_valid: u64,
        /// How long the attributes may be used without asking, whole seconds.
        pub attr_valid: u64,
        /// Nanoseconds to add to `entry_valid`.
        pub entry_valid_nsec: u32,
        /// Nanoseconds to add to `attr_valid`.
        pub attr_valid_nsec: u32,
        /// The attributes.
        pub attr: fuse_attr,
    }

    /// MKNOD, followed by the name and, since 7.36, by extensions.
    pub struct fuse_mknod_in: 16 {
        /// File type and permission bits; with DONT_MASK the umask is not yet applied.
        pub mode: u32,
        /// Device number for device nodes, in the kernel's 32-bit encoding.
        pub rdev: u32,
        /// umask of the caller. Since 7.12.
        pub umask: u32,
        /// Zero.
        pub padding: u32,
    }

    /// MKDIR, followed by the name and, since 7.36, by extensions.
    pub struct fuse_mkdir_in: 8 {
        /// Permission bits; with DONT_MASK the umask is not yet applied.
        pub mode: u32,
        /// umask of the caller. Since 7.12.
        pub umask: u32,
    }

    /// RENAME, followed by the old name (in the header's node) and the new one.
    pub struct fuse_rename_in: 8 {
        /// Node id of the new parent directory.
        pub newdir: u64,
    }

    /// RENAME2, followed by the old and the new name. Since 7.23; only sent when `flags` is not 0.
    pub struct fuse_rename2_in: 16 {
        /// Node id of the new parent directory.
        pub newdir: u64,
        /// `RENAME_NOREPLACE`, `RENAME_EXCHANGE`, `RENAME_WHITEOUT`.
        pub flags: u32,
        /// Zero.
        pub padding: u32,
    }

    /// LINK, followed by the new name (in the header's node).
    pub struct fuse_link_in: 8 {
        /// Node id of the existing inode.
        pub oldnodeid: u64,
    }

    /// Fixed part of a directory record; the name follows, then zeroes up to a multiple of 8 bytes.
    pub struct fuse_dirent: 24 {
        /// Inode number shown to programs (`d_ino`).
        pub ino: u64,
        /// Position after this record: the `offset` of the READDIR that continues from here.
        pub off: u64,
        /// Length of the name in bytes, without any terminator. 0 is answered to the program with `EIO`.
        pub namelen: u32,
        /// `DT_*` file type.
        pub r#type: u32,
    }

    /// Fixed part of a READDIRPLUS record. Since 7.21.
    ///
    /// A record with `entry_out.nodeid` other than 0 gives the kernel one reference, except for `.` and `..`.
    pub struct fuse_direntplus: 152 {
        /// The inode, `nodeid` 0 for "only the name".
        pub entry_out: fuse_entry_out,
        /// The name.
        pub dirent: fuse_dirent,
    }
}
