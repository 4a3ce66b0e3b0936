//! OPEN, FLUSH, RELEASE, and the host's files behind what is open.
//!
//! Caching is close-to-open: an open keeps the kernel's cached pages only if the file looks as it did at the open before, and only
//! if its last change is longer ago than the granularity of its times, so that a second change could not look the same.
//! Files of pseudo file systems are never cached.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuse_proto::flags::OpenFlags;
use nix::fcntl::OFlag;

use super::create::OPEN_FLAGS;
use super::creds::{SetId, treat_set_id};
use super::descriptors::{keep_if_changed, kept_by_open};
use super::handle::{Handle, Object};
use super::inode::{DataWay, Fingerprint, HeldFd, Inode};
use super::lookup::Node;
use super::mounts::Nature;
use super::policy::{CachePolicy, SyntheticKind};
use super::shares::Claim;
use super::{Access, AccessTimes, PassthroughFs};
use crate::engine::{BackingFile, Context, Errno, FileHandle, NodeId, Opened, Result};
use crate::sys::file;
use crate::sys::stat::{self, Stat};

/// A file changed less than this ago may change again without its times showing it.
const GRANULARITY: Duration = Duration::from_millis(20);

impl PassthroughFs {
    /// Opens `inode` on the host, so that reading does not touch its access time if that is to be kept.
    pub(super) fn open_host(&self, inode: &Arc<Inode>, flags: OFlag) -> Result<OwnedFd> {
        let fd = self.fd(inode)?;
        if self.access_times == AccessTimes::Keep {
            match self
                .descriptors
                .reopen(fd.as_fd(), flags | OFlag::O_NOATIME)
            {
                Err(nix::errno::Errno::EPERM) => (),
                result => return Ok(result?),
            }
        }
        Ok(self.descriptors.reopen(fd.as_fd(), flags)?)
    }

    pub(super) fn do_open(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        flags: u32,
        kill_suidgid: bool,
    ) -> Result<Opened> {
        let writes =
            flags as i32 & libc::O_ACCMODE != libc::O_RDONLY || flags as i32 & libc::O_TRUNC != 0;
        match self.node(node)? {
            _ if writes && self.access == Access::ReadOnly => Err(Errno::EROFS),
            Node::Host(inode) => self.open_inode(cx, &inode, flags, kill_suidgid),
            Node::Synthetic(_) if writes => Err(Errno::EROFS),
            Node::Synthetic(index) if self.overlay.kind(index) == SyntheticKind::Directory => {
                Err(Errno::EISDIR)
            }
            Node::Synthetic(_) => {
                let fh = self.handles.insert(Handle {
                    inode: None,
                    object: Object::Synthetic,
                    held: None,
                    claim: self.descriptors.claim_nothing(),
                });
                Ok(Opened {
                    fh,
                    flags: OpenFlags::KEEP_CACHE,
                    backing_id: 0,
                })
            }
        }
    }

    /// Opens a regular file; anything else is never opened, because that alone would have effects.
    pub(super) fn open_inode(
        &self,
        cx: &Context<'_>,
        inode: &Arc<Inode>,
        flags: u32,
        kill_suidgid: bool,
    ) -> Result<Opened> {
        match inode.kind {
            libc::S_IFREG => (),
            libc::S_IFDIR => return Err(Errno::EISDIR),
            libc::S_IFLNK => return Err(Errno::ELOOP),
            _ => return Err(Errno::ENXIO),
        }
        let requested = OFlag::from_bits_retain(flags as i32);
        let truncate = requested & OFlag::O_TRUNC;
        let reads = requested & OFlag::O_ACCMODE == OFlag::O_RDONLY && truncate.is_empty();
        let held = self.fd(inode)?;
        let backing = self.through(cx, inode, &held, None);
        if let Some(backing) = &backing
            && reads
        {
            let claim = match inode.mount.has_handles() {
                true => self.descriptors.claim_nothing(),
                // It keeps that of the inode.
                false => self.descriptors.claim(0)?,
            };
            return Ok(self.opened_through(inode, backing, held, None, requested, claim));
        }
        let claim = self.descriptors.claim(1)?;
        if !truncate.is_empty() && backing.is_none() {
            treat_set_id(SetId::Keep)?;
        }
        // The host says whether it can be written to: the kernel would say EIO for any reason not to.
        let file = self.open_host(inode, (requested & OPEN_FLAGS) | truncate)?;
        if !truncate.is_empty()
            && Self::must_kill_bits(cx, kill_suidgid)
            && self.kill_bits(cx, &file)?
        {
            // The kernel goes on with the mode it knows, and might execute the file with its owner's rights.
            cx.notifier.invalidate_inode(inode.node, -1, 0);
        }
        let stat = stat::of(&file)?;
        keep_if_changed(inode, &held, &stat);
        Ok(match backing {
            Some(backing) => {
                self.opened_through(inode, &backing, held, Some(file), requested, claim)
            }
            None => self.opened_relayed(inode, held, file, requested, &stat, claim),
        })
    }

