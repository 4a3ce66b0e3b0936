//! READ, WRITE, FSYNC, FALLOCATE, LSEEK, COPY_FILE_RANGE.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, copy_file_range, fallocate, fcntl};
use nix::unistd::{Whence, lseek64};

use super::creds::{SetId, treat_set_id};
use super::handle::{Handle, Object};
use super::payload::{Chunk, Gathered, put, put_appending};
use super::{Access, PassthroughFs};
use crate::engine::{
    Context, CopyRequest, Data, Durability, Errno, FileHandle, NodeId, Payload, ReadRequest,
    Result, WriteRequest,
};
use crate::sys::stat;

impl PassthroughFs {
    pub(super) fn do_read(&self, fh: FileHandle, read: &ReadRequest) -> Result<Data> {
        let handle = self.handles.get(fh)?;
        match &handle.object {
            Object::File { .. } => Ok(Data::File {
                file: self.host_file(&handle)?,
                offset: read.offset,
                medium: handle.medium(),
            }),
            Object::Synthetic => Ok(Data::Bytes(Bytes::new())),
            Object::Directory { .. } => Err(Errno::EISDIR),
        }
    }

    pub(super) fn do_write(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        write: &WriteRequest,
        payload: Payload<'_>,
    ) -> Result<u32> {
        if self.access == Access::ReadOnly {
            return Err(Errno::EROFS);
        }
        let handle = self.handles.get(fh)?;
        let Object::File { append, .. } = &handle.object else {
            return Err(Errno::EBADF);
        };
        let file = &self.host_file(&handle)?;
        treat_set_id(SetId::Keep)?;
        let offset = i64::try_from(write.offset).map_err(|_| Errno::EFBIG)?;
        if write.kill_suidgid || (!write.from_cache && Self::must_kill_bits(cx, false)) {
            // Before the contents change: they must not run with the owner's rights.
            if self.kill_bits(cx, &**file)? {
                cx.notifier.expire_attributes_of_used(node);
            }
        }
        if write.from_cache {
            // Pages of a mapping go where they belong, whatever descriptor the kernel has picked.
            let appends = append.load(Ordering::Relaxed);
            return self.write_back(cx, &handle, file, appends, payload, offset);
        }
        let appends = write.flags as i32 & libc::O_APPEND != 0;
        if append.swap(appends, Ordering::Relaxed) != appends {
            set_append(file, appends)?;
        }
        if !appends {
            let write = |chunk: Chunk<'_>, done| chunk.write(file, offset + done);
            if handle.medium().has_pages() {
                return put(cx, payload, write);
            }
            let bytes = Gathered::of(payload)?;
            return put(cx, Payload::Bytes(bytes.as_ref()), write);
        }
        let written = put_appending(cx, file, payload)?;
        let end = write.offset + u64::from(written);
        if stat::of(&**file)?.size() != end {
            // Somebody else has appended: what the kernel thinks is at this offset is not.
            cx.notifier.invalidate_inode(node, offset, -1);
        }
        Ok(written)
    }

    fn write_back(
        &self,
        cx: &Context<'_>,
        handle: &Handle,
        file: &Arc<File>,
        appends: bool,
        payload: Payload<'_>,
        offset: i64,
    ) -> Result<u32> {
        if !appends {
            return put(cx, payload, |chunk, done| chunk.write(file, offset + done));
        }
        // RWF_NOAPPEND would do, but an overlay drops it without a word.
        let inode = handle.inode.as_ref().ok_or(Errno::EBADF)?;
        let plain: File = self.open_host(inode, OFlag::O_WRONLY)?.into();
        put(cx, payload, |chunk, done| {
            chunk.write(&plain, offset + done)
        })
    }

    pub(super) fn do_fsync(&self, cx: &Context<'_>, fh: FileHandle, datasync: bool) -> Result<()> {
        let handle = self.handles.get(fh)?;
        let Ok(file) = self.host_file(&handle) else {
            return Ok(());
        };
        cx.sync(&file, Durability::of(datasync), handle.medium())
    }

    pub(super) fn do_fallocate(
        &self,
        cx: &Context<'_>,
        fh: FileHandle,
        offset: u64,
        len: u64,
        mode: u32,
    ) -> Result<()> {
        if self.access == Access::ReadOnly {
            return Err(Errno::EROFS);
        }
        let handle = self.handles.get(fh)?;
        let file = self.host_file(&handle)?;
        treat_set_id(SetId::Keep)?;
        let mode = FallocateFlags::from_bits_retain(mode as i32);
        let (offset, len) = (i64::try_from(offset), i64::try_from(len));
        let (offset, len) = (
            offset.map_err(|_| Errno::EFBIG)?,
            len.map_err(|_| Errno::EFBIG)?,
        );
        // The kernel has asked for set-user-id bits to be cleared, by a SETATTR, if the caller may not keep them.
        cx.block_in_place(|| Ok(fallocate(file, mode, offset, len)?))
    }

    pub(super) fn do_lseek(&self, fh: FileHandle, offset: u64, whence: u32) -> Result<u64> {
        let handle = self.handles.get(fh)?;
        let whence = match whence as i32 {
            libc::SEEK_DATA => Whence::SeekData,
            libc::SEEK_HOLE => Whence::SeekHole,
            _ => return Err(Errno::EINVAL),
        };
        let offset = i64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        // This moves the position of the host's open file, which nothing else uses.
        let offset = lseek64(self.host_file(&handle)?, offset, whence)?;
        u64::try_from(offset).map_err(|_| Errno::EIO)
    }

    pub(super) fn do_copy_file_range(&self, cx: &Context<'_>, copy: &CopyRequest) -> Result<u64> {
        if self.access == Access::ReadOnly {
            return Err(Errno::EROFS);
        }
        if copy.flags != 0 {
            return Err(Errno::EINVAL);
        }
        let (from, to) = (self.handles.get(copy.from.1)?, self.handles.get(copy.to.1)?);
        let (source, target) = (self.host_file(&from)?, self.host_file(&to)?);
        treat_set_id(SetId::Keep)?;
        let offset = |offset: u64| i64::try_from(offset).map_err(|_| Errno::EFBIG);
        let (mut read, mut write) = (offset(copy.from.2)?, offset(copy.to.2)?);
        let len = usize::try_from(copy.len).unwrap_or(usize::MAX);
        let copied = cx.block_in_place(|| {
            Ok::<_, Errno>(copy_file_range(
                source,
                Some(&mut read),
                target,
                Some(&mut write),
                len,
            )?)
        })?;
        // The kernel knows that the target has changed, but not that the source was read.
        cx.notifier.expire_attributes_of_used(copy.from.0);
        Ok(copied as u64)
    }
}

fn set_append(file: &File, on: bool) -> Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    let mut wanted = flags;
    wanted.set(OFlag::O_APPEND, on);
    fcntl(file, FcntlArg::F_SETFL(wanted))?;
    Ok(())
}
