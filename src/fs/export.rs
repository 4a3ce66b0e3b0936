//! NFS export and `open_by_handle_at(2)` on the mount: node ids that stay valid after the kernel has forgotten them.
//!
//! A file handle of the mount is a node id. To open one of an inode it does not cache the kernel looks up `.` in it (and
//! `..` to find the directory a directory is in), which fails once the id was forgotten. So the last inodes that were
//! forgotten are remembered, by their host file handle alone: no descriptor, and only those of the root's mount, which is held
//! anyway.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::PassthroughFs;
use super::descriptors::{Deleted, release};
use super::inode::{Inode, Key};
use crate::engine::{Entry, Errno, NodeId, Result};
use crate::sys::stat;

/// Forgotten inodes, each with one lookup counted for being here.
pub struct Remembered {
    limit: usize,
    nodes: Mutex<Nodes>,
}

#[derive(Default)]
struct Nodes {
    order: VecDeque<NodeId>,
    present: HashSet<NodeId>,
}

impl Remembered {
    /// Remembers up to `limit` inodes.
    pub fn new(limit: usize) -> Remembered {
        Remembered {
            limit,
            nodes: Mutex::default(),
        }
    }

    /// Whether anything is remembered at all.
    pub fn is_enabled(&self) -> bool {
        self.limit > 0
    }

    /// Adds `node`; none if it was there, else the one that has to go for it, if any.
    fn add(&self, node: NodeId) -> Option<Option<NodeId>> {
        let mut nodes = self.nodes.lock();
        if !nodes.present.insert(node) {
            return None;
        }
        nodes.order.push_back(node);
        while nodes.order.len() > self.limit {
            let oldest = nodes.order.pop_front()?;
            if nodes.present.remove(&oldest) {
                return Some(Some(oldest));
            }
        }
        Some(None)
    }

    fn remove(&self, node: NodeId) -> bool {
        self.nodes.lock().present.remove(&node)
    }
}

impl PassthroughFs {
    /// The kernel is about to forget lookups of `node`: keeps it known.
    pub(super) fn remember(&self, node: NodeId) -> Option<Arc<Inode>> {
        let inode = self.table.get(node)?;
        if !Arc::ptr_eq(&inode.mount, &self.root.mount)
            || !inode.mount.has_handles()
            || inode.overlay != 0
        {
            return None;
        }
        if let Some(oldest) = self.remembered.add(node) {
            self.table.retain(node);
            if let Some(oldest) = oldest {
                drop(self.table.forget(oldest, 1));
            }
        }
        Some(inode)
    }

    /// Gives up the descriptor of `inode`, which is remembered; an inode that has no name any more is not.
    pub(super) fn let_go(&self, inode: &Inode) {
        if !release(inode, Deleted::Kept) && self.remembered.remove(inode.node) {
            drop(self.table.forget(inode.node, 1));
        }
    }

    /// LOOKUP of `.`: `inode` itself, if it still exists.
    pub(super) fn itself(&self, inode: &Arc<Inode>) -> Result<Entry> {
        let stat = stat::of(&*self.fd(inode)?)?;
        if inode.node != NodeId::ROOT && !self.table.retain(inode.node) {
            return Err(Errno::ESTALE);
        }
        Ok(self.entry(inode, inode, &stat))
    }

    /// LOOKUP of `..`: the directory above `inode`; the root is above itself.
    ///
    /// # Errors
    /// `ESTALE` if `inode` was moved out of the tree.
    pub(super) fn above(&self, inode: &Arc<Inode>) -> Result<Entry> {
        if inode.node == NodeId::ROOT {
            return self.itself(inode);
        }
        let parent = self.descriptors.open_held(&*self.fd(inode)?, "..")?;
        let found = stat::of(&parent)?;
        let (mut current, mut key) = (parent.try_clone()?, Key::of(&found));
        while key != self.root.key {
            current = self.descriptors.open_held(&current, "..")?;
            let above = Key::of(&stat::of(&current)?);
            if above == key {
                return Err(Errno::ESTALE);
            }
            key = above;
        }
        if Key::of(&found) == self.root.key {
            return self.itself(&self.root);
        }
        // The host has moved it to where nothing is seen.
        if self.hides(inode, &parent, OsStr::new("."), &found, Some(&parent)) {
            return Err(Errno::ESTALE);
        }
        let parent = self.intern(parent, &found, None)?;
        Ok(self.entry(&parent, &parent, &found))
    }
}
