//! What a file system method may know about the request it serves.

use std::fs::File;
use std::sync::Arc;

use super::backing::Backings;
use super::base::Root;
use super::carrier::Carrier;
use super::metrics::CacheEvent;
use super::negotiate::Negotiated;
use super::{Durability, Errno, Medium, Notifier, Result};
use crate::sys::file;

/// The queue's side of a request that is about to block; implemented by the transports.
pub trait Seat: Sync {
    /// The calling thread is about to block for long: let another thread fetch requests in its place. False if no
    /// thread would be left to fetch.
    fn leave(&self) -> bool;
    /// The calling thread is done blocking.
    fn rejoin(&self);
    /// Whether the kernel asked to interrupt the request in service.
    fn interrupted(&self) -> bool;
    /// Whether nobody waits any more for what the calling thread does: the request was answered on its behalf, or the
    /// session is over.
    fn given_up(&self) -> bool;
    /// Counts what the answer to the request says about the kernel's caches.
    fn count(&self, event: CacheEvent);
}

/// The caller of a request, and what was negotiated with the kernel.
///
/// `uid`, `gid` and `pid` are those of the calling thread (file system ids), in the user and pid namespace the file
/// system was mounted in. On a mount that allows id mapping they are `u32::MAX` for requests that create nothing.
pub struct Context<'a> {
    /// Identifies the request on its connection; unique while it is in service.
    pub unique: u64,
    /// File system user id of the caller.
    pub uid: u32,
    /// File system group id of the caller.
    pub gid: u32,
    /// Thread id of the caller, 0 if it is not visible in the mounter's pid namespace.
    pub pid: u32,
    /// What this session and the kernel agreed on.
    pub negotiated: &'a Negotiated,
    /// Tells the kernel about changes it did not make; never blocks on the kernel.
    pub notifier: &'a Notifier,
    /// Registers files that the kernel reads and writes by itself; `None` if that was not negotiated.
    pub backings: Option<&'a Arc<Backings>>,
    pub(super) root: Root,
    pub(super) carrier: &'a Carrier,
    pub(super) seat: &'a dyn Seat,
}

impl Context<'_> {
    /// Runs `job`, which may block for long (an fsync), without holding up other requests: another thread fetches
    /// them meanwhile. `job` should return `EINTR` when a system call in it is interrupted; the engine interrupts it
    /// with a signal when the kernel asks for it.
    pub fn block_in_place<R>(&self, job: impl FnOnce() -> R) -> R {
        let _away = Away::from(self.seat);
        job()
    }

    /// Brings `file`, which is on `medium`, to the disk, without holding up other requests. An interrupt alone does
    /// not end it: whoever syncs a file does not expect that. An error that came too late for a request that was given
    /// up is told by the next sync of the file.
    ///
    /// # Errors
    /// Those of fsync(2); `EINTR` if the request was given up.
    pub fn sync(&self, file: &Arc<File>, what: Durability, medium: Medium) -> Result<()> {
        if medium.is_immediate() {
            return Ok(file::sync(file, what)?);
        }
        let _away = Away::from(self.seat);
        self.carrier
            .sync(file, what, medium, || self.seat.given_up())
    }

    /// As [`block_in_place`](Self::block_in_place), for a wait without an end in sight (a lock).
    ///
    /// # Errors
    /// `ENOLCK` if so many requests wait that nobody would be left to serve the others; those of `job`.
    pub fn wait_in_place<R>(&self, job: impl FnOnce() -> Result<R>) -> Result<R> {
        let replaced = self.seat.leave();
        let _away = Away(self.seat);
        if replaced { job() } else { Err(Errno::ENOLCK) }
    }

    /// Whether the kernel asked to interrupt this request: a loop that waits should end with `EINTR`.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.seat.interrupted()
    }

    /// Counts what the answer to this request says about the kernel's caches. Costs next to nothing. Only
    /// [`CacheEvent::FirstLookup`] and [`CacheEvent::RepeatedLookup`] are for file systems: the engine sees the rest.
    pub fn count(&self, event: CacheEvent) {
        self.seat.count(event);
    }
}

/// The thread has left its seat; it is counted as running again at the end of this, also after a panic.
pub(super) struct Away<'a>(&'a dyn Seat);

impl<'a> Away<'a> {
    /// Leaves `seat`.
    pub(super) fn from(seat: &'a dyn Seat) -> Away<'a> {
        seat.leave();
        Away(seat)
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.0.rejoin();
    }
}

/// Stands in for a session in tests of file systems.
#[cfg(test)]
pub(crate) struct Detached {
    negotiated: Negotiated,
    notifier: std::sync::Arc<Notifier>,
    carrier: Carrier,
}

#[cfg(test)]
impl Detached {
    /// With a kernel that offers everything, but wants directories opened.
    pub(crate) fn new() -> Detached {
        use fuse_proto::flags::InitFlags;
        let flags = InitFlags::all() - InitFlags::NO_OPENDIR_SUPPORT;
        Detached::of(fuse_proto::FUSE_KERNEL_MINOR_VERSION, flags)
    }

    /// With a kernel of the version 7.`minor` that has `flags` only.
    pub(crate) fn of(minor: u32, flags: fuse_proto::flags::InitFlags) -> Detached {
        let negotiated = Negotiated {
            minor,
            flags,
            offered: fuse_proto::flags::InitFlags::all(),
            max_write: 1 << 17,
            max_pages: 32,
            max_readahead: 1 << 17,
            max_background: 12,
        };
        let nowhere = std::fs::File::options()
            .write(true)
            .open("/dev/null")
            .expect("/dev/null");
        let device = super::dev::Device::new(nowhere.into());
        let notifier = Arc::new(Notifier::new(&negotiated, Root::Plain, device));
        Detached {
            negotiated,
            notifier,
            carrier: Carrier::idle(),
        }
    }

    /// What would be told to the kernel.
    pub(crate) fn notifier(&self) -> &std::sync::Arc<Notifier> {
        &self.notifier
    }

    /// The outcome of a hand-shake.
    pub(crate) fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// A request of the user `uid` and the group `gid`.
    pub(crate) fn context(&self, uid: u32, gid: u32) -> Context<'_> {
        Context {
            unique: 1,
            uid,
            gid,
            pid: 1,
            negotiated: &self.negotiated,
            notifier: &self.notifier,
            backings: None,
            root: Root::Plain,
            carrier: &self.carrier,
            seat: self,
        }
    }
}

#[cfg(test)]
impl Seat for Detached {
    fn leave(&self) -> bool {
        true
    }

    fn rejoin(&self) {}

    fn interrupted(&self) -> bool {
        false
    }

    fn given_up(&self) -> bool {
        false
    }

    fn count(&self, _event: CacheEvent) {}
}
