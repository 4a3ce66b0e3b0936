//! Coherent caches: what the host changes behind the mount's back is told to the kernel.
//!
//! fanotify(7) reports what happens on the file systems that known inodes are on, `/proc/self/mountinfo` what is mounted
//! and unmounted. A thread turns that into notifications. What was asked about a *covered* mount may be cached until then.
//!
//! | module | what it is |
//! |---|---|
//! | `mod` | which file systems are marked, and whether an answer may be trusted for long |
//! | `thread` | the thread: when it reads, what it tells the kernel, what happens if it cannot go on |
//! | `gather` | the events of some milliseconds, each thing once |
//! | `numbers` | inode numbers in file handles |
//! | `resolve` | from file handles to what inodes are found by |
//! | `mountings` | names that lead elsewhere because of a mount |
//!
//! # Why an answer is never stale for good
//!
//! An answer is old when the kernel takes it: the host may change the file in between. Three cases:
//!
//! * The events are taken up before the answer is made. Then [`Watch::trust`] denies it any life: it is
//!   asked since when the answer is true, and a thread that takes up events says so first, looks for the inode after.
//! * They are taken up after the kernel has the answer: then it drops it.
//! * In between, the kernel does not let the notification overtake attributes (it counts versions) nor names that
//!   are looked up for the first time (it holds the directory), but it does so with a name that is looked up again, and
//!   with an inode that it does not know yet. So what was asked for less than [`TRUST`] ago is told about once more after
//!   that time, and an answer that took longer than half of it is not trusted.

mod gather;
mod mountings;
pub(super) mod numbers;
pub(super) mod resolve;
mod thread;

pub use mountings::unescape;

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::{Mutex, RwLock};

use self::numbers::Numbers;
use super::inode::Inode;
use super::mounts::{Mount, magic};
use super::policy::MountTable;
use crate::engine::{NodeId, Notifier, TRUST};
use crate::sys::clock;
use crate::sys::fanotify::{Group, Queue, Renames, Report, file_system_id};
pub use thread::Known;

/// New inodes that are kept for the thread at most, which looks a hundred times a second while there are events.
const ANNOUNCED: usize = 4096;

/// How long the end of a session waits for the thread, which may hang with the host's file system.
const PATIENCE: Duration = Duration::from_secs(1);

/// What an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nobody tells if it becomes stale.
    Unwatched,
    /// Nobody tells, but soon somebody will.
    Pending,
    /// It is told if it becomes stale.
    Watched,
    /// It may have become stale on its way, and have been told already.
    Overtaken,
}

/// What the watch has done.
#[derive(Default)]
struct Counters {
    events: AtomicU64,
    overflows: AtomicU64,
}

/// A file system of the host that is marked.
struct Superblock {
    /// What events call it; several may have the same (copies of one image).
    id: [u8; 8],
    device: u64,
    /// How its handles tell numbers.
    numbers: Option<Numbers>,
    /// None if it was not tried yet, else whether that worked.
    marked: Option<bool>,
    /// The mounts of it that inodes are known on.
    mounts: Vec<Weak<Mount>>,
}

impl Superblock {
    /// Marks it, unless that was tried already. What is given back must be dropped without the lock that the end of a
    /// mount takes.
    #[must_use]
    fn mark(&mut self, groups: &Groups) -> Vec<Arc<Mount>> {
        let mounts: Vec<Arc<Mount>> = self.mounts.iter().filter_map(Weak::upgrade).collect();
        let anchor = mounts.iter().find_map(|mount| mount.anchor());
        let Some(anchor) = anchor.filter(|_| self.marked.is_none()) else {
            return mounts;
        };
        let marked = groups.names.mark(anchor).and_then(|()| {
            groups
                .inodes
                .mark(anchor)
                .inspect_err(|_| drop(groups.names.unmark(anchor)))
        });
        self.marked = Some(marked.is_ok());
        match marked {
            Ok(()) => mounts
                .iter()
                .for_each(|mount| mount.cover(clock::now(), self.numbers.is_some())),
            Err(error) => {
                tracing::info!(%error, device = self.device, "changes of a file system are not watched: caching for a second");
            }
        }
        mounts
    }
}

