//! UNLINK, RMDIR, RENAME, LINK: names of inodes that exist.

use std::ffi::OsStr;
use std::sync::Arc;

use nix::errno::Errno as Sys;
use nix::fcntl::{AtFlags, RenameFlags, renameat2};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use super::PassthroughFs;
use super::creds::{Maker, acting_as};
use super::inode::{HeldFd, Inode, Key, Place};
use super::lookup::check_name;
use super::policy::Ownership;
use crate::engine::{Context, Entry, Errno, NodeId, Result};
use crate::sys::stat::{self, Automount};

/// A known inode one of whose names is about to go away, held meanwhile.
struct Leaving {
    inode: Arc<Inode>,
    fd: Arc<HeldFd>,
}

impl PassthroughFs {
    /// The host directory `parent`, whose entry `name` is about to be removed or replaced; if it is hidden, `hidden` says
    /// how that looks.
    fn dir_of(&self, parent: NodeId, name: &OsStr, hidden: Errno) -> Result<Arc<Inode>> {
        check_name(name)?;
        let inode = self.host_to_change(parent)?;
        if self.overlay.in_host(inode.overlay, name).is_some() {
            return Err(Errno::EBUSY);
        }
        self.refuse_hidden(&inode, name, hidden)?;
        Ok(inode)
    }

    /// The known inode `name` in `parent`.
    fn known(&self, dir: &HeldFd, name: &OsStr) -> Option<Arc<Inode>> {
        let found = stat::at(dir, name, Automount::Leave).ok()?;
        self.table
            .peek(&Key::of(&found))
            .filter(|inode| inode.resembles(&found))
    }

    /// Gets hold of the inode `name` in `parent`, in case it cannot be found any more without that name. As long as
    /// every known inode has its descriptor there is nothing to do.
    fn before_leaving(&self, parent: &Inode, dir: &HeldFd, name: &OsStr) -> Option<Leaving> {
        if parent.mount.has_handles() && !self.descriptors.has_closed() {
            return None;
        }
        let inode = self.known(dir, name)?;
        let fd = self.fd(&inode).ok()?;
        Some(Leaving { inode, fd })
    }

    /// The name is gone for good: the inode keeps its descriptor until the kernel forgets it or it gets a name again.
    fn left(leaving: Option<Leaving>) {
        if let Some(Leaving { inode, fd }) = leaving {
            let mut ways = inode.ways.lock();
            ways.place = None;
            ways.fd.get_or_insert(fd);
        }
    }

    /// The inode has a new name.
    fn moved(leaving: Option<Leaving>, parent: &Arc<Inode>, name: &OsStr) {
        if let Some(Leaving { inode, fd }) = leaving {
            let mut ways = inode.ways.lock();
            if !inode.mount.has_handles() {
                ways.place = Some(Box::new(Place {
                    parent: Arc::clone(parent),
                    name: name.into(),
                }));
            }
            drop(ways);
            drop(fd);
        }
    }

    pub(super) fn do_unlink(
        &self,
        parent: NodeId,
        name: &OsStr,
        flags: UnlinkatFlags,
    ) -> Result<()> {
        let parent = self.dir_of(parent, name, Errno::ENOENT)?;
        let dir = self.fd(&parent)?;
        if matches!(flags, UnlinkatFlags::RemoveDir)
            && !self.overlay.is_empty()
            && self
                .known(&dir, name)
                .is_some_and(|inode| inode.overlay != 0)
        {
            return Err(Errno::ENOTEMPTY);
        }
        let leaving = self.before_leaving(&parent, &dir, name);
        unlinkat(&*dir, name, flags)?;
        PassthroughFs::left(leaving);
        Ok(())
    }

    pub(super) fn do_rename(
        &self,
        cx: &Context<'_>,
        from: (NodeId, &OsStr),
        to: (NodeId, &OsStr),
        flags: u32,
    ) -> Result<()> {
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
        let old_parent = self.dir_of(from.0, from.1, Errno::ENOENT)?;
        let new_parent = self.dir_of(to.0, to.1, Errno::EACCES)?;
        let (old_dir, new_dir) = (self.fd(&old_parent)?, self.fd(&new_parent)?);
        let moving = self.before_leaving(&old_parent, &old_dir, from.1);
        let replaced = self.before_leaving(&new_parent, &new_dir, to.1);
        let rename = || Ok(renameat2(&*old_dir, from.1, &*new_dir, to.1, flags)?);
        let whiteout = flags.contains(RenameFlags::RENAME_WHITEOUT);
        let renamed = match self.whiteout_maker(cx).filter(|_| whiteout) {
            Some(maker) => acting_as(&maker, rename),
            None => rename(),
        };
        if renamed.is_err() && whiteout {
            // The host may have made the whiteout and removed it again, which the directories' times show.
            cx.notifier.expire_attributes_of_used(from.0);
            cx.notifier.expire_attributes_of_used(to.0);
        }
        renamed?;
        PassthroughFs::moved(moving, &new_parent, to.1);
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            PassthroughFs::moved(replaced, &old_parent, from.1);
        } else {
            PassthroughFs::left(replaced);
        }
        Ok(())
    }

    /// Who makes the whiteout of a rename; nobody known on a mount that allows id mapping.
    fn whiteout_maker(&self, cx: &Context<'_>) -> Option<Maker> {
        let (uid, gid) = match self.ownership {
            Ownership::Caller => (
                self.id_map.uids.host(cx.uid)?,
                self.id_map.gids.host(cx.gid)?,
            ),
            Ownership::User { uid, gid } => (uid, gid),
        };
        Some(Maker::new(uid, gid, 0, std::iter::empty()))
    }

    pub(super) fn do_link(&self, node: NodeId, parent: NodeId, name: &OsStr) -> Result<Entry> {
        let inode = self.host(node)?;
        let parent = match self.dir_of(parent, name, Errno::EACCES) {
            Err(Errno::EBUSY) => return Err(Errno::EEXIST),
            result => result?,
        };
        let (fd, dir) = (self.fd(&inode)?, self.fd(&parent)?);
        match linkat(&*fd, "", &*dir, name, AtFlags::AT_EMPTY_PATH) {
            // Without CAP_DAC_READ_SEARCH.
            Err(Sys::ENOENT) => self.descriptors.link(&*fd, &*dir, name)?,
            result => result?,
        }
        {
            let mut ways = inode.ways.lock();
            if !inode.mount.has_handles() && ways.place.is_none() {
                ways.place = Some(Box::new(Place {
                    parent: Arc::clone(&parent),
                    name: name.into(),
                }));
            }
        }
        let stat = stat::of(&*fd)?;
        if inode.node != NodeId::ROOT && !self.table.retain(inode.node) {
            return Err(Errno::ESTALE);
        }
        Ok(self.entry(&parent, &inode, &stat))
    }
}