    /// Hands out `file`, the open `inode`, which was just made, by the right of `claim`.
    pub(super) fn opened(
        &self,
        cx: &Context<'_>,
        inode: &Arc<Inode>,
        file: OwnedFd,
        flags: u32,
        stat: &Stat,
        claim: Claim,
    ) -> Result<Opened> {
        let requested = OFlag::from_bits_retain(flags as i32);
        let held = self.fd(inode)?;
        Ok(match self.through(cx, inode, &held, Some(stat)) {
            Some(backing) => {
                self.opened_through(inode, &backing, held, Some(file), requested, claim)
            }
            None => self.opened_relayed(inode, held, file, requested, stat, claim),
        })
    }

    /// Hands out an open file that the kernel reads and writes by itself.
    fn opened_through(
        &self,
        inode: &Arc<Inode>,
        backing: &Arc<BackingFile>,
        held: Arc<HeldFd>,
        file: Option<OwnedFd>,
        requested: OFlag,
        claim: Claim,
    ) -> Opened {
        let mut flags = OpenFlags::PASSTHROUGH;
        // Closing what was open for writing ends locks of fcntl(2); that of a file that could only be read locked, and
        // whose lock keeps nobody from reading, may wait until nobody has it open. So may those of the open file that has
        // made the file, which is seldom shared.
        if file.is_none() || requested.contains(OFlag::O_EXCL) {
            flags |= OpenFlags::NOFLUSH;
        }
        let object = Object::File {
            file: file.map_or_else(OnceLock::new, |file| OnceLock::from(Arc::new(file.into()))),
            flags: (requested & OPEN_FLAGS).bits(),
            append: AtomicBool::new(requested.contains(OFlag::O_APPEND)),
            _through: Some(Arc::clone(backing)),
        };
        Opened {
            fh: self.hand_out(inode, object, held, claim),
            flags,
            backing_id: backing.id(),
        }
    }

    /// Hands out an open file whose data travels by requests.
    fn opened_relayed(
        &self,
        inode: &Arc<Inode>,
        held: Arc<HeldFd>,
        file: OwnedFd,
        requested: OFlag,
        stat: &Stat,
        claim: Claim,
    ) -> Opened {
        let flags = match inode.mount.nature {
            Nature::Pseudo => OpenFlags::DIRECT_IO | OpenFlags::PARALLEL_DIRECT_WRITES,
            // Through the page cache a write across a page may become two requests, and what a host process appends
            // could come between them.
            _ if requested.contains(OFlag::O_APPEND)
                && self.maps_direct.load(Ordering::Relaxed) =>
            {
                OpenFlags::DIRECT_IO
            }
            _ if self.is_unchanged(inode, stat) => OpenFlags::KEEP_CACHE,
            _ => OpenFlags::empty(),
        };
        let object = Object::File {
            file: OnceLock::from(Arc::new(file.into())),
            flags: (requested & OPEN_FLAGS).bits(),
            append: AtomicBool::new(requested.contains(OFlag::O_APPEND)),
            _through: None,
        };
        Opened {
            fh: self.hand_out(inode, object, held, claim),
            flags,
            backing_id: 0,
        }
    }

    /// Gives the open `inode` a number.
    fn hand_out(
        &self,
        inode: &Arc<Inode>,
        object: Object,
        held: Arc<HeldFd>,
        claim: Claim,
    ) -> FileHandle {
        let handle = Handle {
            inode: Some(Arc::clone(inode)),
            object,
            held: kept_by_open(inode, held),
            claim,
        };
        if handle.writable().is_some() {
            inode.writers.fetch_add(1, Ordering::SeqCst);
        }
        self.handles.insert(handle)
    }

