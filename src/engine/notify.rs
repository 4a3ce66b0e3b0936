//! The only writer of notifications: changes the kernel did not make itself.
//!
//! The kernel takes locks of the inode while it handles one, and a request in service may hold those. So a method
//! never notifies by itself: it queues, and a thread that serves no requests writes.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fuse_proto::flags::{ExpireFlags, InitFlags};
use fuse_proto::{EncodeError, notify};
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use super::base::Root;
use super::dev::Device;
use super::{Negotiated, NodeId};

/// Minor version that brought the prune notification.
const PRUNE_MINOR: u32 = 45;

/// Minor version since which the kernel does not believe an answer about an inode that it has dropped and got again
/// meanwhile.
const EVICTION_MINOR: u32 = 42;

/// Node ids in one prune notification.
const PRUNE_AT_ONCE: usize = 64;

/// Something the kernel is told.
#[derive(Clone, Debug)]
pub enum Notification {
    /// To drop the cached attributes of `node` and, if `offset` is not negative, its cached pages from `offset` on: `len`
    /// bytes, to the end of the file for `len` <= 0.
    InvalidateInode {
        /// The inode.
        node: NodeId,
        /// First byte.
        offset: i64,
        /// Bytes.
        len: i64,
        /// Whether it is told once more, [`TRUST`] later.
        again: Again,
    },
    /// To drop the cached name `name` of `parent`.
    InvalidateEntry {
        /// The directory.
        parent: NodeId,
        /// The name.
        name: OsString,
        /// Whether it is told once more, [`TRUST`] later.
        again: Again,
    },
    /// To forget those of `nodes` that nobody uses. Nothing is said where the kernel cannot be asked to.
    Prune {
        /// The inodes.
        nodes: Vec<NodeId>,
    },
}

impl Notification {
    /// The same for the second time, if `known` says whether the kernel knew what the first was about.
    fn once_more(mut self, known: bool) -> Option<Notification> {
        let (Notification::InvalidateInode { again, .. }
        | Notification::InvalidateEntry { again, .. }) = &mut self
        else {
            return None;
        };
        let wanted = match std::mem::replace(again, Again::Never) {
            Again::Never => false,
            Again::IfUnknown => !known,
            Again::Always => true,
        };
        wanted.then_some(self)
    }
}

/// Whether something is told once more, because the kernel may have had an older answer on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// No.
    Never,
    /// If the kernel does not know it now.
    IfUnknown,
    /// In any case.
    Always,
}

/// How long an answer may be on its way to the kernel, twice.
pub const TRUST: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Queue {
    pending: VecDeque<Notification>,
    /// To be told once more, with the time at which they are due.
    later: VecDeque<(Instant, Notification)>,
    closed: bool,
}

impl Queue {
    /// What is to be told now, or how long until something is. What is due does not wait behind a busy host.
    fn next(&mut self) -> Result<Notification, Option<Duration>> {
        let due = self.later.front().map(|(due, _)| *due);
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        let late = match left {
            Some(Duration::ZERO) => self.later.pop_front(),
            _ => None,
        };
        match late {
            Some((_, notification)) => Ok(notification),
            None => self.pending.pop_front().ok_or(left),
        }
    }
}

/// Notifications that were written, by kind.
#[derive(Default)]
pub(super) struct Written {
    inodes: AtomicU64,
    names: AtomicU64,
    prunes: AtomicU64,
    refused: AtomicU64,
}

impl Written {
    pub(super) fn statistics(&self) -> NotificationStatistics {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NotificationStatistics {
            inodes: of(&self.inodes),
            names: of(&self.names),
            prunes: of(&self.prunes),
            refused: of(&self.refused),
        }
    }
}

/// What the kernel was told of changes that it did not make itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotificationStatistics {
    /// Inodes whose cached attributes, and mostly pages, were to be dropped.
    pub inodes: u64,
    /// Cached names that were to be dropped or asked for again.
    pub names: u64,
    /// Inodes that were to be given back if nobody uses them.
    pub prunes: u64,
    /// Notifications that the kernel refused: mostly because it did not know the inode or the name any more.
    pub refused: u64,
}

impl NotificationStatistics {
    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &NotificationStatistics) -> NotificationStatistics {
        NotificationStatistics {
            inodes: self.inodes.saturating_sub(before.inodes),
            names: self.names.saturating_sub(before.names),
            prunes: self.prunes.saturating_sub(before.prunes),
            refused: self.refused.saturating_sub(before.refused),
        }
    }
}

