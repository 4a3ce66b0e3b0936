//! GETLK, SETLK, SETLKW: locks that host processes see, and theirs that we see.
//!
//! A lock of fcntl(2) belongs to a process, and closing any descriptor of the file drops it: none of that can be left to
//! the server's own descriptors. Each (inode, owner) has an open file description of its own instead, locked by
//! `F_OFD_*`, which conflict with ordinary locks as those do with each other; it is closed when the owner closes the file (FLUSH).
//! Of some open files the kernel only tells that nobody has them any more (RELEASE), some time later: then what was locked
//! through them ends. A lock of flock(2) is taken on the open file it was asked for.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuse_proto::fuse_file_lock;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use parking_lot::Mutex;

use super::handle::Handle;
use super::shares::Claim;
use super::{Access, PassthroughFs};
use crate::engine::{Context, Errno, FileHandle, LockRequest, NodeId, Result};
use crate::sys::file;

/// What an owner has locked.
struct Owner {
    file: File,
    /// The right to keep it.
    _claim: Claim,
    pid: u32,
    /// The open files it asked through.
    through: Mutex<Vec<FileHandle>>,
    ranges: Mutex<Vec<Range>>,
}

/// What is locked, both ends inclusive.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
    /// The open file it was asked for through.
    through: FileHandle,
}

impl Owner {
    /// Notes that `lock` was granted, asked for through `fh`.
    fn note(&self, lock: &fuse_file_lock, fh: FileHandle) {
        let mut ranges = self.ranges.lock();
        let mut rest = Vec::with_capacity(ranges.len() + 2);
        for &range in ranges.iter() {
            let Range { start, end, .. } = range;
            if end < lock.start || start > lock.end {
                rest.push(range);
                continue;
            }
            if start < lock.start {
                rest.push(Range {
                    end: lock.start - 1,
                    ..range
                });
            }
            if end > lock.end {
                rest.push(Range {
                    start: lock.end + 1,
                    ..range
                });
            }
        }
        if lock.r#type != libc::F_UNLCK as u32 {
            rest.push(Range {
                start: lock.start,
                end: lock.end,
                through: fh,
            });
        }
        *ranges = rest;
    }

    /// It asks through `fh`, too.
    fn asks_through(&self, fh: FileHandle) {
        let mut through = self.through.lock();
        if !through.contains(&fh) {
            through.push(fh);
        }
    }

    /// Gives up what was asked for through `fh`.
    fn unlock_through(&self, fh: FileHandle) {
        let mut ranges = self.ranges.lock();
        for range in ranges.iter().filter(|range| range.through == fh) {
            let lock = fuse_file_lock {
                start: range.start,
                end: range.end,
                r#type: libc::F_UNLCK as u32,
                pid: 0,
            };
            if let Ok(flock) = to_flock(&lock) {
                let _ = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&flock));
            }
        }
        ranges.retain(|range| range.through != fh);
    }

    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.ranges
            .lock()
            .iter()
            .any(|range| range.start <= end && start <= range.end)
    }
}

/// The owners of locks, by inode.
#[derive(Default)]
pub struct Locks {
    inodes: Mutex<HashMap<NodeId, HashMap<u64, Arc<Owner>>>>,
    /// Number of owners: with none, which is the usual case, closing a file needs no lock.
    owners: AtomicUsize,
}

impl Locks {
    fn get(&self, node: NodeId, owner: u64) -> Option<Arc<Owner>> {
        if self.owners.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.inodes.lock().get(&node)?.get(&owner).cloned()
    }

    /// `owner`, if it is known, which asks through `fh` now. It is noted together with that: it must not end because another
    /// open file was closed before.
    fn join(&self, node: NodeId, owner: u64, fh: FileHandle) -> Option<Arc<Owner>> {
        let inodes = self.inodes.lock();
        let found = inodes.get(&node)?.get(&owner)?;
        found.asks_through(fh);
        Some(Arc::clone(found))
    }