    /// The host's open file of `handle`; opened now if the kernel reads it by itself and nothing else was needed. Where
    /// no further file can be kept open it is another one each time.
    ///
    /// # Errors
    /// `EBADF` for a directory or a synthetic file; those of open(2).
    pub(super) fn host_file(&self, handle: &Handle) -> Result<Arc<File>> {
        self.open_file(handle).map(|(file, _)| file)
    }

    /// The host's open file of `handle`, always the same one.
    ///
    /// # Errors
    /// As [`host_file`](Self::host_file); `EMFILE` if no further file can be kept open.
    pub(super) fn kept_file(&self, handle: &Handle) -> Result<Arc<File>> {
        let (file, kept) = self.open_file(handle)?;
        kept.map(|()| file)
    }

    /// The host's open file of `handle`, and whether that keeps it, or why not.
    fn open_file(&self, handle: &Handle) -> Result<(Arc<File>, Result<()>)> {
        let Object::File { file, flags, .. } = &handle.object else {
            return Err(Errno::EBADF);
        };
        if let Some(file) = file.get() {
            return Ok((Arc::clone(file), Ok(())));
        }
        let held = match &handle.held {
            Some(held) => Arc::clone(held),
            None => self.fd(handle.inode.as_ref().ok_or(Errno::EBADF)?)?,
        };
        let flags = OFlag::from_bits_retain(*flags);
        let claim = self.descriptors.claim(1);
        let opened = Arc::new(self.descriptors.reopen(held.as_fd(), flags)?.into());
        let claim = match claim {
            Ok(claim) => claim,
            Err(errno) => return Ok((opened, Err(errno))),
        };
        let kept = file.get_or_init(|| {
            handle.claim.absorb(claim);
            opened
        });
        Ok((Arc::clone(kept), Ok(())))
    }

    /// Whether the contents of `inode` are what they were at the open before.
    fn is_unchanged(&self, inode: &Inode, stat: &Stat) -> bool {
        let now = Fingerprint::of(stat);
        let mut ways = inode.ways.lock();
        if !matches!(ways.data, DataWay::Relayed(_)) {
            ways.data = DataWay::Relayed(None);
        }
        let DataWay::Relayed(before) = &mut ways.data else {
            unreachable!("it was just set");
        };
        let same = before.as_deref() == Some(&now);
        if !same {
            match before.as_mut() {
                Some(fingerprint) => **fingerprint = now,
                None => *before = Some(Box::new(now)),
            }
        }
        let changed = Duration::from_nanos(stat.changed().max(stat.modified()).max(0) as u64);
        let clock = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let settled = clock.saturating_sub(changed) > GRANULARITY;
        if !settled {
            // The next open cannot tell either whether this one saw the last change.
            *before = None;
        }
        same && settled && self.cache != CachePolicy::Strict
    }

    pub(super) fn do_flush(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        owner: u64,
    ) -> Result<()> {
        self.locks.drop_owner(node, owner);
        let handle = self.handles.get(fh)?;
        let remote = handle
            .inode
            .as_ref()
            .is_some_and(|inode| inode.mount.nature == Nature::Remote);
        if !remote || handle.writable().is_none() {
            return Ok(());
        }
        // Closing a copy reports errors of delayed writes, as closing the file itself would.
        let copy = self.host_file(&handle)?.as_fd().try_clone_to_owned()?;
        Ok(cx.block_in_place(|| nix::unistd::close(copy))?)
    }

    pub(super) fn do_release(&self, node: NodeId, fh: FileHandle, flock_owner: Option<u64>) {
        self.locks.drop_handle(node, fh);
        let Some(handle) = self.handles.remove(fh) else {
            return;
        };
        if let (Some(_), Some(file)) = (flock_owner, handle.opened()) {
            // A transport may still hold the file for a read in flight.
            let _ = file::flock(file.as_fd(), libc::LOCK_UN);
        }
        let written = handle.inode.clone().zip(handle.writable().cloned());
        drop(handle);
        if let Some((inode, file)) = written
            && inode.writers.fetch_sub(1, Ordering::SeqCst) == 1
        {
            let was_fresh = inode.fresh.swap(false, Ordering::SeqCst);
            if inode.mount.is_covered() {
                self.watch.unmute(&inode, &*file);
                if was_fresh {
                    self.watch.announce(&inode);
                } else {
                    drop(file);
                    // What closing it did on the host, and what was written without asking the server.
                    self.watch.invalidate(node);
                }
            }
        }
    }
}
