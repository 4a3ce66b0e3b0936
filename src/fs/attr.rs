//! GETATTR, STATX, SETATTR, READLINK, STATFS.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fuse_proto::flags::InitFlags;
use fuse_proto::{fuse_attr, fuse_kstatfs, fuse_statx, fuse_sx_time};
use nix::fcntl::AtFlags;
use nix::sys::stat::Mode;
use nix::sys::statfs::fstatfs;
use nix::unistd::{Gid, Uid, fchownat, ftruncate};

use super::creds::{SetId, treat_set_id};
use super::descriptors::keep_if_changed;
use super::inode::{HeldFd, Inode};
use super::lookup::Node;
use super::mounts::Nature;
use super::policy::CachePolicy;
use super::synthetic::Overlay;
use super::unchecked::{CAP_FSETID, capable};
use super::watch::Trust;
use super::{Access, PassthroughFs, through};
use crate::engine::{
    Attributes, Context, Errno, FileHandle, NodeId, Result, SetAttr, SetTime, Statx,
};
use crate::sys::file;
use crate::sys::stat::{self, Stat};

/// A device number in the kernel's 32-bit encoding.
pub fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | major << 8 | (minor & !0xff) << 12
}

/// Major and minor of a device number in the kernel's 32-bit encoding.
pub fn decode_device(rdev: u32) -> (u32, u32) {
    (rdev >> 8 & 0xfff, (rdev & 0xff) | (rdev >> 12 & 0xf_ff00))
}

/// How long to believe what the host tells the changes of. It does not tell everything - access times, blocks that are
/// allocated late, writes to a mapping -, so this has an end, which costs next to nothing.
const COVERED: Duration = Duration::from_secs(600);

/// How long to believe what nobody tells the changes of.
const UNCOVERED: Duration = Duration::from_secs(1);

/// How long to believe what somebody will soon tell the changes of.
const PENDING: Duration = Duration::from_millis(40);

/// How long to believe the attributes of a file that is being written to through the mount, maybe by ways that do not
/// lead through the server.
const WRITTEN: Duration = Duration::from_millis(20);

/// How long the attributes of `inode` may be cached, whose names may be for `ttl`.
pub(super) fn attr_ttl(inode: &Inode, ttl: Duration) -> Duration {
    if ttl == COVERED && inode.writers.load(Ordering::SeqCst) > 0 {
        return WRITTEN;
    }
    ttl
}

impl PassthroughFs {
    /// How long what was asked about names on `inode`'s mount at the time `asked` may be cached.
    pub(super) fn ttl(&self, inode: &Inode, asked: u64) -> Duration {
        match (self.cache, inode.mount.nature) {
            (CachePolicy::Strict, _) | (_, Nature::Pseudo | Nature::Remote) => Duration::ZERO,
            (CachePolicy::Ttl(ttl), Nature::Local) => ttl,
            (CachePolicy::Coherent, Nature::Local) => match inode.mount.trust(asked) {
                Trust::Watched => COVERED,
                Trust::Overtaken => Duration::ZERO,
                Trust::Pending => PENDING,
                Trust::Unwatched => UNCOVERED,
            },
        }
    }

    /// Owner and group of the file that `raw` describes, as they are presented.
    fn owner(&self, raw: &libc::statx) -> (u32, u32) {
        let (uid, gid) = (raw.stx_uid, raw.stx_gid);
        let gid = self.only.map_or(gid, |only| only.group(uid, gid));
        (self.id_map.uids.present(uid), self.id_map.gids.present(gid))
    }

    /// `stat` as it is presented.
    pub(super) fn attr(&self, stat: &Stat) -> fuse_attr {
        let raw = stat.raw();
        let (uid, gid) = self.owner(raw);
        fuse_attr {
            ino: self.numbers.present(stat.dev(), stat.ino()),
            size: raw.stx_size,
            blocks: raw.stx_blocks,
            atime: raw.stx_atime.tv_sec as u64,
            mtime: raw.stx_mtime.tv_sec as u64,
            ctime: raw.stx_ctime.tv_sec as u64,
            atimensec: raw.stx_atime.tv_nsec,
            mtimensec: raw.stx_mtime.tv_nsec,
            ctimensec: raw.stx_ctime.tv_nsec,
            mode: stat.mode(),
            nlink: raw.stx_nlink,
            uid,
            gid,
            rdev: encode_device(raw.stx_rdev_major, raw.stx_rdev_minor),
            blksize: raw.stx_blksize,
            flags: 0,
        }
    }

