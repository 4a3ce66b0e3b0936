//! The place of one thread that serves requests: which request it has, and whether that one was given up.
//!
//! A request is answered exactly once: whoever wants to answer it must [`claim`](Place::claim) it first, the thread that
//! serves it or the monitor that gives it up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::context::Seat;
use super::dev::Device;
use super::metrics::{CacheEvent, CacheEvents, Recorder};
use super::pool::Pool;
use crate::sys::scheduling::{self, ThreadState};
use crate::sys::uring::Exposed;

/// No request; the kernel never uses this number.
const NONE: u64 = 0;

/// Where the request of a place came from, and so where it must be answered.
pub(super) enum Desk {
    /// A descriptor of `/dev/fuse`.
    Device(Arc<Device>),
    /// A ring entry. It lies here while a request is in service, for whoever claims that.
    Ring(Mutex<Option<Exposed>>),
}

/// State of one serving thread, shared with the monitor and with the thread that reads INTERRUPT requests.
pub(super) struct Place {
    /// The request in service, until it is claimed.
    unique: AtomicU64,
    /// When it was read, in nanoseconds since the pool started; 0 while the thread waits for a request.
    since: AtomicU64,
    /// How many requests were served here.
    served: AtomicU64,
    /// The request that is, or was last, in service.
    current: AtomicU64,
    /// The request that the kernel asked to interrupt last.
    interrupted: AtomicU64,
    /// Counted as blocked: another thread fetches in its place.
    away: AtomicBool,
    /// Somebody is on the way to answer the request on behalf of the thread.
    relief: AtomicBool,
    /// The thread runs only if nobody else wants to; changed with the lock, so that the thread and the monitor agree.
    back: AtomicBool,
    policy: Mutex<()>,
    /// Thread id of the caller of the request, 0 if it is not known.
    caller: AtomicU32,
    /// Thread id, for signals.
    thread: AtomicI32,
    /// The team of the thread.
    pub(super) team: usize,
    /// Where its requests are answered.
    pub(super) desk: Desk,
    /// Measurements of this thread.
    pub(super) recorder: Mutex<Recorder>,
    /// What the answers of this thread say about the kernel's caches.
    pub(super) cache: CacheEvents,
}

impl Place {
    pub(super) fn new(team: usize, desk: Desk) -> Place {
        Place {
            unique: AtomicU64::new(NONE),
            since: AtomicU64::new(0),
            served: AtomicU64::new(0),
            current: AtomicU64::new(NONE),
            interrupted: AtomicU64::new(NONE),
            away: AtomicBool::new(false),
            relief: AtomicBool::new(false),
            back: AtomicBool::new(false),
            policy: Mutex::default(),
            caller: AtomicU32::new(0),
            thread: AtomicI32::new(0),
            team,
            desk,
            recorder: Mutex::new(Recorder::new()),
            cache: CacheEvents::default(),
        }
    }

    /// The calling thread takes this place.
    pub(super) fn sit_down(&self) {
        self.thread
            .store(crate::sys::thread::id(), Ordering::Relaxed);
    }

    /// Starts to serve request `unique` of `caller`, read at `since`.
    pub(super) fn begin(&self, unique: u64, caller: u32, since: u64) {
        self.caller.store(caller, Ordering::Relaxed);
        self.current.store(unique, Ordering::Relaxed);
        self.relief.store(false, Ordering::Relaxed);
        self.since.store(since.max(1), Ordering::Relaxed);
        self.unique.store(unique, Ordering::SeqCst);
    }

    /// The request left the thread. Returns whether it was counted as blocked.
    pub(super) fn end(&self) -> bool {
        self.unique.store(NONE, Ordering::Release);
        self.since.store(0, Ordering::Relaxed);
        self.served.store(self.served() + 1, Ordering::Relaxed);
        self.away.swap(false, Ordering::AcqRel)
    }

