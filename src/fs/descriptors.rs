//! Descriptors of inodes, not more than a budget of them.
//!
//! An inode is held by an `O_PATH` descriptor as long as there are few. Beyond the budget, those that were not used for
//! longest (second chance) are closed; the inode is found again by its file handle or, on file systems without handles that can be opened, by
//! the name it was last seen under, and checked to be the same. A file that has lost its last name cannot be found by
//! name and may not be found by handle: it keeps its descriptor.
//!
//! What is open keeps descriptors, too, and takes them from the inodes, but for the [`Shares`] that are nobody's to keep.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{SysconfVar, linkat, sysconf};
use parking_lot::Mutex;

use super::inode::{HeldFd, Inode, Key, Ways};
use super::shares::{Claim, Shares};
use super::table::Table;
use crate::engine::{Errno, FileHandle, NodeId, Result};
use crate::sys::handle::Handle;
use crate::sys::stat;

/// How an inode is opened to be held.
pub const HOLD: OFlag = OFlag::O_PATH
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// How many directories may be between an inode and one that can be opened. Names that the host has changed could lead
/// round in a circle.
const DEPTH: usize = 1 << 16;

/// How many descriptors one request looks at to find some to close.
const EFFORT: usize = 64;

/// How many it looks at before nothing more can be opened.
const LAST_EFFORT: usize = 4096;

/// The descriptors held for inodes.
pub struct Descriptors {
    shares: Shares,
    held: Arc<AtomicUsize>,
    /// What is open may keep so many.
    claimed: Arc<AtomicUsize>,
    /// Inodes with a descriptor, the one to look at next in front.
    ring: Mutex<VecDeque<NodeId>>,
    /// Where they are found; those that the kernel has forgotten are not.
    table: Arc<Table>,
    /// `/proc/self/fd`.
    proc: OwnedFd,
    /// An inode had its descriptor closed at some time.
    closed: AtomicBool,
}

/// What saves a descriptor from being closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chance {
    /// That it was used since it was looked at before.
    Second,
    /// Only that it is being used.
    Last,
}