    fn attributes(&self, inode: &Inode, stat: &Stat) -> Attributes {
        Attributes {
            attr: self.attr(stat),
            ttl: attr_ttl(inode, self.ttl(inode, stat.asked())),
        }
    }

    /// Looks at `inode` through its open file if there is one: that works when its last name is gone.
    fn stat(&self, inode: &Arc<Inode>, fh: Option<FileHandle>) -> Result<Stat> {
        if let Some(handle) = fh.and_then(|fh| self.handles.get(fh).ok())
            && let Ok(file) = handle.any()
        {
            return Ok(stat::of(&file)?);
        }
        Ok(stat::of(&*self.fd(inode)?)?)
    }

    pub(super) fn do_getattr(&self, node: NodeId, fh: Option<FileHandle>) -> Result<Attributes> {
        match self.node(node)? {
            Node::Synthetic(index) => Ok(Attributes {
                attr: self.overlay.attr(index),
                ttl: Overlay::ttl(),
            }),
            Node::Host(inode) => Ok(self.attributes(&inode, &self.stat(&inode, fh)?)),
        }
    }

    pub(super) fn do_statx(
        &self,
        node: NodeId,
        fh: Option<FileHandle>,
        flags: u32,
        mask: u32,
    ) -> Result<Statx> {
        let inode = match self.node(node)? {
            Node::Synthetic(index) => {
                return Ok(Statx {
                    stat: self.overlay.statx(index),
                    ttl: Overlay::ttl(),
                });
            }
            Node::Host(inode) => inode,
        };
        // The kernel's cache takes the basic fields from any answer.
        let mask = mask | libc::STATX_BASIC_STATS;
        let stat = match fh.and_then(|fh| self.handles.get(fh).ok()) {
            Some(handle) if handle.any().is_ok() => stat::of_with(&handle.any()?, flags, mask)?,
            _ => stat::of_with(&*self.fd(&inode)?, flags, mask)?,
        };
        let raw = stat.raw();
        let time = |time: &libc::statx_timestamp| fuse_sx_time {
            tv_sec: time.tv_sec,
            tv_nsec: time.tv_nsec,
            __reserved: 0,
        };
        let asked = stat.asked();
        let (uid, gid) = self.owner(raw);
        let stat = fuse_statx {
            mask: raw.stx_mask & (libc::STATX_BASIC_STATS | libc::STATX_BTIME),
            blksize: raw.stx_blksize,
            attributes: raw.stx_attributes,
            nlink: raw.stx_nlink,
            uid,
            gid,
            mode: raw.stx_mode,
            ino: self.numbers.present(stat.dev(), raw.stx_ino),
            size: raw.stx_size,
            blocks: raw.stx_blocks,
            attributes_mask: raw.stx_attributes_mask,
            atime: time(&raw.stx_atime),
            btime: time(&raw.stx_btime),
            ctime: time(&raw.stx_ctime),
            mtime: time(&raw.stx_mtime),
            rdev_major: raw.stx_rdev_major,
            rdev_minor: raw.stx_rdev_minor,
            dev_major: raw.stx_dev_major,
            dev_minor: raw.stx_dev_minor,
            ..fuse_statx::default()
        };
        Ok(Statx {
            stat,
            ttl: attr_ttl(&inode, self.ttl(&inode, asked)),
        })
    }

