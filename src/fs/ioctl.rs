//! IOCTL: inode flags and project ids; nothing else goes through.
//!
//! The commands are those the kernel sends for `lsattr`, `chattr` and the project quota tools; the size of their argument is in
//! their number. Another ioctl could do anything to the host, so it does not exist (`ENOTTY`).

use std::os::fd::AsFd;

use nix::fcntl::OFlag;

use super::lookup::Node;
use super::streams::UNOPENED;
use super::{Access, PassthroughFs};
use crate::engine::{Context, Errno, FileHandle, IoctlRequest, NodeId, Result};
use crate::sys::file;

pub(super) const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
const FS_IOC_GETVERSION: u32 = 0x8008_7601;
const FS_IOC32_GETFLAGS: u32 = 0x8004_6601;
const FS_IOC32_SETFLAGS: u32 = 0x4004_6602;
const FS_IOC32_GETVERSION: u32 = 0x8004_7601;
pub(super) const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
pub(super) const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;

/// Bytes of the argument of the flag commands that are used, whatever their number says.
const FLAGS: usize = 4;
/// Bytes of `struct fsxattr`.
const FSXATTR: usize = 28;

impl PassthroughFs {
    pub(super) fn do_ioctl(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        ioctl: &IoctlRequest<'_>,
        out: &mut [u8],
    ) -> Result<(i32, usize)> {
        let (command, len, writes) = match ioctl.command {
            FS_IOC_GETFLAGS | FS_IOC32_GETFLAGS => (FS_IOC_GETFLAGS, FLAGS, false),
            FS_IOC_GETVERSION | FS_IOC32_GETVERSION => (FS_IOC_GETVERSION, FLAGS, false),
            FS_IOC_SETFLAGS | FS_IOC32_SETFLAGS => (FS_IOC_SETFLAGS, FLAGS, true),
            FS_IOC_FSGETXATTR => (FS_IOC_FSGETXATTR, FSXATTR, false),
            FS_IOC_FSSETXATTR => (FS_IOC_FSSETXATTR, FSXATTR, true),
            _ => return Err(Errno::ENOTTY),
        };
        if writes && self.access == Access::ReadOnly {
            return Err(Errno::EROFS);
        }
        let (handle, opened, directory);
        let file = if fh == UNOPENED {
            let Node::Host(inode) = self.node(node)? else {
                return Err(Errno::ENOTTY);
            };
            directory = self.open_host(&inode, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            directory.as_fd()
        } else {
            handle = self.handles.get(fh)?;
            opened = self.host_file(&handle);
            match &opened {
                Ok(file) => file.as_fd(),
                Err(Errno::EBADF) => handle.any().map_err(|_| Errno::ENOTTY)?,
                Err(errno) => return Err(*errno),
            }
        };
        let mut words = [0_u64; 4];
        if writes {
            let input = ioctl.input.get(..len).ok_or(Errno::EINVAL)?;
            for (word, bytes) in words.iter_mut().zip(input.chunks(8)) {
                let mut padded = [0; 8];
                padded[..bytes.len()].copy_from_slice(bytes);
                *word = u64::from_ne_bytes(padded);
            }
            self.may_set_flags(cx, &file, command, &words)?;
        }
        let result = file::ioctl(file, command, &mut words)?;
        if writes {
            // The kernel does not know that this changes attributes, the time of the change at least.
            cx.notifier.expire_attributes_of_used(node);
            return Ok((result, 0));
        }
        // The kernel's buffer has the size of what the command's number says, or of what it uses itself.
        let size = (ioctl.command >> 16 & 0x3fff) as usize;
        let size = size.min(out.len());
        for (bytes, word) in out[..size].chunks_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes()[..bytes.len()]);
        }
        Ok((result, size))
    }
}