/// What becomes of the descriptor of a deleted inode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It stays.
    Kept,
    /// It is closed if the file handle can be opened: that can be done as long as somebody has the inode open.
    FoundByHandle,
    /// It is closed: the inode cannot be found again.
    GivenUp,
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
    /// At most `budget` descriptors for the inodes in `table`; by default half of what the process may have.
    pub fn new(budget: Option<usize>, table: &Arc<Table>) -> io::Result<Descriptors> {
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let cpus = sysconf(SysconfVar::_NPROCESSORS_CONF)?;
        let shares = Shares::of(
            usize::try_from(limit).unwrap_or(usize::MAX),
            cpus.and_then(|cpus| cpus.try_into().ok()).unwrap_or(1),
            budget,
        );
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let proc = nix::fcntl::open("/proc/self/fd", flags, Mode::empty())?;
        Ok(Descriptors {
            shares,
            held: Arc::default(),
            claimed: Arc::default(),
            ring: Mutex::default(),
            table: Arc::clone(table),
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

    /// Who may have how many.
    pub fn shares(&self) -> Shares {
        self.shares
    }

    /// The right to keep `number` descriptors open, and that of an inode, which counts as those of other inodes do.
    ///
    /// # Errors
    /// `EMFILE` if so many files are open that it would take what is reserved.
    pub fn claim(&self, number: usize) -> Result<Claim> {
        let claim = Claim::new(&self.claimed, number);
        let claimed = self.claimed.load(Ordering::Relaxed);
        if claimed + self.shares.floor > self.shares.most {
            return Err(Errno::EMFILE);
        }
        self.press(LAST_EFFORT);
        if self.held() > self.room() {
            return Err(Errno::EMFILE);
        }
        Ok(claim)
    }

    /// What needs no descriptor.
    pub fn claim_nothing(&self) -> Claim {
        Claim::new(&self.claimed, 0)
    }

    /// What is open leaves so many for inodes.
    fn room(&self) -> usize {
        let claimed = self.claimed.load(Ordering::Relaxed);
        let left = self.shares.most.saturating_sub(claimed);
        left.max(self.shares.floor)
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

    /// Sets the permission bits of what `fd` stands for.
    ///
    /// # Errors
    /// Those of chmod(2).
    pub fn change_mode(&self, fd: &impl AsFd, mode: Mode) -> nix::Result<()> {
        let follow = FchmodatFlags::FollowSymlink;
        fchmodat(
            &self.proc,
            ProcName::of(fd.as_fd()).as_os_str(),
            mode,
            follow,
        )
    }

    /// Sets access and modification time of what `fd` stands for.
    ///
    /// # Errors
    /// Those of utimensat(2).
    pub fn change_times(&self, fd: &impl AsFd, times: &[libc::timespec; 2]) -> nix::Result<()> {
        let (access, modification) = (
            TimeSpec::from_timespec(times[0]),
            TimeSpec::from_timespec(times[1]),
        );
        let follow = UtimensatFlags::FollowSymlink;
        utimensat(
            &self.proc,
            ProcName::of(fd.as_fd()).as_os_str(),
            &access,
            &modification,
            follow,
        )
    }

    /// Gives the file that `fd` stands for the length `size`.
    ///
    /// # Errors
    /// Those of truncate(2).
    pub fn truncate(&self, fd: &impl AsFd, size: i64) -> nix::Result<()> {
        let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
        nix::unistd::truncate(path.as_str(), size)
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
                self.close(self.held().saturating_sub(EFFORT), 2 * EFFORT, Chance::Last);
                open()
            }
            result => result,
        }
    }

    /// Says that `inode` has a descriptor now, and closes others if that makes too many. To be called without any lock.
    pub fn enroll(&self, inode: &Arc<Inode>) {
        let mut ring = self.ring.lock();
        if ring.len() > 2 * self.held() + 1024 {
            ring.retain(|node| self.table.contains(*node));
        }
        ring.push_back(inode.node);
        drop(ring);
        self.close(self.shares.budget, 2 * EFFORT, Chance::Second);
        self.press(2 * EFFORT);
    }

    /// Closes descriptors, also of inodes that are in use, if there are more than what is open leaves room for. At most
    /// `effort` are looked at.
    fn press(&self, effort: usize) {
        let room = self.room();
        if self.held() > room {
            self.close(room, effort, Chance::Last);
        }
    }

    /// Of the next inodes with a descriptor, those whose last name is gone: they take up disk space until the kernel
    /// forgets them, which it does not do by itself if the host has deleted them.
    pub fn deleted(&self, effort: usize) -> Vec<NodeId> {
        let count = self.ring.lock().len().min(effort);
        let mut deleted = Vec::new();
        for _ in 0..count {
            let Some(candidate) = self.ring.lock().pop_front() else {
                break;
            };
            let Some(inode) = self.table.get(candidate) else {
                continue;
            };
            let fd = inode.ways.lock().fd.clone();
            let Some(fd) = fd else { continue };
            if stat::of(&*fd).is_ok_and(|stat| stat.nlink() == 0) {
                deleted.push(inode.node);
            }
            self.ring.lock().push_back(candidate);
        }
        deleted
    }

    /// Closes descriptors until at most `target` are held, as far as that goes by looking at `effort` of them.
    fn close(&self, target: usize, effort: usize, chance: Chance) {
        // Deleted files cannot be found again. They are let go soon (see `deleted`); where that does not work, those that
        // nobody has open are given up before descriptors run out.
        let (held, budget) = (self.held(), self.shares.budget);
        let gives_up = held > budget + budget / 2 || held > self.room() + self.shares.floor;
        for _ in 0..effort {
            if self.held() <= target {
                return;
            }
            let Some(candidate) = self.ring.lock().pop_front() else {
                return;
            };
            let Some(inode) = self.table.get(candidate) else {
                continue;
            };
            // Before the descriptor goes, so that nobody relies on it who has not seen this.
            self.closed.store(true, Ordering::SeqCst);
            let referenced = inode.referenced.swap(false, Ordering::Relaxed);
            let stays = referenced && chance == Chance::Second;
            // The table has it, and so have we; who has it open does, too.
            let deleted = match Arc::strong_count(&inode) > 2 {
                true if chance == Chance::Last => Deleted::FoundByHandle,
                false if gives_up => Deleted::GivenUp,
                _ => Deleted::Kept,
            };
            if stays || !release(&inode, deleted) {
                self.ring.lock().push_back(candidate);
            }
        }
    }
}

/// Closes the descriptor of `inode` if it can be found again without it and nobody is using it; of one that was deleted
/// as `deleted` says.
pub fn release(inode: &Inode, deleted: Deleted) -> bool {
    let Some(mut ways) = inode.ways.try_lock() else {
        return false;
    };
    let Some(fd) = &ways.fd else { return true };
    if Arc::strong_count(fd) > 1 {
        return false;
    }
    let Ok(stat) = stat::of(&**fd) else {
        return false;
    };
    // Without a name it may not be found; with another identity (a file of an overlay that was copied up) neither.
    match (stat.nlink() > 0, deleted) {
        (false, Deleted::Kept) => return false,
        (false, Deleted::GivenUp) => {
            ways.fd = None;
            return true;
        }
        _ if !inode.resembles(&stat) => return false,
        _ => (),
    }
    if inode.mount.has_handles() && ways.handle.is_none() {
        ways.handle = Handle::of(&**fd).ok();
    }
    if stat.nlink() == 0 {
        let opens = |handle| inode.mount.open(handle, HOLD.bits()).is_ok();
        if !ways.handle.as_ref().is_some_and(opens) {
            return false;
        }
    } else if ways.handle.is_none() && ways.place.is_none() {
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
                Err(_) if below.len() == DEPTH => return Err(Errno::ESTALE),
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

    /// A descriptor of `inode`; of its open file if it cannot be found any more.
    pub(super) fn fd_or_open_file(
        &self,
        inode: &Arc<Inode>,
        fh: Option<FileHandle>,
    ) -> Result<Arc<HeldFd>> {
        let errno = match self.fd(inode) {
            Err(errno @ (Errno::ESTALE | Errno::ENOENT)) => errno,
            result => return result,
        };
        let handle = fh.and_then(|fh| self.handles.get(fh).ok()).ok_or(errno)?;
        if !handle
            .inode
            .as_ref()
            .is_some_and(|other| Arc::ptr_eq(other, inode))
        {
            return Err(errno);
        }
        let fd = self.descriptors.reopen(handle.any()?, OFlag::O_PATH)?;
        let fd = self.descriptors.hold(fd);
        // It has no name and no usable handle: from now on it keeps this descriptor.
        Ok(Arc::clone(inode.ways.lock().fd.get_or_insert(fd)))
    }

    /// Whether the inode that `fd` was opened for is `inode`; if so, that has a descriptor afterwards.
    pub(super) fn adopt(
        &self,
        inode: &Arc<Inode>,
        fd: Arc<HeldFd>,
        stat: &stat::Stat,
    ) -> std::result::Result<(), Arc<HeldFd>> {
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
                .is_none_or(|handle| Handle::of(&*fd).is_ok_and(|other| other == *handle));
        if !same {
            return Err(fd);
        }
        ways.fd = Some(fd);
        drop(ways);
        self.descriptors.enroll(inode);
        Ok(())
    }
}

/// What keeps `inode`, held by `held`, as long as it is open: where file handles cannot be opened it would be lost when its
/// last name goes.
pub fn kept_by_open(inode: &Inode, held: Arc<HeldFd>) -> Option<Arc<HeldFd>> {
    (!inode.mount.has_handles()).then_some(held)
}

/// Keeps the descriptor `fd` of `inode` if that looks like another inode now and could not be recognised by name: an
/// overlay gives a file a new birth time when it copies it up for its first change.
pub fn keep_if_changed(inode: &Inode, fd: &Arc<HeldFd>, stat: &stat::Stat) {
    if !inode.mount.has_handles() && !inode.resembles(stat) {
        inode.ways.lock().fd.get_or_insert_with(|| Arc::clone(fd));
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