/// Queues notifications for the notifier thread. Cheap, never blocks on the kernel, holds no lock of a file system:
/// safe to call from any method.
pub struct Notifier {
    /// How names are dropped: only looked up again where the kernel can, since a mount may lie below.
    expire: ExpireFlags,
    /// The kernel can be asked to drop inodes.
    prunes: bool,
    /// What the kernel is told of an inode that it knows holds for all answers that are on their way.
    counts_evictions: bool,
    /// How the kernel numbers the root.
    root: Root,
    device: Device,
    queue: Mutex<Queue>,
    filled: Condvar,
    written: Arc<Written>,
}

impl Notifier {
    /// Notifies on `device`, a descriptor of its own.
    pub(super) fn new(negotiated: &Negotiated, root: Root, device: Device) -> Notifier {
        let expire = if negotiated.flags.contains(InitFlags::HAS_EXPIRE_ONLY) {
            ExpireFlags::EXPIRE_ONLY
        } else {
            ExpireFlags::empty()
        };
        Notifier {
            expire,
            prunes: negotiated.minor >= PRUNE_MINOR,
            counts_evictions: negotiated.minor >= EVICTION_MINOR,
            root,
            device,
            queue: Mutex::default(),
            filled: Condvar::new(),
            written: Arc::default(),
        }
    }

    /// Counts what is written.
    pub(super) fn written(&self) -> Arc<Written> {
        Arc::clone(&self.written)
    }

    /// Drops the cached attributes of `node` and, if `offset` is not negative, its cached pages from `offset` on:
    /// `len` bytes, to the end of the file for `len` <= 0.
    pub fn invalidate_inode(&self, node: NodeId, offset: i64, len: i64) {
        self.tell([Notification::InvalidateInode {
            node,
            offset,
            len,
            again: Again::Never,
        }]);
    }

    /// Drops the cached name `name` of `parent`.
    pub fn invalidate_entry(&self, parent: NodeId, name: &OsStr) {
        self.tell([Notification::InvalidateEntry {
            parent,
            name: name.to_owned(),
            again: Again::Never,
        }]);
    }

    /// Asks the kernel to forget those of `nodes` that nobody uses at the moment. Before Linux 6.18 it cannot be asked.
    pub fn prune(&self, nodes: Vec<NodeId>) {
        if !nodes.is_empty() {
            self.tell([Notification::Prune { nodes }]);
        }
    }

