//! The only writer of notifications: changes the kernel did not make itself.

use super::NodeId;

/// Queues notifications for the notifier thread. Cheap, never blocks on the kernel, holds no lock of a file system:
/// safe to call from any method.
pub struct Notifier {
    _private: (),
}

impl Notifier {
    /// Drops the cached attributes of `node` and, for `len` other than 0, its cached pages from `offset` on
    /// (`len` < 0: to the end). With a negative `offset` only attributes are dropped.
    pub fn invalidate_inode(&self, node: NodeId, offset: i64, len: i64) {
        let _ = (node, offset, len);
    }

    /// Drops the cached name `name` of `parent`.
    pub fn invalidate_entry(&self, parent: NodeId, name: &std::ffi::OsStr) {
        let _ = (parent, name);
    }
}