    pub(super) fn do_setattr(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: Option<FileHandle>,
        set: &SetAttr,
    ) -> Result<Attributes> {
        let inode = self.host_to_change(node)?;
        let fd = self.fd_or_open_file(&inode, fh)?;
        if let Some(size) = set.size {
            if Self::must_kill_bits(cx, set.kill_suidgid) {
                self.kill_bits(cx, &*fd)?;
            }
            self.resize(cx, &inode, &fd, fh, size)?;
        }
        if set.uid.is_some() || set.gid.is_some() {
            let uid = set
                .uid
                .map(|uid| self.id_map.uids.host(uid).ok_or(Errno::EINVAL))
                .transpose()?;
            let gid = set
                .gid
                .map(|gid| self.id_map.gids.host(gid).ok_or(Errno::EINVAL))
                .transpose()?;
            if cx.uid != 0 {
                self.kill_bits(cx, &*fd)?;
            }
            keep_set_id(&*fd)?;
            change_owner(&*fd, uid, gid)?;
        }
        if let Some(mode) = set.mode {
            if mode & (libc::S_ISUID | libc::S_ISGID) != 0 {
                through::await_closing(cx, &inode);
            }
            self.change_mode(&*fd, mode & 0o7777)?;
            if mode & (libc::S_ISUID | libc::S_ISGID) != 0 {
                through::decide_anew(&inode);
            }
            if set.size.is_some() && Self::must_kill_bits(cx, false) {
                // It comes from the kernel, which has cleared less than the host would.
                self.kill_bits(cx, &*fd)?;
            }
        }
        if set.atime.is_some() || set.mtime.is_some() {
            let times = [set.atime, set.mtime].map(timespec);
            self.change_times(&fd, &times)?;
        }
        let nothing = SetAttr {
            ctime: None,
            kill_suidgid: false,
            ..*set
        };
        if is_empty(&nothing) {
            self.change_nothing(cx, &inode, &fd)?;
        }
        let stat = stat::of(&*fd)?;
        keep_if_changed(&inode, &fd, &stat);
        Ok(self.attributes(&inode, &stat))
    }

    fn resize(
        &self,
        cx: &Context<'_>,
        inode: &Inode,
        fd: &HeldFd,
        fh: Option<FileHandle>,
        size: u64,
    ) -> Result<()> {
        let size = i64::try_from(size).map_err(|_| Errno::EFAULT)?;
        if let Some(handle) = fh.and_then(|fh| self.handles.get(fh).ok())
            && let Some(file) = handle.writable()
        {
            keep_set_id(fd)?;
            return Ok(cx.block_in_place(|| ftruncate(file, size))?);
        }
        match inode.kind {
            libc::S_IFREG => (),
            libc::S_IFDIR => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        keep_set_id(fd)?;
        // Not the same as ftruncate(2): without an open file, some file systems leave the times alone if the size stays.
        Ok(cx.block_in_place(|| self.descriptors.truncate(fd, size))?)
    }

    /// Sets permission bits of anything, symbolic links included where the file system can.
    pub(super) fn change_mode(&self, fd: &impl AsFd, mode: u32) -> Result<()> {
        if mode & libc::S_ISGID != 0 {
            treat_set_id(SetId::Keep)?;
        }
        match file::change_mode(fd.as_fd(), mode) {
            // Before Linux 6.6.
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(self
                .descriptors
                .change_mode(fd, Mode::from_bits_truncate(mode))?),
            result => Ok(result?),
        }
    }

    /// Sets times of anything, symbolic links included.
    fn change_times(&self, fd: &HeldFd, times: &[libc::timespec; 2]) -> Result<()> {
        match file::change_times(fd.as_fd(), times) {
            // Before Linux 5.8.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                Ok(self.descriptors.change_times(fd, times)?)
            }
            result => Ok(result?),
        }
    }

    /// A SETATTR of nothing: somebody has called chown(2) without a new owner, or is about to write to a file whose
    /// capability the kernel has just removed. Both clear set-user-id bits, but the second not those of a file that root
    /// writes to.
    fn change_nothing(&self, cx: &Context<'_>, inode: &Inode, fd: &HeldFd) -> Result<()> {
        let last = self.capability_removed.lock().take();
        if cx.uid == 0 && last == Some((inode.node, cx.pid)) {
            return Ok(());
        }
        self.kill_bits(cx, fd)?;
        keep_set_id(fd)?;
        change_owner(fd, None, None)
    }

    /// Clears set-user-id and, if the group may execute or the caller neither is in it nor acts for it, set-group-id: what a change by an
    /// ordinary user does, and by root of a user namespace. Whether there were any.
    pub(super) fn kill_bits(&self, cx: &Context<'_>, fd: &impl AsFd) -> Result<bool> {
        let stat = stat::of(fd)?;
        let mode = stat.mode();
        if mode & (libc::S_ISUID | libc::S_ISGID) == 0 || mode & libc::S_IFMT != libc::S_IFREG {
            return Ok(false);
        }
        let mut killed = mode & !libc::S_ISUID;
        if mode & libc::S_ISGID != 0
            && (mode & libc::S_IXGRP != 0
                || !(self.is_member(cx, stat.raw().stx_gid) || capable(cx, CAP_FSETID)))
        {
            killed &= !libc::S_ISGID;
        }
        if killed == mode {
            return Ok(false);
        }
        self.change_mode(fd, killed & 0o7777)?;
        Ok(true)
    }

