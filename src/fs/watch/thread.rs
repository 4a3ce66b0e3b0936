//! The thread that turns what the host reports into notifications.
//!
//! Something that happens after a pause is told at once; then events gather for [`GATHER`], so that a busy host costs at most
//! a hundred rounds a second. If the thread cannot go on, everything is made stale and nothing is trusted for long any more.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::stat::Mode;

use super::gather::{Change, Gathered};
use super::resolve::Resolver;
use super::{Groups, Watch, mountings};
use crate::engine::{Again, Notification, Notifier, TRUST};
use crate::fs::inode::{Inode, Key};
use crate::fs::policy::MountTable;
use crate::fs::synthetic::Overlay;
use crate::fs::table::Table;
use crate::sys::fanotify::{Event, Events, FileId, Happened};
use crate::sys::{clock, stat};

/// How long events gather.
const GATHER: Duration = Duration::from_millis(10);

/// Bytes of events read at a time, and how often in one round.
const BUFFER: usize = 64 * 1024;
const READS: usize = 64;

/// Notifications that are handed over at a time.
const AT_ONCE: usize = 256;

/// What the thread finds inodes in.
pub struct Known {
    /// All but the root.
    pub table: Arc<Table>,
    /// The root.
    pub root: Arc<Inode>,
    /// Names that are not the host's.
    pub overlay: Arc<Overlay>,
}

impl Known {
    fn find(&self, key: &Key) -> Option<Arc<Inode>> {
        if *key == self.root.key {
            return Some(Arc::clone(&self.root));
        }
        self.table.peek(key)
    }

    fn all(&self) -> Vec<Arc<Inode>> {
        let mut all = self.table.all();
        all.push(Arc::clone(&self.root));
        all
    }
}

/// Why the thread wakes up.
enum Woken {
    End,
    Time,
    Happened { mounted: bool },
}

struct Worker<'a> {
    watch: &'a Watch,
    wake: &'a EventFd,
    groups: &'a Groups,
    notifier: &'a Notifier,
    known: Known,
    resolver: Resolver,
    gathered: Gathered,
    /// Events that were not gathered.
    passed_over: u64,
    buffer: Vec<u8>,
    /// What the kernel is told next.
    telling: Vec<Notification>,
    /// When everything is told once more.
    everything_again: Option<u64>,
}

/// Body of the thread.
pub fn run(watch: &Watch, known: Known, mount_table: MountTable) {
    let (Some(wake), Some(notifier)) = (&watch.wake, watch.notifier.get()) else {
        return;
    };
    if !matches!(pause(wake, watch.delay), Ok(Woken::Time)) {
        return;
    }
    if !watch.listen() {
        watch.pending.store(false, Ordering::SeqCst);
        return;
    }
    let Some(groups) = watch.groups.get() else {
        return;
    };
    let mut worker = Worker {
        watch,
        wake,
        groups,
        notifier,
        known,
        resolver: Resolver::default(),
        gathered: Gathered::default(),
        passed_over: 0,
        buffer: vec![0; BUFFER],
        telling: Vec::new(),
        everything_again: None,
    };
    let result = catch_unwind(AssertUnwindSafe(|| worker.work(mount_table)));
    watch.up.store(0, Ordering::SeqCst);
    watch.pending.store(false, Ordering::SeqCst);
    let reason = match result {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it panicked".to_owned(),
    };
    tracing::warn!(
        reason,
        "changes on the host are not watched any more: caching for a second"
    );
    // What was answered before may still be on its way.
    worker.everything();
    if let Ok(Woken::Time) = pause(wake, TRUST) {
        worker.everything();
    }
}

