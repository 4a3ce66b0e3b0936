//! The only writer of notifications: changes the kernel did not make itself.
//!
//! The kernel takes locks of the inode while it handles one, and a request in service may hold those. So a method
//! never notifies by itself: it queues, and a thread that serves no requests writes.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use fuse_proto::flags::{ExpireFlags, InitFlags};
use fuse_proto::notify;
use parking_lot::{Condvar, Mutex};

use super::dev::Device;
use super::{Negotiated, NodeId};

enum Notification {
    InvalidateInode { node: NodeId, offset: i64, len: i64 },
    InvalidateEntry { parent: NodeId, name: OsString },
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
    queue: Mutex<Queue>,
    filled: Condvar,
}

impl Notifier {
    pub(super) fn new(negotiated: &Negotiated) -> Notifier {
        let expire = if negotiated.flags.contains(InitFlags::HAS_EXPIRE_ONLY) {
            ExpireFlags::EXPIRE_ONLY
        } else {
            ExpireFlags::empty()
        };
        Notifier {
            expire,
            queue: Mutex::default(),
            filled: Condvar::new(),
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

    fn push(&self, notification: Notification) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.pending.push_back(notification);
            self.filled.notify_one();
        }
    }

    /// Ends the notifier thread; what is queued is dropped.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.pending.clear();
        self.filled.notify_one();
    }

    /// Body of the notifier thread.
    pub(super) fn run(&self, device: &Device) {
        let mut message = [0_u8; 512];
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
            let encoded = match &notification {
                Notification::InvalidateInode { node, offset, len } => {
                    notify::encode_inval_inode(node.0, *offset, *len, &mut message)
                }
                Notification::InvalidateEntry { parent, name } => {
                    notify::encode_inval_entry(parent.0, name.as_bytes(), self.expire, &mut message)
                }
            };
            match encoded {
                // ENOENT: the kernel does not know the inode or the name, so it caches nothing of it.
                Ok(len) => drop(device.notify(&message[..len])),
                Err(error) => tracing::error!(%error, "a notification cannot be encoded"),
            }
        }
    }
}
