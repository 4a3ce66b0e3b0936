//! Requests: what the kernel asks, decoded from either of the two forms it sends.
//!
//! [`Request::contiguous`] takes a message as read from `/dev/fuse`, [`Request::split`] what is in a ring entry.
//! Both give the same [`Operation`], whose fixed parts are copied out (the bytes need no alignment) and whose
//! names and data are borrowed. Nothing is allocated, nothing outside the message is read, nothing panics; a message
//! that is too short, too long or malformed is a [`DecodeError`] that says where.

use zerocopy::FromBytes;

use crate::abi::*;
use crate::error::{DecodeError, NameFault};
use crate::{Dialect, Extensions, Opcode};

mod cursor;
mod operation;
mod records;

use cursor::Cursor;
pub use operation::Operation;
pub use records::{Forgets, Removals};

/// A request of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who asks, about which inode.
    pub header: fuse_in_header,
    /// What is asked.
    pub operation: Operation<'a>,
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
                let arg: fuse_notify_retrieve_in = c.arg_in_payload()?;
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
                let arg: fuse_removemapping_in = c.arg_in_payload()?;
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
}
