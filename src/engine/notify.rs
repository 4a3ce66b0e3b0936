//! The only writer of notifications: changes the kernel did not make itself.
//!
//! The kernel takes locks of the inode while it handles one, and a request in service may hold those. So a method
//! never notifies by itself: it queues, and a thread that serves no requests writes.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};

use fuse_proto::flags::{ExpireFlags, InitFlags};
use fuse_proto::{EncodeError, notify};
use parking_lot::{Condvar, Mutex};

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

/// Queues notifications for the notifier thread. Cheap, never blocks on the kernel, holds no lock of a file system:
/// safe to call from any method.
pub struct Notifier {
    /// How names are dropped: only looked up again where the kernel can, since a mount may lie below.
    expire: ExpireFlags,
    /// The kernel can be asked to drop inodes.
    prunes: bool,
    device: Device,
    queue: Mutex<Queue>,
    filled: Condvar,
    sent: AtomicU64,
}

impl Notifier {
    /// Notifies on `device`, a descriptor of its own.
    pub(super) fn new(negotiated: &Negotiated, device: Device) -> Notifier {
        let expire = if negotiated.flags.contains(InitFlags::HAS_EXPIRE_ONLY) {
            ExpireFlags::EXPIRE_ONLY
        } else {
            ExpireFlags::empty()
        };
        Notifier {
            expire,
            prunes: negotiated.minor >= PRUNE_MINOR,
            device,
            queue: Mutex::default(),
            filled: Condvar::new(),
            sent: AtomicU64::new(0),
        }
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
        if let Ok(len) = notify::encode_inval_inode(node.0, -1, 0, &mut message) {
            // ENOENT: the kernel does not know the inode any more.
            let _ = self.device.notify(&message[..len]);
        }
    }

    /// Notifications written so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
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
                    let len = notify::encode_inval_inode(node.0, *offset, *len, &mut message);
                    self.send(&message, len);
                }
                Notification::InvalidateEntry { parent, name } => {
                    let name = name.as_bytes();
                    let len = notify::encode_inval_entry(parent.0, name, self.expire, &mut message);
                    self.send(&message, len);
                }
                Notification::Prune { nodes } => {
                    for nodes in nodes.chunks(PRUNE_AT_ONCE) {
                        let mut ids = [0; PRUNE_AT_ONCE];
                        ids.iter_mut()
                            .zip(nodes)
                            .for_each(|(id, node)| *id = node.0);
                        let len = notify::encode_prune(&ids[..nodes.len()], &mut message);
                        self.send(&message, len);
                    }
                }
            }
        }
    }

    fn send(&self, message: &[u8], encoded: Result<usize, EncodeError>) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        match encoded {
            // ENOENT: the kernel does not know the inode or the name, so it caches nothing of it.
            Ok(len) => drop(self.device.notify(&message[..len])),
            Err(error) => tracing::error!(%error, "a notification cannot be encoded"),
        }
    }
}
