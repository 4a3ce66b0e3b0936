//! The nodes that the kernel knows: an array by descriptor, and which inode is where in it.
//!
//! The kernel looks up names that it knows before it makes them exclusively or renames over them, and takes another node for
//! another file, so a known inode has to be the same node again.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cntr::engine::{Errno, NodeId, Result};

use super::node::{Key, Node};

/// The number of a node is that of its descriptor and this: 0 and 1 mean something else.
const FIRST: u64 = 2;

/// Parts of the inodes, each with its lock.
const SHARDS: usize = 64;

struct Known {
    node: Arc<Node>,
    lookups: u64,
}

type Place = Mutex<Option<Known>>;
type Shard = Mutex<HashMap<Key, NodeId>>;

/// All nodes.
pub struct Nodes {
    root: Arc<Node>,
    places: Box<[Place]>,
    /// To be locked before a place.
    shards: Box<[Shard]>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn many<T: Default>(count: usize) -> Box<[T]> {
    std::iter::repeat_with(T::default).take(count).collect()
}

impl Nodes {
    /// The root only, with places for `descriptors`.
    pub fn new(root: Node, descriptors: usize) -> Nodes {
        Nodes {
            root: Arc::new(root),
            places: many(descriptors),
            shards: many(SHARDS),
        }
    }

    fn place(&self, node: NodeId) -> Result<&Place> {
        let index = node.0.checked_sub(FIRST).ok_or(Errno::ESTALE)? as usize;
        self.places.get(index).ok_or(Errno::ESTALE)
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, HashMap<Key, NodeId>> {
        lock(&self.shards[key.ino as usize % SHARDS])
    }

    /// The node `node`.
    ///
    /// # Errors
    /// `ESTALE` if the kernel does not know it.
    pub fn get(&self, node: NodeId) -> Result<Arc<Node>> {
        if node == NodeId::ROOT {
            return Ok(Arc::clone(&self.root));
        }
        let place = lock(self.place(node)?);
        let known = place.as_ref().ok_or(Errno::ESTALE)?;
        Ok(Arc::clone(&known.node))
    }

    /// Hands out `node`, which was looked up once, or the one of its inode that is known already.
    ///
    /// # Errors
    /// `EMFILE` if its descriptor has no place.
    pub fn insert(&self, node: Node) -> Result<(NodeId, Arc<Node>)> {
        let mut shard = self.shard(node.key());
        if let Some(id) = shard.get(&node.key())
            && let Some(known) = lock(self.place(*id)?).as_mut()
        {
            known.lookups += 1;
            return Ok((*id, Arc::clone(&known.node)));
        }
        let id = NodeId(node.held().as_raw_fd() as u64 + FIRST);
        let mut place = lock(self.place(id).map_err(|_| Errno::EMFILE)?);
        let node = Arc::new(node);
        shard.insert(node.key(), id);
        *place = Some(Known {
            node: Arc::clone(&node),
            lookups: 1,
        });
        Ok((id, node))
    }

    /// Counts one more lookup of `node`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn retain(&self, node: NodeId) -> Result<()> {
        if node != NodeId::ROOT {
            let mut place = lock(self.place(node)?);
            place.as_mut().ok_or(Errno::ESTALE)?.lookups += 1;
        }
        Ok(())
    }

    /// Takes `lookups` of `node` back; the last one closes it.
    pub fn forget(&self, node: NodeId, lookups: u64) {
        let (Ok(known), Ok(place)) = (self.get(node), self.place(node)) else {
            return;
        };
        let mut shard = self.shard(known.key());
        let mut place = lock(place);
        if let Some(at) = place.as_mut() {
            at.lookups = at.lookups.saturating_sub(lookups);
            if at.lookups == 0 {
                shard.remove(&known.key());
                *place = None;
            }
        }
        // `known` goes last, without a lock: the next descriptor may be the same, and somebody may want its place.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn node(name: &str) -> Node {
        let file = File::open(name).unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        Node::found(file, &stat)
    }

    #[test]
    fn the_last_forget_closes() {
        let nodes = Nodes::new(node("/"), 4096);
        let (id, handed) = nodes.insert(node("/dev/null")).unwrap();
        assert_eq!(id.0, handed.held().as_raw_fd() as u64 + FIRST);
        let known = Arc::downgrade(&handed);
        drop(handed);
        nodes.retain(id).unwrap();
        nodes.forget(id, 1);
        assert!(nodes.get(id).is_ok() && known.upgrade().is_some());
        nodes.forget(id, 1);
        assert!(known.upgrade().is_none());
        assert_eq!(nodes.get(id).err(), Some(Errno::ESTALE));
        assert_eq!(nodes.retain(id).err(), Some(Errno::ESTALE));
    }

    #[test]
    fn what_is_in_use_outlives_its_number() {
        let nodes = Nodes::new(node("/"), 4096);
        let (id, used) = nodes.insert(node("/dev/null")).unwrap();
        nodes.forget(id, 1);
        let (other, _) = nodes.insert(node("/dev/zero")).unwrap();
        assert_ne!(other, id, "the descriptor is still open");
        assert!(rustix::fs::fstat(used.held()).is_ok());
    }

    #[test]
    fn a_known_inode_is_the_same_node() {
        let nodes = Nodes::new(node("/"), 4096);
        let (id, _) = nodes.insert(node("/dev/null")).unwrap();
        assert_eq!(nodes.insert(node("/dev/null")).unwrap().0, id);
        assert_ne!(nodes.insert(node("/dev/zero")).unwrap().0, id);
        nodes.forget(id, 1);
        assert_eq!(nodes.insert(node("/dev/null")).unwrap().0, id);
        nodes.forget(id, 2);
        assert_eq!(nodes.get(id).err(), Some(Errno::ESTALE));
        assert!(nodes.insert(node("/dev/null")).is_ok(), "it can come back");
    }

    #[test]
    fn the_root_stays_and_nobody_else_is_believed() {
        let nodes = Nodes::new(node("/"), 0);
        nodes.forget(NodeId::ROOT, 5);
        assert!(nodes.get(NodeId::ROOT).is_ok() && nodes.retain(NodeId::ROOT).is_ok());
        for id in [0, 2, 7, u64::MAX] {
            assert_eq!(nodes.get(NodeId(id)).err(), Some(Errno::ESTALE));
            nodes.forget(NodeId(id), 1);
        }
        assert_eq!(nodes.insert(node("/dev/null")).err(), Some(Errno::EMFILE));
    }
}
