//! Descriptors of inodes, not more than a budget of them.
//!
//! An inode is held by an `O_PATH` descriptor as long as there are few. Beyond the budget, those that were not used for
//! longest (second chance) are closed; the inode is found again by its file handle or, on file systems without handles that can be opened, by
//! the name it was last seen under, and checked to be the same. A file that has lost its last name cannot be found by
//! name and may not be found by handle: it keeps its descriptor.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;
use nix::unistd::linkat;
use parking_lot::Mutex;

use super::inode::{HeldFd, Inode, Key, Ways};
use crate::engine::{Errno, Result};
use crate::sys::handle::Handle;
use crate::sys::stat;

/// How an inode is opened to be held.
pub const HOLD: OFlag = OFlag::O_PATH
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// How many descriptors one request looks at to find some to close.
const EFFORT: usize = 64;

/// The descriptors held for inodes.
pub struct Descriptors {
    budget: usize,
    held: Arc<AtomicUsize>,
    /// Inodes with a descriptor, the one to look at next in front.
    ring: Mutex<VecDeque<Weak<Inode>>>,
    /// `/proc/self/fd`.
    proc: OwnedFd,
    /// An inode had its descriptor closed at some time.
    closed: AtomicBool,
}

/// The name of a descriptor in `/proc/self/fd`.
struct ProcName {
    digits: [u8; 12],
    len: usize,
}

impl ProcName {
    fn of(fd: BorrowedFd<'_>) -> ProcName {
        let mut digits = [0_u8; 12];
        let mut rest = &mut digits[..];
        // The longest number has 10 digits.
        let _ = io::Write::write_fmt(&mut rest, format_args!("{}", fd.as_raw_fd()));
        let len = 12 - rest.len();
        ProcName { digits, len }
    }

    fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.digits[..self.len])
    }
}

impl Descriptors {
    /// At most `budget` descriptors; by default half of what the process may have.
    pub fn new(budget: Option<usize>) -> io::Result<Descriptors> {
        let budget = match budget {
            Some(budget) => budget,
            None => {
                let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
                usize::try_from(soft / 2).unwrap_or(usize::MAX).min(500_000)
            }
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let proc = nix::fcntl::open("/proc/self/fd", flags, Mode::empty())?;
        Ok(Descriptors {
            budget,
            held: Arc::default(),
            ring: Mutex::default(),
            proc,
            closed: AtomicBool::new(false),
        })
    }

    /// Number of descriptors open for inodes.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// `/proc/self/fd`.
    pub fn proc(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }

    /// Whether there may be inodes without a descriptor.
    pub fn has_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Counts `fd` from now on.
    pub fn hold(&self, fd: OwnedFd) -> Arc<HeldFd> {
        HeldFd::new(fd, &self.held)
    }

    /// Opens what `fd`, maybe an `O_PATH` descriptor, stands for.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlag) -> nix::Result<OwnedFd> {
        let name = ProcName::of(fd);
        let flags = (flags - OFlag::O_NOFOLLOW) | OFlag::O_CLOEXEC;
        self.retry(|| openat(&self.proc, name.as_os_str(), flags, Mode::empty()))
    }

    /// Makes the name `name` in `dir` for what `fd` stands for.
    ///
    /// # Errors
    /// Those of linkat(2).
    pub fn link(&self, fd: &impl AsFd, dir: &impl AsFd, name: &OsStr) -> nix::Result<()> {
        linkat(
            &self.proc,
            ProcName::of(fd.as_fd()).as_os_str(),
            dir,
            name,
            AtFlags::AT_SYMLINK_FOLLOW,
        )
    }

    /// Opens the inode `name` in `dir` to hold it.
    ///
    /// # Errors
    /// Those of openat(2).
    pub fn open_held<P: nix::NixPath + ?Sized>(
        &self,
        dir: &impl AsFd,
        name: &P,
    ) -> nix::Result<OwnedFd> {
        self.retry(|| openat(dir, name, HOLD, Mode::empty()))
    }

    /// Runs `open`, once more after closing some descriptors if there are no free ones.
    pub fn retry<T>(&self, open: impl Fn() -> nix::Result<T>) -> nix::Result<T> {
        match open() {
            Err(nix::errno::Errno::EMFILE | nix::errno::Errno::ENFILE) => {
                self.shrink(self.held().saturating_sub(EFFORT));
                open()
            }
            result => result,
        }
    }

    /// Says that `inode` has a descriptor now, and closes others if that makes too many. To be called without any lock.
    pub fn enroll(&self, inode: &Arc<Inode>) {
        let mut ring = self.ring.lock();
        if ring.len() > 2 * self.held() + 1024 {
            ring.retain(|inode| inode.strong_count() > 0);
        }
        ring.push_back(Arc::downgrade(inode));
        drop(ring);
        self.shrink(self.budget);
    }

