//! MKDIR, MKNOD, SYMLINK, CREATE, TMPFILE: new inodes, which belong to the caller.
//!
//! The mode goes to the host unmasked and the thread has the caller's umask, so that the host applies it exactly if
//! the directory has no default ACL.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno as Sys;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, makedev, mkdirat, mknodat};
use nix::unistd::symlinkat;

use super::PassthroughFs;
use super::attr::decode_device;
use super::creds::{Maker, SetId, acting_as, treat_set_id};
use super::inode::{HeldFd, Inode, Key};
use super::lookup::check_name;
use crate::engine::{Context, Creation, Entry, Errno, NodeId, Opened, Result};
use crate::sys::stat::{self, Automount};

/// Flags of open(2) that reach the host's open(2). `O_DIRECT` does not: the kernel's requests have their own
/// alignment, and the host's page cache keeps both sides coherent.
pub const OPEN_FLAGS: OFlag = OFlag::O_ACCMODE
    .union(OFlag::O_APPEND)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_SYNC)
    .union(OFlag::O_DSYNC)
    .union(OFlag::O_NOATIME);

impl PassthroughFs {
    /// The host directory `parent`, in which the new name `name` is to be made.
    fn dir_for(&self, parent: NodeId, name: &OsStr) -> Result<Arc<Inode>> {
        check_name(name)?;
        let inode = match self.host_to_change(parent) {
            // Nothing can be made in a synthetic directory; programs know how to deal with a read-only one.
            Err(Errno::EBUSY) => return Err(Errno::EROFS),
            result => result?,
        };
        if self.overlay.in_host(inode.overlay, name).is_some() {
            return Err(Errno::EEXIST);
        }
        // It is not there, and cannot be made.
        self.refuse_hidden(&inode, name, Errno::EACCES)?;
        Ok(inode)
    }

    /// Who makes what `creation` describes, with the mode it says.
    fn maker_of(&self, cx: &Context<'_>, creation: &Creation<'_>) -> Result<Maker> {
        if creation.mode & libc::S_ISGID != 0 {
            treat_set_id(SetId::Keep)?;
        }
        self.maker(cx, creation)
    }

    /// Makes something as the caller and looks it up.
    fn make(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        creation: &Creation<'_>,
        job: impl FnOnce(&HeldFd) -> nix::Result<()>,
    ) -> Result<Entry> {
        let inode = self.dir_for(parent, name)?;
        let dir = self.fd(&inode)?;
        acting_as(&self.maker_of(cx, creation)?, || Ok(job(&dir)?))?;
        let (child, stat) = self.walk(&inode, &*dir, name, Automount::Leave)?;
        Ok(self.entry(&inode, &child, &stat))
    }

    pub(super) fn do_mkdir(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        creation: &Creation<'_>,
    ) -> Result<Entry> {
        let mode = Mode::from_bits_truncate(creation.mode & 0o7777);
        self.make(cx, parent, name, creation, |dir| mkdirat(dir, name, mode))
    }

    pub(super) fn do_mknod(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        creation: &Creation<'_>,
    ) -> Result<Entry> {
        let mode = Mode::from_bits_truncate(creation.mode & 0o7777);
        let kind = SFlag::from_bits_truncate(creation.mode & libc::S_IFMT);
        let (major, minor) = decode_device(creation.rdev);
        let device = makedev(u64::from(major), u64::from(minor));
        self.make(cx, parent, name, creation, |dir| {
            mknodat(dir, name, kind, mode, device)
        })
    }

    pub(super) fn do_symlink(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        target: &CStr,
        creation: &Creation<'_>,
    ) -> Result<Entry> {
        self.make(cx, parent, name, creation, |dir| {
            symlinkat(target, dir, name)
        })
    }

    pub(super) fn do_create(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
        flags: u32,
        creation: &Creation<'_>,
    ) -> Result<(Entry, Opened)> {
        let inode = self.dir_for(parent, name)?;
        let dir = self.fd(&inode)?;
        let claim = self.descriptors.claim(1)?;
        let maker = self.maker_of(cx, creation)?;
        let requested = OFlag::from_bits_retain(flags as i32);
        // With O_EXCL always: otherwise the host might follow a link, or open a FIFO, that has come up meanwhile.
        let open = (requested & OPEN_FLAGS)
            | OFlag::O_CREAT
            | OFlag::O_EXCL
            | OFlag::O_NOFOLLOW
            | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(creation.mode & 0o7777);
        let file = acting_as(&maker, || {
            Ok(self.descriptors.retry(|| openat(&*dir, name, open, mode)))
        });
        let file = match file? {
            Ok(file) => file,
            Err(Sys::EEXIST) if !requested.contains(OFlag::O_EXCL) => {
                drop(claim);
                let (child, stat) = self.walk(&inode, &*dir, name, Automount::Leave)?;
                return match self.open_inode(cx, &child, flags, creation.kill_suidgid) {
                    Ok(opened) => Ok((self.entry(&inode, &child, &stat), opened)),
                    Err(errno) => {
                        self.do_forget(child.node, 1);
                        Err(errno)
                    }
                };
            }
            Err(errno) => return Err(errno.into()),
        };
        let made = stat::of(&file)?;
        let same = |fd: &OwnedFd| stat::of(fd).is_ok_and(|seen| Key::of(&seen) == Key::of(&made));
        let child = match self.descriptors.open_held(&*dir, name) {
            Ok(fd) if same(&fd) => self.intern(fd, &made, Some((&inode, name)))?,
            _ => {
                // Somebody has removed or replaced it already.
                let fd = self.descriptors.reopen(file.as_fd(), OFlag::O_PATH)?;
                self.intern(fd, &made, None)?
            }
        };
        match self.opened(cx, &child, file, flags, &made, claim) {
            Ok(opened) => {
                let writes = requested & OFlag::O_ACCMODE != OFlag::O_RDONLY;
                child.fresh.store(writes, Ordering::SeqCst);
                Ok((self.entry(&inode, &child, &made), opened))
            }
            Err(errno) => {
                self.do_forget(child.node, 1);
                Err(errno)
            }
        }
    }

    pub(super) fn do_tmpfile(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        flags: u32,
        creation: &Creation<'_>,
    ) -> Result<(Entry, Opened)> {
        let inode = match self.host_to_change(parent) {
            Err(Errno::EBUSY) => return Err(Errno::EROFS),
            result => result?,
        };
        let dir = self.fd(&inode)?;
        let claim = self.descriptors.claim(1)?;
        let maker = self.maker_of(cx, creation)?;
        let requested = OFlag::from_bits_retain(flags as i32);
        let open = (requested & (OPEN_FLAGS | OFlag::O_EXCL)) | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(creation.mode & 0o7777);
        let file = acting_as(&maker, || {
            Ok(self.descriptors.retry(|| openat(&*dir, ".", open, mode))?)
        })?;
        let made = stat::of(&file)?;
        let fd = self.descriptors.reopen(file.as_fd(), OFlag::O_PATH)?;
        let child = self.intern(fd, &made, None)?;
        match self.opened(cx, &child, file, flags, &made, claim) {
            Ok(opened) => Ok((self.entry(&inode, &child, &made), opened)),
            Err(errno) => {
                self.do_forget(child.node, 1);
                Err(errno)
            }
        }
    }
}