/// The two groups: events about inodes are far more frequent and cost less without names.
struct Groups {
    inodes: Group,
    names: Group,
}

impl Groups {
    fn new(renames: Renames, queue: Queue) -> io::Result<Groups> {
        Ok(Groups {
            inodes: Group::new(Report::Inodes, renames, queue)?,
            names: Group::new(Report::Names, renames, queue)?,
        })
    }
}

/// A marked file system, as it is now.
pub(super) struct Shown {
    /// Its device.
    pub device: u64,
    /// How its handles tell numbers.
    pub numbers: Option<Numbers>,
    /// The mounts of it that inodes are known on.
    pub mounts: Vec<Arc<Mount>>,
}

/// Tells the kernel what the host changes.
pub struct Watch {
    queue: Queue,
    /// Made by the thread; never if the kernel refuses.
    groups: OnceLock<Groups>,
    superblocks: RwLock<Vec<Superblock>>,
    /// Threads that serve: what they change is known.
    serving: RwLock<HashSet<i32>>,
    /// Since when the thread listens, 0 if it does not.
    up: AtomicU64,
    /// The thread is about to listen.
    pending: AtomicBool,
    /// When events were taken up last.
    taken_up: AtomicU64,
    counters: Counters,
    /// New inodes that the thread is about to hear of.
    announced: Mutex<Vec<Weak<Inode>>>,
    /// None if the policy does not ask for a watch.
    wake: Option<EventFd>,
    /// How long the thread waits before it listens.
    delay: Duration,
    /// The mount table of those who made this.
    table: Mutex<Option<MountTable>>,
    notifier: OnceLock<Arc<Notifier>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// Covers nothing.
    pub fn none() -> Arc<Watch> {
        Arc::new(Watch {
            queue: Queue::default(),
            groups: OnceLock::new(),
            superblocks: RwLock::default(),
            serving: RwLock::default(),
            up: AtomicU64::new(0),
            pending: AtomicBool::new(false),
            taken_up: AtomicU64::new(0),
            counters: Counters::default(),
            announced: Mutex::default(),
            wake: None,
            delay: Duration::ZERO,
            table: Mutex::default(),
            notifier: OnceLock::new(),
            thread: Mutex::default(),
        })
    }

    /// Covers what the kernel lets it cover, from `delay` after it was [`start`](Self::start)ed on. Without `table` what
    /// is mounted is what is for the calling thread, which has opened the tree.
    pub fn new(queue: Queue, delay: Duration, table: Option<MountTable>) -> Arc<Watch> {
        let mut watch = Watch::none();
        let made = || -> io::Result<(EventFd, MountTable)> {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            let table = table.map_or_else(MountTable::own, Ok)?;
            Ok((EventFd::from_flags(flags)?, table))
        };
        match made() {
            Ok((wake, table)) => {
                if let Some(watch) = Arc::get_mut(&mut watch) {
                    watch.queue = queue;
                    watch.wake = Some(wake);
                    watch.delay = delay;
                    *watch.table.get_mut() = Some(table);
                }
            }
            Err(error) => tracing::warn!(%error, "changes on the host are not watched"),
        }
        watch
    }

    /// Marks the file systems that are known. Where the kernel lets none be marked, false, and a message says why.
    pub fn listen(&self) -> bool {
        if self.groups.get().is_none() {
            let made = Groups::new(Renames::Whole, self.queue)
                .or_else(|_| Groups::new(Renames::Parts, self.queue));
            match made {
                Ok(groups) => drop(self.groups.set(groups)),
                Err(error) => {
                    tracing::info!(%error, "changes on the host cannot be watched: caching for a second");
                }
            }
        }
        let Some(groups) = self.groups.get() else {
            return false;
        };
        let mut superblocks = self.superblocks.write();
        let held: Vec<_> = superblocks
            .iter_mut()
            .map(|known| known.mark(groups))
            .collect();
        drop(superblocks);
        drop(held);
        true
    }