    /// Closes descriptors until at most `target` are held, as far as that goes with reasonable effort.
    fn shrink(&self, target: usize) {
        for _ in 0..2 * EFFORT {
            if self.held() <= target {
                return;
            }
            let Some(candidate) = self.ring.lock().pop_front() else {
                return;
            };
            let Some(inode) = candidate.upgrade() else {
                continue;
            };
            // Before the descriptor goes, so that nobody relies on it who has not seen this.
            self.closed.store(true, Ordering::SeqCst);
            if inode.referenced.swap(false, Ordering::Relaxed) || !release(&inode) {
                self.ring.lock().push_back(candidate);
            }
        }
    }
}

/// Closes the descriptor of `inode` if it can be found again without it.
fn release(inode: &Inode) -> bool {
    let Some(mut ways) = inode.ways.try_lock() else {
        return false;
    };
    let Some(fd) = &ways.fd else { return true };
    if !stat::of(&**fd).is_ok_and(|stat| stat.nlink() > 0) {
        return false;
    }
    if inode.mount.has_handles() && ways.handle.is_none() {
        ways.handle = Handle::of(&**fd).ok();
    }
    if ways.handle.is_none() && ways.place.is_none() {
        return false;
    }
    ways.fd = None;
    true
}

impl super::PassthroughFs {
    /// A descriptor of `inode`.
    pub(super) fn fd(&self, inode: &Arc<Inode>) -> Result<Arc<HeldFd>> {
        if let Some(fd) = open_already(inode, &inode.ways.lock()) {
            return Ok(fd);
        }
        // Directories that are only known by name, up to one that can be opened.
        let mut below = Vec::new();
        let mut current = Arc::clone(inode);
        let mut fd = loop {
            match self.fd_itself(&current)? {
                Ok(fd) => break fd,
                Err(parent) => below.push(std::mem::replace(&mut current, parent)),
            }
        };
        for inode in below.iter().rev() {
            fd = self.fd_by_name(inode, &fd)?;
        }
        Ok(fd)
    }

    /// A descriptor of `inode`, or the directory it has to be looked for in.
    fn fd_itself(
        &self,
        inode: &Arc<Inode>,
    ) -> Result<std::result::Result<Arc<HeldFd>, Arc<Inode>>> {
        let mut ways = inode.ways.lock();
        if let Some(fd) = open_already(inode, &ways) {
            return Ok(Ok(fd));
        }
        let Some(handle) = &ways.handle else {
            let place = ways.place.as_ref().ok_or(Errno::ESTALE)?;
            return Ok(Err(Arc::clone(&place.parent)));
        };
        let open = || inode.mount.open(handle, HOLD.bits()).map_err(errno_of);
        let fd = self.descriptors.hold(self.descriptors.retry(open)?);
        ways.fd = Some(Arc::clone(&fd));
        drop(ways);
        self.descriptors.enroll(inode);
        Ok(Ok(fd))
    }

    /// Opens `inode` by its name in `parent`, its place's directory.
    fn fd_by_name(&self, inode: &Arc<Inode>, parent: &Arc<HeldFd>) -> Result<Arc<HeldFd>> {
        let mut ways = inode.ways.lock();
        if let Some(fd) = open_already(inode, &ways) {
            return Ok(fd);
        }
        let place = ways.place.as_ref().ok_or(Errno::ESTALE)?;
        let fd = match self.descriptors.open_held(&**parent, &*place.name) {
            Ok(fd) => fd,
            Err(nix::errno::Errno::ENOENT) => return Err(Errno::ESTALE),
            Err(errno) => return Err(errno.into()),
        };
        if !inode.resembles(&stat::of(&fd)?) {
            return Err(Errno::ESTALE);
        }
        let fd = self.descriptors.hold(fd);
        ways.fd = Some(Arc::clone(&fd));
        drop(ways);
        self.descriptors.enroll(inode);
        Ok(fd)
    }

    /// Whether the inode that `fd` was opened for is `inode`; if so, that has a descriptor afterwards.
    pub(super) fn adopt(
        &self,
        inode: &Arc<Inode>,
        fd: OwnedFd,
        stat: &stat::Stat,
    ) -> std::result::Result<(), OwnedFd> {
        debug_assert_eq!(inode.key, Key::of(stat));
        let mut ways = inode.ways.lock();
        inode.referenced.store(true, Ordering::Relaxed);
        if ways.fd.is_some() {
            // Both are open, so the number cannot have been reused.
            return Ok(());
        }
        let same = inode.resembles(stat)
            && ways
                .handle
                .as_ref()
                .is_none_or(|handle| Handle::of(&fd).is_ok_and(|other| other == *handle));
        if !same {
            return Err(fd);
        }
        ways.fd = Some(self.descriptors.hold(fd));
        drop(ways);
        self.descriptors.enroll(inode);
        Ok(())
    }
}

/// The descriptor if there is one.
fn open_already(inode: &Inode, ways: &Ways) -> Option<Arc<HeldFd>> {
    inode.referenced.store(true, Ordering::Relaxed);
    ways.fd.clone()
}

fn errno_of(error: io::Error) -> nix::errno::Errno {
    nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
