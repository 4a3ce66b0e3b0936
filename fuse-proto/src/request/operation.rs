//! The operations and their arguments.

use core::ffi::CStr;

use super::{Forgets, Removals};
use crate::abi::*;
use crate::{Extensions, Opcode};

/// An operation with its arguments.
///
/// Names are single, non-empty path components; `.` and `..` occur in LOOKUP with EXPORT_SUPPORT. Fields called `ext`
/// are empty unless SECURITY_CTX or CREATE_SUPP_GROUP was negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Look up `name` in the header's node.
    Lookup {
        /// Name in the header's node.
        name: &'a CStr,
    },
    /// Give back references to the header's node. No reply.
    Forget(fuse_forget_in),
    /// Get attributes.
    Getattr(fuse_getattr_in),
    /// Change attributes.
    Setattr(fuse_setattr_in),
    /// Read the target of a symbolic link.
    Readlink,
    /// Make a symbolic link `name` in the header's node, with contents `target`.
    Symlink {
        /// Name in the header's node.
        name: &'a CStr,
        /// Contents of the link.
        target: &'a CStr,
        /// Security context and groups.
        ext: Extensions<'a>,
    },
    /// Make a file of any kind but directory and link.
    Mknod {
        /// Argument of fixed size.
        arg: fuse_mknod_in,
        /// Name in the header's node.
        name: &'a CStr,
        /// Security context and groups.
        ext: Extensions<'a>,
    },
    /// Make a directory.
    Mkdir {
        /// Argument of fixed size.
        arg: fuse_mkdir_in,
        /// Name in the header's node.
        name: &'a CStr,
        /// Security context and groups.
        ext: Extensions<'a>,
    },
    /// Remove a name that is not a directory.
    Unlink {
        /// Name in the header's node.
        name: &'a CStr,
    },
    /// Remove a directory.
    Rmdir {
        /// Name in the header's node.
        name: &'a CStr,
    },
    /// RENAME (`flags` 0) and RENAME2: move `name` in the header's node to `newname` in `newdir`.
    Rename {
        /// Node id of the new directory.
        newdir: u64,
        /// `RENAME_*` flags.
        flags: u32,
        /// Old name in the header's node.
        name: &'a CStr,
        /// New name.
        newname: &'a CStr,
    },
    /// Give `oldnodeid` the further name `name` in the header's node.
    Link {
        /// Node id of the existing inode.
        oldnodeid: u64,
        /// Name in the header's node.
        name: &'a CStr,
    },
    /// Open a file.
    Open(fuse_open_in),
    /// Read from a file.
    Read(fuse_read_in),
    /// Write `data`, which is `arg.size` bytes long.
    Write {
        /// Argument of fixed size.
        arg: fuse_write_in,
        /// The data.
        data: &'a [u8],
    },
    /// Get figures of the file system.
    Statfs,
    /// The last reference to an open file is gone.
    Release(fuse_release_in),
    /// Write a file to stable storage.
    Fsync(fuse_fsync_in),
    /// Set extended attribute `name` to `value`, which is `arg.size` bytes long.
    Setxattr {
        /// Argument of fixed size.
        arg: fuse_setxattr_in,
        /// Name of the attribute.
        name: &'a CStr,
        /// The value.
        value: &'a [u8],
    },
    /// Get extended attribute `name`, or its size.
    Getxattr {
        /// Argument of fixed size.
        arg: fuse_getxattr_in,
        /// Name of the attribute.
        name: &'a CStr,
    },
    /// List the names of extended attributes, or their size.
    Listxattr(fuse_getxattr_in),
    /// Remove extended attribute `name`.
    Removexattr {
        /// Name of the attribute.
        name: &'a CStr,
    },
    /// A descriptor was closed.
    Flush(fuse_flush_in),
    /// Negotiate. Parts the kernel does not send are zero.
    Init(fuse_init_in),
    /// Open a directory.
    Opendir(fuse_open_in),
    /// Read a directory.
    Readdir(fuse_read_in),
    /// The last reference to an open directory is gone.
    Releasedir(fuse_release_in),
    /// Write a directory to stable storage.
    Fsyncdir(fuse_fsync_in),
    /// Test for a lock.
    Getlk(fuse_lk_in),
    /// Set or drop a lock.
    Setlk(fuse_lk_in),
    /// Set a lock and wait for it.
    Setlkw(fuse_lk_in),
    /// Check permissions.
    Access(fuse_access_in),
    /// Make and open a regular file.
    Create {
        /// Argument of fixed size.
        arg: fuse_create_in,
        /// Name in the header's node.
        name: &'a CStr,
        /// Security context and groups.
        ext: Extensions<'a>,
    },
    /// The caller of a request was signalled.
    Interrupt(fuse_interrupt_in),
    /// Map a block to the device.
    Bmap(fuse_bmap_in),
    /// The mount is gone.
    Destroy,
    /// Device or file control; `data` is `arg.in_size` bytes long.
    Ioctl {
        /// Argument of fixed size.
        arg: fuse_ioctl_in,
        /// The data.
        data: &'a [u8],
    },
    /// Ask for readiness.
    Poll(fuse_poll_in),
    /// Cached `data` of a retrieve notification, `arg.size` bytes long. No reply.
    NotifyReply {
        /// Argument of fixed size.
        arg: fuse_notify_retrieve_in,
        /// The data.
        data: &'a [u8],
    },
    /// Give back references to many inodes. No reply.
    BatchForget(Forgets<'a>),
    /// Allocate or free space.
    Fallocate(fuse_fallocate_in),
    /// Read a directory with attributes.
    Readdirplus(fuse_read_in),
    /// Find data or a hole.
    Lseek(fuse_lseek_in),
    /// Copy between files, with a 32-bit result.
    CopyFileRange(fuse_copy_file_range_in),
    /// Copy between files, with a 64-bit result.
    CopyFileRange64(fuse_copy_file_range_in),
    /// Map into the DAX window.
    Setupmapping(fuse_setupmapping_in),
    /// Unmap from the DAX window.
    Removemapping(Removals<'a>),
    /// Write the file system to stable storage.
    Syncfs(fuse_syncfs_in),
    /// Make and open a file without a name. `name` means nothing; Linux sends `/`.
    Tmpfile {
        /// Argument of fixed size.
        arg: fuse_create_in,
        /// Nothing of use.
        name: &'a CStr,
        /// Security context and groups.
        ext: Extensions<'a>,
    },
    /// Get attributes that GETATTR does not have.
    Statx(fuse_statx_in),
    /// Negotiate for a character device.
    CuseInit(cuse_init_in),
}

impl Operation<'_> {
    /// The operation without its arguments. RENAME2 without flags counts as RENAME.
    #[must_use]
    pub const fn opcode(&self) -> Opcode {
        match self {
            Self::Lookup { .. } => Opcode::Lookup,
            Self::Forget(_) => Opcode::Forget,
            Self::Getattr(_) => Opcode::Getattr,
            Self::Setattr(_) => Opcode::Setattr,
            Self::Readlink => Opcode::Readlink,
            Self::Symlink { .. } => Opcode::Symlink,
            Self::Mknod { .. } => Opcode::Mknod,
            Self::Mkdir { .. } => Opcode::Mkdir,
            Self::Unlink { .. } => Opcode::Unlink,
            Self::Rmdir { .. } => Opcode::Rmdir,
            Self::Rename { flags: 0, .. } => Opcode::Rename,
            Self::Rename { .. } => Opcode::Rename2,
            Self::Link { .. } => Opcode::Link,
            Self::Open(_) => Opcode::Open,
            Self::Read(_) => Opcode::Read,
            Self::Write { .. } => Opcode::Write,
            Self::Statfs => Opcode::Statfs,
            Self::Release(_) => Opcode::Release,
            Self::Fsync(_) => Opcode::Fsync,
            Self::Setxattr { .. } => Opcode::Setxattr,
            Self::Getxattr { .. } => Opcode::Getxattr,
            Self::Listxattr(_) => Opcode::Listxattr,
            Self::Removexattr { .. } => Opcode::Removexattr,
            Self::Flush(_) => Opcode::Flush,
            Self::Init(_) => Opcode::Init,
            Self::Opendir(_) => Opcode::Opendir,
            Self::Readdir(_) => Opcode::Readdir,
            Self::Releasedir(_) => Opcode::Releasedir,
            Self::Fsyncdir(_) => Opcode::Fsyncdir,
            Self::Getlk(_) => Opcode::Getlk,
            Self::Setlk(_) => Opcode::Setlk,
            Self::Setlkw(_) => Opcode::Setlkw,
            Self::Access(_) => Opcode::Access,
            Self::Create { .. } => Opcode::Create,
            Self::Interrupt(_) => Opcode::Interrupt,
            Self::Bmap(_) => Opcode::Bmap,
            Self::Destroy => Opcode::Destroy,
            Self::Ioctl { .. } => Opcode::Ioctl,
            Self::Poll(_) => Opcode::Poll,
            Self::NotifyReply { .. } => Opcode::NotifyReply,
            Self::BatchForget(_) => Opcode::BatchForget,
            Self::Fallocate(_) => Opcode::Fallocate,
            Self::Readdirplus(_) => Opcode::Readdirplus,
            Self::Lseek(_) => Opcode::Lseek,
            Self::CopyFileRange(_) => Opcode::CopyFileRange,
            Self::CopyFileRange64(_) => Opcode::CopyFileRange64,
            Self::Setupmapping(_) => Opcode::Setupmapping,
            Self::Removemapping(_) => Opcode::Removemapping,
            Self::Syncfs(_) => Opcode::Syncfs,
            Self::Tmpfile { .. } => Opcode::Tmpfile,
            Self::Statx(_) => Opcode::Statx,
            Self::CuseInit(_) => Opcode::CuseInit,
        }
    }
}
