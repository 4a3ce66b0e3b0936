//! Requests: what the kernel asks, decoded from either of the two forms it sends.
//!
//! [`Request::contiguous`] takes a message as read from `/dev/fuse`, [`Request::split`] what is in a ring entry.
//! Both give the same [`Operation`], whose fixed parts are copied out (the bytes need no alignment) and whose
//! names and data are borrowed. Nothing is allocated, nothing outside the message is read, nothing panics; a message
//! that is too short, too long or malformed is a [`DecodeError`] that says where.

use core::ffi::CStr;

use zerocopy::FromBytes;

use crate::abi::*;
use crate::error::{DecodeError, NameFault};
use crate::{Dialect, Extensions, Opcode};

mod cursor;
mod records;

use cursor::Cursor;
pub use records::{Forgets, Removals};

/// A request of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who asks, about which inode.
    pub header: fuse_in_header,
    /// What is asked.
    pub operation: Operation<'a>,
}

/// An operation with its arguments.
///
/// Names are single, non-empty path components; `.` and `..` occur in LOOKUP with EXPORT_SUPPORT. Fields called `ext`
/// are empty unless SECURITY_CTX or CREATE_SUPP_GROUP was negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // The fields are described at the structures and here in the variants.
pub enum Operation<'a> {
    /// Look up `name` in the header's node.
    Lookup { name: &'a CStr },
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
        name: &'a CStr,
        target: &'a CStr,
        ext: Extensions<'a>,
    },
    /// Make a file of any kind but directory and link.
    Mknod {
        arg: fuse_mknod_in,
        name: &'a CStr,
        ext: Extensions<'a>,
    },
    /// Make a directory.
    Mkdir {
        arg: fuse_mkdir_in,
        name: &'a CStr,
        ext: Extensions<'a>,
    },
    /// Remove a name that is not a directory.
    Unlink { name: &'a CStr },
    /// Remove a directory.
    Rmdir { name: &'a CStr },
    /// RENAME (`flags` 0) and RENAME2: move `name` in the header's node to `newname` in `newdir`.
    Rename {
        newdir: u64,
        flags: u32,
        name: &'a CStr,
        newname: &'a CStr,
    },
    /// Give `oldnodeid` the further name `name` in the header's node.
    Link { oldnodeid: u64, name: &'a CStr },
    /// Open a file.
    Open(fuse_open_in),
    /// Read from a file.
    Read(fuse_read_in),
    /// Write `data`, which is `arg.size` bytes long.
    Write { arg: fuse_write_in, data: &'a [u8] },
    /// Get figures of the file system.
    Statfs,
    /// The last reference to an open file is gone.
    Release(fuse_release_in),
    /// Write a file to stable storage.
    Fsync(fuse_fsync_in),
    /// Set extended attribute `name` to `value`, which is `arg.size` bytes long.
    Setxattr {
        arg: fuse_setxattr_in,
        name: &'a CStr,
        value: &'a [u8],
    },
    /// Get extended attribute `name`, or its size.
    Getxattr {
        arg: fuse_getxattr_in,
        name: &'a CStr,
    },
    /// List the names of extended attributes, or their size.
    Listxattr(fuse_getxattr_in),
    /// Remove extended attribute `name`.
    Removexattr { name: &'a CStr },
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
        arg: fuse_create_in,
        name: &'a CStr,
        ext: Extensions<'a>,
    },
    /// The caller of a request was signalled.
    Interrupt(fuse_interrupt_in),
    /// Map a block to the device.
    Bmap(fuse_bmap_in),
    /// The mount is gone.
    Destroy,
    /// Device or file control; `data` is `arg.in_size` bytes long.
    Ioctl { arg: fuse_ioctl_in, data: &'a [u8] },
    /// Ask for readiness.
    Poll(fuse_poll_in),
    /// Cached `data` of a retrieve notification, `arg.size` bytes long. No reply.
    NotifyReply {
        arg: fuse_notify_retrieve_in,
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
        arg: fuse_create_in,
        name: &'a CStr,
        ext: Extensions<'a>,
    },
    /// Get attributes that GETATTR does not have.
    Statx(fuse_statx_in),
    /// Negotiate for a character device.
    CuseInit(cuse_init_in),
}

/// The header of a message, without looking at the rest of it.
///
/// # Errors
///
/// If `buf` is shorter than a header.
pub fn peek_header(buf: &[u8]) -> Result<fuse_in_header, DecodeError> {
    match fuse_in_header::read_from_prefix(buf) {
        Ok((header, _)) => Ok(header),
        Err(_) => Err(DecodeError::ShortHeader {
            needed: size_of::<fuse_in_header>(),
            got: buf.len(),
        }),
    }
}

impl<'a> Request<'a> {
    /// Decodes a message as read from `/dev/fuse`: `buf` is exactly what one `read` returned.
    ///
    /// # Errors
    ///
    /// If the message is not well-formed, or of another length than its header says.
    pub fn contiguous(buf: &'a [u8], d: Dialect) -> Result<Self, DecodeError> {
        let header = peek_header(buf)?;
        if header.len as usize != buf.len() {
            return Err(DecodeError::Length {
                opcode: header.opcode,
                unique: header.unique,
                declared: header.len as usize,
                got: buf.len(),
            });
        }
        Self::decode(header, None, &buf[size_of::<fuse_in_header>()..], d)
    }

    /// Decodes a ring entry: the start of `in_out`, of `op_in` (both may be passed whole), and the
    /// `payload_sz` bytes of payload. The header's `len` is not looked at.
    ///
    /// # Errors
    ///
    /// If the request is not well-formed.
    pub fn split(
        header: &'a [u8],
        op_in: &'a [u8],
        payload: &'a [u8],
        d: Dialect,
    ) -> Result<Self, DecodeError> {
        Self::decode(peek_header(header)?, Some(op_in), payload, d)
    }

    fn decode(
        header: fuse_in_header,
        op_in: Option<&'a [u8]>,
        rest: &'a [u8],
        d: Dialect,
    ) -> Result<Self, DecodeError> {
        let Some(opcode) = Opcode::from_raw(header.opcode) else {
            return Err(DecodeError::UnknownOpcode {
                opcode: header.opcode,
                unique: header.unique,
            });
        };
        let mut cursor = Cursor::new(opcode, &header, op_in, rest, d);
        let operation = Operation::read(opcode, &mut cursor, d)?;
        cursor.finish()?;
        Ok(Self { header, operation })
    }
}

impl<'a> Operation<'a> {
    fn read(opcode: Opcode, c: &mut Cursor<'a>, d: Dialect) -> Result<Self, DecodeError> {
        Ok(match opcode {
            Opcode::Lookup => Self::Lookup {
                name: c.name("name")?,
            },
            Opcode::Forget => Self::Forget(c.arg()?),
            Opcode::Getattr => {
                // Below 7.9 there is no argument; kernels since 2.6.32 send it all the same.
                let shortest = if d.minor < 9 {
                    0
                } else {
                    size_of::<fuse_getattr_in>()
                };
                Self::Getattr(c.arg_of_at_least(shortest)?)
            }
            Opcode::Setattr => Self::Setattr(c.arg()?),
            Opcode::Readlink => Self::Readlink,
            Opcode::Symlink => {
                let name = c.name("name")?;
                let target = c.text("target")?;
                Self::Symlink {
                    name,
                    target,
                    ext: c.extensions()?,
                }
            }
            Opcode::Mknod => {
                let arg = if d.minor < 12 {
                    c.arg_of(FUSE_COMPAT_MKNOD_IN_SIZE)?
                } else {
                    c.arg()?
                };
                let name = c.name("name")?;
                Self::Mknod {
                    arg,
                    name,
                    ext: c.extensions()?,
                }
            }
            Opcode::Mkdir => {
                let arg = c.arg()?;
                let name = c.name("name")?;
                Self::Mkdir {
                    arg,
                    name,
                    ext: c.extensions()?,
                }
            }
            Opcode::Unlink => Self::Unlink {
                name: c.name("name")?,
            },
            Opcode::Rmdir => Self::Rmdir {
                name: c.name("name")?,
            },
            Opcode::Rename => {
                let arg: fuse_rename_in = c.arg()?;
                Self::read_rename(arg.newdir, 0, c)?
            }
            Opcode::Rename2 => {
                let arg: fuse_rename2_in = c.arg()?;
                Self::read_rename(arg.newdir, arg.flags, c)?
            }
            Opcode::Link => {
                let arg: fuse_link_in = c.arg()?;
                Self::Link {
                    oldnodeid: arg.oldnodeid,
                    name: c.name("name")?,
                }
            }
            Opcode::Open => Self::Open(c.arg()?),
            Opcode::Read => Self::Read(c.read_arg()?),
            Opcode::Write => {
                let arg: fuse_write_in = if d.minor < 9 {
                    c.arg_of(FUSE_COMPAT_WRITE_IN_SIZE)?
                } else {
                    c.arg()?
                };
                Self::Write {
                    arg,
                    data: c.data("data", arg.size)?,
                }
            }
            Opcode::Statfs => Self::Statfs,
            Opcode::Release => Self::Release(c.arg()?),
            Opcode::Fsync => Self::Fsync(c.arg()?),
            Opcode::Setxattr => {
                let arg: fuse_setxattr_in = if d.has_setxattr_ext() {
                    c.arg()?
                } else {
                    c.arg_of(FUSE_COMPAT_SETXATTR_IN_SIZE)?
                };
                let name = c.xattr_name()?;
                Self::Setxattr {
                    arg,
                    name,
                    value: c.data("value", arg.size)?,
                }
            }
            Opcode::Getxattr => Self::Getxattr {
                arg: c.arg()?,
                name: c.xattr_name()?,
            },
            Opcode::Listxattr => Self::Listxattr(c.arg()?),
            Opcode::Removexattr => Self::Removexattr {
                name: c.xattr_name()?,
            },
            Opcode::Flush => Self::Flush(c.arg()?),
            Opcode::Init => Self::Init(c.growing_arg(8)?),
            Opcode::Opendir => Self::Opendir(c.arg()?),
            Opcode::Readdir => Self::Readdir(c.read_arg()?),
            Opcode::Releasedir => Self::Releasedir(c.arg()?),
            Opcode::Fsyncdir => Self::Fsyncdir(c.arg()?),
            Opcode::Getlk => Self::Getlk(c.lock_arg()?),
            Opcode::Setlk => Self::Setlk(c.lock_arg()?),
            Opcode::Setlkw => Self::Setlkw(c.lock_arg()?),
            Opcode::Access => Self::Access(c.arg()?),
            Opcode::Create => {
                let arg = if d.minor < 12 {
                    c.arg_of(size_of::<fuse_open_in>())?
                } else {
                    c.arg()?
                };
                let name = c.name("name")?;
                Self::Create {
                    arg,
                    name,
                    ext: c.extensions()?,
                }
            }
            Opcode::Interrupt => Self::Interrupt(c.arg()?),
            Opcode::Bmap => Self::Bmap(c.arg()?),
            Opcode::Destroy => Self::Destroy,
            Opcode::Ioctl => {
                let arg: fuse_ioctl_in = c.arg()?;
                Self::Ioctl {
                    arg,
                    data: c.data("data", arg.in_size)?,
                }
            }
            Opcode::Poll => Self::Poll(c.arg()?),
            Opcode::NotifyReply => {
                let arg: fuse_notify_retrieve_in = c.arg()?;
                Self::NotifyReply {
                    arg,
                    data: c.data("data", arg.size)?,
                }
            }
            Opcode::BatchForget => {
                let arg: fuse_batch_forget_in = c.arg()?;
                Self::BatchForget(Forgets::new(c.records(arg.count)?))
            }
            Opcode::Fallocate => Self::Fallocate(c.arg()?),
            Opcode::Readdirplus => Self::Readdirplus(c.read_arg()?),
            Opcode::Lseek => Self::Lseek(c.arg()?),
            Opcode::CopyFileRange => Self::CopyFileRange(c.arg()?),
            Opcode::CopyFileRange64 => Self::CopyFileRange64(c.arg()?),
            Opcode::Setupmapping => Self::Setupmapping(c.arg()?),
            Opcode::Removemapping => {
                let arg: fuse_removemapping_in = c.arg()?;
                Self::Removemapping(Removals::new(c.records(arg.count)?))
            }
            Opcode::Syncfs => Self::Syncfs(c.arg()?),
            Opcode::Tmpfile => {
                let arg = c.arg()?;
                let name = c.text("name")?;
                Self::Tmpfile {
                    arg,
                    name,
                    ext: c.extensions()?,
                }
            }
            Opcode::Statx => Self::Statx(c.arg()?),
            Opcode::CuseInit => Self::CuseInit(c.growing_arg(8)?),
        })
    }

    fn read_rename(newdir: u64, flags: u32, c: &mut Cursor<'a>) -> Result<Self, DecodeError> {
        let name = c.name("name")?;
        Ok(Self::Rename {
            newdir,
            flags,
            name,
            newname: c.name("newname")?,
        })
    }

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