    fn insert(&self, node: NodeId, owner: u64, new: Owner, fh: FileHandle) -> Arc<Owner> {
        let mut inodes = self.inodes.lock();
        let owners = inodes.entry(node).or_default();
        let added = owners.entry(owner).or_insert_with(|| {
            self.owners.fetch_add(1, Ordering::Release);
            Arc::new(new)
        });
        added.asks_through(fh);
        Arc::clone(added)
    }

    /// `owner` gives up all its locks on `node`.
    pub fn drop_owner(&self, node: NodeId, owner: u64) {
        if self.owners.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut inodes = self.inodes.lock();
        let Some(owners) = inodes.get_mut(&node) else {
            return;
        };
        let removed = owners.remove(&owner);
        if owners.is_empty() {
            inodes.remove(&node);
        }
        drop(inodes);
        if removed.is_some() {
            self.owners.fetch_sub(1, Ordering::Release);
        }
    }

    /// The open file `fh` is closed for good. What was locked through it ends now, if no FLUSH has named its owner: locks
    /// of an open file description (`F_OFD_*`), and those of files whose closing the kernel does not tell of.
    pub fn drop_handle(&self, node: NodeId, fh: FileHandle) {
        if self.owners.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut inodes = self.inodes.lock();
        let Some(owners) = inodes.get_mut(&node) else {
            return;
        };
        let mut over = Vec::new();
        owners.retain(|_, owner| {
            let mut through = owner.through.lock();
            let before = through.len();
            through.retain(|other| *other != fh);
            let (asked, ends) = (through.len() < before, through.is_empty());
            drop(through);
            if asked && ends {
                over.push(Arc::clone(owner));
            } else if asked {
                owner.unlock_through(fh);
            }
            !(asked && ends)
        });
        if owners.is_empty() {
            inodes.remove(&node);
        }
        drop(inodes);
        self.owners.fetch_sub(over.len(), Ordering::Release);
    }

    /// The process of ours, other than `owner`, that holds a lock in the range.
    fn holder(&self, node: NodeId, owner: u64, start: u64, end: u64) -> Option<u32> {
        let inodes = self.inodes.lock();
        let others = inodes
            .get(&node)?
            .iter()
            .filter(|(other, _)| **other != owner);
        others
            .map(|(_, other)| other)
            .find(|other| other.overlaps(start, end))
            .map(|other| other.pid)
    }
}

/// `lock` as fcntl(2) takes it.
fn to_flock(lock: &fuse_file_lock) -> Result<libc::flock> {
    let start = i64::try_from(lock.start).map_err(|_| Errno::EOVERFLOW)?;
    // The largest offset means "to the end, however far it moves".
    let len = match i64::try_from(lock.end) {
        Ok(i64::MAX) | Err(_) => 0,
        Ok(end) => end
            .checked_sub(start)
            .and_then(|len| len.checked_add(1))
            .ok_or(Errno::EINVAL)?,
    };
    Ok(libc::flock {
        l_type: lock.r#type as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: len,
        l_pid: 0,
    })
}

impl PassthroughFs {
    /// The open file description that `owner` locks with; made if there is none.
    fn lock_owner(
        &self,
        node: NodeId,
        fh: FileHandle,
        handle: &Handle,
        lock: &LockRequest,
    ) -> Result<Arc<Owner>> {
        if let Some(owner) = self.locks.join(node, lock.owner, fh) {
            return Ok(owner);
        }
        let inode = handle.inode.as_ref().ok_or(Errno::EBADF)?;
        let claim = self.descriptors.claim(1).map_err(no_lock)?;
        let read_only = || self.open_host(inode, OFlag::O_RDONLY | OFlag::O_NONBLOCK);
        let fd = match self.access {
            Access::ReadOnly => read_only()?,
            Access::ReadWrite => {
                // A running program or a read-only mount cannot be opened for writing, but locked for reading.
                self.open_host(inode, OFlag::O_RDWR | OFlag::O_NONBLOCK)
                    .or_else(|_| read_only())?
            }
        };
        let owner = Owner {
            file: fd.into(),
            _claim: claim,
            pid: lock.lock.pid,
            through: Mutex::default(),
            ranges: Mutex::default(),
        };
        Ok(self.locks.insert(node, lock.owner, owner, fh))
    }