    /// Tells all of `notifications`, one after the other.
    pub fn tell(&self, notifications: impl IntoIterator<Item = Notification>) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.pending.extend(notifications);
            self.filled.notify_one();
        }
    }

    /// Drops the cached attributes of `node` before this returns. Only for an inode that the request in service is
    /// about: the kernel holds that. For another one it might wait for a request that waits for this thread.
    pub fn expire_attributes_of_used(&self, node: NodeId) {
        let mut message = [0_u8; 64];
        let len = notify::encode_inval_inode(self.root.number(node), -1, 0, &mut message);
        self.send(&message, len, &self.written.inodes, 1);
    }

    /// What is queued, as (node, offset, name): one of the last two is none.
    #[cfg(test)]
    pub(crate) fn take_queued(&self) -> Vec<(NodeId, Option<i64>, Option<OsString>)> {
        let queued = self.queue.lock().pending.drain(..).collect::<Vec<_>>();
        queued
            .into_iter()
            .flat_map(|notification| match notification {
                Notification::InvalidateInode { node, offset, .. } => {
                    vec![(node, Some(offset), None)]
                }
                Notification::InvalidateEntry { parent, name, .. } => {
                    vec![(parent, None, Some(name))]
                }
                Notification::Prune { nodes } => {
                    nodes.into_iter().map(|node| (node, None, None)).collect()
                }
            })
            .collect()
    }

    /// Ends the notifier thread; what is queued is dropped.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.pending.clear();
        queue.later.clear();
        self.filled.notify_one();
    }

    /// Body of the notifier thread.
    pub(super) fn run(&self) {
        let mut message = [0_u8; 1024];
        while let Some(notification) = self.wait() {
            let known = self.write(&notification, &mut message);
            if let Some(notification) = notification.once_more(known) {
                let mut queue = self.queue.lock();
                queue
                    .later
                    .push_back((Instant::now() + TRUST, notification));
            }
        }
    }

    /// Waits for something to tell; none at the end.
    fn wait(&self) -> Option<Notification> {
        let mut queue = self.queue.lock();
        while !queue.closed {
            match queue.next() {
                Ok(notification) => return Some(notification),
                Err(None) => self.filled.wait(&mut queue),
                Err(Some(left)) => drop(self.filled.wait_for(&mut queue, left)),
            }
        }
        None
    }

    /// Writes `notification`; false if the kernel knows nothing of what it is about, or what it knows may be replaced by
    /// something older.
    fn write(&self, notification: &Notification, message: &mut [u8]) -> bool {
        match notification {
            Notification::InvalidateInode {
                node, offset, len, ..
            } => {
                let node = self.root.number(*node);
                let len = notify::encode_inval_inode(node, *offset, *len, message);
                self.send(message, len, &self.written.inodes, 1) && self.counts_evictions
            }
            Notification::InvalidateEntry { parent, name, .. } => {
                let name = name.as_bytes();
                let parent = self.root.number(*parent);
                let len = notify::encode_inval_entry(parent, name, self.expire, message);
                self.send(message, len, &self.written.names, 1)
            }
            Notification::Prune { .. } if !self.prunes => false,
            Notification::Prune { nodes } => {
                let mut known = true;
                for nodes in nodes.chunks(PRUNE_AT_ONCE) {
                    let mut ids = [0; PRUNE_AT_ONCE];
                    ids.iter_mut()
                        .zip(nodes)
                        .for_each(|(id, node)| *id = node.0);
                    let len = notify::encode_prune(&ids[..nodes.len()], message);
                    known &= self.send(message, len, &self.written.prunes, nodes.len() as u64);
                }
                known
            }
        }
    }

    /// Writes a notification about `count` things that `counter` counts; false if the kernel refuses it.
    fn send(
        &self,
        message: &[u8],
        encoded: Result<usize, EncodeError>,
        counter: &AtomicU64,
        count: u64,
    ) -> bool {
        let len = match encoded {
            Ok(len) => len,
            Err(error) => {
                tracing::error!(%error, "a notification cannot be encoded");
                return false;
            }
        };
        counter.fetch_add(count, Ordering::Relaxed);
        // ENOENT: the kernel does not know the inode or the name, so it caches nothing of it.
        let taken = self.device.notify(&message[..len]).is_ok();
        if !taken {
            self.written.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invalidate(node: u64, again: Again) -> Notification {
        Notification::InvalidateInode {
            node: NodeId(node),
            offset: 0,
            len: 0,
            again,
        }
    }

    #[test]
    fn what_the_kernel_knew_need_not_be_repeated() {
        for (again, known, repeated) in [
            (Again::Never, false, false),
            (Again::IfUnknown, true, false),
            (Again::IfUnknown, false, true),
            (Again::Always, true, true),
        ] {
            let second = invalidate(2, again).once_more(known);
            assert_eq!(second.is_some(), repeated, "{again:?}, {known}");
            // There is no third time.
            assert!(second.is_none_or(|second| second.once_more(false).is_none()));
        }
        let prune = Notification::Prune {
            nodes: vec![NodeId(2)],
        };
        assert!(prune.once_more(false).is_none());
    }

    #[test]
    fn what_is_told_once_more_waits_until_it_is_due() {
        let mut queue = Queue::default();
        assert!(matches!(queue.next(), Err(None)));
        let now = Instant::now();
        let node = |found: &Notification| match found {
            Notification::InvalidateInode { node, .. } => node.0,
            _ => 0,
        };
        queue.later.push_back((now, invalidate(1, Again::Never)));
        let tomorrow = now + Duration::from_secs(86_400);
        queue
            .later
            .push_back((tomorrow, invalidate(2, Again::Never)));
        queue.pending.push_back(invalidate(3, Again::Never));
        assert!(queue.next().is_ok_and(|found| node(&found) == 1));
        assert!(queue.next().is_ok_and(|found| node(&found) == 3));
        let Err(Some(left)) = queue.next() else {
            panic!("nothing is due before tomorrow");
        };
        assert!(left > Duration::from_secs(86_000));
    }
}
