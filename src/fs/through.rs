//! Kernel passthrough: regular files that the kernel reads and writes by itself once they are open.
//!
//! The kernel wants all opens of an inode to be of one kind, so that is decided at the first one: passed through, with
//! one registered file for all of them, or relayed. Files of pseudo file systems, whose contents are made up by reading, and
//! of remote ones, whose other side looks at the ids, are relayed; so is what the kernel refuses (a stack of file
//! systems that is too high, a server without privileges). So are files with set-id bits: what is written by the kernel
//! itself always clears those, but root may write to such a file and keep them.
//!
//! A registered file is kept for a while after its last open, since opening it again is cheap then. It is let go when
//! the kernel forgets the inode, when the file is deleted, and by the next but one look of the housekeeping.
//!
//! The kernel does its reading and writing with the credentials that registered the file: the ids of its owner, which is
//! who may go beyond limits of space if anybody may, without `CAP_FSETID`, so that the host clears set-user-id bits, and
//! through a mount that keeps access times if reading shall leave none.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use parking_lot::Mutex;

use super::creds::{self, Maker, SetId};
use super::inode::{DataWay, HeldFd, Inode};
use super::mounts::Nature;
use super::{AccessTimes, PassthroughFs};
use crate::engine::{BackingFile, Backings, Context};
use crate::sys::handle::Handle;
use crate::sys::stat::{self, Stat};

/// Registered files that nobody has open at most; the one that was registered first goes first.
const IDLE: usize = 4096;

/// How late the kernel may say that a file is closed.
const CLOSING: Duration = Duration::from_millis(20);

/// Inodes with a registered file.
#[derive(Default)]
pub struct Registered {
    /// Since the last look of the housekeeping, and before it.
    generations: Mutex<[VecDeque<Weak<Inode>>; 2]>,
}

impl Registered {
    fn add(&self, inode: &Arc<Inode>) {
        let mut generations = self.generations.lock();
        generations[0].push_back(Arc::downgrade(inode));
        if generations[0].len() <= IDLE {
            return;
        }
        let first = generations[0].pop_front();
        drop(generations);
        if let Some(inode) = first.and_then(|inode| inode.upgrade())
            && !let_go(&inode)
        {
            self.generations.lock()[1].push_back(Arc::downgrade(&inode));
        }
    }

    /// Lets go of files that nobody has open and that were registered before the last look.
    pub fn tend(&self) {
        let mut generations = self.generations.lock();
        let old = std::mem::take(&mut generations[1]);
        generations[1] = std::mem::take(&mut generations[0]);
        drop(generations);
        let used: Vec<_> = old
            .into_iter()
            .filter_map(|inode| inode.upgrade())
            .filter(|inode| !let_go(inode))
            .map(|inode| Arc::downgrade(&inode))
            .collect();
        self.generations.lock()[1].extend(used);
    }

    /// Inodes with a registered file, at most.
    pub fn len(&self) -> usize {
        self.generations.lock().iter().map(VecDeque::len).sum()
    }
}

/// Lets go of the registered file of `inode` unless it is open; false if it is.
fn let_go(inode: &Inode) -> bool {
    let before = {
        let mut ways = inode.ways.lock();
        if ways.data.is_open() {
            return false;
        }
        match ways.data {
            DataWay::Through(_) | DataWay::Expiring(_) => std::mem::take(&mut ways.data),
            DataWay::Undecided | DataWay::Relayed(_) => return true,
        }
    };
    // Without the lock: the kernel closes the host's file.
    drop(before);
    true
}

/// Waits for the kernel to say that `inode` is closed if it is passed through: it says so some time after close(2) has
/// returned, and what was opened before then would be written to as a file without set-id bits. A file that is open for
/// longer stays what it is.
pub fn await_closing(cx: &Context<'_>, inode: &Inode) {
    let is_open = || inode.ways.lock().data.is_open();
    if !is_open() {
        return;
    }
    cx.block_in_place(|| {
        let deadline = Instant::now() + CLOSING;
        while is_open() && Instant::now() < deadline {
            thread::sleep(CLOSING / 100);
        }
    });
}

/// The next time nobody has `inode` open, how the kernel gets at its data is decided anew.
pub fn decide_anew(inode: &Inode) {
    if !let_go(inode) {
        let mut ways = inode.ways.lock();
        if let DataWay::Through(file) = &ways.data {
            ways.data = DataWay::Expiring(Arc::clone(file));
        }
    }
}

impl PassthroughFs {
    /// The registered file of the regular file `inode`, which is held by `held` and was `seen` just now, perhaps; `None` if
    /// its data is relayed.
    pub(super) fn through(
        &self,
        cx: &Context<'_>,
        inode: &Arc<Inode>,
        held: &HeldFd,
        seen: Option<&Stat>,
    ) -> Option<Arc<BackingFile>> {
        let backings = cx.backings.filter(|_| self.passes_through)?;
        let mut ways = inode.ways.lock();
        match &ways.data {
            DataWay::Relayed(_) => None,
            DataWay::Through(file) => Some(Arc::clone(file)),
            DataWay::Expiring(file) if ways.data.is_open() => Some(Arc::clone(file)),
            DataWay::Undecided | DataWay::Expiring(_) => {
                let registered = match inode.mount.nature {
                    Nature::Local => self.register(backings, inode, held, seen),
                    Nature::Pseudo | Nature::Remote => Err(io::ErrorKind::Unsupported.into()),
                };
                match registered {
                    Ok(file) => {
                        let file = Arc::new(file);
                        ways.data = DataWay::Through(Arc::clone(&file));
                        drop(ways);
                        self.registered.add(inode);
                        Some(file)
                    }
                    Err(_) => {
                        ways.data = DataWay::Relayed(None);
                        None
                    }
                }
            }
        }
    }

    fn register(
        &self,
        backings: &Arc<Backings>,
        inode: &Inode,
        held: &HeldFd,
        seen: Option<&Stat>,
    ) -> io::Result<BackingFile> {
        let stat = seen.map_or_else(|| stat::of(held), |stat| Ok(*stat))?;
        if stat.mode() & (libc::S_ISUID | libc::S_ISGID) != 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let owner = Maker::owner(stat.raw().stx_uid, stat.raw().stx_gid);
        let register = |file: &dyn AsFd| {
            let registered = creds::acting_as(&owner, || {
                creds::treat_set_id(SetId::Clear)?;
                Ok(backings.register(file.as_fd()))
            });
            registered.map_err(|errno| io::Error::from_raw_os_error(errno.get()))?
        };
        match self.access_times {
            AccessTimes::Host => register(held),
            AccessTimes::Keep => register(&self.quiet(inode, held)?),
        }
    }

    /// `inode`, opened through a mount on which reading changes no access times.
    fn quiet(&self, inode: &Inode, held: &HeldFd) -> io::Result<OwnedFd> {
        let reopen = |fd: &OwnedFd| {
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
            Ok(self.descriptors.reopen(fd.as_fd(), flags)?)
        };
        inode.mount.open_quietly(&Handle::of(held)?, reopen)
    }
}