impl Worker<'_> {
    /// Works until the end.
    fn work(&mut self, mount_table: MountTable) -> io::Result<()> {
        let mut mount_table = mountings::Table::new(mount_table)?;
        self.watch.up.store(clock::now(), Ordering::SeqCst);
        self.watch.pending.store(false, Ordering::SeqCst);
        loop {
            let mounted = match self.wait(&mount_table)? {
                Woken::End => return Ok(()),
                Woken::Time => false,
                Woken::Happened { mounted } => mounted,
            };
            let begin = clock::now();
            if mounted {
                let changed = mount_table.changed()?;
                self.mounted(&changed);
            }
            self.read()?;
            self.tell();
            if self.everything_again.is_some_and(|due| due <= begin) {
                self.everything_again = None;
                self.everything();
            }
            self.hand_over();
            let spent = Duration::from_nanos(clock::now().saturating_sub(begin));
            if let Woken::End = pause(self.wake, GATHER.saturating_sub(spent))? {
                return Ok(());
            }
        }
    }

    /// Waits until something happens or is due.
    fn wait(&self, mount_table: &mountings::Table) -> io::Result<Woken> {
        let timeout = match self.everything_again {
            None => PollTimeout::NONE,
            Some(due) => {
                let left = Duration::from_nanos(due.saturating_sub(clock::now()));
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut polled = [
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.groups.inodes.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.groups.names.as_fd(), PollFlags::POLLIN),
            PollFd::new(mount_table.as_fd(), PollFlags::POLLPRI),
        ];
        match poll(&mut polled, timeout) {
            Err(nix::errno::Errno::EINTR) | Ok(0) => return Ok(Woken::Time),
            Err(errno) => return Err(errno.into()),
            Ok(_) => (),
        }
        let [end, .., mounted] = polled.map(|polled| polled.any().unwrap_or(true));
        Ok(if end {
            Woken::End
        } else {
            Woken::Happened { mounted }
        })
    }

    /// Takes up what has happened.
    fn read(&mut self) -> io::Result<()> {
        for group in [&self.groups.names, &self.groups.inodes] {
            for _ in 0..READS {
                let len = group.read(&mut self.buffer)?;
                if len == 0 {
                    break;
                }
                for event in Events::new(&self.buffer[..len]) {
                    let own = self.watch.is_serving(event.thread);
                    if own && self.is_known(&event) {
                        self.passed_over += 1;
                    } else {
                        self.gathered.add(&event, own);
                    }
                }
            }
        }
        let counters = &self.watch.counters;
        let events = self.gathered.events + std::mem::take(&mut self.passed_over);
        counters.events.fetch_add(events, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the kernel has made this change itself, and knows what it does to what it caches: all but the number of `..`
    /// in the listing of a directory that has moved, and unless it may know the inode through several mounts.
    fn is_known(&self, event: &Event<'_>) -> bool {
        let moved = Happened::MOVE_SELF | Happened::ONDIR;
        !event.happened.contains(moved)
            && event
                .inode
                .is_some_and(|inode| self.watch.is_shown_once(inode.file_system()))
    }

    /// Tells what was taken up.
    fn tell(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        // Said before inodes are looked for: who adds one that is not found here sees this.
        self.watch.taken_up.store(clock::now(), Ordering::SeqCst);
        if self.gathered.overflow {
            self.watch
                .counters
                .overflows
                .fetch_add(1, Ordering::Relaxed);
            self.everything();
            self.everything_again = Some(clock::now() + TRUST.as_nanos() as u64);
        }
        for inode in std::mem::take(&mut *self.watch.announced.lock()) {
            if let Some(inode) = inode.upgrade()
                && let Some(file_system) = self.watch.file_system(&inode)
            {
                self.resolver.learn(file_system, &inode);
            }
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered.take(|file, change, names| self.tell_one(file, change, names));
        self.gathered = gathered;
    }

    fn tell_one(&mut self, file: FileId<'_>, change: Change, names: &[Box<[u8]>]) {
        let moved = change.happened.contains(Happened::MOVE_SELF);
        for shown in self.watch.shown(file.file_system()) {
            let Some((dev, ino)) = self.resolver.find(file, &shown) else {
                continue;
            };
            let keys = shown.mounts.iter().map(|mount| Key {
                mount: mount.id,
                dev,
                ino,
            });
            let found: Vec<_> = keys.filter_map(|key| self.known.find(&key)).collect();
            // See `is_known`.
            if change.own && found.len() == 1 && !(moved && found[0].is_dir()) {
                continue;
            }
            for inode in found {
                self.changed(&inode, change.happened, names);
            }
        }
    }

    /// Tells what has happened to `inode` and to `names` in it.
    fn changed(&mut self, inode: &Arc<Inode>, happened: Happened, names: &[Box<[u8]>]) {
        let names: Vec<OsString> = names
            .iter()
            .map(|name| OsStr::from_bytes(name))
            .filter(|name| self.known.overlay.in_host(inode.overlay, name).is_none())
            .map(OsStr::to_owned)
            .collect();
        let contents = match inode.kind {
            libc::S_IFDIR => {
                happened.intersects((Happened::TO_NAMES - Happened::ONDIR) | Happened::MOVE_SELF)
            }
            libc::S_IFREG => happened.contains(Happened::MODIFY),
            _ => false,
        };
        let offset = if contents { 0 } else { -1 };
        if inode.kind == libc::S_IFREG && happened.contains(Happened::MODIFY) {
            self.written_to(inode);
        }
        // Nothing older than what it is told overtakes what the kernel knows of a file already.
        let again = match clock::now().saturating_sub(inode.asked.load(Ordering::Relaxed)) {
            age if age >= TRUST.as_nanos() as u64 => Again::Never,
            _ if inode.kind == libc::S_IFREG => Again::IfUnknown,
            _ => Again::Always,
        };
        let parent = inode.node;
        let names = names.into_iter();
        self.telling
            .extend(names.map(|name| Notification::InvalidateEntry {
                parent,
                name,
                again,
            }));
        self.telling.push(Notification::InvalidateInode {
            node: inode.node,
            offset,
            len: 0,
            again,
        });
        if happened.contains(Happened::ATTRIB) && is_deleted(inode) {
            let nodes = vec![inode.node];
            self.telling.push(Notification::Prune { nodes });
        }
        if self.telling.len() >= AT_ONCE {
            self.hand_over();
        }
    }

    /// Hands what is to be told to the notifier.
    fn hand_over(&mut self) {
        if !self.telling.is_empty() {
            self.notifier.tell(self.telling.drain(..));
        }
    }

    /// Stops listening to what is written to `inode` if the kernel does that by itself: each write makes an event, and
    /// what is known about such a file lives for a moment only anyway.
    fn written_to(&self, inode: &Inode) {
        let through = inode.writers.load(Ordering::SeqCst) > 0 && inode.ways.lock().data.is_open();
        if through && !inode.muted.load(Ordering::SeqCst) {
            self.watch.mute(inode);
        }
    }

    /// Tells of names that lead elsewhere.
    fn mounted(&mut self, changed: &[(Key, OsString)]) {
        self.watch.taken_up.store(clock::now(), Ordering::SeqCst);
        for (key, name) in changed {
            if let Some(inode) = self.known.find(key) {
                self.changed(&inode, Happened::MOVED_TO, &[name.as_bytes().into()]);
            }
        }
    }

    /// Makes everything stale: all attributes, contents and listings, all names that exist, and, where the kernel can drop
    /// inodes that are not in use, those that do not.
    fn everything(&mut self) {
        self.hand_over();
        let all = self.known.all();
        for inode in &all {
            if inode.is_dir() {
                for name in names_of(inode) {
                    if self.known.overlay.in_host(inode.overlay, &name).is_none() {
                        self.notifier.invalidate_entry(inode.node, &name);
                    }
                }
            }
            self.notifier.invalidate_inode(inode.node, 0, 0);
        }
        self.notifier
            .prune(all.iter().map(|inode| inode.node).collect());
    }
}

/// Waits for the end, but not longer than `time`.
fn pause(wake: &EventFd, time: Duration) -> io::Result<Woken> {
    let mut polled = [PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    match poll(&mut polled, timeout) {
        Err(nix::errno::Errno::EINTR) | Ok(0) => Ok(Woken::Time),
        Err(errno) => Err(errno.into()),
        Ok(_) => Ok(Woken::End),
    }
}

/// Whether the host has removed the last name of `inode`.
fn is_deleted(inode: &Inode) -> bool {
    let fd = inode.ways.lock().fd.clone();
    fd.is_some_and(|fd| stat::of(&*fd).is_ok_and(|stat| stat.nlink() == 0))
}

/// The names in the directory `inode`; none if it cannot be read.
fn names_of(inode: &Inode) -> Vec<OsString> {
    let ways = inode.ways.lock();
    let (fd, handle) = (ways.fd.clone(), ways.handle.clone());
    drop(ways);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = match (fd, handle) {
        (Some(fd), _) => Dir::openat(&*fd, ".", flags, Mode::empty()).ok(),
        (None, Some(handle)) => {
            let fd = inode.mount.open(&handle, flags.bits()).ok();
            fd.and_then(|fd| Dir::from_fd(fd).ok())
        }
        (None, None) => None,
    };
    let Some(mut dir) = opened else {
        return Vec::new();
    };
    dir.iter()
        .flatten()
        .map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned())
        .filter(|name| name != "." && name != "..")
        .collect()
}
