//! The only writer of notifications: changes the kernel did not make itself.
//!
//! The kernel takes locks of the inode while it handles one, and a request in service may hold those. So a method
//! never notifies by itself: it queues, and a thread that serves no requests writes.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fuse_proto::flags::{ExpireFlags, InitFlags};
use fuse_proto::{EncodeError, notify};
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use super::base::Root;
use super::dev::Device;
use super::{Negotiated, NodeId};

/// Minor version that brought the prune notification.
const PRUNE_MINOR: u32 = 45;

/// Node ids in one prune notification.
const PRUNE_AT_ONCE: usize = 64;

enum Notification {
    InvalidateInode { node: NodeId, offset: i64, len: i64 },
    InvalidateEntry { parent: NodeId, name: OsString },
    Prune { nodes: Vec<NodeId> },
}

#[derive(Default)]
struct Queue {
    pending: VecDeque<Notification>,
    closed: bool,
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
        self.push(Notification::InvalidateInode { node, offset, len });
    }

    /// Drops the cached name `name` of `parent`.
    pub fn invalidate_entry(&self, parent: NodeId, name: &OsStr) {
        self.push(Notification::InvalidateEntry {
            parent,
            name: name.to_owned(),
        });
    }

    /// Asks the kernel to forget those of `nodes` that nobody uses at the moment. Before Linux 6.18 it cannot be asked.
    pub fn prune(&self, nodes: Vec<NodeId>) {
        if self.prunes && !nodes.is_empty() {
            self.push(Notification::Prune { nodes });
        }
    }

    /// Drops the cached attributes of `node` before this returns. Only for an inode that the request in service is
    /// about: the kernel holds that. For another one it might wait for a request that waits for this thread.
    pub fn expire_attributes_of_used(&self, node: NodeId) {
        let mut message = [0_u8; 64];
        let len = notify::encode_inval_inode(self.root.number(node), -1, 0, &mut message);
        self.send(&message, len, &self.written.inodes, 1);
    }

    fn push(&self, notification: Notification) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.pending.push_back(notification);
            self.filled.notify_one();
        }
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
                Notification::InvalidateEntry { parent, name } => vec![(parent, None, Some(name))],
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
        self.filled.notify_one();
    }

    /// Body of the notifier thread.
    pub(super) fn run(&self) {
        let mut message = [0_u8; 1024];
        loop {
            let mut queue = self.queue.lock();
            let notification = loop {
                if queue.closed {
                    return;
                }
                match queue.pending.pop_front() {
                    Some(notification) => break notification,
                    None => self.filled.wait(&mut queue),
                }
            };
            drop(queue);
            match &notification {
                Notification::InvalidateInode { node, offset, len } => {
                    let node = self.root.number(*node);
                    let len = notify::encode_inval_inode(node, *offset, *len, &mut message);
                    self.send(&message, len, &self.written.inodes, 1);
                }
                Notification::InvalidateEntry { parent, name } => {
                    let name = name.as_bytes();
                    let parent = self.root.number(*parent);
                    let len = notify::encode_inval_entry(parent, name, self.expire, &mut message);
                    self.send(&message, len, &self.written.names, 1);
                }
                Notification::Prune { nodes } => {
                    for nodes in nodes.chunks(PRUNE_AT_ONCE) {
                        let mut ids = [0; PRUNE_AT_ONCE];
                        ids.iter_mut()
                            .zip(nodes)
                            .for_each(|(id, node)| *id = node.0);
                        let len = notify::encode_prune(&ids[..nodes.len()], &mut message);
                        self.send(&message, len, &self.written.prunes, nodes.len() as u64);
                    }
                }
            }
        }
    }

    /// Writes a notification about `count` things that `counter` counts.
    fn send(
        &self,
        message: &[u8],
        encoded: Result<usize, EncodeError>,
        counter: &AtomicU64,
        count: u64,
    ) {
        let len = match encoded {
            Ok(len) => len,
            Err(error) => return tracing::error!(%error, "a notification cannot be encoded"),
        };
        counter.fetch_add(count, Ordering::Relaxed);
        // ENOENT: the kernel does not know the inode or the name, so it caches nothing of it.
        if self.device.notify(&message[..len]).is_err() {
            self.written.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}