    pub(super) fn do_readlink(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        out: &mut [u8],
    ) -> Result<usize> {
        let inode = self.host(node)?;
        if inode.kind != libc::S_IFLNK {
            return Err(Errno::EINVAL);
        }
        let len = file::read_link(&*self.fd(&inode)?, out)?;
        let caches = cx.negotiated.flags.contains(InitFlags::CACHE_SYMLINKS);
        if caches && inode.mount.nature != Nature::Local {
            // A link is made with its target and keeps it, but not on these. The kernel holds the page until it has the
            // answer, so this cannot come too early.
            cx.notifier.invalidate_inode(node, 0, 0);
        }
        Ok(len)
    }

    pub(super) fn do_statfs(&self, node: NodeId) -> Result<fuse_kstatfs> {
        let inode = match self.node(node)? {
            Node::Synthetic(_) => Arc::clone(&self.root),
            Node::Host(inode) => inode,
        };
        let fd = self.fd(&inode)?;
        let fs = fstatfs(&*fd)?;
        Ok(fuse_kstatfs {
            blocks: fs.blocks(),
            bfree: fs.blocks_free(),
            bavail: fs.blocks_available(),
            files: fs.files(),
            ffree: fs.files_free(),
            bsize: u32::try_from(fs.optimal_transfer_size()).unwrap_or(4096),
            namelen: u32::try_from(fs.maximum_name_length()).unwrap_or(255),
            frsize: u32::try_from(fs.block_size()).unwrap_or(4096),
            ..fuse_kstatfs::default()
        })
    }

    /// The host inode of `node`, which is about to be changed.
    ///
    /// # Errors
    /// `EROFS` in a read-only view, `EBUSY` for a synthetic inode.
    pub(super) fn host_to_change(&self, node: NodeId) -> Result<Arc<Inode>> {
        match self.node(node)? {
            _ if self.access == Access::ReadOnly => Err(Errno::EROFS),
            Node::Synthetic(_) => Err(Errno::EBUSY),
            Node::Host(inode) => Ok(inode),
        }
    }
}

/// Makes the host leave the set-id bits of what is behind `fd`, if there are any: to change how it treats them costs more than
/// to look.
fn keep_set_id(fd: &impl AsFd) -> Result<()> {
    if stat::of(fd)?.mode() & (libc::S_ISUID | libc::S_ISGID) != 0 {
        treat_set_id(SetId::Keep)?;
    }
    Ok(())
}

/// Changes the owner, and if there is none to change the time of the last change.
fn change_owner(fd: &impl AsFd, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    Ok(fchownat(fd, "", uid, gid, AtFlags::AT_EMPTY_PATH)?)
}

/// Whether nothing is to be changed.
fn is_empty(set: &SetAttr) -> bool {
    let SetAttr {
        mode,
        uid,
        gid,
        size,
        atime,
        mtime,
        ..
    } = set;
    mode.is_none()
        && uid.is_none()
        && gid.is_none()
        && size.is_none()
        && atime.is_none()
        && mtime.is_none()
}

fn timespec(time: Option<SetTime>) -> libc::timespec {
    match time {
        None => libc::timespec {
            tv_sec: 0,
            tv_nsec: libc::UTIME_OMIT,
        },
        Some(SetTime::Now) => libc::timespec {
            tv_sec: 0,
            tv_nsec: libc::UTIME_NOW,
        },
        Some(SetTime::At(seconds, nanoseconds)) => libc::timespec {
            tv_sec: seconds,
            tv_nsec: i64::from(nanoseconds.min(999_999_999)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_come_back() {
        for (major, minor) in [(0, 0), (8, 1), (259, 7), (0xfff, 0xf_ffff), (1, 0x12345)] {
            assert_eq!(decode_device(encode_device(major, minor)), (major, minor));
        }
    }

    #[test]
    fn times_before_1970_keep_their_sign() {
        let time = timespec(Some(SetTime::At(-1, 5)));
        assert_eq!((time.tv_sec, time.tv_nsec), (-1, 5));
    }
}