    /// Starts the thread. What was asked before is not covered.
    pub fn start(self: &Arc<Self>, known: Known, notifier: &Arc<Notifier>) {
        let _ = self.notifier.set(Arc::clone(notifier));
        let Some(table) = self.table.lock().take() else {
            return;
        };
        self.pending.store(true, Ordering::SeqCst);
        let watch = Arc::clone(self);
        let body = move || {
            let _ = crate::sys::thread::accept_only_interrupt();
            thread::run(&watch, known, table);
        };
        let started = std::thread::Builder::new()
            .name("cntr-watch".to_owned())
            .stack_size(256 << 10)
            .spawn(body);
        match started {
            Ok(thread) => *self.thread.lock() = Some(thread),
            Err(error) => {
                self.pending.store(false, Ordering::SeqCst);
                tracing::warn!(%error, "changes on the host are not watched");
            }
        }
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.up.store(0, Ordering::SeqCst);
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        if let Some(wake) = &self.wake {
            let _ = wake.write(1);
        }
        let end = clock::now() + PATIENCE.as_nanos() as u64;
        while !thread.is_finished() && clock::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }

    /// What an answer is worth that was asked for at the time `asked`.
    pub fn trust(&self, asked: u64) -> Trust {
        let up = self.up.load(Ordering::SeqCst);
        if up == 0 {
            self.unwatched()
        } else if up < asked
            && self.taken_up.load(Ordering::SeqCst) < asked
            && clock::now().saturating_sub(asked) < TRUST.as_nanos() as u64 / 2
        {
            Trust::Watched
        } else {
            Trust::Overtaken
        }
    }

    /// What an answer is worth about a file system that is not marked.
    pub fn unwatched(&self) -> Trust {
        if self.pending.load(Ordering::SeqCst) {
            Trust::Pending
        } else {
            Trust::Unwatched
        }
    }

    /// Marks the file system that `mount` shows, now or when the thread listens.
    pub fn cover(&self, mount: &Arc<Mount>, anchor: &OwnedFd, device: u64) {
        if self.wake.is_none() {
            return;
        }
        let (Ok(id), Ok(magic)) = (file_system_id(anchor), magic(anchor)) else {
            return;
        };
        let mut superblocks = self.superblocks.write();
        let same = |known: &Superblock| known.id == id && known.device == device;
        let index = superblocks.iter().position(same).unwrap_or_else(|| {
            superblocks.push(Superblock {
                id,
                device,
                numbers: Numbers::of(magic, anchor),
                marked: None,
                mounts: Vec::new(),
            });
            superblocks.len() - 1
        });
        let superblock = &mut superblocks[index];
        superblock.mounts.push(Arc::downgrade(mount));
        if superblock.marked == Some(true) {
            mount.cover(clock::now(), superblock.numbers.is_some());
        } else if let Some(groups) = self.groups.get() {
            let held = superblock.mark(groups);
            drop(superblocks);
            drop(held);
        }
    }

    /// `mount` goes away: takes its file system's mark back if no other mount shows that.
    pub fn uncover(&self, mount: &Mount, anchor: &OwnedFd) {
        let mut superblocks = self.superblocks.write();
        superblocks.retain_mut(|superblock| {
            let mounts = &mut superblock.mounts;
            let before = mounts.len();
            mounts.retain(|known| !std::ptr::eq(known.as_ptr(), mount));
            if mounts.len() == before || !mounts.is_empty() {
                return true;
            }
            if let (Some(true), Some(groups)) = (superblock.marked, self.groups.get()) {
                let _ = groups.names.unmark(anchor);
                let _ = groups.inodes.unmark(anchor);
            }
            false
        });
    }