    pub(super) fn do_getlk(
        &self,
        node: NodeId,
        fh: FileHandle,
        lock: &LockRequest,
    ) -> Result<fuse_file_lock> {
        let handle = self.handles.get(fh)?;
        let mut flock = to_flock(&lock.lock)?;
        let known = self.locks.get(node, lock.owner);
        match &known {
            Some(owner) => fcntl(&owner.file, FcntlArg::F_OFD_GETLK(&mut flock))?,
            // Nothing is locked on this one, so nothing on it is in its own way.
            None => fcntl(self.host_file(&handle)?, FcntlArg::F_OFD_GETLK(&mut flock))?,
        };
        if i32::from(flock.l_type) == libc::F_UNLCK {
            return Ok(fuse_file_lock {
                r#type: libc::F_UNLCK as u32,
                ..lock.lock
            });
        }
        let start = u64::try_from(flock.l_start).map_err(|_| Errno::EIO)?;
        let end = match flock.l_len {
            0 => i64::MAX as u64,
            len => start + u64::try_from(len).map_err(|_| Errno::EIO)? - 1,
        };
        let pid = match u32::try_from(flock.l_pid) {
            Ok(pid) => pid,
            // A lock of an open file description, maybe one of ours.
            Err(_) => self.locks.holder(node, lock.owner, start, end).unwrap_or(0),
        };
        Ok(fuse_file_lock {
            start,
            end,
            r#type: flock.l_type as u32,
            pid,
        })
    }

    pub(super) fn do_setlk(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        lock: &LockRequest,
    ) -> Result<()> {
        let handle = self.handles.get(fh)?;
        if lock.flock {
            return flock(cx, &*self.kept_file(&handle).map_err(no_lock)?, lock);
        }
        let unlock = lock.lock.r#type == libc::F_UNLCK as u32;
        if unlock && self.locks.get(node, lock.owner).is_none() {
            return Ok(());
        }
        let owner = self.lock_owner(node, fh, &handle, lock)?;
        let flock = to_flock(&lock.lock)?;
        let locked = fcntl(&owner.file, FcntlArg::F_OFD_SETLK(&flock)).map_err(Errno::from);
        match locked {
            Err(Errno::EAGAIN | Errno::EACCES) if lock.wait => {
                waiting(cx, || {
                    Ok(fcntl(&owner.file, FcntlArg::F_OFD_SETLKW(&flock)).map(drop)?)
                })?;
            }
            result => drop(result?),
        }
        owner.note(&lock.lock, fh);
        Ok(())
    }
}

/// What a program is told whose lock would take the last descriptor that can be kept.
fn no_lock(errno: Errno) -> Errno {
    if errno == Errno::EMFILE {
        Errno::ENOLCK
    } else {
        errno
    }
}

/// Takes or gives up a lock of flock(2).
fn flock(cx: &Context<'_>, file: &File, lock: &LockRequest) -> Result<()> {
    let operation = match lock.lock.r#type as i32 {
        libc::F_RDLCK => libc::LOCK_SH,
        libc::F_WRLCK => libc::LOCK_EX,
        libc::F_UNLCK => libc::LOCK_UN,
        _ => return Err(Errno::EINVAL),
    };
    match file::flock(file.as_fd(), operation | libc::LOCK_NB).map_err(Errno::from) {
        Err(Errno::EAGAIN) if lock.wait => {
            waiting(cx, || Ok(file::flock(file.as_fd(), operation)?))
        }
        result => result,
    }
}

/// Runs `wait`, again after a signal that was not meant for this request.
fn waiting(cx: &Context<'_>, wait: impl Fn() -> Result<()>) -> Result<()> {
    cx.wait_in_place(|| {
        loop {
            match wait() {
                Err(Errno::EINTR) if !cx.interrupted() => (),
                result => return result,
            }
        }
    })
}