    /// Takes the right and the duty to answer `unique`; false if somebody else has it.
    pub(super) fn claim(&self, unique: u64) -> bool {
        self.unique
            .compare_exchange(unique, NONE, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Says that somebody is on the way to answer on behalf of the thread; false if that was said before.
    pub(super) fn call_relief(&self) -> bool {
        !self.relief.swap(true, Ordering::Relaxed)
    }

    /// Nobody is on the way after all.
    pub(super) fn send_relief_away(&self) {
        self.relief.store(false, Ordering::Relaxed);
    }

    /// The request that is in service and not yet answered.
    pub(super) fn serving(&self) -> Option<u64> {
        Some(self.unique.load(Ordering::SeqCst)).filter(|unique| *unique != NONE)
    }

    /// Since when the thread serves its request.
    pub(super) fn since(&self) -> Option<u64> {
        Some(self.since.load(Ordering::Relaxed)).filter(|since| *since != 0)
    }

    /// How many requests were served here.
    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Counts the thread as blocked; false if it was already.
    pub(super) fn mark_away(&self) -> bool {
        !self.away.swap(true, Ordering::AcqRel)
    }

    /// Whether the thread is counted as blocked.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Counts the thread as not blocked; false if it was not.
    pub(super) fn mark_back(&self) -> bool {
        self.away.swap(false, Ordering::AcqRel)
    }

    /// Whether the thread runs only if nobody else wants to.
    pub(super) fn stands_back(&self) -> bool {
        self.back.load(Ordering::Relaxed)
    }

    /// Makes the thread run only if nobody else wants to, unless it blocks.
    pub(super) fn stand_back(&self) {
        let _policy = self.policy.lock();
        let thread = self.thread.load(Ordering::Relaxed);
        if !self.is_away() && thread != 0 && scheduling::stand_back(thread, true).is_ok() {
            self.back.store(true, Ordering::Relaxed);
        }
    }

    /// Makes the thread run as others do. What it starts from now on does so, too, once it counts as blocked.
    pub(super) fn come_forward(&self) {
        let _policy = self.policy.lock();
        if self.back.swap(false, Ordering::Relaxed) {
            let thread = self.thread.load(Ordering::Relaxed);
            if let Err(error) = scheduling::stand_back(thread, false) {
                tracing::debug!(%error, "a thread cannot come forward");
            }
        }
    }

    /// Whether the thread wants to run.
    pub(super) fn state(&self) -> io::Result<ThreadState> {
        ThreadState::of(self.thread.load(Ordering::Relaxed))
    }

    /// The request in service if its caller has a signal that ends the wait for it, and the kernel may have lost the
    /// interrupt that belongs to that.
    pub(super) fn abandoned(&self) -> Option<u64> {
        if !matches!(self.desk, Desk::Ring(_)) || self.interrupted() {
            return None;
        }
        let unique = self.serving()?;
        match self.caller.load(Ordering::Relaxed) {
            // A process this server does not see, or none.
            0 => None,
            caller => crate::sys::process::has_pending_signal(caller).then_some(unique),
        }
    }

    /// Remembers that `unique` shall be interrupted, and interrupts the system call it is in.
    pub(super) fn interrupt(&self, unique: u64) {
        self.interrupted.store(unique, Ordering::SeqCst);
        self.signal();
    }

    /// Whether the request in service shall be interrupted; still true when it was given up.
    pub(super) fn interrupted(&self) -> bool {
        let current = self.current.load(Ordering::Relaxed);
        current != NONE && self.interrupted.load(Ordering::Relaxed) == current
    }

    /// Makes a blocking system call of the thread return `EINTR`.
    pub(super) fn signal(&self) {
        match self.thread.load(Ordering::Relaxed) {
            0 => {}
            thread => crate::sys::thread::interrupt(thread),
        }
    }
}

/// A place in a pool: what a method sees of it.
pub(super) struct PooledSeat<'a> {
    pub(super) place: &'a Place,
    pub(super) pool: &'a Arc<Pool>,
}

impl Seat for PooledSeat<'_> {
    fn leave(&self) -> bool {
        if !self.place.mark_away() {
            return true;
        }
        self.place.come_forward();
        self.pool.went_away(self.place.team)
    }

    fn rejoin(&self) {
        if self.place.mark_back() {
            self.pool.came_back(self.place.team);
        }
    }

    fn interrupted(&self) -> bool {
        self.place.interrupted()
    }

    fn given_up(&self) -> bool {
        self.place.serving().is_none() || self.pool.is_over()
    }

    fn count(&self, event: CacheEvent) {
        self.place.cache.count(event, 1);
    }
}

/// Nanoseconds since `start`.
pub(super) fn nanoseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