    /// The file systems that events call `id`.
    fn shown(&self, id: [u8; 8]) -> Vec<Shown> {
        let superblocks = self.superblocks.read();
        let same = superblocks.iter().filter(|known| known.id == id);
        same.map(|known| Shown {
            device: known.device,
            numbers: known.numbers,
            mounts: known.mounts.iter().filter_map(Weak::upgrade).collect(),
        })
        .collect()
    }

    /// Whether what events call `id` is one file system, whose inodes are known on one mount only.
    fn is_shown_once(&self, id: [u8; 8]) -> bool {
        let superblocks = self.superblocks.read();
        let mut same = superblocks.iter().filter(|known| known.id == id);
        same.next().is_some_and(|known| known.mounts.len() <= 1) && same.next().is_none()
    }

    /// `inode`, which the kernel writes to by itself, changes all the time: says nothing more about that until it is no
    /// longer open for writing.
    fn mute(&self, inode: &Inode) {
        let fd = inode.ways.lock().fd.clone();
        let (Some(groups), Some(fd)) = (self.groups.get(), fd) else {
            return;
        };
        // Two that start or stop writing now see each other.
        if groups.inodes.mute(&*fd).is_ok() {
            inode.muted.store(true, Ordering::SeqCst);
            if inode.writers.load(Ordering::SeqCst) == 0 {
                self.unmute(inode, &*fd);
            }
        }
    }

    /// Nobody has `inode`, which `fd` is open on, open for writing any more.
    pub fn unmute(&self, inode: &Inode, fd: &impl AsFd) {
        if inode.muted.swap(false, Ordering::SeqCst)
            && let Some(groups) = self.groups.get()
        {
            let _ = groups.inodes.unmute(fd);
        }
    }

    /// `inode` was just made and closed by those who use the mount: the host is about to report that, in the name of who
    /// closed it.
    pub fn announce(&self, inode: &Arc<Inode>) {
        if !inode.mount.is_numbered() && self.up.load(Ordering::SeqCst) != 0 {
            let mut announced = self.announced.lock();
            if announced.len() < ANNOUNCED {
                announced.push(Arc::downgrade(inode));
            }
        }
    }

    /// What events call the file system of `inode`.
    fn file_system(&self, inode: &Inode) -> Option<[u8; 8]> {
        let shown = |mount: &Weak<Mount>| std::ptr::eq(mount.as_ptr(), Arc::as_ptr(&inode.mount));
        let superblocks = self.superblocks.read();
        let same = superblocks
            .iter()
            .find(|known| known.device == inode.key.dev && known.mounts.iter().any(shown));
        same.map(|known| known.id)
    }

    /// Drops the cached attributes of `node`.
    pub fn invalidate(&self, node: NodeId) {
        if let Some(notifier) = self.notifier.get() {
            notifier.invalidate_inode(node, -1, 0);
        }
    }

    /// What the calling thread changes from now on until it ends is known.
    pub fn enter_thread(self: &Arc<Self>) {
        thread_local! {
            static SERVING: RefCell<Vec<Serving>> = const { RefCell::new(Vec::new()) };
        }
        if self.wake.is_none() {
            return;
        }
        SERVING.with_borrow_mut(|serving| {
            let here = |one: &Serving| std::ptr::eq(one.watch.as_ptr(), Arc::as_ptr(self));
            if serving.iter().any(here) {
                return;
            }
            let thread = crate::sys::thread::id();
            self.serving.write().insert(thread);
            serving.push(Serving {
                watch: Arc::downgrade(self),
                thread,
            });
        });
    }

    fn is_serving(&self, thread: i32) -> bool {
        self.serving.read().contains(&thread)
    }

    /// Events seen.
    pub fn events(&self) -> u64 {
        self.counters.events.load(Ordering::Relaxed)
    }

    /// How often events were lost.
    pub fn overflows(&self) -> u64 {
        self.counters.overflows.load(Ordering::Relaxed)
    }
}

/// A thread that serves, until it ends.
struct Serving {
    watch: Weak<Watch>,
    thread: i32,
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.upgrade() {
            watch.serving.write().remove(&self.thread);
        }
    }
}
